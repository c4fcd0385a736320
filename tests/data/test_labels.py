"""What labels call for: the task, its canonical words, the order of its classes."""

from __future__ import annotations

from collections.abc import Callable

import pytest

from mmapp.data.labels import belonging, infer_task, label_set, with_task
from mmapp.data.pairs import PairTable
from mmapp.errors import DataError

GoodRows = Callable[..., PairTable]


@pytest.mark.parametrize(
    ("labels", "task"),
    [
        (["match", "mismatch"], "match"),
        (["match"], "match"),
        (["match", "other"], "classify"),
        (["1", "0"], "classify"),  # as likely two classes; match must then be asked for
        (["cat", "dog"], "classify"),
    ],
)
def test_the_task_is_read_off_the_labels(labels: list[str], task: str) -> None:
    assert infer_task(labels) == task


@pytest.mark.parametrize(
    ("written", "meant"),
    [
        *((word, "match") for word in ["match", "Matched", "1", "true", "YES", "positive"]),
        *((word, "mismatch") for word in ["mismatch", "0", "-1", "False", "no", "negative"]),
        (None, None),
    ],
)
def test_words_for_match_become_the_two_canonical_ones(
    written: str | None, meant: str | None, good_rows: GoodRows
) -> None:
    table = good_rows([{"text": "t", "label": written}])
    assert with_task(table, "match").frame["label"].tolist() == [meant]
    assert table.frame["label"].tolist() == [written]


def test_a_label_that_is_no_word_for_match_is_named_with_its_row(good_rows: GoodRows) -> None:
    table = good_rows([{"text": "t", "label": "yes"}, {"text": "t", "label": "cat", "row": 7}])
    with pytest.raises(DataError) as refused:
        with_task(table, "match")
    assert str(refused.value) == (
        "Row 7 has the label 'cat'; the task match expects match or mismatch "
        "(1/0, yes/no and true/false are understood). For other labels choose classify."
    )


def test_labels_of_other_tasks_stay_as_they_are(good_rows: GoodRows) -> None:
    table = good_rows([{"text": "t", "label": "yes"}])
    assert with_task(table, "classify") is table


def test_match_is_class_1_even_where_only_one_of_the_two_occurs() -> None:
    assert label_set(["match"], "match").names == ("mismatch", "match")
    assert label_set(["no", "yes", "no"], "classify").names == ("no", "yes")


def test_halves_belong_together_but_in_a_mismatch() -> None:
    assert belonging([0, 1, 1], "match").tolist() == [False, True, True]
    assert belonging([0, 1, 2], "classify").tolist() == [True, True, True]
