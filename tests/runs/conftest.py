"""Orders of runs that take a second, and a worker of another process that can be killed."""

from __future__ import annotations

import subprocess
import sys
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

from mmapp.data.pairs import PairTable
from mmapp.runs.run import Order, Run
from mmapp.runs.worker import work
from mmapp.settings import TrainSettings

ROOT = Path(__file__).parents[2]

# Four steps an epoch; dropout, hidden halves and running statistics all have to go on after a stop.
TINY = {
    "image_encoder": "scratch:resnet",
    "width": 8,
    "image_size": 32,
    "batch_size": 8,
    "epochs": 3,
    "learning_rate": 0.01,
    "modality_dropout": 0.3,
    "watch": "loss",
    "patience": 0,
    "precision": "fp32",
}

HOLDER = """
import sys, time
from pathlib import Path
from mmapp.runs.run import Run
run = Run.open(Path(sys.argv[1]))
lock = run.claim()
run.write_state(status="running", owner=run.owner())
print("at work", flush=True)
time.sleep(60)
"""


@pytest.fixture
def order(small_pairs: PairTable) -> Callable[..., Order]:
    """order(**settings): train on the small pairs."""

    def make(**changes: Any) -> Order:
        return Order(small_pairs.source, TrainSettings(**{**TINY, **changes}), "small pairs")

    return make


@pytest.fixture
def run(order: Callable[..., Order], tmp_path: Path) -> Run:
    """A new run, queued."""
    return Run.create(tmp_path / "run", order())


@pytest.fixture(scope="session")
def whole(small_pairs: PairTable, tmp_path_factory: pytest.TempPathFactory) -> Run:
    """A run that nobody interrupted, of the same orders as `run`; for reading only."""
    order = Order(small_pairs.source, TrainSettings(**TINY), "small pairs")
    run = Run.create(tmp_path_factory.mktemp("whole") / "run", order)
    assert work(run, lambda: False) == "done"
    return run


@pytest.fixture
def worker_of() -> Iterator[Callable[[Run], subprocess.Popen[str]]]:
    """worker_of(run): a process that holds the run's lock and says so in its state."""
    started: list[subprocess.Popen[str]] = []

    def start(run: Run) -> subprocess.Popen[str]:
        command = [sys.executable, "-c", HOLDER, str(run.folder)]
        process = subprocess.Popen(command, cwd=ROOT, stdout=subprocess.PIPE, text=True)
        started.append(process)
        assert process.stdout is not None
        assert process.stdout.readline() == "at work\n"
        return process

    yield start
    for process in started:
        process.kill()
        process.communicate()
