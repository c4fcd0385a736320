"""The door: hostile zips, sources of every kind, rows that lack something, honest errors."""

from __future__ import annotations

import json
import zipfile
from collections.abc import Callable
from pathlib import Path

import pandas as pd
import pytest

from mmapp.data.ingest import load_pairs
from mmapp.data.pairs import PairTable
from mmapp.errors import ColumnError, DataError
from mmapp.settings import DataSettings

Put = Callable[..., Path]
Png = Callable[..., bytes]
CsvText = Callable[..., str]


def used_rows(table: PairTable) -> list[int]:
    return table.frame["row"].tolist()


def reasons(table: PairTable) -> dict[int | None, tuple[str, str]]:
    return {finding.row: (finding.kind, finding.message) for finding in table.set_aside()}


def everything_below(folder: Path) -> set[Path]:
    return set(folder.rglob("*"))


@pytest.fixture
def hostile_zip(tmp_path: Path, png: Png, csv_text: CsvText, put_zip: Put) -> Path:
    rows = [
        ("photos/inner/a.png", "a cat on a mat", "x"),  # 1
        ("big.png", "upper case", "y"),  # 2
        ("猫.png", "a name in Chinese", "x"),  # 3
        ("letter.png", "not a picture", "y"),  # 4
        ("cut.png", "cut off", "x"),  # 5
        ("empty.jpg", "nothing in it", "y"),  # 6
        ("gone.png", "missing", "x"),  # 7
        ("gone too.png", "missing as well", "y"),  # 8
        ("with space.png", "", "x"),  # 9
        ("../../evil.png", "a path that climbs", "y"),  # 10
        ("/etc/passwd.png", "a path from the root", "x"),  # 11
        ("with space.png", "a space in the name", "y"),  # 12
        ("no suffix in the table", "the name alone", "x"),  # 13
    ]
    contents = {
        "data/metadata.csv": csv_text(rows),
        "data/photos/inner/a.png": png(1),
        "data/BIG.PNG": png(2),
        "data/猫.png": png(3),
        "data/letter.png": b"Dear Sir",
        "data/cut.png": png(4)[:50],
        "data/empty.jpg": b"",
        "data/with space.png": png(5),
        "data/no suffix in the table.png": png(6),
        "../../evil.png": png(7),
        "data/../../../evil.png": png(8),
    }
    (tmp_path / "in").mkdir()
    return put_zip(tmp_path / "in" / "upload.zip", contents, zipfile.ZIP_DEFLATED)


def test_of_a_hostile_zip_every_good_row_is_kept_and_every_bad_one_named(
    hostile_zip: Path, tmp_path: Path
) -> None:
    table = load_pairs(hostile_zip, workspace=tmp_path / "deep" / "work")
    assert used_rows(table) == [1, 2, 3, 12, 13]
    names = [pair.image.name for pair in table if pair.image]
    assert names == ["a.png", "BIG.PNG", "猫.png", "with space.png", "no suffix in the table.png"]
    assert [pair.text for pair in table][:2] == ["a cat on a mat", "upper case"]
    assert [pair.file_name for pair in table][1::3] == ["big.png", "no suffix in the table"]
    found = reasons(table)
    assert found.pop(5)[1].startswith("Image cut.png: the picture is damaged (")
    assert found == {
        4: (
            "unreadable image",
            "Image letter.png: the file is not a picture in a format that is known here.",
        ),
        6: ("unreadable image", "Image empty.jpg: the file is empty."),
        7: ("missing image", "Image gone.png does not exist."),
        8: ("missing image", "Image gone too.png does not exist."),
        9: (
            "empty text",
            "The text is empty. (incomplete = keep would train on the image alone.)",
        ),
        10: ("unsafe path", "Image ../../evil.png points outside the uploaded data."),
        11: ("unsafe path", "Image /etc/passwd.png points outside the uploaded data."),
    }
    assert {f.row: f.file for f in table.set_aside()}[7] == "gone.png"
    assert table.total_rows == 13
    assert [f.file for f in table.findings if f.kind == "unsafe entry"] == [
        "../../evil.png",
        "data/../../../evil.png",
    ]


def test_of_a_hostile_zip_nothing_is_written_outside_the_workspace(
    hostile_zip: Path, tmp_path: Path
) -> None:
    before = everything_below(tmp_path)
    work = tmp_path / "deep" / "work"
    table = load_pairs(hostile_zip, workspace=work)
    written = everything_below(tmp_path) - before - {work.parent, work}
    assert all(work in path.parents for path in written)
    assert not any("evil" in path.name for path in everything_below(tmp_path))
    assert all(work.resolve() in pair.image.parents for pair in table if pair.image)


def test_what_was_found_in_a_hostile_zip_survives_json_and_parquet(
    hostile_zip: Path, tmp_path: Path
) -> None:
    table = load_pairs(hostile_zip, workspace=tmp_path / "work")
    described = json.loads(json.dumps(table.describe()))
    assert (described["rows"], described["used"], described["set_aside"]) == (13, 5, 8)
    table.save(tmp_path / "pairs.parquet")
    assert PairTable.load(tmp_path / "pairs.parquet").findings == table.findings


def test_a_zip_read_twice_is_unpacked_once(
    hostile_zip: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    first = load_pairs(hostile_zip, workspace=tmp_path / "work")
    before = {p: p.stat().st_mtime_ns for p in everything_below(tmp_path / "work")}
    second = load_pairs(hostile_zip, workspace=tmp_path / "work")
    assert {p: p.stat().st_mtime_ns for p in everything_below(tmp_path / "work")} == before
    pd.testing.assert_frame_equal(first.frame, second.frame)
    assert first.findings == second.findings


@pytest.mark.parametrize("workspace", ["work", "some/../work", "./work"])
def test_image_paths_are_absolute_however_the_workspace_is_written(
    workspace: str, hostile_zip: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    table = load_pairs(hostile_zip, workspace=Path(workspace))
    images = [pair.image for pair in table if pair.image]
    assert len(images) == 5
    assert all(image.is_absolute() and image.is_file() for image in images)


def test_archives_are_unpacked_below_mmapp_home(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, png: Png, csv_text: CsvText, put_zip: Put
) -> None:
    monkeypatch.setenv("MMAPP_HOME", str(tmp_path / "home"))
    contents = {"metadata.csv": csv_text([("a.png", "one text", "x")]), "a.png": png()}
    table = load_pairs(put_zip(tmp_path / "a.zip", contents))
    assert (tmp_path / "home" / "unpacked").resolve() in Path(table.frame["image"][0]).parents


@pytest.mark.parametrize("kind", ["zip", "folder", "table", "zip without a suffix"])
def test_every_kind_of_source_gives_the_same_pairs(
    kind: str, tmp_path: Path, png: Png, csv_text: CsvText, put_files: Put, put_zip: Put
) -> None:
    contents = {
        "metadata.csv": csv_text([("a.png", "one", "x"), ("b.png", "two", "y")]),
        "a.png": png(1),
        "b.png": png(2),
    }
    sources = {
        "zip": lambda: put_zip(tmp_path / "a.zip", contents),
        "folder": lambda: put_files(tmp_path / "data", contents),
        "table": lambda: put_files(tmp_path / "data", contents) / "metadata.csv",
        "zip without a suffix": lambda: put_zip(tmp_path / "upload", contents),
    }
    table = load_pairs(sources[kind](), workspace=tmp_path / "work")
    pairs = [(p.row, p.image and p.image.name, p.text, p.label) for p in table]
    assert pairs == [(1, "a.png", "one", "x"), (2, "b.png", "two", "y")]


def test_a_source_that_does_not_exist_is_answered_with_what_would(tmp_path: Path) -> None:
    with pytest.raises(DataError) as refused:
        load_pairs(tmp_path / "gone.zip")
    assert str(refused.value) == (
        f"There is no {tmp_path}/gone.zip. Expected a zip, a folder, a table (.csv, .tsv, .jsonl, "
        ".json, .parquet) or one of sample:digits, sample:parcels, "
        "sample:spot."
    )


def test_another_kind_of_archive_is_answered_with_what_to_do(tmp_path: Path) -> None:
    (tmp_path / "a.rar").write_bytes(b"Rar!")
    with pytest.raises(DataError) as refused:
        load_pairs(tmp_path / "a.rar")
    assert str(refused.value) == (
        "a.rar is of a kind that cannot be read here. Expected a zip, a folder or a table (.csv, "
        ".tsv, .jsonl, .json, .parquet). Other archives: unpack them and zip the folder."
    )


def test_an_unknown_sample_is_answered_with_the_known_ones(tmp_path: Path) -> None:
    with pytest.raises(DataError) as refused:
        load_pairs("sample:cats", workspace=tmp_path)
    assert str(refused.value) == "There is no sample 'cats'. Choose one of digits, parcels, spot."


def halves(tmp_path: Path, png: Png, csv_text: CsvText, put_files: Put, lacking: int) -> Path:
    """Twenty rows; the first `lacking` have no text, and as many at the end have no image."""
    rows = [
        ("" if i >= 20 - lacking else f"{i}.png", "" if i < lacking else f"text {i}", "xy"[i % 2])
        for i in range(20)
    ]
    pictures = {f"{i}.png": png(i) for i in range(20)}
    return put_files(tmp_path / "data", {"metadata.csv": csv_text(rows), **pictures})


@pytest.mark.parametrize(
    ("incomplete", "lacking", "used"),
    [
        ("auto", 1, 18),  # one row in twenty: an accident
        ("auto", 2, 20),  # one row in ten: meant
        ("keep", 1, 20),
        ("set-aside", 2, 16),
    ],
)
def test_incomplete_rows_are_kept_or_set_aside_as_the_setting_says(
    incomplete: str, lacking: int, used: int, tmp_path: Path, png: Png, csv_text: CsvText,
    put_files: Put,
) -> None:  # fmt: skip
    folder = halves(tmp_path, png, csv_text, put_files, lacking)
    table = load_pairs(folder, DataSettings(incomplete=incomplete))
    assert len(table) == used
    absent = [(f.kind, f.severity) for f in table.findings if f.kind in ("empty text", "no image")]
    severity = "note" if used == 20 else "set aside"
    assert sorted(set(absent)) == [("empty text", severity), ("no image", severity)]
    assert len(absent) == 2 * lacking
    assert table.total_rows == 20


def test_rows_without_a_label_are_set_aside_for_training_and_kept_for_prediction(
    tmp_path: Path, csv_text: CsvText
) -> None:
    (tmp_path / "a.csv").write_text(csv_text([("one text", "x"), ("another", "")], ("text", "label")))
    assert reasons(load_pairs(tmp_path / "a.csv")) == {2: ("no label", "The label is empty.")}
    table = load_pairs(tmp_path / "a.csv", need_labels=False)
    assert [pair.label for pair in table] == ["x", None]
    assert table.findings == ()
    assert table.frame["split"].tolist() == ["", ""]


def test_data_to_predict_on_needs_no_label_column(tmp_path: Path) -> None:
    (tmp_path / "a.csv").write_text("text\none text\nanother text\n")
    table = load_pairs(tmp_path / "a.csv", need_labels=False)
    assert [pair.text for pair in table] == ["one text", "another text"]
    with pytest.raises(ColumnError) as refused:
        load_pairs(tmp_path / "a.csv")
    assert str(refused.value) == (
        "No label column was found; the table has text. Name it with --label-column."
    )


def test_a_row_that_is_empty_but_for_its_label_is_called_empty(
    tmp_path: Path, csv_text: CsvText
) -> None:
    rows = [("", "", "x"), *(("", f"text {i}", "x") for i in range(3))]
    (tmp_path / "a.csv").write_text(csv_text(rows))
    assert reasons(load_pairs(tmp_path / "a.csv")) == {1: ("empty row", "Neither a text nor an image.")}


def test_texts_alone_are_no_duplicates_of_each_other(tmp_path: Path, csv_text: CsvText) -> None:
    # Rows that lack a half were once all taken for repetitions of "row nan".
    rows = [(f"text number {i}", "xy"[i % 2]) for i in range(40)]
    (tmp_path / "a.csv").write_text(csv_text(rows, ("text", "label")))
    assert load_pairs(tmp_path / "a.csv").findings == ()


@pytest.mark.parametrize(
    ("name", "content", "sentence"),
    [
        (
            "a.csv",
            "file_name,text,label\ngone.png,one,x\nlost.png,two,y\n",
            "None of the 2 rows can be used (missing image × 2). Row 1: Image gone.png does not exist.",
        ),
        (
            "a.jsonl",
            "[1]\n[2]\n",
            "None of the 2 rows can be used (unreadable row × 2). "
            "Row 1: a JSON list where an object was expected.",
        ),
    ],
)
def test_data_without_a_good_row_is_refused_with_the_first_reason(
    name: str, content: str, sentence: str, tmp_path: Path
) -> None:
    (tmp_path / name).write_text(content)
    with pytest.raises(DataError) as refused:
        load_pairs(tmp_path / name)
    assert str(refused.value) == sentence


def test_findings_of_reading_lie_beside_those_of_believing(tmp_path: Path, png: Png) -> None:
    (tmp_path / "a.png").write_bytes(png())
    (tmp_path / "a.csv").write_bytes(
        "file_name,text,label\na.png,café,x\na.png,one, two,x\ngone.png,three,x\n".encode("latin-1")
    )
    table = load_pairs(tmp_path / "a.csv")
    assert used_rows(table) == [1]
    assert set(reasons(table)) == {2, 3}
    assert table.total_rows == 3
    assert table.findings[0].kind == "encoding"


@pytest.mark.parametrize(
    ("word", "split"),
    [("train", "train"), ("Training", "train"), ("validation", "validation"), ("val", "validation"),
     ("valid", "validation"), ("DEV", "validation"), ("test", "test"), ("testing", "test")],
)  # fmt: skip
def test_split_words_of_a_column_are_understood(
    word: str, split: str, tmp_path: Path, csv_text: CsvText
) -> None:
    rows = [("one text", "x", word), ("two texts", "y", "train"), ("three texts", "x", "test")]
    (tmp_path / "a.csv").write_text(csv_text(rows, ("text", "label", "split")))
    table = load_pairs(tmp_path / "a.csv")
    assert table.own_split
    assert table.frame["split"][0] == split


def test_an_unknown_split_word_is_named_and_never_taken_for_the_test(
    tmp_path: Path, csv_text: CsvText
) -> None:
    words = ["train"] * 8 + ["val", "test", "maybe"]
    rows = [(f"text {i}", "x", word) for i, word in enumerate(words)]
    (tmp_path / "a.csv").write_text(csv_text(rows, ("text", "label", "split")))
    table = load_pairs(tmp_path / "a.csv")
    assert table.frame["split"].tolist() == ["train"] * 8 + ["validation", "test", "train"]
    assert [(f.row, f.message) for f in table.findings if f.kind == "unknown split"] == [
        (11, "Split 'maybe' is none of train, validation, test; dealt anew.")
    ]


def test_an_empty_zip_is_named_as_the_user_named_it(tmp_path: Path) -> None:
    zipfile.ZipFile(tmp_path / "empty.zip", "w").close()
    with pytest.raises(DataError, match="No table and no picture was found in empty.zip"):
        load_pairs(tmp_path / "empty.zip", workspace=tmp_path / "workspace")
