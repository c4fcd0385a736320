"""Answers by the names of labels alone, learnt or not: a name is read as a text, and compared.

Knows no checkpoint and no file.

Shapes: N pairs, C labels, D the width of the joint space.
"""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from mmapp.data.labels import infer_task
from mmapp.data.pairs import LabelSet, PairTable
from mmapp.errors import CheckpointError, DataError, SettingsError
from mmapp.models.alignment import Alignment
from mmapp.models.model import FusionModel

PLACE = "{}"  # where a template has the name


def names_given(labels: Sequence[str]) -> LabelSet:
    """The names, each once, in the order given. Raises SettingsError for fewer than two."""
    names = tuple(dict.fromkeys(label.strip() for label in labels if label.strip()))
    if len(names) < 2:
        found = f"only {names[0]!r}" if names else "none"
        raise SettingsError(f"Two labels at least are needed to choose from; {found} was given.")
    return LabelSet(names)


def names_in(table: PairTable) -> LabelSet:
    """The label names of a table. Raises DataError where they are no answers to choose one from."""
    labels = table.labels()
    if infer_task(labels) != "classify":
        raise DataError(
            f"{table.source} does not give each pair one label that names what is there, such as "
            f"cat or dog; found {', '.join(LabelSet.of(labels).names[:5])}. By names alone only such "
            "labels can be answered with."
        )
    return names_given(LabelSet.of(labels).names)


def in_words(labels: LabelSet, template: str) -> list[str]:
    """Each name in its place in the template. Raises SettingsError where that has none."""
    if PLACE not in template:
        raise SettingsError(f"The template {template!r} has no {PLACE} for the name of a label.")
    return [template.replace(PLACE, name) for name in labels.names]


def require_aligned(models: Sequence[FusionModel]) -> Alignment:
    """The joint space of the one model.

    Raises CheckpointError for several, for one without, and for one that tags words.
    """
    if len(models) > 1:
        raise CheckpointError(
            "An ensemble cannot answer by label names: its members have no joint space in common. "
            "Ask one of them, such as the folder member-1 in it."
        )
    if models[0].alignment is None:
        raise CheckpointError(
            "This checkpoint cannot answer by label names: its texts and images were not aligned. "
            "Train one with alignment 1; it may start from this one."
        )
    if models[0].of_words:
        raise CheckpointError("This checkpoint tags words; label names are for whole pairs.")
    return models[0].alignment


def compare(pairs: np.ndarray, names: np.ndarray, scale: float) -> np.ndarray:
    """How much each name fits: the mean cosine with the halves that are there, times the scale.

    Args:
        pairs: [N,2,D]; absent halves are zeros.
        names: [C,D].
        scale: learnt with the joint space.

    Returns:
        Logits [N,C].
    """
    there = pairs.any(axis=-1).sum(axis=1, keepdims=True)
    return scale * (pairs.sum(axis=1) / there) @ names.T
