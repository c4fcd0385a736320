"""One run of a second on data without splits, opened once."""

from __future__ import annotations

import csv
import shutil
from collections.abc import Callable, Sequence
from pathlib import Path

import pytest

from mmapp.data.pairs import PairTable
from mmapp.inference.predictor import Predictor
from mmapp.runs.run import Order, Run
from mmapp.runs.worker import work
from mmapp.settings import TrainSettings

Row = dict[str, str]
Write = Callable[[Path, Sequence[Row]], Path]


def _write(folder: Path, rows: Sequence[Row]) -> Path:
    with (folder / "metadata.csv").open("w", newline="", encoding="utf-8") as out:
        table = csv.DictWriter(out, list(rows[0]))
        table.writeheader()
        table.writerows(rows)
    return folder


@pytest.fixture(scope="session")
def rows(small_pairs: PairTable) -> list[Row]:
    """The small pairs as their table has them, split included."""
    with (Path(small_pairs.source) / "metadata.csv").open(newline="", encoding="utf-8") as table:
        return list(csv.DictReader(table))


@pytest.fixture(scope="session")
def put_rows(small_pairs: PairTable) -> Write:
    """put_rows(folder, rows): the pictures of the small pairs, with another table."""

    def put(folder: Path, rows: Sequence[Row]) -> Path:
        return _write(Path(shutil.copytree(small_pairs.source, folder)), rows)

    return put


@pytest.fixture(scope="session")
def unsplit(put_rows: Write, rows: list[Row], tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The small pairs without their split column."""
    without = [{key: cell for key, cell in row.items() if key != "split"} for row in rows]
    return put_rows(tmp_path_factory.mktemp("unsplit") / "data", without)


@pytest.fixture(scope="session")
def trained(unsplit: Path, tmp_path_factory: pytest.TempPathFactory) -> Run:
    """A run on them, not trained for long: some of its answers are wrong."""
    settings = TrainSettings(
        width=8, image_size=32, batch_size=8, epochs=1, precision="fp32", test_fraction=0.3, seed=3
    )
    run = Run.create(tmp_path_factory.mktemp("trained") / "run", Order(str(unsplit), settings))
    assert work(run, lambda: False) == "done"
    return run


@pytest.fixture(scope="session")
def predictor(trained: Run) -> Predictor:
    return Predictor(trained.folder)
