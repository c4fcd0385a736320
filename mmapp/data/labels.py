"""What the labels of a table mean: which task they call for, and their canonical form."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import replace

import numpy as np

from mmapp.data.cells import MATCH, MISMATCH, several, split_labels
from mmapp.data.pairs import LabelSet, PairTable
from mmapp.data.tags import looks_tagged, with_tags
from mmapp.errors import DataError

_MATCH_WORDS = {
    **dict.fromkeys(["match", "matched", "1", "true", "yes", "positive"], MATCH),
    **dict.fromkeys(["mismatch", "mismatched", "0", "-1", "false", "no", "negative"], MISMATCH),
}


def task_of(table: PairTable, wanted: str) -> str:
    """The task wanted; for "auto" the one that the table calls for."""
    if wanted != "auto":
        return wanted
    task = infer_task(table.labels())
    return "tag" if task == "multilabel" and looks_tagged(table) else task


def infer_task(labels: Iterable[str]) -> str:
    """The task that labels by themselves call for. (Tags are several labels to who sees no words.)"""
    found = set(labels)
    if found <= {MATCH, MISMATCH}:
        return "match"
    return "multilabel" if several(found) else "classify"


def with_task(table: PairTable, task: str) -> PairTable:
    """The table with labels in the canonical form of the task.

    Of the task tag, rows whose words and tags do not fit are set aside.

    Raises:
        DataError: a label makes no sense for the task; the message names the row.
    """
    if task == "tag":
        return with_tags(table)
    if task != "match":
        return table
    canonical = []
    for row, label in zip(table.frame["row"], table.frame["label"], strict=True):
        known = _MATCH_WORDS.get(label.casefold()) if label is not None else None
        if label is not None and known is None:
            raise DataError(
                f"Row {row} has the label {label!r}; the task match expects match or mismatch "
                "(1/0, yes/no and true/false are understood). For other labels choose classify."
            )
        canonical.append(known)
    return replace(table, frame=table.frame.assign(label=canonical))


def label_set(labels: Iterable[str], task: str) -> LabelSet:
    """The classes of a task in their fixed order."""
    if task == "match":
        return LabelSet((MISMATCH, MATCH))
    if task in ("multilabel", "tag"):
        names = {name for cell in labels for name in split_labels(cell)}
        several = task == "multilabel"
        return LabelSet(LabelSet.of(names).names, several=several, of_words=not several)
    return LabelSet.of(labels)


def belonging(labels: Sequence | np.ndarray, task: str) -> np.ndarray:
    """Of which rows text and image belong together, [N] bool: all, but of the task match the matches.

    Args:
        labels: N of them, numbered by `label_set`.
        task: a task's name.
    """
    if task != "match":
        return np.ones(len(labels), bool)
    return np.asarray(labels) == label_set((), task).index(MATCH)
