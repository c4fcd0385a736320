"""What is suspicious about good rows: which rows are named, and which are rightly left in peace."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest

from mmapp.data.findings import find_all, is_shared_text
from mmapp.data.pairs import PairTable

GoodRows = Callable[..., PairTable]


def found(table: PairTable, kind: str) -> dict[int | None, str]:
    """Row -> message of the findings of one kind; none of them may set a row aside."""
    all_of_kind = [finding for finding in find_all(table) if finding.kind == kind]
    assert {finding.severity for finding in all_of_kind} <= {"warning"}
    return {finding.row: finding.message for finding in all_of_kind}


def test_a_repetition_is_named_with_the_row_it_repeats(good_rows: GoodRows) -> None:
    same = {"image": "a", "text": "one"}
    table = good_rows(
        [
            {**same, "row": 5},
            {**same, "text": "other", "row": 6},
            {**same, "row": 7},
            {**same, "image": "b", "row": 8},
            {**same, "label": "y", "row": 9},
            {**same, "row": 10},
        ]
    )
    assert found(table, "duplicate pair") == {
        7: "Same image, text and label as row 5; both stay on one side.",
        10: "Same image, text and label as row 5; both stay on one side.",
    }


@pytest.mark.parametrize("half", ["image", "text"])
def test_rows_that_lack_a_half_repeat_each_other_only_where_the_other_half_is_equal(
    half: str, good_rows: GoodRows
) -> None:
    table = good_rows([{half: "one"}, {half: "two"}, {half: "one"}])
    assert found(table, "duplicate pair") == {
        3: "Same image, text and label as row 1; both stay on one side."
    }


def test_an_absent_text_is_not_the_word_none(good_rows: GoodRows) -> None:
    table = good_rows([{"image": "a", "text": None}, {"image": "a", "text": "None"}])
    assert found(table, "duplicate pair") == {}


def test_every_row_of_a_contradiction_is_named(good_rows: GoodRows) -> None:
    table = good_rows(
        [
            {"image": "a", "text": "one", "label": "x"},
            {"image": "a", "text": "two", "label": "y"},  # another text is another pair
            {"image": "a", "text": "one", "label": "y"},
            {"text": "alone", "label": "y"},
            {"text": "alone", "label": "z"},
            {"image": "b", "text": "same", "label": "x"},
            {"image": "b", "text": "same", "label": "x"},
        ]
    )
    assert found(table, "conflicting labels") == {
        1: "The same image and text carry the labels 'x', 'y'.",
        3: "The same image and text carry the labels 'x', 'y'.",
        4: "The same image and text carry the labels 'y', 'z'.",
        5: "The same image and text carry the labels 'y', 'z'.",
    }


def test_an_image_in_two_splits_is_a_leak_into_the_one_that_is_scored(good_rows: GoodRows) -> None:
    table = good_rows(
        [
            {"image": "a", "text": "1", "split": "train"},
            {"image": "a", "text": "2", "split": "test"},
            {"image": "b", "text": "3", "split": "validation"},
            {"image": "b", "text": "4", "split": "test"},
            {"image": "c", "text": "5", "split": "train"},
            {"image": "c", "text": "6", "split": "train"},
            {"text": "7", "split": "train"},  # absent images are not one image
            {"text": "8", "split": "test"},
        ]
    )
    assert found(table, "image in two splits") == {
        2: "The same image is also in train: the test score will flatter.",
        3: "The same image is also in test: the validation score will flatter.",
        4: "The same image is also in validation: the test score will flatter.",
    }
    assert found(table, "text in two splits") == {}


def test_a_text_in_two_splits_is_a_leak(good_rows: GoodRows) -> None:
    table = good_rows(
        [
            {"image": "a", "text": "same", "split": "train"},
            {"image": "b", "text": "same", "split": "test"},
            {"image": "c", "text": "third", "split": "test"},
        ]
    )
    assert found(table, "text in two splits") == {
        2: "The same text is also in train: the test score will flatter."
    }


def test_texts_that_many_pairs_share_are_no_leak(good_rows: GoodRows) -> None:
    splits = ["train", "validation", "test"]
    rows = [{"image": str(i), "text": f"what is {i % 4}?", "split": splits[i % 3]} for i in range(9)]
    assert found(good_rows(rows), "text in two splits") == {}


@pytest.mark.parametrize(
    ("texts", "shared"),
    [
        (["a", "a", "a"], True),
        (["a", "a", "b", "b"], False),  # half of them distinct: not few enough
        (["a", "a", "a", "b", "b"], True),
        (["a", None, None, None], False),  # absent texts do not count
        ([None, None], False),
    ],
)
def test_texts_are_shared_where_fewer_than_half_are_distinct(
    texts: list[str | None], shared: bool, good_rows: GoodRows
) -> None:
    assert is_shared_text(good_rows([{"text": text} for text in texts]).frame["text"]) is shared


def of_classes(good_rows: GoodRows, **counts: int) -> PairTable:
    labels = [label for label, count in counts.items() for _ in range(count)]
    return good_rows([{"text": f"text {i}", "label": label} for i, label in enumerate(labels)])


def test_a_class_is_tiny_below_ten_rows(good_rows: GoodRows) -> None:
    table = of_classes(good_rows, a=9, b=10, c=2)
    kinds = [finding for finding in find_all(table) if finding.kind == "tiny class"]
    assert [finding.message for finding in kinds] == [
        "Class 'c' has 2 rows; below 10 its scores mean little.",
        "Class 'a' has 9 rows; below 10 its scores mean little.",
    ]


@pytest.mark.parametrize(("large", "found_it"), [(200, False), (201, True)])
def test_classes_are_unequal_beyond_twenty_to_one(
    large: int, found_it: bool, good_rows: GoodRows
) -> None:
    messages = found(of_classes(good_rows, a=large, b=10, c=50), "imbalance")
    expected = {None: "'a' has 201 rows and 'b' only 10: watch macro F1, not accuracy."}
    assert messages == (expected if found_it else {})


def test_a_single_class_leaves_nothing_to_tell_apart(good_rows: GoodRows) -> None:
    assert found(of_classes(good_rows, a=12), "one class") == {
        None: "Every row has the label 'a'; there is nothing to tell apart."
    }
    assert found(of_classes(good_rows, a=12, b=12), "one class") == {}


def test_a_class_without_a_training_row_is_named(good_rows: GoodRows) -> None:
    rows: list[dict[str, Any]] = [
        {"text": "1", "label": "a", "split": "train"},
        {"text": "2", "label": "b", "split": "test"},
        {"text": "3", "label": "a", "split": "test"},
    ]
    assert found(good_rows(rows), "class never learnt") == {
        None: "Class 'b' has no training row and can never be predicted."
    }


def test_a_split_without_rows_is_named_once_the_rows_are_dealt(good_rows: GoodRows) -> None:
    dealt = good_rows([{"text": "1", "split": "train"}, {"text": "2", "split": "test"}])
    assert found(dealt, "empty split") == {None: "No pair is left for validation."}
    assert found(good_rows([{"text": "1"}]), "empty split") == {}


def test_clean_data_is_left_in_peace(good_rows: GoodRows) -> None:
    splits = ["train"] * 20 + ["validation"] * 4 + ["test"] * 4
    rows = [
        {"image": f"{i}", "text": f"text {i}", "label": "ab"[i % 2], "split": split}
        for i, split in enumerate(splits)
    ]
    assert find_all(good_rows(rows)) == []


def test_findings_of_rows_name_them_by_plain_numbers(good_rows: GoodRows) -> None:
    # numpy's integers would break the JSON that findings are written into.
    same = {"image": "a", "text": "one"}
    table = good_rows([{**same, "split": "train"}, {**same, "split": "test"}, {**same, "label": "y"}])
    rows = [finding.row for finding in find_all(table) if finding.row is not None]
    assert len(rows) >= 5
    assert {type(row) for row in rows} == {int}


def test_no_rows_give_no_findings_about_rows(good_rows: GoodRows) -> None:
    empty = good_rows([{"text": "1"}])
    assert find_all(PairTable(empty.frame.iloc[:0], "made here")) == []
