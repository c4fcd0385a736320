"""Table files of every kind and encoding: cells as text, rows with the numbers a user counts."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pytest

from mmapp.data.pairs import Finding
from mmapp.data.tables import ROW, TABLES, read_table
from mmapp.errors import DataError

RECORDS = [
    {"file_name": "a.png", "text": "one, two", "n": 3},
    {"file_name": "b.png", "text": 'she said "no"', "n": None},
]


def parquet(path: Path) -> None:
    pd.DataFrame(RECORDS).to_parquet(path)


WRITERS: dict[str, Callable[[Path], Any]] = {
    ".csv": lambda path: path.write_text(
        'file_name,text,n\na.png,"one, two",3\nb.png,"she said ""no""",\n'
    ),
    ".tsv": lambda path: path.write_text(
        'file_name\ttext\tn\na.png\tone, two\t3\nb.png\t"she said ""no"""\t\n'
    ),
    ".jsonl": lambda path: path.write_text("\n\n".join(map(json.dumps, RECORDS))),
    ".json": lambda path: path.write_text(json.dumps(RECORDS)),
    ".parquet": parquet,
}


def cells(path: Path) -> list[dict[str, Any]]:
    return read_table(path)[0].to_dict(orient="records")


def write(path: Path, content: str | bytes) -> Path:
    path.write_bytes(content.encode() if isinstance(content, str) else content)
    return path


@pytest.mark.parametrize("suffix", TABLES)
def test_every_kind_of_table_gives_the_same_cells(suffix: str, tmp_path: Path) -> None:
    path = tmp_path / f"table{suffix.upper()}"
    WRITERS[suffix](path)
    frame, findings = read_table(path)
    assert frame.to_dict(orient="records") == [
        {"file_name": "a.png", "text": "one, two", "n": "3", ROW: 1},
        {"file_name": "b.png", "text": 'she said "no"', "n": None, ROW: 2},
    ]
    assert findings == []


def test_a_json_list_may_lie_under_the_key_data(tmp_path: Path) -> None:
    path = write(tmp_path / "a.json", json.dumps({"version": 1, "data": [{"text": "hello"}]}))
    assert cells(path) == [{"text": "hello", ROW: 1}]


@pytest.mark.parametrize("codec", ["utf-8", "utf-8-sig", "utf-16", "utf-16-le", "utf-16-be"])
@pytest.mark.parametrize("suffix", [".csv", ".jsonl"])
def test_unicode_in_any_coat_is_read_without_a_word(codec: str, suffix: str, tmp_path: Path) -> None:
    written = {".csv": "text,label\nnaïve 猫,é\n", ".jsonl": '{"text": "naïve 猫", "label": "é"}'}
    path = write(tmp_path / f"a{suffix}", written[suffix].encode(codec))
    frame, findings = read_table(path)
    assert frame.to_dict(orient="records") == [{"text": "naïve 猫", "label": "é", ROW: 1}]
    assert findings == []


def test_latin_1_is_read_and_named(tmp_path: Path) -> None:
    path = write(tmp_path / "a.csv", "text,label\nplain,a\ncafé,b\n".encode("latin-1"))
    frame, findings = read_table(path)
    assert frame["text"].tolist() == ["plain", "café"]
    assert findings == [
        Finding(
            "encoding",
            "warning",
            "a.csv is not UTF-8 (line 3); it was read as Latin-1. "
            "If letters look wrong, save it as UTF-8.",
        )
    ]


@pytest.mark.parametrize("delimiter", [",", ";", "\t", "|"])
def test_the_delimiter_is_read_off_the_header(delimiter: str, tmp_path: Path) -> None:
    lines = [["file_name", "text", "label"], ["a.png", "x", "1"]]
    path = write(tmp_path / "a.csv", "\n".join(delimiter.join(line) for line in lines))
    assert cells(path) == [{"file_name": "a.png", "text": "x", "label": "1", ROW: 1}]


def test_commas_in_texts_do_not_outvote_the_semicolons_of_the_header(tmp_path: Path) -> None:
    path = write(tmp_path / "a.csv", "text;label\na, b, c, d;x\n")
    assert cells(path) == [{"text": "a, b, c, d", "label": "x", ROW: 1}]


@pytest.mark.parametrize("newline", ["\n", "\r\n", "\r"])
def test_line_breaks_in_quotes_belong_to_the_cell(newline: str, tmp_path: Path) -> None:
    lines = ["text,label", '"two', 'lines",a', "one,b"]
    path = write(tmp_path / "a.csv", newline.join(lines))
    assert cells(path) == [
        {"text": f"two{newline}lines", "label": "a", ROW: 1},
        {"text": "one", "label": "b", ROW: 2},
    ]


def test_a_ragged_row_is_set_aside_and_does_not_shift_its_neighbours(tmp_path: Path) -> None:
    path = write(
        tmp_path / "a.csv",
        "file_name,text,label\n"
        "a.png,one,x\n"
        "b.png,two, with a comma,x\n"
        "\n"  # a blank line is no row
        "c.png,short\n"
        "d.png,trailing delimiters,x,,\n",
    )
    frame, findings = read_table(path)
    assert frame.to_dict(orient="records") == [
        {"file_name": "a.png", "text": "one", "label": "x", ROW: 1},
        {"file_name": "c.png", "text": "short", "label": None, ROW: 3},
        {"file_name": "d.png", "text": "trailing delimiters", "label": "x", ROW: 4},
    ]
    assert findings == [
        Finding(
            "unreadable row",
            "set aside",
            "4 cells where the header has 3. Put quotes around texts that contain the delimiter.",
            row=2,
        )
    ]


def test_a_broken_json_line_is_set_aside_and_does_not_shift_its_neighbours(tmp_path: Path) -> None:
    lines = ['{"text": "one"}', '{"text": ', '["two"]', '{" text ": "four", "label": 1}']
    frame, findings = read_table(write(tmp_path / "a.jsonl", "\r\n".join(lines)))
    assert frame.to_dict(orient="records") == [
        {"text": "one", "label": None, ROW: 1},
        {"text": "four", "label": "1", ROW: 4},
    ]
    assert [(f.kind, f.severity, f.row) for f in findings] == [
        ("unreadable row", "set aside", 2),
        ("unreadable row", "set aside", 3),
    ]
    assert findings[0].message.startswith("not JSON (Expecting value")
    assert findings[1].message == "a JSON list where an object was expected."


def test_json_nested_too_deep_is_set_aside(tmp_path: Path) -> None:
    path = write(tmp_path / "a.jsonl", '{"text": "one"}\n' + "[" * 100_000 + "\n")
    assert [finding.row for finding in read_table(path)[1]] == [2]


def test_unicode_line_separators_inside_json_do_not_end_the_line(tmp_path: Path) -> None:
    path = write(tmp_path / "a.jsonl", '{"text": "one\u2028two\x85three"}\n{"text": "four"}\n')
    assert cells(path) == [{"text": "one\u2028two\x85three", ROW: 1}, {"text": "four", ROW: 2}]


def test_half_a_character_in_json_becomes_a_question_mark(tmp_path: Path) -> None:
    path = write(tmp_path / "a.jsonl", '{"text": "a \\ud83d b", "more": ["\\ud83d"]}')
    assert cells(path) == [{"text": "a ? b", "more": '["?"]', ROW: 1}]


@pytest.mark.parametrize("suffix", TABLES)
def test_no_column_of_the_user_can_take_the_row_numbers_away(suffix: str, tmp_path: Path) -> None:
    path = tmp_path / f"a{suffix}"
    if suffix == ".parquet":
        pd.DataFrame({ROW: ["7", "8"], "text": ["one", "two"]}).to_parquet(path)
    else:
        records = [{ROW: "7", "text": "one"}, {ROW: "8", "text": "two"}]
        tab = "\t" if suffix == ".tsv" else ","
        written = {
            ".json": json.dumps(records),
            ".jsonl": "\n".join(map(json.dumps, records)),
        }
        path.write_text(written.get(suffix) or f"{ROW}{tab}text\n7{tab}one\n8{tab}two\n")
    assert read_table(path)[0][ROW].tolist() == [1, 2]


def test_header_cells_are_trimmed_and_blank_or_repeated_ones_are_numbered(tmp_path: Path) -> None:
    path = write(tmp_path / "a.csv", " text ,,text\none,two,three\n")
    assert cells(path) == [{"text": "one", "column 2": "two", "text (3)": "three", ROW: 1}]


@pytest.mark.parametrize(
    ("value", "cell"),
    [
        (3, "3"),
        (3.0, "3"),
        (2.5, "2.5"),
        (float("nan"), None),
        (None, None),
        (True, "true"),
        (False, "false"),
        ("  padded ", "padded"),
        ("   ", None),
        (["a", "é"], '["a", "é"]'),
        ({"a": 1}, '{"a": 1}'),
    ],
)
def test_values_of_typed_tables_become_text(value: object, cell: str | None, tmp_path: Path) -> None:
    path = write(tmp_path / "a.json", json.dumps([{"text": "x", "value": value}]))
    assert cells(path)[0]["value"] == cell


def test_a_parquet_column_of_lists_becomes_json(tmp_path: Path) -> None:
    frame = pd.DataFrame({"tokens": [np.array(["a", "b"]), np.array(["c"])]})
    frame.to_parquet(tmp_path / "a.parquet")
    assert [row["tokens"] for row in cells(tmp_path / "a.parquet")] == ['["a", "b"]', '["c"]']


def test_a_parquet_column_that_was_the_index_is_still_a_column(tmp_path: Path) -> None:
    frame = pd.DataFrame({"file_name": ["a.png"], "text": ["one"]}).set_index("file_name")
    frame.to_parquet(tmp_path / "a.parquet")
    assert cells(tmp_path / "a.parquet") == [{"file_name": "a.png", "text": "one", ROW: 1}]


@pytest.mark.parametrize(
    ("name", "content", "sentence"),
    [
        ("a.csv", "", "a.csv is empty. Its first line must name the columns."),
        ("a.csv", "\n\n", "a.csv is empty. Its first line must name the columns."),
        ("a.csv", "text,label\n", "a.csv has no rows below its header."),
        ("a.tsv", "text\tlabel\n", "a.tsv has no rows below its header."),
        ("a.jsonl", "\n", "a.jsonl has no rows below its header."),
        ("a.json", "[]", "a.json has no rows below its header."),
        ("a.json", "[1]", "a.json should hold a list of objects, one a row."),
        ("a.json", '{"text": "x"}', "a.json should hold a list of objects, one a row."),
        ("a.json", "[", "a.json is not JSON: Expecting value: line 1 column 2 (char 1)."),
        (
            "a.xlsx",
            "x",
            "a.xlsx is not a table. Known kinds: .csv, .json, .jsonl, .parquet, .tsv.",
        ),
    ],
)
def test_what_is_no_table_is_refused_in_words(
    name: str, content: str, sentence: str, tmp_path: Path
) -> None:
    with pytest.raises(DataError) as refused:
        read_table(write(tmp_path / name, content))
    assert str(refused.value) == sentence


@pytest.mark.parametrize(
    ("name", "content", "pattern"),
    [
        ("a.parquet", b"PAR1 not really", r"^a\.parquet is not a readable parquet file: "),
        ("a.csv", b"\xff\xfea\x00b", r"^a\.csv looks like UTF-16 but is damaged: "),
        ("a.csv", b"text\n" + b"x" * (10 * 2**20 + 1), r"^a\.csv is not a readable table: field"),
        ("missing.csv", None, r"^missing\.csv cannot be read: No such file or directory\.$"),
    ],
)
def test_damaged_and_monstrous_tables_are_refused_in_words(
    name: str, content: bytes | None, pattern: str, tmp_path: Path
) -> None:
    if content is not None:
        write(tmp_path / name, content)
    with pytest.raises(DataError, match=pattern):
        read_table(tmp_path / name)
