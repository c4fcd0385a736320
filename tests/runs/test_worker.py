"""The worker leaves a run's folder as promised, whether it ends well, badly, early or by a kill."""

from __future__ import annotations

import errno
import json
import os
import shutil
import signal
import subprocess
import sys
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import torch

from mmapp.data.pairs import PairTable
from mmapp.errors import ColumnError, RunError, TrainingError
from mmapp.runs import worker
from mmapp.runs.run import Order, Run
from mmapp.runs.worker import sentence, work
from mmapp.training.history import Event
from mmapp.training.prepare import Prepared

ROOT = Path(__file__).parents[2]
WEIGHTS = "model.safetensors"

DRIVER = """
import os, signal, sys
from pathlib import Path
from mmapp.runs import worker
from mmapp.runs.run import Run

worker.SNAPSHOT_SECONDS, worker.SNAPSHOT_SHARE = 0.0, 1e9  # after every step

def tell(event):
    if event.kind == "step" and event.values["step"] == 6:
        os.kill(os.getpid(), signal.SIGKILL)

worker.work(Run.open(Path(sys.argv[1])), lambda: False, tell)
"""


class StopAt:
    """Asks to stop once this step was told of."""

    def __init__(self, step: int) -> None:
        self.step = step
        self.reached = False

    def __call__(self) -> bool:
        return self.reached

    def tell(self, event: Event) -> None:
        self.reached = self.reached or event.values.get("step") == self.step


def never() -> bool:
    return False


def go_on(run: Run) -> str:
    """Resume as another process would: with other random numbers first."""
    run.write_state(status="queued", message=None)
    torch.manual_seed(99)
    return work(run, never)


def told(run: Run) -> list[tuple[Any, ...]]:
    """The steps and evaluations that stand, but for how long they took."""
    names = ("event", "step", "epoch", "loss", "train_loss", "macro_f1", "learning_rate")
    kinds = ("step", "evaluated", "finished")
    return [tuple(e.get(n) for n in names) for e in run.events() if e["event"] in kinds]


def test_a_finished_run_is_exactly_these_files(whole: Run) -> None:
    assert {path.name for path in whole.folder.iterdir()} == {
        "checkpoint",
        "events.jsonl",
        "lock",
        "log.txt",
        "pairs.parquet",
        "report.json",
        "settings.json",
        "state.json",
        "tensorboard",
    }
    assert len(list(whole.checkpoint.iterdir())) == 9


def test_its_state_events_and_report_agree(whole: Run) -> None:
    state, events, report = whole.state(), whole.events(), whole.report()
    assert (state["status"], state["reason"], state["step"], state["owner"]) == (
        "done",
        "done",
        12,
        None,
    )
    assert state["created"] <= state["started"] <= state["ended"]
    assert [e["step"] for e in events if e["event"] == "step"] == list(range(1, 13))
    assert [e["epoch"] for e in events if e["event"] == "evaluated"] == [1, 2, 3]
    assert [events[0]["event"], events[-1]["event"]] == ["started", "finished"]
    assert report is not None
    assert (report["n"], report["split"], report["reason"]) == (6, "test", "done")
    losses = {e["epoch"]: e["loss"] for e in events if e["event"] == "evaluated"}
    assert report["best_epoch"] == min(losses, key=losses.__getitem__)


def test_the_checkpoint_says_what_the_run_says(whole: Run) -> None:
    metrics = json.loads((whole.checkpoint / "metrics.json").read_text())
    report = whole.report()
    assert report is not None
    assert {**metrics, "reason": report["reason"], "timing": report["timing"]} == report
    history = [json.loads(s) for s in (whole.checkpoint / "history.jsonl").read_text().splitlines()]
    evaluations = [e for e in whole.events() if e["event"] == "evaluated"]
    assert [h["loss"] for h in history] == [e["loss"] for e in evaluations]
    settings = json.loads((whole.checkpoint / "settings.json").read_text())
    assert settings["settings"] == whole.order().settings.model_dump()
    assert settings["command"].startswith("python -m mmapp train 'small pairs' --output RUN --")


def test_no_file_of_the_checkpoint_tells_where_things_lay(
    order: Callable[..., Order], small_pairs: PairTable, tiny_bert: Path, tiny_vit: Path, tmp_path: Path
) -> None:
    """Encoders and data come from local folders, with a name for the data and without."""
    above = {str(path.parent.parent).encode() for path in (tiny_bert, Path(small_pairs.source))}
    settings = {"text_encoder": str(tiny_bert), "image_encoder": str(tiny_vit), "epochs": 1}
    for title in ("small pairs", ""):
        run = Run.create(tmp_path / f"run{title}", replace(order(**settings), title=title))
        work(run, never)
        contents = {path.name: path.read_bytes() for path in run.checkpoint.iterdir()}
        assert [name for name, held in contents.items() if any(a in held for a in above)] == []
        assert b"tiny-bert" in contents["config.json"]


def test_a_stop_before_training_leaves_a_run_that_can_go_on(run: Run, whole: Run) -> None:
    assert work(run, lambda: True) == "stopped"
    assert run.status == "stopped"
    assert not run.has_checkpoint()
    assert run.report() is None
    assert run.events() == []

    assert go_on(run) == "done"
    assert (run.checkpoint / WEIGHTS).read_bytes() == (whole.checkpoint / WEIGHTS).read_bytes()


def test_rows_stay_as_the_run_first_saw_them(
    order: Callable[..., Order], small_pairs: PairTable, tmp_path: Path, whole: Run
) -> None:
    """The table is gone when the run goes on."""
    data = shutil.copytree(small_pairs.source, tmp_path / "data")
    run = Run.create(tmp_path / "run", replace(order(), data=str(data)))
    work(run, lambda: True)
    (data / "metadata.csv").unlink()
    assert go_on(run) == "done"
    assert (run.checkpoint / WEIGHTS).read_bytes() == (whole.checkpoint / WEIGHTS).read_bytes()


@pytest.mark.parametrize("step", [2, 6, 8, 12])
def test_a_stopped_run_has_a_result_and_goes_on_to_the_same_weights(
    step: int, run: Run, whole: Run
) -> None:
    """Of four steps an epoch: before the first evaluation, within an epoch, at its end, at the end."""
    stop = StopAt(step)
    assert work(run, stop, stop.tell) == "stopped"
    state, report = run.state(), run.report()
    assert (state["status"], state["step"], state["owner"]) == ("stopped", step, None)
    assert report is not None
    assert (report["reason"], report["n"]) == ("stopped", 6)
    assert run.has_checkpoint()
    assert sorted(path.name for path in run.resume.iterdir()) == [
        "processor",
        "state.json",
        f"step-{step}.safetensors",
    ]

    assert go_on(run) == "done"

    assert (run.checkpoint / WEIGHTS).read_bytes() == (whole.checkpoint / WEIGHTS).read_bytes()
    assert [event for event in told(run) if event[0] != "finished"] == told(whole)[:-1]
    assert told(run)[-1] == told(whole)[-1]
    assert not run.resume.exists()


def test_a_killed_run_goes_on_to_the_same_weights(run: Run, whole: Run) -> None:
    """Killed after its sixth step was told of and before the snapshot of it was taken."""
    child = subprocess.run(
        [sys.executable, "-c", DRIVER, str(run.folder)], cwd=ROOT, capture_output=True, text=True
    )
    assert child.returncode == -signal.SIGKILL, child.stderr
    assert run.status == "interrupted"
    assert run.events()[-1]["step"] == 6
    assert (run.resume / "step-5.safetensors").exists()
    assert not run.has_checkpoint()

    assert go_on(run) == "done"

    starts = [e["step"] for e in run.events() if e["event"] == "started"]
    assert starts == [0, 5]
    assert told(run) == told(whole)
    assert (run.checkpoint / WEIGHTS).read_bytes() == (whole.checkpoint / WEIGHTS).read_bytes()


def test_data_without_labels_fails_in_words(order: Callable[..., Order], tmp_path: Path) -> None:
    (tmp_path / "data.csv").write_text("text\none thing\nanother thing\n")
    run = Run.create(tmp_path / "run", replace(order(), data=str(tmp_path / "data.csv")))
    with pytest.raises(ColumnError) as failed:
        work(run, never)
    message = "No label column was found; the table has text. Name it with --label-column."
    assert str(failed.value) == message
    state = run.state()
    assert (state["status"], state["message"], state["owner"]) == ("failed", message, None)
    assert [(e["event"], e["message"]) for e in run.events()] == [("failed", message)]
    assert "Traceback" in run.log.read_text()
    assert message in run.log.read_text()
    assert not run.alive()


def test_a_loss_that_is_no_number_fails_in_words(run: Run, monkeypatch: pytest.MonkeyPatch) -> None:
    make = worker.prepare

    def poisoned(*arguments: Any, **options: Any) -> Prepared:
        prepared = make(*arguments, **options)
        torch.nn.init.constant_(prepared.model.head.out.weight, float("nan"))
        return prepared

    monkeypatch.setattr(worker, "prepare", poisoned)
    with pytest.raises(TrainingError):
        work(run, never)
    state = run.state()
    assert state["status"] == "failed"
    assert state["message"] == (
        "The loss is nan at step 1: training has lost its way. "
        "Lower the learning rate, or set precision to fp32."
    )
    assert state["message"] in run.log.read_text()
    assert not run.has_checkpoint()


def test_a_mistake_of_ours_is_logged_whole_and_told_in_short(
    run: Run, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(worker, "prepare", lambda *_, **__: 1 / 0)
    with pytest.raises(ZeroDivisionError):
        work(run, never)
    assert run.state()["message"] == (
        "An unexpected error ended the run (ZeroDivisionError); its log holds the details."
    )
    assert "ZeroDivisionError: division by zero" in run.log.read_text()


@pytest.mark.parametrize(
    ("error", "told_as"),
    [
        (RunError("What to do."), "What to do."),
        (OSError(errno.ENOSPC, os.strerror(errno.ENOSPC)), "The disk is full. Free some space and"),
        (MemoryError(), "The memory did not suffice. Choose a smaller batch size or image size"),
        (torch.OutOfMemoryError("CUDA"), "The memory did not suffice."),
        (OSError(errno.EACCES, "no"), "An unexpected error ended the run (PermissionError);"),
    ],
)
def test_every_failure_has_a_sentence(error: Exception, told_as: str) -> None:
    assert sentence(error).startswith(told_as)


def test_a_failed_run_can_be_tried_again(run: Run, whole: Run, monkeypatch: pytest.MonkeyPatch) -> None:
    with monkeypatch.context() as patch:
        patch.setattr(worker, "prepare", lambda *_, **__: 1 / 0)
        with pytest.raises(ZeroDivisionError):
            work(run, never)
    assert go_on(run) == "done"
    assert run.state()["message"] is None
    assert (run.checkpoint / WEIGHTS).read_bytes() == (whole.checkpoint / WEIGHTS).read_bytes()


def test_a_run_that_was_cancelled_while_it_waited_is_not_begun(run: Run) -> None:
    run.write_state(status="stopped")
    assert work(run, never) == "stopped"
    assert run.events() == []
    assert not run.pairs.exists()


def test_snapshots_take_a_small_share_of_the_time(run: Run, monkeypatch: pytest.MonkeyPatch) -> None:
    """One that takes long is followed by a long time without."""
    clock = {"now": 0.0}

    def slow(*_: object) -> None:
        clock["now"] += 2.0

    monkeypatch.setattr(worker, "save_snapshot", slow)
    monkeypatch.setattr(worker.time, "monotonic", lambda: clock["now"])
    monkeypatch.setattr(worker, "SNAPSHOT_SECONDS", 0.5)

    def tell(event: Event) -> None:
        clock["now"] += 1.0 if event.kind == "step" else 0.0

    work(run, never, tell)
    assert [e["step"] for e in run.events() if e["event"] == "saved"] == [1]
