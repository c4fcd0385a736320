"""A worker in a process of its own is waited for, asked to stop once, and a run never has two."""

from __future__ import annotations

import signal
import subprocess
from collections.abc import Callable
from pathlib import Path

import pytest

from mmapp.runs import child
from mmapp.runs.child import bring_to_end
from mmapp.runs.run import Run

STAND_IN = """
import pathlib, sys, time
from mmapp.runs.run import Run
from mmapp.runs.stop import StopSignal
run = Run.open(pathlib.Path(sys.argv[1]))
with run.claim(), StopSignal() as stop:
    run.write_state(status="running", owner=run.owner())
    print("at work", flush=True)
    deadline = time.monotonic() + 20
    while run.order().title == "waits" and not stop() and time.monotonic() < deadline:
        time.sleep(0.01)
    time.sleep(0.1)  # a second signal would end it here, unsaved
    run.write_state(status="stopped" if stop() else "done", owner=None)
"""


@pytest.fixture
def stand_in(run: Run, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Callable[[str], Run]:
    """stand_in(what): the run, whose worker "waits" or ends at once."""
    (tmp_path / "stand_in_child.py").write_text(STAND_IN)
    monkeypatch.setenv("PYTHONPATH", str(tmp_path))
    monkeypatch.setattr(child, "WORKER", "stand_in_child")

    def make(what: str) -> Run:
        orders = run.folder / "settings.json"
        orders.write_text(orders.read_text().replace('"small pairs"', f'"{what}"'))
        return run

    return make


def test_it_is_asked_to_stop_once_and_what_it_prints_is_in_the_log(
    stand_in: Callable[[str], Run],
) -> None:
    run = stand_in("waits")
    bring_to_end(run, lambda: run.status == "running")
    assert run.status == "stopped"
    assert run.log.read_text() == "at work\n"
    assert not run.alive()


def test_what_is_over_is_not_done_again(stand_in: Callable[[str], Run]) -> None:
    run = stand_in("")
    for status in ("done", "failed"):
        run.write_state(status=status)
        bring_to_end(run)
        assert run.status == status
    assert not run.log.exists()


def test_a_worker_that_a_killed_process_left_behind_ends_before_the_next_begins(
    stand_in: Callable[[str], Run], worker_of: Callable[[Run], subprocess.Popen[str]]
) -> None:
    run = stand_in("")
    left = worker_of(run)
    bring_to_end(run)
    assert left.poll() == -signal.SIGTERM
    assert run.status == "done"


def test_an_error_of_ours_leaves_no_worker_behind(stand_in: Callable[[str], Run]) -> None:
    run = stand_in("waits")

    def stumble() -> bool:
        if run.status == "running":
            raise KeyboardInterrupt
        return False

    with pytest.raises(KeyboardInterrupt):
        bring_to_end(run, stumble)
    assert run.status == "stopped"
    assert not run.alive()
