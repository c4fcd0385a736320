"""What is wrong or suspicious about good rows, row by row. Pure: a table in, findings out."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator

import pandas as pd

from mmapp.data.cells import count_names
from mmapp.data.pairs import SPLITS, Finding, PairTable

FEW = 10  # rows of a class below which its scores mean little
IMBALANCE = 20  # largest class over smallest from which the loss may ignore the smallest


def find_all(table: PairTable) -> list[Finding]:
    """Duplicates, contradictions, leaks between splits, small and unequal classes."""
    frame = table.frame
    return [
        *duplicates(frame),
        *conflicts(frame),
        *leaks(frame),
        *classes(frame),
        *splits(frame),
    ]


def is_shared_text(texts: pd.Series) -> bool:
    """Are the texts a vocabulary that many pairs share (questions, names), rather than their own?

    Then an equal text in two splits is no leak, and equal texts need not stay on one side.
    """
    present = texts.dropna()
    return bool(len(present)) and present.nunique() < 0.5 * len(present)


def duplicates(frame: pd.DataFrame) -> Iterator[Finding]:
    """Rows that repeat image, text and label of an earlier row."""
    # An absent half is equal to an absent half, so None is a key like any other.
    alike = frame.groupby(["image_hash", "text", "label"], dropna=False)
    first = alike["row"].transform("min")
    for row, original in zip(frame["row"], first, strict=True):
        if row != original:
            message = f"Same image, text and label as row {original}; both stay on one side."
            yield Finding("duplicate pair", "warning", message, int(row))


def conflicts(frame: pd.DataFrame) -> Iterator[Finding]:
    """Rows whose image and text also occur with another label."""
    keys = ["image_hash", "text"]
    contradicted = frame.groupby(keys, dropna=False)["label"].transform("nunique") > 1
    for _, group in frame[contradicted].groupby(keys, dropna=False):
        labels = ", ".join(repr(label) for label in dict.fromkeys(group["label"]))
        for row in group["row"]:
            message = f"The same image and text carry the labels {labels}."
            yield Finding("conflicting labels", "warning", message, int(row))


def leaks(frame: pd.DataFrame) -> Iterator[Finding]:
    """Rows outside train whose image or text also occurs in another split."""
    columns = {"image_hash": "image"}
    if not is_shared_text(frame["text"]):
        columns["text"] = "text"
    for column, name in columns.items():
        present = frame[frame[column].notna() & (frame["split"] != "")]
        crossing = present.groupby(column)["split"].transform("nunique") > 1
        homes = present[crossing].groupby(column)["split"].agg(lambda s: tuple(dict.fromkeys(s)))
        for row, key, split in present.loc[crossing, ["row", column, "split"]].itertuples(index=False):
            if split != "train":
                others = ", ".join(other for other in homes[key] if other != split)
                message = f"The same {name} is also in {others}: the {split} score will flatter."
                yield Finding(f"{name} in two splits", "warning", message, int(row))


def classes(frame: pd.DataFrame) -> Iterator[Finding]:
    """Classes with few rows, far smaller than the largest, or without a training row."""
    counts = Counter(count_names(frame["label"]))
    if len(counts) == 1:
        only = next(iter(counts))
        message = f"Every row has the label {only!r}; there is nothing to tell apart."
        yield Finding("one class", "warning", message)
    for label, count in sorted(counts.items(), key=lambda item: (item[1], item[0])):
        if count < FEW:
            message = f"Class {label!r} has {count} rows; below {FEW} its scores mean little."
            yield Finding("tiny class", "warning", message)
    if counts and max(counts.values()) > IMBALANCE * min(counts.values()):
        (large, most), (small, least) = counts.most_common()[0], counts.most_common()[-1]
        message = f"{large!r} has {most} rows and {small!r} only {least}: watch macro F1, not accuracy."
        yield Finding("imbalance", "warning", message)
    learnt = set(count_names(frame.loc[frame["split"].isin(["train", ""]), "label"]))
    for label in sorted(set(counts) - learnt):
        message = f"Class {label!r} has no training row and can never be predicted."
        yield Finding("class never learnt", "warning", message)


def splits(frame: pd.DataFrame) -> Iterator[Finding]:
    """Splits without a row."""
    counts = Counter(frame["split"])
    if counts[""] == len(frame):
        return
    for split in SPLITS:
        if not counts[split]:
            yield Finding("empty split", "warning", f"No pair is left for {split}.")
