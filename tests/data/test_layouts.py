"""What a folder of files means: tables per folder or split, class folders, and what is refused."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from mmapp.data.ingest import load_pairs
from mmapp.data.layouts import FOLDER_SPLIT, read_folder
from mmapp.errors import DataError

Put = Callable[..., Path]
Png = Callable[..., bytes]
CsvText = Callable[..., str]


def raw_rows(folder: Path) -> list[dict[str, Any]]:
    return read_folder(folder).frame.to_dict(orient="records")


def test_a_metadata_table_in_every_split_folder(
    tmp_path: Path, png: Png, csv_text: CsvText, put_files: Put
) -> None:
    contents: dict[str, str | bytes] = {}
    for number, split in enumerate(["train", "Val", "test"]):
        # The same file name in every folder: it must lead to the one beside its own table.
        contents[f"{split}/metadata.csv"] = csv_text([("1.png", f"text of {split}", "x")])
        contents[f"{split}/1.png"] = png(number)
    table = load_pairs(put_files(tmp_path / "data", contents))
    seen = {
        pair.text: (split, pair.image and pair.image.parent.name)
        for pair, split in zip(table, table.frame["split"], strict=True)
    }
    assert seen == {
        "text of train": ("train", "train"),
        "text of Val": ("validation", "Val"),
        "text of test": ("test", "test"),
    }
    assert table.frame["row"].tolist() == [1, 2, 3]


def test_one_table_per_split_is_numbered_on(tmp_path: Path, put_files: Put) -> None:
    contents = {
        "test.tsv": "text\tlabel\nfour\tx\n",
        "train.csv": "text,label\none,x\ntwo, broken,x\nthree,y\n",
        "validation.jsonl": '{"text": "five", "label": "y"}\n',
    }
    table = load_pairs(put_files(tmp_path / "data", contents))
    rows = list(zip(table.frame["row"], table.frame["text"], table.frame["split"], strict=True))
    assert rows == [
        (1, "four", "test"),
        (2, "one", "train"),
        (4, "three", "train"),
        (5, "five", "validation"),
    ]
    assert [finding.row for finding in table.set_aside()] == [3]


def test_tables_of_different_columns_leave_absent_cells_empty(tmp_path: Path, put_files: Put) -> None:
    folder = put_files(
        tmp_path / "data", {"test.csv": "text\none\n", "train.csv": "text,label\ntwo,x\n"}
    )
    assert [(row["text"], row.get("label")) for row in raw_rows(folder)] == [
        ("one", None),
        ("two", "x"),
    ]


def test_class_folders_with_a_text_beside_each_image(tmp_path: Path, png: Png, put_files: Put) -> None:
    contents = {
        "cat/1.jpg": png(1),
        "cat/1.txt": " a cat \n",
        "cat/2.PNG": png(2),
        "dog/big/1.png": png(3),
        "dog/big/1.txt": "a dog",
    }
    folder = put_files(tmp_path / "data", contents)
    assert [(row["file_name"], row["text"], row["label"]) for row in raw_rows(folder)] == [
        ("1.jpg", "a cat", "cat"),
        ("2.PNG", None, "cat"),
        ("1.png", "a dog", "big"),
    ]
    table = load_pairs(folder)
    assert [(p.image and p.image.name, p.text, p.label) for p in table] == [
        ("1.jpg", "a cat", "cat"),
        ("2.PNG", None, "cat"),
        ("1.png", "a dog", "big"),
    ]


def test_class_folders_inside_split_folders(tmp_path: Path, png: Png, put_files: Put) -> None:
    names = ["train/cat/1.png", "train/dog/2.png", "dev/cat/3.png", "test/dog/4.png"]
    folder = put_files(tmp_path / "data", {name: png(i) for i, name in enumerate(names)})
    rows = [(row["file_name"], row["label"], row[FOLDER_SPLIT]) for row in raw_rows(folder)]
    assert rows == [
        ("3.png", "cat", "validation"),
        ("4.png", "dog", "test"),
        ("1.png", "cat", "train"),
        ("2.png", "dog", "train"),
    ]


def test_a_picture_called_train_is_no_split(tmp_path: Path, png: Png, put_files: Put) -> None:
    names = ["vehicle/train.png", "vehicle/test.png", "animal/val.png", "animal/cat.png"]
    folder = put_files(tmp_path / "data", {name: png(i) for i, name in enumerate(names)})
    assert [row[FOLDER_SPLIT] for row in raw_rows(folder)] == [None] * 4


def test_one_folder_around_everything_names_no_class(tmp_path: Path, png: Png, put_files: Put) -> None:
    contents = {"photos/1.png": png(1), "photos/1.txt": "one text", "photos/2.png": png(2)}
    folder = put_files(tmp_path / "data", contents)
    assert "label" not in read_folder(folder).frame.columns
    assert len(load_pairs(folder, need_labels=False)) == 2


@pytest.mark.parametrize(
    ("names", "used", "unused"),
    [
        (["metadata.csv", "metadata.jsonl"], ["metadata.csv"], ["metadata.jsonl"]),
        (["metadata.parquet.csv", "metadata.tsv"], ["metadata.tsv"], ["metadata.parquet.csv"]),
        (["train.csv", "results.csv", "test.csv"], ["test.csv", "train.csv"], ["results.csv"]),
        (["pairs.csv", "settings.json"], ["pairs.csv"], []),
        ([".hidden.csv", "pairs.csv", "__MACOSX/metadata.csv"], ["pairs.csv"], []),
    ],
)
def test_of_several_tables_the_one_meant_is_read_and_the_others_are_named(
    names: list[str], used: list[str], unused: list[str], tmp_path: Path, put_files: Put
) -> None:
    def content(name: str) -> str:
        if name.endswith(".jsonl"):
            return json.dumps({"text": name})
        return f"text\n{name}\n"

    raw = read_folder(put_files(tmp_path / "data", {name: content(name) for name in names}))
    assert raw.frame["text"].tolist() == used
    assert [f.message for f in raw.findings] == [f"Tables not read: {name}." for name in unused]


def test_tables_that_compete_are_refused_with_the_names_that_would_help(
    tmp_path: Path, put_files: Put
) -> None:
    folder = put_files(tmp_path / "data", {"a.csv": "text\nx\n", "b.csv": "text\nx\n"})
    with pytest.raises(DataError) as refused:
        read_folder(folder)
    assert str(refused.value) == (
        "Found 2 tables (a.csv, b.csv) and cannot tell which one holds the pairs. "
        "Name it metadata.csv, or name them train.csv, validation.csv and test.csv."
    )


def test_a_folder_without_table_and_picture_is_refused(tmp_path: Path, put_files: Put) -> None:
    with pytest.raises(DataError) as refused:
        read_folder(put_files(tmp_path / "data", {"notes.txt": "hello"}))
    assert str(refused.value) == (
        "No table and no picture was found in data. Expected metadata.csv (or .tsv, .jsonl, "
        ".parquet) beside the images, or one folder of images per class."
    )
