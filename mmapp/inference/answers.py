"""A table of pairs -> a CSV of answers: one row for each input row, in its order."""

from __future__ import annotations

import csv
import os
from collections.abc import Callable, Iterable, Sequence
from pathlib import Path
from typing import Any

from mmapp.data.pairs import PairTable
from mmapp.inference.predictor import Prediction, Predictor


def answer_table(
    predictor: Predictor,
    data: str | Path,
    output: Path,
    *,
    overrides: dict[str, Any] | None = None,
    progress: Callable[[int], None] | None = None,
) -> tuple[int, int]:
    """Answer for every row of the data, into a CSV file that is replaced whole.

    Args:
        predictor: an open checkpoint.
        data: anything `load_pairs` reads; labels are not needed, and one half may be absent.
        output: the CSV file.
        overrides: DataSettings that differ from the training's, such as a column name.
        progress: called with the number of rows done.

    Returns:
        How many rows were answered, and how many there are.

    Raises:
        DataError: the data cannot be read.
    """
    table = predictor.load_pairs(data, overrides, need_labels=False)
    answers = predictor.predict_table(table, progress) if len(table) else []
    rows = prediction_rows(table, answers, predictor.labels.names)
    write_csv(output, rows)
    return len(table), len(rows)


def prediction_rows(
    table: PairTable, predictions: Iterable[Prediction], names: Sequence[str]
) -> list[dict[str, Any]]:
    """One record for every row the source had, in its order.

    Usable rows carry label, confidence and the probability of every label; rows set aside carry
    the reason in `error`.
    """
    records: dict[int, dict[str, Any]] = {}
    for pair, prediction in zip(table, predictions, strict=True):
        records[pair.row] = {
            "row": pair.row,
            "file_name": pair.file_name or "",
            "text": pair.text or "",
            "label": prediction.label,
            "confidence": round(prediction.confidence, 6),
            "given_label": pair.label or "",
            "error": "",
            **_chances(prediction, names),
        }
    for finding in table.set_aside():
        if finding.row is not None:
            record = records.setdefault(finding.row, {"row": finding.row})
            record.setdefault("file_name", finding.file or "")
            record["error"] = finding.message
    return [records[row] for row in sorted(records)]


def _chances(prediction: Prediction, names: Sequence[str]) -> dict[str, float]:
    """The probability of every label; an answer for each word has none of its own."""
    said = prediction.probabilities
    return {f"p({name})": round(said[name], 6) for name in names if name in said}


def write_csv(path: Path, rows: list[dict[str, Any]]) -> None:
    """Records of one shape or less as CSV, replaced whole; no cell can act as a formula."""
    columns = list(dict.fromkeys(name for row in rows for name in row)) or ["row"]
    beside = path.with_name(f".{path.name}.writing")
    path.parent.mkdir(parents=True, exist_ok=True)
    with beside.open("w", newline="", encoding="utf-8") as out:
        writer = csv.DictWriter(out, columns, restval="")
        writer.writerow({name: harmless(name) for name in columns})
        writer.writerows({name: harmless(value) for name, value in row.items()} for row in rows)
    os.replace(beside, path)


def harmless(cell: Any) -> Any:
    """A text that a spreadsheet would run as a formula, made a plain text; numbers stay numbers."""
    if not isinstance(cell, str) or not cell.startswith(("=", "+", "-", "@", "\t", "\r")):
        return cell
    try:
        float(cell)
    except ValueError:
        return f"'{cell}"
    return cell
