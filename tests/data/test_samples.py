"""The samples teach what they promise: true labels, halves at chance by construction, no leaks."""

from __future__ import annotations

import json
import re
from collections import Counter
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
from PIL import Image
from sklearn.datasets import load_digits

from mmapp.data.ingest import load_pairs
from mmapp.data.pairs import SPLITS, PairTable
from mmapp.data.samples import SAMPLES, write_sample
from mmapp.errors import DataError

WORDS = {
    word: number
    for number, word in enumerate("zero one two three four five six seven eight nine".split())
}


@pytest.fixture(scope="module")
def sample(tmp_path_factory: pytest.TempPathFactory) -> Callable[[str], PairTable]:
    """sample(name): the sample as everybody's data is read, written once for all tests here."""
    workspace = tmp_path_factory.mktemp("samples")
    read: dict[str, PairTable] = {}

    def read_once(name: str) -> PairTable:
        if name not in read:
            read[name] = load_pairs(f"sample:{name}", workspace=workspace)
        return read[name]

    return read_once


def digits_of(frame: pd.DataFrame) -> list[int]:
    """The digit on every row's picture, by scikit-learn's own labels."""
    digits = load_digits(return_X_y=True)[1]
    return [int(digits[int(Path(image).stem)]) for image in frame["image"]]


def is_true(text: str, digit: int) -> bool:
    """What the phrase says of the digit, understood without looking at how it was made."""
    if text in WORDS:
        return WORDS[text] == digit
    if found := re.fullmatch(r"(\w+) plus (\w+)", text):
        return WORDS[found[1]] + WORDS[found[2]] == digit
    if found := re.fullmatch(r"the number after (\w+)", text):
        return digit == WORDS[found[1]] + 1
    if found := re.fullmatch(r"one less than (\w+)", text):
        return digit == WORDS[found[1]] - 1
    if found := re.fullmatch(r"an (even|odd) number (below|above) (\w+)", text):
        right_side = digit < WORDS[found[3]] if found[2] == "below" else digit > WORDS[found[3]]
        return right_side and digit % 2 == (found[1] == "odd")
    raise AssertionError(f"nobody taught this test to understand {text!r}")


@pytest.mark.parametrize("name", SAMPLES)
def test_every_row_of_a_sample_is_good_and_nothing_is_suspicious(
    name: str, sample: Callable[[str], PairTable]
) -> None:
    table = sample(name)
    assert table.findings == ()
    assert table.total_rows == len(table)
    assert table.own_split
    assert {c.role: c.column for c in table.columns} == {
        "image": "file_name",
        "text": "text",
        "label": "label",
        "split": "split",
    }


@pytest.mark.parametrize("name", SAMPLES)
def test_splits_share_no_picture_and_use_every_one(
    name: str, sample: Callable[[str], PairTable]
) -> None:
    images = {split: set(sample(name).part(split).frame["image_hash"]) for split in SPLITS}
    named = {split: set(sample(name).part(split).frame["image"]) for split in SPLITS}
    assert {split: len(names) for split, names in named.items()} == {
        "train": 1437,  # 0.8 of 1797 digits
        "validation": 180,
        "test": 180,
    }
    assert not images["train"] & images["validation"]
    assert not images["train"] & images["test"]
    assert not images["validation"] & images["test"]


def test_the_pictures_are_the_digits_they_are_taken_for(
    sample: Callable[[str], PairTable],
) -> None:
    originals = load_digits().images
    for image in sample("digits").frame["image"].unique()[::60]:
        # Blocks of 4 x 4 pixels, averaged, are the picture before it was enlarged.
        shown = np.asarray(Image.open(image), dtype=float).reshape(8, 4, 8, 4).mean(axis=(1, 3))
        original = originals[int(Path(image).stem)]
        assert np.corrcoef(shown.ravel(), original.ravel())[0, 1] > 0.95


def test_digits_every_label_is_true(sample: Callable[[str], PairTable]) -> None:
    frame = sample("digits").frame
    labels = [
        "match" if is_true(text, digit) else "mismatch"
        for text, digit in zip(frame["text"], digits_of(frame), strict=True)
    ]
    assert frame["label"].tolist() == labels


@pytest.mark.parametrize("split", SPLITS)
def test_digits_the_image_alone_tells_nothing(split: str, sample: Callable[[str], PairTable]) -> None:
    frame = sample("digits").part(split).frame
    per_image = frame.groupby(["image", "label"]).size().unstack(fill_value=0)
    assert (per_image["match"] == 2).all()
    assert (per_image["mismatch"] == 2).all()


@pytest.mark.parametrize("split", SPLITS)
def test_digits_the_text_alone_tells_nothing(split: str, sample: Callable[[str], PairTable]) -> None:
    frame = sample("digits").part(split).frame
    texts = {label: Counter(rows["text"]) for label, rows in frame.groupby("label")}
    assert texts["match"] == texts["mismatch"]
    assert len(texts["match"]) > 50  # and there is something to read


def test_digits_no_picture_meets_the_same_text_twice(sample: Callable[[str], PairTable]) -> None:
    frame = sample("digits").frame
    assert not frame.duplicated(["image", "text"]).any()


def test_digits_the_picture_alone_would_tell_if_mismatches_were_drawn_carelessly(
    sample: Callable[[str], PairTable],
) -> None:
    # Guard of the two tests above: the same counts do catch a table that is not balanced.
    frame = sample("digits").part("test").frame.iloc[1:]
    texts = {label: Counter(rows["text"]) for label, rows in frame.groupby("label")}
    assert texts["match"] != texts["mismatch"]


THINGS = {
    "food": ["oil", "bread", "cheese", "figs", "tea", "jam", "salt", "rice"],
    "books": ["novel", "atlases", "cookery book", "letters", "school books", "dictionary",
              "poems", "sheet music"],
    "toys": ["kite", "blocks", "puzzle", "train", "puppets", "ball", "marbles", "doll"],
}  # fmt: skip


def test_parcels_the_text_tells_the_kind_and_the_picture_the_side(
    sample: Callable[[str], PairTable],
) -> None:
    frame = sample("parcels").frame
    for text, digit, label in zip(frame["text"], digits_of(frame), frame["label"], strict=True):
        kinds = [kind for kind, things in THINGS.items() if any(t in text for t in things)]
        assert len(kinds) == 1
        assert label == f"{kinds[0]} {'north' if digit <= 4 else 'south'}"


def test_parcels_neither_half_is_enough(sample: Callable[[str], PairTable]) -> None:
    frame = sample("parcels").frame
    assert (frame.groupby("image")["label"].nunique() == 2).all()  # two kinds for every picture
    sides = frame["label"].str.split().str[1]
    kinds = frame["label"].str.split().str[0]
    # Even one who knew the kind for certain would guess the side right about half of the time.
    for kind in THINGS:
        assert abs((sides[kinds == kind] == "north").mean() - 0.5) < 0.02


def test_spot_the_words_marked_name_the_picture_and_no_others_do(
    sample: Callable[[str], PairTable],
) -> None:
    frame = sample("spot").frame
    for text, label, digit in zip(frame["text"], frame["label"], digits_of(frame), strict=True):
        words, tags = json.loads(text), json.loads(label)
        marked = [word for word, tag in zip(words, tags, strict=True) if tag != "O"]
        assert [WORDS[word] for word in marked if word in WORDS] == [digit]
        assert sum(word in WORDS for word in words) == 3
        assert [tag for tag in tags if tag.startswith("B-")] == ["B-SHOWN"]


def test_spot_the_text_alone_cannot_tell_which(sample: Callable[[str], PairTable]) -> None:
    """Every line stands beside three pictures, and each calls other words SHOWN."""
    marked = sample("spot").frame.groupby("text")["label"].nunique()
    assert (marked == 3).all()


def test_a_sample_is_written_once_and_the_same_everywhere(tmp_path: Path) -> None:
    first = write_sample("parcels", tmp_path / "one")
    times = {path: path.stat().st_mtime_ns for path in first.rglob("*")}
    assert write_sample("parcels", tmp_path / "one") == first
    assert {path: path.stat().st_mtime_ns for path in first.rglob("*")} == times
    (tmp_path / "two" / ".parcels-1" / "images").mkdir(parents=True)  # somebody was cut off here
    (tmp_path / "two" / ".parcels-1" / "images" / "junk.png").write_text("junk")
    second = write_sample("parcels", tmp_path / "two")
    assert {
        path.relative_to(first): path.read_bytes() for path in first.rglob("*") if path.is_file()
    } == {path.relative_to(second): path.read_bytes() for path in second.rglob("*") if path.is_file()}


def test_an_unknown_sample_is_refused_with_the_known_ones(tmp_path: Path) -> None:
    with pytest.raises(DataError) as refused:
        write_sample("letters", tmp_path)
    assert str(refused.value) == "There is no sample 'letters'. Choose one of digits, parcels, spot."
