"""A checkpoint is scored on rows it may be judged by, and says so where it may not be."""

from __future__ import annotations

import json
import random
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from mmapp.data.ingest import load_pairs
from mmapp.errors import DataError, SettingsError
from mmapp.inference.predictor import Predictor
from mmapp.inference.scoring import evaluate
from mmapp.runs.run import Run

Rows = list[dict[str, str]]
Put = Callable[[Path, Rows], Path]

SCORES = ("n", "accuracy", "macro_f1", "balanced_accuracy", "log_loss")


@pytest.fixture(autouse=True)
def no_bootstrap(monkeypatch: pytest.MonkeyPatch) -> None:
    """A thousand draws a test are of no use here."""
    monkeypatch.setattr("mmapp.evaluation.report.WITH_INTERVAL", ())


@pytest.fixture
def told(trained: Run) -> dict[str, Any]:
    """What the run itself reported."""
    return json.loads((trained.checkpoint / "metrics.json").read_text())


def scores(report: dict[str, Any]) -> dict[str, Any]:
    return pytest.approx({name: report[name] for name in SCORES}, abs=1e-6)


def split_off(rows: Rows) -> Rows:
    return [{key: cell for key, cell in row.items() if key != "split"} for row in rows]


def test_the_datas_own_split_is_used(
    predictor: Predictor, put_rows: Put, rows: Rows, tmp_path: Path
) -> None:
    data = put_rows(tmp_path / "data", rows)
    sizes = {split: evaluate(predictor, data, split)["n"] for split in ("train", "validation", "test")}
    assert sizes == {"train": 26, "validation": 8, "test": 6}
    report = evaluate(predictor, data, "all")
    assert (report["n"], report["split"], report["notes"]) == (40, "all", [])


def test_scores_are_those_of_the_answers(
    predictor: Predictor, put_rows: Put, rows: Rows, tmp_path: Path
) -> None:
    table = load_pairs(put_rows(tmp_path / "data", rows)).part("test")
    right = [predictor.predict(pair.text, pair.image).label == pair.label for pair in table]
    report = evaluate(predictor, tmp_path / "data")
    assert report["accuracy"] == sum(right) / 6


def test_training_data_is_dealt_again_as_training_dealt_it(
    trained: Run, unsplit: Path, told: dict[str, Any]
) -> None:
    report = evaluate(trained.folder, unsplit)
    assert {name: report[name] for name in SCORES} == scores(told)
    assert report["confusion"] == told["confusion"]
    assert report["notes"] == []


def test_training_data_is_recognised_in_another_place_and_form(
    predictor: Predictor, unsplit: Path, told: dict[str, Any], tmp_path: Path
) -> None:
    """Under other file names and zipped: what the pairs say is the same."""
    shutil.make_archive(str(tmp_path / "moved"), "zip", unsplit)
    report = evaluate(predictor, tmp_path / "moved.zip")
    assert {name: report[name] for name in SCORES} == scores(told)


def test_training_data_in_another_order_is_dealt_as_training_dealt_it(
    predictor: Predictor, put_rows: Put, rows: Rows, told: dict[str, Any], tmp_path: Path
) -> None:
    """Else rows that were learnt from would be scored, without a word."""
    shuffled = split_off(rows)
    random.Random(5).shuffle(shuffled)
    report = evaluate(predictor, put_rows(tmp_path / "data", shuffled))
    assert {name: report[name] for name in SCORES} == scores(told)


def test_foreign_data_without_a_split_is_scored_whole_and_says_so(
    predictor: Predictor, put_rows: Put, rows: Rows, tmp_path: Path
) -> None:
    data = put_rows(tmp_path / "data", split_off(rows)[:21])
    report = evaluate(predictor, data)
    assert report["n"] == 21
    assert report["notes"] == [
        f"{data} brings no split and is not the data this checkpoint was trained on, so all its 21 "
        "pairs are scored. Were some of them trained on, the score flatters."
    ]


def test_labels_it_cannot_give_are_left_out_and_counted(
    predictor: Predictor, put_rows: Put, rows: Rows, tmp_path: Path
) -> None:
    strange = {0: "purple", 3: "purple", 4: "pink"}
    changed = [{**row, "label": strange.get(i, row["label"])} for i, row in enumerate(rows)]
    report = evaluate(predictor, put_rows(tmp_path / "data", changed), "train")
    assert report["n"] == 23
    assert report["notes"] == [
        "3 rows have labels this checkpoint does not give: 'purple' × 2, 'pink' × 1. Left out."
    ]


def test_only_labels_it_cannot_give_are_refused(
    predictor: Predictor, put_rows: Put, rows: Rows, tmp_path: Path
) -> None:
    changed = [{**row, "label": "purple" if i % 2 else "pink"} for i, row in enumerate(rows)]
    with pytest.raises(DataError) as refused:
        evaluate(predictor, put_rows(tmp_path / "data", changed))
    assert str(refused.value) == (
        "None of the labels is one this checkpoint gives. Found: 'pink' × 3, 'purple' × 3. "
        "It gives: blue, green, red."
    )


def test_an_unknown_split_is_refused_before_anything_is_opened() -> None:
    with pytest.raises(SettingsError) as refused:
        evaluate("no such checkpoint", "no such data", "tset")
    assert str(refused.value) == (
        "There is no split 'tset'. Expected one of train, validation, test, all."
    )


def test_a_column_can_be_named(predictor: Predictor, put_rows: Put, rows: Rows, tmp_path: Path) -> None:
    """The label's own name is taken by a column that says nothing."""
    renamed = [{**row, "colour": row["label"], "label": "red"} for row in rows]
    data = put_rows(tmp_path / "data", renamed)
    report = evaluate(predictor, data, "all", overrides={"label_column": "colour"})
    assert {row["label"]: row["support"] for row in report["per_class"]} == {
        "blue": 13,
        "green": 13,
        "red": 14,
    }
