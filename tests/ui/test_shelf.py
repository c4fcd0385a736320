"""The shelf leads from a short key to a checkpoint, and never anywhere else."""

from __future__ import annotations

import json
import os
import shutil
import sys
from collections.abc import Callable
from pathlib import Path
from types import ModuleType
from typing import Any

import pytest

from mmapp.errors import CheckpointError
from mmapp.runs.queue import RunQueue
from mmapp.runs.run import Order, Run
from mmapp.settings import TrainSettings
from mmapp.ui import side_by_side, words
from mmapp.ui.shelf import BUNDLED, OPEN_AT_ONCE, Shelf


@pytest.fixture
def shelf(tmp_path: Path) -> Shelf:
    return Shelf(RunQueue(tmp_path / "home" / "runs"))


@pytest.fixture
def finished(shelf: Shelf) -> Callable[[str], Run]:
    """finished(title): a run with a checkpoint that nobody could open."""

    def make(title: str) -> Run:
        run = shelf.queue.submit(Order("data", TrainSettings(fusion="concat"), title))
        run.checkpoint.mkdir()
        (run.checkpoint / "config.json").write_text("{}")
        return run

    return make


def test_runs_with_a_result_come_before_the_bundled_ones(
    shelf: Shelf, finished: Callable[[str], Run]
) -> None:
    run = finished("my data")
    shelf.queue.submit(Order("data", TrainSettings(), "no result yet"))
    choices = shelf.choices()
    assert [key for _, key in choices][0] == run.id
    assert "digits" in [key for _, key in choices]
    assert choices[0][0].startswith("my data · concat · full · ")
    assert "no result yet" not in " ".join(title for title, _ in choices)
    assert shelf.first() in [key for _, key in choices[1:]]


def test_a_key_leads_to_its_folder(shelf: Shelf, finished: Callable[[str], Run]) -> None:
    run = finished("my data")
    assert shelf.folder(run.id) == run.checkpoint
    assert shelf.folder("digits") == BUNDLED / "digits"


def test_it_knows_which_models_answer_by_names(
    shelf: Shelf, finished: Callable[[str], Run]
) -> None:
    run = finished("my data")
    assert not shelf.aligned(run.id)
    (run.checkpoint / "config.json").write_text('{"alignment": 0.5}')
    assert shelf.aligned(run.id)
    assert not shelf.aligned("digits")
    assert not shelf.aligned(None)


def test_no_other_key_leads_anywhere(
    shelf: Shelf, finished: Callable[[str], Run], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """All around lie folders that look like checkpoints and runs."""
    run = finished("my data")
    bundled = tmp_path / "bundled"
    for folder in (bundled, bundled / "one", bundled / "one" / "inside", tmp_path):
        folder.mkdir(parents=True, exist_ok=True)
        (folder / "config.json").write_text("{}")
    for folder in (shelf.queue.folder, shelf.queue.folder.parent):
        (folder / "settings.json").write_text("{}")
        (folder / "checkpoint").mkdir()
        (folder / "checkpoint" / "config.json").write_text("{}")
    monkeypatch.setattr("mmapp.ui.shelf.BUNDLED", bundled)
    assert shelf.folder("one") == bundled / "one"
    for key in (
        *(None, "", ".", "..", "one/inside", "one/", "./one", "../bundled", "../bundled/one"),
        *(str(bundled / "one"), str(run.folder), f"../runs/{run.id}", f"{run.id}/checkpoint"),
        *("no such key", "one\0", "x" * 300),
    ):
        with pytest.raises(CheckpointError, match=words.NO_MODEL):
            shelf.folder(key)


def test_the_last_few_stay_open_and_a_new_result_is_opened_anew(
    shelf: Shelf, finished: Callable[[str], Run], monkeypatch: pytest.MonkeyPatch
) -> None:
    opened: list[str] = []
    predictor, quiet = ModuleType("predictor"), ModuleType("quiet")
    predictor.Predictor = lambda folder: opened.append(folder.parent.name) or object()
    quiet.quiet_libraries = lambda: None
    monkeypatch.setitem(sys.modules, "mmapp.inference.predictor", predictor)
    monkeypatch.setitem(sys.modules, "mmapp.quiet", quiet)
    runs = [finished(f"data {i}") for i in range(OPEN_AT_ONCE + 1)]
    first, last = runs[0].id, runs[-1].id

    assert shelf.open(first) is shelf.open(first)
    for run in runs[1:]:
        shelf.open(run.id)
    assert opened == [run.id for run in runs]
    shelf.open(first)  # the one that was put away
    shelf.open(last)
    assert opened == [*(run.id for run in runs), first]
    os.utime(runs[-1].checkpoint / "config.json", (1, 1))
    shelf.open(last)
    assert opened[-1] == last


def test_a_run_of_another_version_keeps_nobody_from_the_others(
    shelf: Shelf, finished: Callable[[str], Run]
) -> None:
    """Its settings have a name that this version does not know; another's state is torn."""
    old, torn, good = finished("old"), finished("torn"), finished("good")
    orders: dict[str, Any] = json.loads((old.folder / "settings.json").read_text())
    orders["settings"]["wings"] = 2
    (old.folder / "settings.json").write_text(json.dumps(orders))
    (torn.folder / "state.json").write_text("{")
    for run in (old, torn, good):
        run.write_report({"n": 6, "accuracy": 0.5, "macro_f1": 0.25})
    titles = {key: title for title, key in shelf.choices()}
    assert titles[old.id] == old.id
    assert titles[good.id].startswith("good · concat")
    assert titles[torn.id].startswith("torn · concat")
    compared = side_by_side.table(shelf)
    assert compared.count("<tr>") == 4
    assert "good" in compared


def test_runs_are_compared_the_best_first(shelf: Shelf, finished: Callable[[str], Run]) -> None:
    for name, f1 in (("middle", 0.5), ("best", 0.75), ("worst", 0.25)):
        finished(name).write_report({"n": 6, "accuracy": 0.5, "macro_f1": f1})
    shutil.copy(finished("empty").folder / "settings.json", shelf.queue.folder / "stray.json")
    compared = side_by_side.table(shelf)
    places = [compared.index(f"{name} ·") for name in ("best", "middle", "worst")]
    assert places == sorted(places)
    assert "empty" not in compared


def test_an_ensemble_is_on_the_shelf_like_any_other(
    shelf: Shelf, finished: Callable[[str], Run]
) -> None:
    run, made = finished("my data"), shelf.queue.folder.parent / "checkpoints"
    for number, name in enumerate(("ensemble-1", "ensemble-2", ".ensemble-3.writing", "stranger")):
        (made / name).mkdir(parents=True)
        config = {"strategy": "<b>vote</b>", "members": ["member-1", "member-2"]}
        (made / name / "config.json").write_text(json.dumps(config))
        report = {"n": 6, "accuracy": 0.5, "macro_f1": 0.25 * number}
        (made / name / "metrics.json").write_text(json.dumps(report))
    keys = [key for _, key in shelf.choices()]
    assert keys[:3] == [run.id, "ensemble-2", "ensemble-1"]
    assert {".ensemble-3.writing", "stranger"}.isdisjoint(keys)
    assert shelf.folder("ensemble-1") == made / "ensemble-1"
    assert shelf.ensemble_title("ensemble-1").startswith("ensemble of 2 · <b>vote</b> · ")
    for key in ("stranger", ".ensemble-3.writing", "../checkpoints/ensemble-1"):
        with pytest.raises(CheckpointError, match=words.NO_MODEL):
            shelf.folder(key)
    compared = side_by_side.table(shelf)
    assert compared.count("ensemble of 2 · &lt;b&gt;vote&lt;/b&gt;") == 2
    (made / "ensemble-1" / "config.json").write_text("[]")
    assert shelf.ensemble_title("ensemble-1") == "ensemble-1"


def test_runs_of_different_data_are_not_joined(
    shelf: Shelf, finished: Callable[[str], Run]
) -> None:
    runs = [finished("apples"), finished("pears")]
    for run, print_ in zip(runs, ("one", "other"), strict=True):
        (run.checkpoint / "config.json").write_text(json.dumps({"data_fingerprint": print_}))
    with pytest.raises(CheckpointError, match="^pears · .* learnt from other data than apples · "):
        shelf.join([run.id for run in runs], "mean")
    with pytest.raises(CheckpointError, match=words.NO_MODEL):
        shelf.join([runs[0].id, "digits"], "mean")


@pytest.mark.parametrize("count", [0, 1])
def test_one_run_is_no_ensemble(
    shelf: Shelf, finished: Callable[[str], Run], count: int
) -> None:
    with pytest.raises(CheckpointError, match="at least two checkpoints"):
        shelf.join([finished("apples").id] * count, "mean")
    assert shelf.ensembles() == []
