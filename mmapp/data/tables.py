"""One table file -> rows of text cells. Believes nothing about what the cells mean.

ROW counts data rows from 1 in file order, so that a finding can name the row the user sees.
A row that cannot be read is set aside with its number; it never shifts its neighbours.
"""

from __future__ import annotations

import codecs
import csv
import io
import json
import math
from collections.abc import Callable, Iterable
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd

from mmapp.data.pairs import Finding
from mmapp.errors import DataError

Rows = tuple[pd.DataFrame, list[Finding]]

# The column that carries the row number; no header cell can take this name away.
ROW = "#row"

# One cell may be a long document, but not a file in disguise.
MAX_CELL_BYTES = 10 * 2**20


def read_table(path: Path) -> Rows:
    """Read a table of any kind in TABLES.

    Returns:
        A frame with every column as text (None where empty) plus ROW, and findings.

    Raises:
        DataError: the kind is unknown, or the file is not what its suffix says.
    """
    reader = TABLES.get(path.suffix.lower())
    if reader is None:
        raise DataError(f"{path.name} is not a table. Known kinds: {', '.join(sorted(TABLES))}.")
    try:
        frame, findings = reader(path)
    except OSError as error:
        raise DataError(f"{path.name} cannot be read: {error.strerror or error}.") from None
    if frame.empty and not findings:
        raise DataError(f"{path.name} has no rows below its header.")
    return frame, findings


def read_delimited(path: Path) -> Rows:
    """CSV and TSV; the delimiter is the one the header uses most, the encoding is detected."""
    text, findings = _decode(path)
    csv.field_size_limit(MAX_CELL_BYTES)
    delimiter = "\t" if path.suffix.lower() == ".tsv" else _delimiter(text)
    try:
        reader = csv.reader(io.StringIO(text, newline=""), delimiter=delimiter)
        lines = [line for line in reader if line]
    except csv.Error as error:
        raise DataError(f"{path.name} is not a readable table: {error}.") from None
    if not lines:
        raise DataError(f"{path.name} is empty. Its first line must name the columns.")
    header = _header(lines[0])
    records = []
    for number, cells in enumerate(lines[1:], start=1):
        extra = [cell for cell in cells[len(header) :] if cell.strip()]
        if extra:
            message = (
                f"{len(cells)} cells where the header has {len(header)}. "
                "Put quotes around texts that contain the delimiter."
            )
            findings.append(Finding("unreadable row", "set aside", message, row=number))
        else:
            records.append({**dict(zip(header, cells, strict=False)), ROW: number})
    return _frame(records, header), findings


def read_json_lines(path: Path) -> Rows:
    """One JSON object a line."""
    text, findings = _decode(path)
    # Not splitlines(): it also cuts at U+2028 and its like, which JSON allows inside a text.
    numbered = enumerate((line for line in text.split("\n") if line.strip()), start=1)
    records = []
    for number, line in numbered:
        try:
            record = json.loads(line)
        except (ValueError, RecursionError) as error:
            record, problem = None, f"not JSON ({error})"
        else:
            problem = f"a JSON {type(record).__name__} where an object was expected"
        if isinstance(record, dict):
            records.append({**_tidy(record), ROW: number})
        else:
            findings.append(Finding("unreadable row", "set aside", f"{problem}.", row=number))
    return _frame(records), findings


def read_json(path: Path) -> Rows:
    """A JSON list of objects, bare or under the key "data"."""
    text, findings = _decode(path)
    try:
        records = json.loads(text)
    except (ValueError, RecursionError) as error:
        raise DataError(f"{path.name} is not JSON: {error}.") from None
    if isinstance(records, dict):
        records = records.get("data")
    if not isinstance(records, list) or not all(isinstance(record, dict) for record in records):
        raise DataError(f"{path.name} should hold a list of objects, one a row.")
    numbered = [{**_tidy(record), ROW: i} for i, record in enumerate(records, start=1)]
    return _frame(numbered), findings


def read_parquet(path: Path) -> Rows:
    try:
        frame = pd.read_parquet(path)
    except Exception as error:  # pyarrow raises many kinds on damaged files
        raise DataError(f"{path.name} is not a readable parquet file: {error}.") from None
    if any(name is not None for name in frame.index.names):
        frame = frame.reset_index()  # pandas hides a column that was its index when it was written
    records = frame.to_dict(orient="records")
    numbered = [{**_tidy(record), ROW: i} for i, record in enumerate(records, start=1)]
    return _frame(numbered, _header([str(column) for column in frame.columns])), []


TABLES: dict[str, Callable[[Path], Rows]] = {
    ".csv": read_delimited,
    ".tsv": read_delimited,
    ".jsonl": read_json_lines,
    ".json": read_json,
    ".parquet": read_parquet,
}


def _decode(path: Path) -> tuple[str, list[Finding]]:
    """The file's text, and a note when its encoding had to be guessed."""
    content = path.read_bytes()
    if content.startswith((codecs.BOM_UTF16_LE, codecs.BOM_UTF16_BE)):
        return _decode_utf16(path, content, "utf-16"), []
    if content[:400].count(0) > len(content[:400]) / 4:
        kind = "utf-16-le" if content[1:2] == b"\0" else "utf-16-be"
        return _decode_utf16(path, content, kind), []
    try:
        return content.decode("utf-8-sig"), []
    except UnicodeDecodeError as error:
        line = content.count(b"\n", 0, error.start) + 1
        message = (
            f"{path.name} is not UTF-8 (line {line}); it was read as Latin-1. "
            "If letters look wrong, save it as UTF-8."
        )
        return content.decode("latin-1"), [Finding("encoding", "warning", message)]


def _decode_utf16(path: Path, content: bytes, kind: str) -> str:
    try:
        return content.decode(kind)
    except UnicodeDecodeError as error:
        raise DataError(f"{path.name} looks like UTF-16 but is damaged: {error}.") from None


def _delimiter(text: str) -> str:
    header = text.lstrip().split("\n", 1)[0]
    return max(",;\t|", key=header.count)


def _header(names: list[str]) -> list[str]:
    """Column names without blanks around them; empty and repeated ones are numbered."""
    header: list[str] = []
    for position, name in enumerate(names, start=1):
        name = name.strip() or f"column {position}"
        header.append(name if name not in header else f"{name} ({position})")
    return header


def _tidy(record: dict[Any, Any]) -> dict[str, Any]:
    return {str(key).strip(): value for key, value in record.items()}


def _frame(records: list[dict[str, Any]], header: Iterable[str] | None = None) -> pd.DataFrame:
    if header is None:
        header = dict.fromkeys(key for record in records for key in record if key != ROW)
    cells = {name: [_cell(record.get(name)) for record in records] for name in header}
    frame = pd.DataFrame(cells, columns=list(cells), dtype=object)
    frame[ROW] = [record[ROW] for record in records]
    return frame


def _cell(value: Any) -> str | None:
    """One cell as text: whole numbers without a decimal point, lists as JSON, nothing as None."""
    if isinstance(value, np.ndarray):
        value = value.tolist()
    if isinstance(value, np.generic):
        value = value.item()
    if value is None or value is pd.NaT or (isinstance(value, float) and math.isnan(value)):
        return None
    if isinstance(value, bool):
        return "true" if value else "false"
    if isinstance(value, float) and value.is_integer():
        value = int(value)
    if isinstance(value, (list, dict, tuple)):
        value = json.dumps(value, ensure_ascii=False, default=str)
    # JSON can spell half a character ("\\ud800"), which no file and no tokenizer accepts.
    return str(value).strip().encode("utf-8", "replace").decode() or None
