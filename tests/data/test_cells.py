"""Label cells that hold several labels: as a JSON list, as a|b, and what is none of both."""

from __future__ import annotations

import pytest

from mmapp.data.cells import count_names, several, split_labels
from mmapp.data.labels import infer_task, label_set
from mmapp.data.pairs import LabelSet
from mmapp.errors import DataError


@pytest.mark.parametrize(
    ("cell", "labels"),
    [
        ("red", ("red",)),
        ("red|loud", ("red", "loud")),
        (" red | loud ", ("red", "loud")),
        ("red||red", ("red",)),
        ('["red", "very loud"]', ("red", "very loud")),
        ("[1, 2]", ("1", "2")),
        ("[]", ()),
        ("[sic]", ("[sic]",)),  # looks like a list and is none
    ],
)
def test_a_cell_is_taken_apart(cell: str, labels: tuple[str, ...]) -> None:
    assert split_labels(cell) == labels


@pytest.mark.parametrize(
    ("cells", "expected"),
    [(["a", "b"], False), (["a", "a|b"], True), (["[]"], True), (["[sic]", None], False)],
)
def test_one_list_among_the_cells_is_enough(cells: list[str | None], expected: bool) -> None:
    assert several(cells) is expected


def test_labels_are_counted_one_by_one_where_cells_hold_several() -> None:
    assert sorted(count_names(["a|b", "b", None])) == ["a", "b", "b"]
    assert sorted(count_names(["a b", "b", None])) == ["a b", "b"]


def test_lists_call_for_multilabel_and_their_parts_are_the_labels() -> None:
    cells = ["loud|red", "red", '["blue"]']
    assert infer_task(cells) == "multilabel"
    assert label_set(cells, "multilabel") == LabelSet(("blue", "loud", "red"), several=True)


def test_the_target_of_a_row_is_a_one_for_each_of_its_labels() -> None:
    labels = LabelSet(("blue", "loud", "red"), several=True)
    assert labels.target("red|loud") == [0.0, 1.0, 1.0]
    assert labels.target("[]") == [0.0, 0.0, 0.0]
    with pytest.raises(DataError, match="Label 'green' is not one of the 3 labels"):
        labels.target("red|green")
