"""What the command line says: reports, findings and progress in words."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from mmapp import console
from mmapp.errors import RunError
from mmapp.runs.run import Order, Run
from mmapp.settings import SearchSettings, TrainSettings
from mmapp.training.history import Event

REPORT: dict[str, Any] = {
    "n": 8,
    "split": "test",
    "accuracy": 0.75,
    "macro_f1": 0.7333,
    "weighted_f1": 0.75,
    "balanced_accuracy": 0.8,
    "log_loss": 0.5,
    "intervals": {"accuracy": [0.5, 1.0]},
    "majority": {"label": "cat", "accuracy": 0.625, "macro_f1": 0.385},
    "per_class": [
        {"label": "cat", "precision": 1.0, "recall": 0.6, "f1": 0.75, "support": 5},
        {"label": "guinea pig", "precision": 0.6, "recall": 1.0, "f1": 0.75, "support": 3},
    ],
}


def test_a_report_fits_in_a_few_lines() -> None:
    assert console.summary(REPORT).splitlines() == [
        "test: 8 pairs",
        "  accuracy          0.750  (95 %: 0.500 – 1.000)",
        "  macro_f1          0.733",
        "  balanced_accuracy 0.800",
        "  log_loss          0.500",
        "  always 'cat': accuracy 0.625",
        "  label       precision  recall     f1  pairs",
        "  cat             1.000   0.600  0.750      5",
        "  guinea pig      0.600   1.000  0.750      3",
    ]


def test_before_and_change_are_told_in_one_line() -> None:
    before = {"before": {"accuracy": 0.63}, "change": {"accuracy": 0.12, "interval": [0.05, 0.19]}}
    line = console.summary(REPORT | before).splitlines()[5]
    assert line == "  before: accuracy 0.630; change +0.120 (+0.050 – +0.190)"


def test_what_the_temperature_did_is_told_in_one_line() -> None:
    told = {"temperature": 1.42, "ece": 0.0312, "ece_before": 0.0584}
    line = console.summary(REPORT | {"calibration": told}).splitlines()[5]
    assert line == (
        "  calibrated on validation pairs: expected calibration error 0.031, 0.058 before "
        "(temperature 1.42)"
    )
    assert console.summary(REPORT | {"calibration": {**told, "temperature": 1.0}}) == console.summary(
        REPORT
    )


def test_a_report_of_nothing_says_so() -> None:
    assert console.summary({"n": 0, "split": "test"}) == "test: no rows"


def test_findings_are_told_row_by_row() -> None:
    described = {
        "rows": 5,
        "used": 4,
        "columns": {
            "text": {"column": "text", "reason": "its name says so"},
            "image": {"column": None, "reason": "none found"},
        },
        "classes": {"a": 3, "b": 1},
        "splits": {"train": 3, "": 1},
        "findings": [
            {"severity": "set aside", "row": 2, "message": "The label is empty."},
            {"severity": "warning", "row": None, "message": "Class 'b' has 1 rows."},
        ],
    }
    assert console.in_words(described).splitlines() == [
        "4 of 5 rows can be used.",
        "  text: text (its name says so)",
        " image: - (none found)",
        "classes: a 3, b 1",
        "splits: train 3, - 1",
        "[set aside] row 2: The label is empty.",
        "[warning] Class 'b' has 1 rows.",
    ]


EVENTS = {
    "started": (
        {"pairs": 26, "learning": 1000, "parameters": 2500, "device": "cpu", "precision": "fp32"},
        "mmapp: 26 training pairs, 1,000 of 2,500 weights learn, cpu, fp32\n",
    ),
    "encoded": (
        {"modality": "image", "done": 30, "total": 30, "found": 20},
        "mmapp: image features: 30, 20 kept before\n",
    ),
    "warning": ({"message": "The disk is full."}, "mmapp: The disk is full.\n"),
    "evaluated": (
        {"epoch": 2, "train_loss": 0.5, "loss": 0.25, "accuracy": 1.0, "best": True},
        "mmapp: epoch 2: training loss 0.500, validation loss 0.250, accuracy 1.000, best so far\n",
    ),
    "finished": (
        {"reason": "patience", "best_epoch": 2},
        "mmapp: finished (patience), best epoch 2\n",
    ),
    "finished, a search": (
        {"reason": "time", "best_epoch": 2, "best": 5},
        "mmapp: finished (time), best trial 5, epoch 2\n",
    ),
    "trial": (
        {
            "number": 3, "fusion": "concat", "tuning": "head", "learning_rate": 0.002, "watch": "loss",
            "score": 0.25, "loss": 0.25, "epoch": 4, "best": True, "seconds": 9.5,
        },
        "mmapp: trial 3: concat, head, 0.002: validation loss 0.250, best so far\n",
    ),
    "step": ({"step": 1, "steps": 9, "loss": 1.0, "seconds_left": None}, ""),
    "saved": ({"step": 1}, ""),
}


@pytest.mark.parametrize("kind", EVENTS)
def test_progress_goes_to_stderr_and_not_every_step_to_a_file(
    kind: Any, capfd: pytest.CaptureFixture[str]
) -> None:
    values, line = EVENTS[kind]
    if kind == "step":
        values = {**values, "seconds_left": 3.0}
    console.narrate(Event(kind.partition(",")[0], values))
    assert capfd.readouterr() == ("", line)


def test_at_a_terminal_a_step_whose_pace_is_not_known_yet_is_told(
    monkeypatch: pytest.MonkeyPatch, capfd: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr("sys.stderr.isatty", lambda: True, raising=False)
    console.narrate(Event("step", {"step": 1, "steps": 9, "loss": 1.0, "seconds_left": None}))
    assert "step 1/9, loss 1.000" in capfd.readouterr().err


def test_paths_are_kept_as_they_stay_true_elsewhere(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "encoder").mkdir()
    (tmp_path / "data.csv").touch()
    monkeypatch.chdir(tmp_path)
    run = console._open_or_create("data.csv", Path("run"), False, {"text_encoder": "encoder"})
    order = run.order()
    assert (order.data, order.title) == (str(tmp_path / "data.csv"), "data.csv")
    assert order.settings.text_encoder == str(tmp_path / "encoder")
    assert order.settings.image_encoder == "scratch:cnn"


def test_a_resumed_run_keeps_its_own_settings_and_says_so(
    tmp_path: Path, capfd: pytest.CaptureFixture[str]
) -> None:
    order = Order("data", TrainSettings(epochs=3))
    Run.create(tmp_path / "run", order)
    run = console._open_or_create("other data", tmp_path / "run", True, {"epochs": 9})
    assert run.order() == order
    assert "going on with the settings of" in capfd.readouterr().err


def test_a_search_prints_its_trials_the_best_one_and_how_to_do_it_alone(
    tmp_path: Path, capfd: pytest.CaptureFixture[str]
) -> None:
    order = Order("data", TrainSettings(), search=SearchSettings())
    run = Run.create(tmp_path / "run", order)
    trial = {"number": 2, "fusion": "gated", "tuning": "full", "learning_rate": 0.002, "watch": "loss",
             "score": 0.25, "loss": 0.25, "epoch": 4, "seconds": 9.5}  # fmt: skip
    found = {"best": 2, "trials": [trial], "command": "python -m mmapp train data --output RUN"}
    run.write_report({**REPORT, "search": found})
    run.write_state(status="done")
    assert console.run_training("data", tmp_path / "run", True, {}, search=True) == 0
    lines = capfd.readouterr().out.splitlines()
    assert lines[1].split() == ["2", "gated", "full", "0.002", "0.250", "4", "9.5"]
    assert lines[3] == "  accuracy          0.750  (95 %: 0.500 – 1.000)"
    assert lines[-1] == "trial 2 alone: python -m mmapp train data --output RUN"


def test_a_search_is_ordered_with_its_own_settings(tmp_path: Path) -> None:
    given = {"minutes": 2.0, "epochs": 3}
    run = console._open_or_create("data", tmp_path / "run", False, given, search=True)
    assert run.order().search == SearchSettings(minutes=2.0)
    assert run.order().settings == TrainSettings(epochs=3)


def test_a_checkpoint_is_not_resumed_as_if_it_were_a_run(tmp_path: Path) -> None:
    """It holds a settings.json too; nothing may be written into it."""
    (tmp_path / "settings.json").write_text('{"settings": {}, "command": ""}')
    with pytest.raises(RunError, match="settings.json is not one of this app"):
        console.run_training("data", tmp_path, True, {})
    assert [path.name for path in tmp_path.iterdir()] == ["settings.json"]


def test_of_many_processes_only_the_first_creates_the_folder(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    order = Order("data", TrainSettings(epochs=3))
    monkeypatch.setenv("RANK", "1")
    monkeypatch.setattr(console.time, "sleep", lambda _: Run.create(tmp_path / "run", order) and None)
    run = console._open_or_create("data", tmp_path / "run", False, {})
    assert run.order() == order
    monkeypatch.setattr(console.time, "sleep", lambda _: None)
    with pytest.raises(RunError, match="The first process did not create .* within a minute"):
        console._open_or_create("data", tmp_path / "other", False, {})
