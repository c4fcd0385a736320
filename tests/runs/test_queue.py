"""The queue does runs one after the other and says what became of each; its workers are stand-ins."""

from __future__ import annotations

import os
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

from mmapp.errors import RunError
from mmapp.runs import queue as queues
from mmapp.runs.queue import RunQueue
from mmapp.runs.run import Order, Run, list_runs
from mmapp.settings import SearchSettings

# What the worker does with a run is the run's title. It imports no torch.
STAND_IN = """
import os, sys, time
from pathlib import Path
from mmapp.runs.run import Run
from mmapp.runs.stop import StopSignal

folder = sys.stdin.readline().strip()
if not folder:
    sys.exit(0)
run = Run.open(Path(folder))
what = run.order().title
if what == "dies unclaimed":
    os._exit(3)
with run.claim(), StopSignal() as stop:
    if run.status != "queued":
        sys.exit(0)
    run.write_state(status="running", owner=run.owner(), started=time.time())
    if what == "dies at work":
        os._exit(4)
    deadline = time.monotonic() + 20
    while what == "waits" and not stop() and time.monotonic() < deadline:
        if (run.folder / "go on").exists():
            break
        time.sleep(0.01)
    status = "stopped" if stop() else "done"
    run.write_state(status=status, owner=None, ended=time.time())
"""


def until(true: Callable[[], Any]) -> None:
    deadline = time.monotonic() + 20
    while not true():
        assert time.monotonic() < deadline, "it did not come true within 20 s"
        time.sleep(0.01)


@pytest.fixture
def queue(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[RunQueue]:
    """A queue that is not open yet."""
    modules = tmp_path / "modules"
    modules.mkdir()
    (modules / "stand_in.py").write_text(STAND_IN)
    monkeypatch.setenv("PYTHONPATH", str(modules))
    monkeypatch.setattr(queues, "WORKER", "stand_in")
    monkeypatch.setattr(queues, "TICK_SECONDS", 0.01)
    made = RunQueue(tmp_path / "runs")
    yield made
    if made._thread.is_alive():
        made.close()
    if made._child is not None:
        made._child.kill()
        made._child.communicate()


@pytest.fixture
def submit(queue: RunQueue, order: Callable[..., Order]) -> Callable[[str], Run]:
    """submit(what): what the stand-in is to do with the run."""
    return lambda what: queue.submit(Order("data", order().settings, what))


def test_runs_are_done_one_after_the_other(queue: RunQueue, submit: Callable[[str], Run]) -> None:
    runs = [submit("waits"), submit("waits"), submit("done at once")]
    assert [queue.place(run) for run in runs] == [0, 1, 2]
    assert [run.id for run in queue.waiting()] == [run.id for run in runs]
    queue.open()

    until(lambda: runs[0].status == "running")
    assert [run.status for run in runs[1:]] == ["queued", "queued"]
    assert [queue.place(run) for run in runs] == [0, 0, 1]
    for run in runs:
        (run.folder / "go on").touch()
    until(lambda: runs[2].status == "done")

    states = [run.state() for run in runs]
    assert [state["status"] for state in states] == ["done"] * 3
    assert states[0]["ended"] <= states[1]["started"]
    assert states[1]["ended"] <= states[2]["started"]
    assert queue.waiting() == []


def test_a_run_cancelled_while_it_waits_is_never_begun(
    queue: RunQueue, submit: Callable[[str], Run]
) -> None:
    first, second, third = submit("waits"), submit("done at once"), submit("done at once")
    queue.open()
    until(lambda: first.status == "running")
    queue.stop(second)
    assert second.status == "stopped"
    assert queue.place(third) == 0
    (first.folder / "go on").touch()
    until(lambda: third.status == "done")
    assert second.status == "stopped"
    assert "started" not in second.state()


def test_a_run_at_work_is_asked_to_stop_and_can_be_resumed(
    queue: RunQueue, submit: Callable[[str], Run]
) -> None:
    run = submit("waits")
    queue.open()
    until(lambda: run.status == "running")
    queue.stop(run)
    until(lambda: run.status == "stopped")
    (run.folder / "go on").touch()
    queue.resume(run)
    until(lambda: run.status == "done")
    with pytest.raises(RunError) as refused:
        queue.resume(run)
    assert str(refused.value) == "This run is done; only a run that ended early can be resumed."


@pytest.mark.parametrize(("what", "code"), [("dies unclaimed", 3), ("dies at work", 4)])
def test_a_worker_that_dies_without_a_word_is_spoken_for(
    what: str, code: int, queue: RunQueue, submit: Callable[[str], Run]
) -> None:
    run, after = submit(what), submit("done at once")
    queue.open()
    until(lambda: run.state().get("message"))
    state = run.state()
    assert (state["status"], state["owner"]) == ("interrupted", None)
    assert state["message"] == (
        f"The worker ended without a word (status {code}). Resume goes on from its last snapshot."
    )
    until(lambda: after.status == "done")


def test_an_orphan_of_an_earlier_server_is_marked_and_what_waited_is_done(
    queue: RunQueue, submit: Callable[[str], Run]
) -> None:
    orphan, waiting, told = (submit("done at once") for _ in range(3))
    orphan.write_state(status="running", owner={"pid": os.getpid()})
    told.write_state(status="interrupted", message="why")
    queue.open()
    until(lambda: waiting.status == "done")
    assert orphan.state()["status"] == "interrupted"
    assert orphan.state()["message"] == (
        "The server stopped while this run was at work. Resume goes on from its last snapshot."
    )
    assert orphan.state()["owner"] is None
    assert told.state()["message"] == "why"


def test_a_worker_of_an_earlier_server_is_waited_for(
    queue: RunQueue, submit: Callable[[str], Run]
) -> None:
    busy, waiting = submit("waits"), submit("done at once")
    lock = busy.claim()
    busy.write_state(status="running", owner={"pid": os.getpid()})
    queue.open()
    until(lambda: queue._warm is not None)
    time.sleep(0.1)  # ten looks around
    assert (busy.status, waiting.status) == ("running", "queued")
    busy.write_state(status="done")
    lock.release()
    until(lambda: waiting.status == "done")


def test_one_broken_folder_does_not_keep_the_others_waiting(
    queue: RunQueue, submit: Callable[[str], Run]
) -> None:
    broken, good = submit("done at once"), submit("done at once")
    (broken.folder / "state.json").write_text("{")
    queue.open()
    until(lambda: good.status == "done")
    assert broken.status == "failed"


def test_a_run_is_found_by_its_own_name_only(
    queue: RunQueue, submit: Callable[[str], Run], tmp_path: Path
) -> None:
    run = submit("done at once")
    found = queue.find(run.id)
    assert found is not None
    assert found.folder == run.folder
    (tmp_path / "settings.json").touch()  # what ".." would lead to
    (queue.folder / "settings.json").touch()  # and "."
    inside = run.folder / "inside"
    inside.mkdir()
    (inside / "settings.json").touch()
    for name in (
        *(
            "",
            ".",
            "..",
            "../runs",
            f"../runs/{run.id}",
            f"{run.id}/",
            f"{run.id}/inside",
            f"./{run.id}",
        ),
        *(str(run.folder), f"{run.id}\0", "no such run", "x" * 300),
    ):
        assert queue.find(name) is None, name


def test_runs_are_listed_the_newest_first(queue: RunQueue, submit: Callable[[str], Run]) -> None:
    runs = [submit("done at once") for _ in range(3)]
    for age, run in enumerate(runs):
        os.utime(run.folder / "settings.json", (1000 - age, 1000 - age))
    assert [run.id for run in list_runs(queue.folder)] == [run.id for run in runs]
    assert len({run.id for run in runs}) == 3


def test_closing_dismisses_the_waiting_worker_and_leaves_the_one_at_work(
    queue: RunQueue, submit: Callable[[str], Run]
) -> None:
    run = submit("waits")
    queue.open()
    until(lambda: run.status == "running")
    queue.close()
    assert queue._warm is None or queue._warm.poll() is not None
    assert run.status == "running"
    (run.folder / "go on").touch()
    until(lambda: run.status == "done")


@pytest.mark.parametrize(("visible", "count"), [("", 0), ("0", 1), ("0,1", 2), ("0, ", 1)])
def test_gpus_are_counted_without_torch(
    visible: str, count: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("CUDA_VISIBLE_DEVICES", visible)
    assert len(queues._gpus()) == count


def test_with_many_gpus_a_run_is_launched_on_all_of_them(
    queue: RunQueue, submit: Callable[[str], Run], monkeypatch: pytest.MonkeyPatch
) -> None:
    commands: list[list[str]] = []
    monkeypatch.setattr(queues, "spawn", lambda command: commands.append(command))
    queue._many = True
    run = submit("done at once")
    queue._tick()
    assert [command[1:] for command in commands] == [
        ["-m", "accelerate.commands.launch", "-m", "stand_in", str(run.folder)]
    ]


def test_a_search_is_one_process_on_many_gpus_too(
    queue: RunQueue, order: Callable[..., Order], monkeypatch: pytest.MonkeyPatch
) -> None:
    commands: list[list[str]] = []
    monkeypatch.setattr(queues, "spawn", lambda command: commands.append(command))
    queue._many = True
    run = queue.submit(Order("data", order().settings, search=SearchSettings()))
    queue._tick()
    assert [command[1:] for command in commands] == [["-m", "stand_in", str(run.folder)]]
