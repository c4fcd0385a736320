"""A table comes back as a CSV with a row for each of its rows, in its order, safe to open."""

from __future__ import annotations

import csv
import os
from pathlib import Path
from typing import Any

import pytest

from mmapp.errors import DataError
from mmapp.inference.answers import answer_table, harmless, write_csv
from mmapp.inference.predictor import Predictor

Rows = list[dict[str, str]]


def read(path: Path) -> Rows:
    with path.open(newline="", encoding="utf-8") as table:
        return list(csv.DictReader(table))


@pytest.fixture
def answered(predictor: Predictor, unsplit: Path, tmp_path: Path) -> tuple[Rows, tuple[int, int]]:
    """Good rows and bad ones by turns, in a table beside pictures of all kinds."""
    picture = (unsplit / "00.png").read_bytes()
    (tmp_path / "a.png").write_bytes(picture)
    (tmp_path / "broken.png").write_bytes(picture[:100])
    (tmp_path / "table.csv").write_text(
        "file_name,text,label\n"
        "a.png,a red thing on a table 猫,red\n"
        "gone.png,a red thing,red\n"
        "a.png,,\n"
        "broken.png,a red thing,\n"
        ",a blue thing,purple\n"
        ",,\n"
        "a.png,one,two,three,four\n"
        'a.png,"=HYPERLINK(""http://evil.example"")",-1\n',
        encoding="utf-8",
    )
    output = tmp_path / "deep" / "answers.csv"
    counts = answer_table(predictor, tmp_path / "table.csv", output)
    return read(output), counts


def test_every_row_comes_back_in_its_order(answered: tuple[Rows, tuple[int, int]]) -> None:
    rows, counts = answered
    assert counts == (4, 8)
    assert [row["row"] for row in rows] == list("12345678")
    assert [bool(row["label"]) for row in rows] == [True, False, True, False, True, False, False, True]
    assert rows[0]["text"] == "a red thing on a table 猫"


def test_a_bad_row_says_why_and_a_good_one_does_not(answered: tuple[Rows, tuple[int, int]]) -> None:
    rows, _ = answered
    assert {row["row"]: row["error"].split(" (")[0] for row in rows if row["error"]} == {
        "2": "Image gone.png does not exist.",
        "4": "Image broken.png: the picture is damaged",
        "6": "Neither a text nor an image.",
        "7": "5 cells where the header has 3. Put quotes around texts that contain the delimiter.",
    }
    assert [row["file_name"] for row in rows[:4]] == ["a.png", "gone.png", "a.png", "broken.png"]
    assert all(row["confidence"] == "" for row in rows if row["error"])


def test_an_answer_carries_every_probability_and_what_the_table_said(
    answered: tuple[Rows, tuple[int, int]], predictor: Predictor, tmp_path: Path
) -> None:
    rows, _ = answered
    expected = predictor.predict("a red thing on a table 猫", tmp_path / "a.png")
    first = rows[0]
    assert (first["label"], first["given_label"]) == (expected.label, "red")
    assert {name: float(first[f"p({name})"]) for name in expected.probabilities} == pytest.approx(
        expected.probabilities, abs=2e-6
    )
    assert float(first["confidence"]) == pytest.approx(expected.confidence, abs=2e-6)
    assert rows[4]["given_label"] == "purple"


def test_no_cell_of_it_acts_as_a_formula(answered: tuple[Rows, tuple[int, int]]) -> None:
    rows, _ = answered
    assert rows[7]["text"] == '\'=HYPERLINK("http://evil.example")'
    assert rows[7]["given_label"] == "-1"


@pytest.mark.parametrize(
    ("cell", "written"),
    [
        ("=1+1", "'=1+1"),
        ("+cmd|' /C calc'!A0", "'+cmd|' /C calc'!A0"),
        ("-2+3", "'-2+3"),
        ("@SUM(A1)", "'@SUM(A1)"),
        ("\t=1", "'\t=1"),
        ("\r=1", "'\r=1"),
        ("-", "'-"),
        ("-5", "-5"),
        ("+3.5e2", "+3.5e2"),
        (-0.25, -0.25),
        (7, 7),
        ("a = b", "a = b"),
        ("'quoted", "'quoted"),
        ("", ""),
    ],
)
def test_formulas_become_texts_and_numbers_stay_numbers(cell: Any, written: Any) -> None:
    assert harmless(cell) == written


def test_a_column_name_is_no_formula_either(tmp_path: Path) -> None:
    write_csv(tmp_path / "a.csv", [{"=1": "x"}, {"=1": "y", "b": "z"}])
    assert (tmp_path / "a.csv").read_bytes() == b"'=1,b\r\nx,\r\ny,z\r\n"


def test_an_earlier_file_is_replaced_whole(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    path = tmp_path / "a.csv"
    path.write_text("before")

    def fail(cell: Any) -> Any:
        raise MemoryError

    with monkeypatch.context() as patch:
        patch.setattr("mmapp.inference.answers.harmless", fail)
        with pytest.raises(MemoryError):
            write_csv(path, [{"a": 1}])
    assert path.read_text() == "before"
    write_csv(path, [{"a": 1}])
    assert path.read_text() == "a\n1\n"
    assert os.listdir(tmp_path) == ["a.csv"]


def test_a_table_without_a_good_row_still_says_why(predictor: Predictor, tmp_path: Path) -> None:
    (tmp_path / "table.csv").write_text("file_name,text\ngone.png,x\n")
    assert answer_table(predictor, tmp_path / "table.csv", tmp_path / "out.csv") == (0, 1)
    assert [row["error"] for row in read(tmp_path / "out.csv")] == ["Image gone.png does not exist."]


def test_data_that_is_not_there_is_told(predictor: Predictor, tmp_path: Path) -> None:
    with pytest.raises(DataError, match=r"^There is no .*/nowhere\. Expected a zip, a folder"):
        answer_table(predictor, tmp_path / "nowhere", tmp_path / "out.csv")
    assert not (tmp_path / "out.csv").exists()
