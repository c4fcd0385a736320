"""Mismatched pairs drawn for data of matches only: never a true pair, no help from either half."""

from __future__ import annotations

import csv
from collections import Counter
from pathlib import Path

import pytest
from PIL import Image

from mmapp.data.ingest import load_pairs
from mmapp.data.pairs import PairTable
from mmapp.errors import ColumnError, DataError
from mmapp.settings import DataSettings

MATCHING = DataSettings(task="match")


def write(folder: Path, rows: list[tuple[str, str]], label: str | None = "match") -> Path:
    """Captions of pictures named by their colour; `label` None leaves the column out."""
    colours = {colour for colour, _ in rows}
    for colour in colours:
        Image.new("RGB", (20, 20), colour).save(folder / f"{colour}.png")
    with (folder / "metadata.csv").open("w", newline="", encoding="utf-8") as out:
        table = csv.writer(out)
        table.writerow(["file_name", "text", *(["label"] if label else [])])
        table.writerows([f"{c}.png", text, *([label] if label else [])] for c, text in rows)
    return folder


COLOURS = ("red", "green", "blue", "yellow", "black", "white", "orange", "purple")
CAPTIONS = [(c, f"a {c} {thing}") for c in COLOURS for thing in ("square", "sheet", "tile", "wall")]


def pairs_of(table: PairTable, label: str) -> list[tuple[str, str, str]]:
    rows = table.frame[table.frame["label"] == label]
    return list(zip(rows["image_hash"], rows["text"], rows["split"], strict=True))


def test_every_match_gets_a_mismatch_that_is_never_a_true_pair(tmp_path: Path) -> None:
    table = load_pairs(write(tmp_path, CAPTIONS))
    matches, mismatches = pairs_of(table, "match"), pairs_of(table, "mismatch")

    true = {(image, text) for image, text, _ in matches}
    assert len(matches) == len(CAPTIONS)
    assert len(mismatches) >= 0.9 * len(CAPTIONS)
    assert not [pair for pair in mismatches if pair[:2] in true]


def test_neither_the_texts_nor_the_images_alone_tell_a_mismatch(tmp_path: Path) -> None:
    table = load_pairs(write(tmp_path, CAPTIONS))
    matches, mismatches = pairs_of(table, "match"), pairs_of(table, "mismatch")

    for half in (0, 1):
        spare = Counter((row[half], row[2]) for row in matches)
        spare.subtract((row[half], row[2]) for row in mismatches)
        assert min(spare.values()) >= 0  # nothing is given away more often than it occurs
        assert sum(spare.values()) == len(matches) - len(mismatches)


def test_the_draw_follows_from_the_seed_and_not_from_the_order_of_rows(tmp_path: Path) -> None:
    one, other = tmp_path / "one", tmp_path / "other"
    one.mkdir(), other.mkdir()
    first = load_pairs(write(one, CAPTIONS))
    second = load_pairs(write(other, CAPTIONS[::-1]))
    third = load_pairs(one, DataSettings(seed=1))

    assert first.fingerprint() == second.fingerprint()
    assert first.fingerprint() != third.fingerprint()


def test_what_was_drawn_is_said(tmp_path: Path) -> None:
    table = load_pairs(write(tmp_path, CAPTIONS))
    [finding] = [f for f in table.findings if f.kind == "negatives drawn"]
    assert finding.message.startswith("All rows say match; ")


def test_no_label_column_is_needed_where_match_is_asked_for(tmp_path: Path) -> None:
    folder = write(tmp_path, CAPTIONS, label=None)
    assert set(load_pairs(folder, MATCHING).frame["label"]) == {"match", "mismatch"}
    with pytest.raises(ColumnError):
        load_pairs(folder)


def test_data_with_mismatches_of_its_own_is_left_as_it_is(tmp_path: Path) -> None:
    folder = write(tmp_path, CAPTIONS)
    lines = (folder / "metadata.csv").read_text().splitlines()
    (folder / "metadata.csv").write_text("\n".join([*lines, "red.png,a blue wall,mismatch"]))
    assert len(load_pairs(folder)) == len(CAPTIONS) + 1


def test_where_every_text_is_true_of_every_image_nothing_can_be_drawn(tmp_path: Path) -> None:
    rows = [(colour, "a coloured square") for colour in COLOURS]
    with pytest.raises(DataError, match="no mismatched pair can be made of them"):
        load_pairs(write(tmp_path, rows))
