"""A model that was never trained, and everything a checkpoint says besides its weights."""

from __future__ import annotations

import shutil
from pathlib import Path

import numpy as np
import pytest

from mmapp.data.pairs import PairTable
from mmapp.evaluation.outputs import Outputs
from mmapp.evaluation.report import make_report
from mmapp.quiet import quiet_libraries
from mmapp.settings import TrainSettings
from mmapp.storage.checkpoint import Facts, save_checkpoint
from mmapp.training.prepare import Prepared, prepare


@pytest.fixture(scope="session")
def prepared(small_pairs: PairTable, tiny_bert: Path, tiny_vit: Path) -> Prepared:
    """Encoders of local folders, so that there is a place that must not be told."""
    quiet_libraries()
    settings = TrainSettings(
        text_encoder=str(tiny_bert), image_encoder=str(tiny_vit), width=8, image_size=32
    )
    return prepare(small_pairs, settings)


@pytest.fixture(scope="session")
def facts(small_pairs: PairTable) -> Facts:
    """The facts of a run whose scores are drawn at random; no two figures are alike."""
    rng = np.random.default_rng(3)
    outputs = Outputs(rng.normal(size=(57, 3)).astype(np.float32), rng.integers(3, size=57))
    return Facts(
        report=make_report(outputs, ["blue", "green", "red"], "test"),
        history=[{"epoch": 1, "loss": 0.75}, {"epoch": 2, "loss": 0.5}],
        settings={"tuning": "full", "epochs": 2},
        command="python -m mmapp train pairs --output RUN",
        data={k: v for k, v in small_pairs.describe().items() if k != "findings"},
        timing={"seconds": 83.6, "device": "cpu", "processor": "2 cores, x86_64"},
    )


@pytest.fixture(scope="session")
def saved(prepared: Prepared, facts: Facts, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A run's folder with the checkpoint of `prepared` in it; for reading only."""
    folder = tmp_path_factory.mktemp("saved") / "checkpoint"
    save_checkpoint(folder, prepared.model, prepared.processor, facts)
    return folder


@pytest.fixture
def checkpoint(saved: Path, tmp_path: Path) -> Path:
    """A copy of the checkpoint, to be damaged."""
    return Path(shutil.copytree(saved, tmp_path / "run" / "checkpoint"))
