"""A run's folder is read without surprises: after a kill, a resume, a damage, by a strange name."""

from __future__ import annotations

import json
import shlex
import subprocess
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from mmapp.errors import RunError, SettingsError
from mmapp.runs.run import Order, Run, list_runs, settled
from mmapp.settings import SearchSettings, TrainSettings


def test_a_new_run_waits_and_remembers_its_order(run: Run, order: Callable[..., Order]) -> None:
    assert run.status == "queued"
    assert Run.open(run.folder).order() == order()
    assert run.events() == []
    assert run.report() is None
    assert not run.has_checkpoint()


def test_the_command_names_only_what_is_not_usual() -> None:
    order = Order("my data", TrainSettings(fusion="concat", epochs=3, width=128))
    assert shlex.split(order.command("my run")) == [
        *("python", "-m", "mmapp", "train", "my data", "--output", "my run"),
        *("--fusion", "concat", "--epochs", "3"),
    ]


def test_the_command_of_a_run_with_a_start_leaves_nothing_to_the_checkpoint() -> None:
    """Left out, the width would be the checkpoint's, whatever it is; here it is the usual one."""
    settings = TrainSettings(start_from="first", epochs=3, width=128, seed=0)
    command = shlex.split(Order("data", settings).command("run"))
    told = dict(zip(command[7::2], command[8::2], strict=True))
    assert (told["--start-from"], told["--epochs"]) == ("first", "3")
    assert (told["--width"], told["--seed"], told["--fusion"]) == ("128", "0", "attention")
    assert "--batch-size" not in told
    assert "--text-column" not in told


def test_a_search_is_an_order_too_and_its_command_does_the_same(tmp_path: Path) -> None:
    search = SearchSettings(minutes=2, fusions="concat")
    order = Order("my data", TrainSettings(epochs=3), search=search)
    run = Run.create(tmp_path / "run", order)
    assert run.order() == order
    assert shlex.split(order.command("my run")) == [
        *("python", "-m", "mmapp", "search", "my data", "--output", "my run"),
        *("--minutes", "2.0", "--fusions", "concat", "--epochs", "3"),
    ]
    assert order.how == ("search", "concat")
    assert Order("my data", TrainSettings(fusion="gated")).how == ("gated", "full")


def test_a_folder_that_holds_something_is_refused(run: Run, order: Callable[..., Order]) -> None:
    before = run.state()
    with pytest.raises(RunError) as refused:
        Run.create(run.folder, order(epochs=9))
    assert str(refused.value) == (
        f"{run.folder} exists already and is not overwritten. Name another folder, or add "
        "--resume to go on with the run in it."
    )
    assert run.order() == order()
    assert run.state() == before


@pytest.mark.parametrize("name", ["somebody's file", "settings.json", "state.json"])
def test_files_that_are_no_run_are_not_overwritten(
    name: str, order: Callable[..., Order], tmp_path: Path
) -> None:
    """A checkpoint, too, holds a settings.json."""
    (tmp_path / name).write_text("{}")
    with pytest.raises(RunError, match="exists already and is not overwritten"):
        Run.create(tmp_path, order())
    assert [path.name for path in tmp_path.iterdir()] == [name]


def test_a_file_is_no_place_for_a_run(order: Callable[..., Order], tmp_path: Path) -> None:
    (tmp_path / "taken").touch()
    with pytest.raises(RunError, match="exists already"):
        Run.create(tmp_path / "taken", order())


def test_a_run_that_failed_before_its_first_step_gives_way(
    run: Run, order: Callable[..., Order]
) -> None:
    run.append({"event": "failed", "message": "no label column"})
    run.write_state(status="failed", message="no label column")
    again = Run.create(run.folder, order(epochs=9))
    assert again.order() == order(epochs=9)
    assert again.events() == []
    assert "message" not in again.state()


@pytest.mark.parametrize("status", ["queued", "stopped", "done"])
def test_a_run_that_did_not_fail_stays(status: str, run: Run, order: Callable[..., Order]) -> None:
    run.write_state(status=status)
    with pytest.raises(RunError, match="exists already"):
        Run.create(run.folder, order())


def test_a_run_that_failed_after_its_first_step_stays(run: Run, order: Callable[..., Order]) -> None:
    run.append({"event": "started", "step": 0})
    run.write_state(status="failed")
    with pytest.raises(RunError, match="exists already"):
        Run.create(run.folder, order())


def test_a_folder_becomes_a_run_only_when_its_state_can_be_read(
    order: Callable[..., Order], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The queue looks at any moment, also between two files."""
    seen: list[str] = []
    write = Run.write_state

    def look_before(run: Run, **changes: Any) -> None:
        seen.extend(found.id for found in list_runs(tmp_path))
        write(run, **changes)

    monkeypatch.setattr(Run, "write_state", look_before)
    Run.create(tmp_path / "run", order())
    assert seen == []


def test_a_worker_that_was_killed_leaves_its_run_interrupted(
    run: Run, worker_of: Callable[[Run], subprocess.Popen[str]]
) -> None:
    worker = worker_of(run)
    assert run.alive()
    assert run.status == "running"
    with pytest.raises(RunError) as refused:
        run.claim()
    assert str(refused.value) == f"{run.folder} is being worked on by another process."

    worker.kill()
    worker.wait()

    assert not run.alive()
    assert run.status == "interrupted"
    assert json.loads((run.folder / "state.json").read_text())["status"] == "running"
    run.claim().release()


def step(number: int, loss: float = 1.0) -> dict[str, Any]:
    return {"event": "step", "step": number, "loss": loss}


def evaluated(number: int, epoch: int, loss: float = 1.0) -> dict[str, Any]:
    return {"event": "evaluated", "step": number, "epoch": epoch, "loss": loss}


def started(number: int = 0) -> dict[str, Any]:
    return {"event": "started", "step": number}


LOST = -1.0  # the loss of what a killed process took with it

SETTLED: dict[str, list[dict[str, Any]]] = {
    "steps after the snapshot are dropped": [
        started(), step(1), step(2), step(3, LOST), started(2), step(3), step(4),
    ],
    "so are evaluations after it": [
        started(), step(1), step(2, LOST), evaluated(2, 1, LOST), started(1), step(2), evaluated(2, 1),
    ],
    "an evaluation at the snapshot's step that comes again counts once": [
        started(), step(1), step(2), evaluated(2, 1, LOST), started(2), evaluated(2, 1), step(3),
    ],
    "an evaluation at the snapshot's step that does not come again stays": [
        started(), step(1), step(2), evaluated(2, 1), started(2), step(3), evaluated(4, 2),
    ],
    "a second resume goes further back than the first": [
        started(), step(1), step(2, LOST), started(1), step(2, LOST), started(1), step(2),
    ],
    "without a resume everything stays": [
        started(), step(1), evaluated(1, 1), step(2), evaluated(2, 2), {"event": "finished"},
    ],
    "other events stay": [
        started(), {"event": "saved", "step": 1}, {"event": "warning", "message": "!"}, started(),
    ],
}  # fmt: skip


@pytest.mark.parametrize("claim", SETTLED)
def test_of_a_resumed_run_each_step_counts_once(claim: str) -> None:
    records = SETTLED[claim]
    expected = [record for record in records if record.get("loss") != LOST]
    assert settled(iter(records)) == expected


def test_events_are_read_back_as_they_were_written(run: Run) -> None:
    """Line separators of Unicode are part of a text, not the end of a line."""
    records = [{"event": "warning", "message": f"naïve 猫{mark}end"} for mark in "\u2028\x85\x0c\n\r"]
    for record in records:
        run.append(record)
    assert run.events() == records


@pytest.mark.parametrize("torn", [b'{"event": "step", "st', b'{"message": "caf\xc3', b"\x00" * 20])
def test_a_torn_last_line_swallows_neither_its_neighbours_nor_what_comes_after(
    torn: bytes, run: Run
) -> None:
    run.append(started())
    run.append(step(1))
    path = run.folder / "events.jsonl"
    path.write_bytes(path.read_bytes() + torn)
    assert run.events() == [started(), step(1)]

    run.append(started(1))
    run.append(step(2))

    assert run.events() == [started(), step(1), started(1), step(2)]


def test_a_state_that_cannot_be_read_stands_for_a_failed_run(run: Run) -> None:
    path = run.folder / "state.json"
    path.write_bytes(b"\x00" * 40)
    assert run.status == "failed"
    assert run.state()["message"].startswith(f"{path} cannot be read: ")


@pytest.mark.parametrize(
    ("content", "error", "sentence"),
    [
        ("[]", RunError, "settings.json is not one of this app"),
        ('{"settings": {}}', RunError, "settings.json is not one of this app: 'data'."),
        ("{", RunError, "settings.json cannot be read"),
        ('{"data": "x", "settings": {"wings": 2}}', SettingsError, "wings: there is no setting of"),
    ],
)
def test_orders_that_are_not_ours_are_told(
    content: str, error: type[Exception], sentence: str, run: Run
) -> None:
    (run.folder / "settings.json").write_text(content)
    with pytest.raises(error, match=sentence):
        run.order()


def test_a_folder_without_orders_is_no_run(tmp_path: Path) -> None:
    with pytest.raises(RunError) as refused:
        Run.open(tmp_path)
    assert str(refused.value) == f"{tmp_path} holds no run: settings.json is missing."
