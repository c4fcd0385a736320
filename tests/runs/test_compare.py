"""A comparison: one run for each fusion, tuning and seed, done once, and a table of what they reach."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from mmapp.errors import SettingsError
from mmapp.runs import child
from mmapp.runs.compare import Cell, as_markdown, compare, comparisons, gather, plan
from mmapp.runs.run import Order, Run
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
        Cell("attention", "head", (), failures=("no luck",)),
        Cell("attention", "full", (0.5, 0.5), stopped=1, waiting=2),
        Cell("early", "full", (), waiting=3),
    ]
    assert as_markdown(cells).splitlines() == [
        "| fusion | head | full |",
        "|---|---|---|",
        "| concat | 0.910 (0.900 – 0.920) | 0.950 |",
        "| attention | 1 failed | 0.500, 2 waiting, 1 stopped |",
        "| early | – | 3 waiting |",
    ]


def test_the_first_seed_of_all_comes_before_the_second_of_any() -> None:
    base = Order("sample:digits", TrainSettings(epochs=2), "digits")
    planned = plan(base, ["concat", "early"], ["head", "full"], [3, 4], "one")
    knobs = [(o.settings.fusion, o.settings.tuning, o.settings.seed) for o in planned.orders]
    three = [("concat", "head"), ("concat", "full"), ("early", "full")]
    assert knobs == [(*pair, seed) for seed in (3, 4) for pair in three]
    assert {(o.data, o.title, o.group, o.settings.epochs) for o in planned.orders} == {
        ("sample:digits", "digits", "one", 2)
    }


def test_what_excludes_each_other_is_told_and_not_run(base: Order, tmp_path: Path) -> None:
    told: list[str] = []
    [cell] = compare(tmp_path / "runs", base, ["early", "concat"], ["head"], [0], told.append)
    assert (cell.fusion, cell.accuracies) == ("concat", (0.9,))
    assert told[0].startswith("left out: Fusion early and tuning head exclude each other: the text")
    with pytest.raises(SettingsError, match="exclude each other"):
        plan(base, ["early"], ["head"], [0], "one")


def test_the_runs_of_a_comparison_find_each_other_again(base: Order, tmp_path: Path) -> None:
    """Beside them lie a run by itself, one of an older version, and another comparison."""
    folder = tmp_path / "mine"
    compare(folder, base, ["concat"], ["full", "head"], [0])
    Run.create(folder / "alone", base)
    old = Run.create(folder / "old", base)
    orders = json.loads((old.folder / "settings.json").read_text())
    del orders["group"]
    (old.folder / "settings.json").write_text(json.dumps(orders))
    for order in plan(base, ["sum"], ["full"], [0, 1, 2], "other").orders:
        Run.create(folder / f"other {order.settings.seed}", order)
    found = comparisons(folder)
    assert [run.id for run in found["mine"]] == ["concat_full_0", "concat_head_0"]
    assert [run.id for run in found["other"]] == ["other 0", "other 1", "other 2"]
    assert list(found) == ["other", "mine"]


def test_runs_count_as_what_became_of_them(tmp_path: Path) -> None:
    """A run stopped early has a report too, but not of what was asked for."""
    base = Order("sample:digits", TrainSettings(fusion="sum"))
    states = ("done", "done", "stopped", "failed", "interrupted", "queued")
    runs = []
    for number, status in enumerate(states):
        run = Run.create(tmp_path / str(number), base)
        run.write_state(status=status, message="no luck" if status == "failed" else None)
        if status in ("done", "stopped"):
            run.write_report({"accuracy": 0.5 + number / 8})
        runs.append(run)
    [cell] = gather(runs)
    failures = ("no luck", "interrupted")
    assert cell == Cell("sum", "full", (0.5, 0.625), failures, stopped=1, waiting=1)
    assert cell.shown() == "0.562 (0.500 – 0.625), 1 waiting, 1 stopped, 2 failed"
