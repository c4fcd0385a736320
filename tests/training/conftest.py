"""A finished run to start others from."""

from __future__ import annotations

from pathlib import Path

import pytest

from mmapp.data.pairs import PairTable
from mmapp.runs.run import Order, Run
from mmapp.runs.worker import work
from mmapp.settings import TrainSettings


@pytest.fixture(scope="session")
def first_run(small_pairs: PairTable, tiny_bert: Path, tmp_path_factory: pytest.TempPathFactory) -> Run:
    """Three colours learnt; a text encoder of a local folder, an image encoder from nothing."""
    settings = TrainSettings(
        text_encoder=str(tiny_bert),
        fusion="bilinear",
        width=8,
        max_length=16,
        image_size=32,
        batch_size=8,
        epochs=2,
        precision="fp32",
        test_fraction=0.2,
    )
    run = Run.create(tmp_path_factory.mktemp("first") / "run", Order(small_pairs.source, settings))
    assert work(run, lambda: False) == "done"
    return run
