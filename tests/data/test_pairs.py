"""The records: order of classes, parts of a table, what is kept on disk and what identifies data."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path

import pandas as pd
import pytest

from mmapp.data.pairs import (
    COLUMNS,
    ColumnChoice,
    Finding,
    LabelSet,
    Pair,
    PairTable,
    plain,
)
from mmapp.errors import DataError

GoodRows = Callable[..., PairTable]


@pytest.mark.parametrize(
    ("labels", "names"),
    [
        (["b", "a", "b"], ("a", "b")),
        (["10", "9", "2"], ("2", "9", "10")),
        (["10", "b", "-1", "a"], ("-1", "10", "a", "b")),
        (["1.0", "1"], ("1", "1.0")),
        (["nan", "2", "b", "1", "inf"], ("1", "2", "b", "inf", "nan")),
    ],
)
def test_classes_are_sorted_the_same_whatever_the_order_of_the_rows(
    labels: list[str], names: tuple[str, ...]
) -> None:
    assert LabelSet.of(labels).names == names
    assert LabelSet.of(reversed(labels)).names == names


def test_a_label_has_the_number_of_its_place(good_rows: GoodRows) -> None:
    labels = LabelSet(("cat", "dog"))
    assert (labels.index("cat"), labels.index("dog"), len(labels)) == (0, 1, 2)
    with pytest.raises(DataError) as refused:
        labels.index("cow")
    assert str(refused.value) == (
        "Label 'cow' is not one of the 2 labels known here (cat, dog). "
        "Correct the row, or train with rows of that label."
    )


def test_plain_rows_hold_none_and_never_nan() -> None:
    frame = plain(pd.DataFrame([{"row": 3, "text": float("nan"), "label": "x", "extra": 1}]))
    assert tuple(frame.columns) == COLUMNS
    assert frame.loc[0, ["image", "text", "label", "image_hash"]].tolist() == [
        None,
        None,
        "x",
        None,
    ]
    assert frame.loc[0, ["row", "split", "width"]].tolist() == [3, "", 0]


def test_no_rows_are_plain_rows_too() -> None:
    frame = plain(pd.DataFrame([]))
    assert tuple(frame.columns) == COLUMNS
    assert len(frame) == 0


def test_a_table_is_a_line_of_pairs(good_rows: GoodRows) -> None:
    table = good_rows([{"image": "/a.png", "text": "one", "row": 4}, {"text": "two", "label": None}])
    assert [(pair.image, pair.text, pair.label, pair.row) for pair in table] == [
        (Path("/a.png"), "one", "x", 4),
        (None, "two", None, 2),
    ]
    assert all(isinstance(pair, Pair) for pair in table)
    assert table.labels() == ["x"]


def test_the_same_halves_have_the_same_numbers() -> None:
    halves = [("a", "1"), ("b", "1"), ("a", None), (None, "2"), (None, "1")]
    frame = plain(pd.DataFrame(halves, columns=["text", "image_hash"]))
    numbers = PairTable(frame, "here").halves().tolist()
    assert numbers == [[0, 0], [1, 0], [0, -1], [-1, 1], [-1, 0]]


def test_parts_are_disjoint_and_keep_the_order(good_rows: GoodRows) -> None:
    splits = ["test", "train", "validation", "train"]
    table = good_rows([{"text": f"{i}", "split": split} for i, split in enumerate(splits)])
    assert [pair.text for pair in table.part("train")] == ["1", "3"]
    assert table.part("train").frame.index.tolist() == [0, 1]
    assert [pair.text for pair in table.part("validation")] == ["2"]
    assert [pair.text for pair in table.part("test")] == ["0"]
    assert len(table.part("all")) == 4


def full_table(good_rows: GoodRows) -> PairTable:
    rows = [
        {"image": "/猫.png", "text": "=1+1 <b>", "split": "train", "width": 3, "height": 4},
        {"text": "two", "label": None, "row": 7},
    ]
    return good_rows(
        rows,
        findings=(
            Finding("missing image", "set aside", "Image b.png does not exist.", 2, "b.png"),
            Finding("imbalance", "warning", "…"),
        ),
        columns=(ColumnChoice("image", "file_name", "its name says so"),),
        own_split=True,
        total_rows=9,
    )


def test_what_is_saved_is_read_back_whole(tmp_path: Path, good_rows: GoodRows) -> None:
    table = full_table(good_rows)
    table.save(tmp_path / "pairs.parquet")
    again = PairTable.load(tmp_path / "pairs.parquet")
    pd.testing.assert_frame_equal(again.frame, table.frame)
    assert again.frame["image"].tolist() == ["/猫.png", None]
    assert (again.source, again.own_split, again.total_rows) == ("made here", True, 9)
    assert again.findings == table.findings
    assert again.columns == table.columns


@pytest.mark.parametrize("content", [None, "PAR1", "foreign"])
def test_a_file_that_holds_no_pairs_is_refused(content: str | None, tmp_path: Path) -> None:
    path = tmp_path / "pairs.parquet"
    if content == "foreign":
        pd.DataFrame({"text": ["x"]}).to_parquet(path)
    elif content:
        path.write_text(content)
    with pytest.raises(DataError, match=f"^{path} does not hold pairs written by this app: "):
        PairTable.load(path)


def test_the_description_counts_rows_classes_and_splits(good_rows: GoodRows) -> None:
    table = full_table(good_rows)
    described = json.loads(json.dumps(table.describe()))
    assert described["rows"] == 9
    assert described["used"] == 2
    assert described["set_aside"] == 7
    assert described["classes"] == {"x": 1}
    assert described["splits"] == {"train": 1, "": 1}
    assert described["columns"]["image"] == {"column": "file_name", "reason": "its name says so"}
    assert described["findings"][0]["row"] == 2


def test_the_fingerprint_knows_content_and_neither_place_nor_order(good_rows: GoodRows) -> None:
    rows = [
        {"image": "a", "image_hash": "1", "text": "one"},
        {"image": "b", "image_hash": "2", "text": "two", "label": "y"},
        {"text": "no picture"},
        {"image": "c", "image_hash": "3", "text": None, "label": None},
    ]
    moved = [{**row, "split": "test", "row": 9} for row in reversed(rows)]
    moved[-1]["image"] = "/elsewhere"
    fingerprint = good_rows(rows).fingerprint()
    assert good_rows(moved).fingerprint() == fingerprint
    changes = [{"text": "One"}, {"image_hash": "9"}, {"label": "z"}, {"text": None}]
    others = {good_rows([{**rows[0], **change}, *rows[1:]]).fingerprint() for change in changes}
    assert len(others | {fingerprint}) == 5
