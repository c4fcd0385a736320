"""Which column plays which part: by name, by content, or because the user said so."""

from __future__ import annotations

import pandas as pd
import pytest

from mmapp.data.columns import choose_columns
from mmapp.errors import ColumnError
from mmapp.settings import DataSettings

SENTENCES = ["a red kite", "two blue boats", "the old town hall", "bread on tables"]


def is_png(cell: str) -> bool:
    return cell.endswith(".png")


def columns_of(
    table: dict[str, list[str | None]], settings: DataSettings | None = None
) -> dict[str, str | None]:
    frame = pd.DataFrame(table, dtype=object)
    chosen = choose_columns(frame, settings or DataSettings(), is_png)
    assert [choice.role for choice in chosen.values()] == list(chosen)
    return {role: choice.column for role, choice in chosen.items()}


def reasons_of(
    table: dict[str, list[str | None]], settings: DataSettings | None = None
) -> dict[str, str]:
    frame = pd.DataFrame(table, dtype=object)
    chosen = choose_columns(frame, settings or DataSettings(), is_png)
    return {role: choice.reason for role, choice in chosen.items()}


@pytest.mark.parametrize(
    ("role", "name"),
    [
        *(("image", name) for name in ["file_name", "image", "path", "filename", "Image Path"]),
        *(("text", name) for name in ["text", "caption", "sentence", "title", "DESCRIPTION"]),
        *(("label", name) for name in ["label", "class", "category", "target", " Labels "]),
        *(("split", name) for name in ["split", "subset", "Partition"]),
    ],
)
def test_a_telling_name_is_enough(role: str, name: str) -> None:
    # The cells are the same everywhere, so that nothing but the name can tell.
    table = {"other": ["test", "train"], name: ["train", "test"], "third": ["test", "train"]}
    assert columns_of(table)[role] == name
    assert reasons_of(table)[role] == "its name says so"


def test_of_several_telling_names_the_best_wins_and_the_others_are_mentioned() -> None:
    table = {"title": ["x", "y"], "path": ["a.png", "b.png"], "text": ["x", "y"]}
    assert columns_of(table)["text"] == "text"
    assert reasons_of(table)["text"] == "its name says so; title would also fit"


def test_content_tells_where_names_do_not() -> None:
    table = {
        "one": ["k1", "k2", "k3", "k4"],
        "two": ["cat", "dog", "cat", "dog"],
        "three": SENTENCES,
        "four": ["1.png", "2.png", "3.png", "4.png"],
        "five": ["train", "Train", "val", "test"],
    }
    assert columns_of(table) == {"image": "four", "text": "three", "label": "two", "split": "five"}
    assert reasons_of(table) == {
        "image": "100% of its cells lead to an image file",
        "text": "its cells hold the most words (3 on average)",
        "label": "it repeats 2 different values",
        "split": "its cells are names of splits",
    }


def test_four_image_names_in_five_are_enough_and_three_are_not() -> None:
    images = ["1.png", "2.png", "3.png", "4.png"]
    assert columns_of({"x": [*images, "gone"]})["image"] == "x"
    assert columns_of({"x": [*images[:3], "gone", "gone too"]})["image"] is None


def test_a_column_called_split_that_holds_no_splits_is_none() -> None:
    table = {"text": SENTENCES, "split": ["0", "1", "2", "3"], "label": ["a", "b", "a", "b"]}
    assert columns_of(table)["split"] is None


def test_single_words_are_no_text_and_unique_values_no_label() -> None:
    table = {"a": ["one", "two", "three"], "b": ["x", "y", "z"]}
    assert columns_of(table) == {"image": None, "text": None, "label": None, "split": None}
    assert set(reasons_of(table).values()) == {"none found"}


def test_empty_cells_do_not_spoil_a_guess() -> None:
    table = {"x": ["1.png", None, None, "2.png"], "y": [None, "two words", None, None]}
    assert columns_of(table)["image"] == "x"
    assert columns_of(table)["text"] == "y"


def test_no_column_plays_two_parts() -> None:
    # "caption" would be the text; the user wants it as label, so another column must be the text.
    settings = DataSettings(label_column="caption")
    table = {"caption": SENTENCES, "notes": SENTENCES}
    chosen = columns_of(table, settings)
    assert chosen["label"] == "caption"
    assert chosen["text"] == "notes"


@pytest.mark.parametrize("role", ["image", "text", "label", "split"])
def test_the_users_choice_beats_name_and_content(role: str) -> None:
    table: dict[str, list[str | None]] = {
        "image": ["1.png", "2.png"],
        "text": ["two words", "three more words"],
        "label": ["a", "a"],
        "split": ["train", "test"],
        "mine": ["p", "q"],
    }
    settings = DataSettings(**{f"{role}_column": "mine"})
    assert columns_of(table, settings)[role] == "mine"
    assert reasons_of(table, settings)[role] == "you chose it"


@pytest.mark.parametrize(
    ("written", "sentence"),
    [
        (
            "captoin",
            "There is no text column 'captoin'; the table has caption, class. Did you mean 'caption'?",
        ),
        ("xyz", "There is no text column 'xyz'; the table has caption, class."),
    ],
)
def test_a_misspelt_choice_is_answered_with_the_nearest_name(written: str, sentence: str) -> None:
    with pytest.raises(ColumnError) as refused:
        columns_of({"caption": ["x"], "class": ["y"]}, DataSettings(text_column=written))
    assert str(refused.value) == sentence
