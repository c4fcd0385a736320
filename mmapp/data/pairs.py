"""Pair, PairTable, LabelSet: the records everything after ingestion speaks of. Imports no torch.

A PairTable holds only good rows: past it nobody asks again whether a file exists. What is wrong or
suspicious travels beside the rows as findings.
"""

from __future__ import annotations

import hashlib
import json
import math
from collections import Counter
from collections.abc import Iterable, Iterator
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import Any, Literal

import numpy as np
import pandas as pd

from mmapp.data.cells import count_names, json_list, split_labels
from mmapp.errors import DataError

SPLITS = ("train", "validation", "test")

# One row of PairTable.frame. `row` counts data rows of the source from 1; `image` is an absolute
# path and `file_name` what the source calls it; `width` and `height` are pixels; absent values are
# None (never NaN).
COLUMNS = (
    "row", "image", "file_name", "text", "label", "split", "image_hash", "width", "height"
)  # fmt: skip

Severity = Literal["set aside", "warning", "note"]


@dataclass(frozen=True)
class Finding:
    """One thing that is wrong or suspicious, in words a person can act on.

    Attributes:
        kind: short name of the situation, the same for every row it happens to.
        severity: "set aside" (the row is not used), "warning" (used, look at it), "note".
        message: what was found and what was done about it.
        row: data row it concerns, counted from 1; None when it concerns the whole table.
        file: the image file it concerns, as the table names it.
    """

    kind: str
    severity: Severity
    message: str
    row: int | None = None
    file: str | None = None


@dataclass(frozen=True)
class ColumnChoice:
    """Which column plays a role, and why it was taken for it."""

    role: str
    column: str | None
    reason: str


@dataclass(frozen=True)
class Pair:
    """One example. Either half may be absent (None)."""

    image: Path | None
    text: str | None
    label: str | None = None
    row: int = 0
    file_name: str | None = None


@dataclass(frozen=True)
class LabelSet:
    """The labels of a task in a fixed order: position is the class number.

    Attributes:
        names: the labels.
        several: a row may have any number of them, and its cell holds a list.
        of_words: every word of a text has one, and the cell holds a list of them.
    """

    names: tuple[str, ...]
    several: bool = False
    of_words: bool = False

    @classmethod
    def of(cls, labels: Iterable[str]) -> LabelSet:
        """The distinct labels, sorted: numbers as numbers, everything else as text."""
        return cls(tuple(sorted(set(labels), key=_label_order)))

    def __len__(self) -> int:
        return len(self.names)

    def target(self, cell: str) -> int | list[float] | list[int]:
        """What a model is to say of a row with this cell: a class number, one for each word, or a one
        for every label it has and a zero for every other.

        Raises DataError for a label that is not in the set.
        """
        if self.of_words:
            return [self.index(tag) for tag in json_list(cell) or ()]
        if not self.several:
            return self.index(cell)
        has = {self.index(name) for name in split_labels(cell)}
        return [float(number in has) for number in range(len(self))]

    def index(self, label: str) -> int:
        """The label's class number. Raises DataError when it is not in the set."""
        try:
            return self.names.index(label)
        except ValueError:
            known = ", ".join(self.names[:20])
            raise DataError(
                f"Label {label!r} is not one of the {len(self)} labels known here ({known}). "
                "Correct the row, or train with rows of that label."
            ) from None


@dataclass(frozen=True)
class PairTable:
    """Good rows, what was found about all rows, and where they came from.

    Attributes:
        frame: columns COLUMNS, one row a pair, index 0..n-1.
        source: what the user named (a path, `sample:digits`).
        findings: every Finding, rows set aside included.
        columns: which column was taken for which role, and why.
        own_split: the data brought its own splits.
        total_rows: rows read, set aside ones included.
    """

    frame: pd.DataFrame
    source: str
    findings: tuple[Finding, ...] = ()
    columns: tuple[ColumnChoice, ...] = ()
    own_split: bool = False
    total_rows: int = 0

    def __len__(self) -> int:
        return len(self.frame)

    def __iter__(self) -> Iterator[Pair]:
        fields = ("image", "text", "label", "row", "file_name")
        for image, text, label, row, name in zip(*(self.frame[c] for c in fields), strict=True):
            yield Pair(Path(image) if image else None, text, label, int(row), name)

    def part(self, split: str) -> PairTable:
        """The rows of one split, in table order. "all" gives every row."""
        if split == "all":
            return self
        kept = self.frame[self.frame["split"] == split].reset_index(drop=True)
        return replace(self, frame=kept)

    def labels(self) -> list[str]:
        """The labels of the rows that have one, in row order."""
        return [label for label in self.frame["label"] if label is not None]

    def halves(self) -> np.ndarray:
        """Which rows have the same text or picture: [N,2] numbers of distinct ones, -1 for an absent
        one."""
        numbers = [pd.factorize(self.frame[half])[0] for half in ("text", "image_hash")]
        return np.stack(numbers, axis=1)

    def set_aside(self) -> list[Finding]:
        return [finding for finding in self.findings if finding.severity == "set aside"]

    def with_findings(self, more: Iterable[Finding]) -> PairTable:
        return replace(self, findings=(*self.findings, *more))

    def fingerprint(self) -> str:
        """Hash of what the pairs say (texts, images' bytes, labels), whatever their order or place."""
        content = self.frame[["image_hash", "text", "label"]].fillna("").astype(str)
        rows = sorted("\0".join(row) for row in content.itertuples(index=False))
        return hashlib.blake2b("\n".join(rows).encode(), digest_size=16).hexdigest()

    def describe(self) -> dict[str, Any]:
        """The table in plain numbers and words, as `check --json` prints it."""
        classes = Counter(count_names(self.frame["label"]))
        splits = self.frame["split"].value_counts()
        return {
            "source": self.source,
            "rows": self.total_rows,
            "used": len(self),
            "set_aside": self.total_rows - len(self),
            "columns": {c.role: {"column": c.column, "reason": c.reason} for c in self.columns},
            "classes": {name: int(classes[name]) for name in LabelSet.of(classes).names},
            "splits": {s: int(splits[s]) for s in (*SPLITS, "") if s in splits.index},
            "own_split": self.own_split,
            "findings": [asdict(finding) for finding in self.findings],
        }

    def save(self, path: Path) -> None:
        """Write rows and everything beside them into one parquet file."""
        beside = {
            "source": self.source,
            "findings": [asdict(finding) for finding in self.findings],
            "columns": [asdict(choice) for choice in self.columns],
            "own_split": self.own_split,
            "total_rows": self.total_rows,
        }
        frame = self.frame.copy()
        frame.attrs = {"pairs": json.dumps(beside)}
        frame.to_parquet(path, index=False)

    @classmethod
    def load(cls, path: Path) -> PairTable:
        """Read back what `save` wrote. Raises DataError when the file is not such a table."""
        try:
            frame = pd.read_parquet(path)
            beside = json.loads(frame.attrs["pairs"])
        except (OSError, ValueError, KeyError) as error:
            raise DataError(f"{path} does not hold pairs written by this app: {error}.") from error
        frame.attrs = {}
        return cls(
            frame=plain(frame),
            source=beside["source"],
            findings=tuple(Finding(**finding) for finding in beside["findings"]),
            columns=tuple(ColumnChoice(**choice) for choice in beside["columns"]),
            own_split=beside["own_split"],
            total_rows=beside["total_rows"],
        )


def as_cell(words: Iterable[str]) -> str:
    """Words, or their tags, as one cell."""
    return json.dumps(list(words), ensure_ascii=False)


def plain(frame: pd.DataFrame) -> pd.DataFrame:
    """The frame with exactly COLUMNS, absent values as None and never as NaN."""
    frame = frame.reindex(columns=list(COLUMNS)).reset_index(drop=True)
    texts = ["image", "file_name", "text", "label", "image_hash"]
    as_objects = frame[texts].astype(object)
    frame[texts] = as_objects.where(as_objects.notna(), None)
    frame["split"] = frame["split"].astype(object).fillna("").astype(str)
    sizes = ["row", "width", "height"]
    frame[sizes] = frame[sizes].fillna(0).astype("int64")
    return frame


def _label_order(label: str) -> tuple[int, float, str]:
    try:
        number = float(label)
    except ValueError:
        number = math.nan
    # "nan" and "inf" are words here: not-a-number has no place in an order.
    return (0, number, label) if math.isfinite(number) else (1, 0.0, label)
