"""A comparison: one run for each fusion, tuning and seed, done once, and a table of what they reach."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from mmapp.runs import child
from mmapp.runs.compare import Cell, as_markdown, compare
from mmapp.runs.run import Order
from mmapp.settings import TrainSettings

# Stands for the worker: its accuracy is told by the seed, and one combination always fails.
WORKER = """
import sys, pathlib
from mmapp.runs.run import Run
run = Run.open(pathlib.Path(sys.argv[1]))
settings = run.order().settings
with (run.folder.parent / "visits.txt").open("a") as out:
    out.write(run.id + "\\n")
if settings.fusion == "bilinear" and settings.tuning == "head":
    run.write_state(status="failed", message="no luck")
else:
    run.write_report({"accuracy": 0.8 + 0.01 * settings.seed + 0.1 * (settings.tuning == "head")})
    run.write_state(status="done")
"""


@pytest.fixture
def base(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Order:
    (tmp_path / "stand_in_worker.py").write_text(WORKER)
    monkeypatch.setenv("PYTHONPATH", str(tmp_path))
    monkeypatch.setattr(child, "WORKER", "stand_in_worker")
    return Order("sample:digits", TrainSettings(epochs=2))


def test_every_combination_is_run_once_and_told(base: Order, tmp_path: Path) -> None:
    told: list[str] = []
    folder = tmp_path / "runs"
    [cell] = compare(folder, base, ["concat"], ["full"], [0, 1], told.append)

    assert cell == Cell("concat", "full", (0.8, 0.81))
    assert sorted(path.name for path in folder.glob("*_*")) == ["concat_full_0", "concat_full_1"]
    settings = json.loads((folder / "concat_full_1" / "settings.json").read_text())["settings"]
    assert (settings["seed"], settings["fusion"], settings["epochs"]) == (1, "concat", 2)
    assert told[-1] == "concat_full_1: test accuracy 0.810"


def test_what_is_done_is_not_done_again(base: Order, tmp_path: Path) -> None:
    folder = tmp_path / "runs"
    compare(folder, base, ["concat"], ["full"], [0])
    compare(folder, base, ["concat"], ["full"], [0, 1])
    assert (folder / "visits.txt").read_text().split() == ["concat_full_0", "concat_full_1"]


def test_a_run_that_fails_is_named_and_the_others_go_on(base: Order, tmp_path: Path) -> None:
    cells = compare(tmp_path / "runs", base, ["bilinear", "concat"], ["head"], [0])
    assert cells[0].failures == ("no luck",)
    assert cells[1].accuracies == (0.9,)


def test_the_table_has_fusions_down_and_tunings_across() -> None:
    cells = [
        Cell("concat", "head", (0.9, 0.92, 0.91)),
        Cell("concat", "full", (0.95,)),
        Cell("attention", "head", ()),
        Cell("attention", "full", (0.5, 0.5)),
    ]
    assert as_markdown(cells).splitlines() == [
        "| fusion | head | full |",
        "|---|---|---|",
        "| concat | 0.910 (0.900 – 0.920) | 0.950 |",
        "| attention | failed | 0.500 |",
    ]
