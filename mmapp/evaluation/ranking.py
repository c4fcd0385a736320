"""How well probabilities rank the rows: each label against the rest. Pure functions on arrays.

Written out because the bootstrap asks a thousand times: a draw is how often it takes each row, and
all draws are scored at once.

Shapes: S draws, N rows, C labels, G groups of rows that are equally probable. Labels are [N] class
numbers, or [N,C] zeros and ones where a row may have several.
"""

from __future__ import annotations

import numpy as np

DRAWS = 1000
FEWEST_DRAWS = 100
CELLS = 10_000_000  # rows times labels times draws; of many rows and labels there are fewer draws


def ranking(labels: np.ndarray, probabilities: np.ndarray) -> dict[str, float]:
    """ROC-AUC and average precision, each the mean over the labels that can be ranked by.

    roc_auc is the chance that a row with the label is found more probable than one without.
    average_precision is the mean precision at the rows that have it. Empty where no label can.
    """
    found = _means(np.ones((1, len(labels))), labels, probabilities)
    return {name: float(values[0]) for name, values in found.items()}


def ranking_intervals(
    labels: np.ndarray, probabilities: np.ndarray, seed: int = 0
) -> dict[str, list[float]]:
    """The 95 % bootstrap intervals of `ranking`; see `metrics.bootstrap`.

    A label that a draw has no row of, or only rows of, does not count in that draw.
    """
    rows = len(labels)
    draws = min(DRAWS, max(FEWEST_DRAWS, CELLS // probabilities.size))
    taken = np.random.default_rng(seed).integers(rows, size=(draws, rows))
    cells = taken + rows * np.arange(draws)[:, None]
    weights = np.bincount(cells.ravel(), minlength=draws * rows).reshape(draws, rows)
    found = _means(weights.astype(np.float64), labels, probabilities)
    return {name: np.percentile(values, [2.5, 97.5]).tolist() for name, values in found.items()}


def rankable(labels: np.ndarray, count: int) -> np.ndarray:
    """[C] of the `count` labels: is there a row that has it, and one that has not?"""
    occurs = _truth(labels, count).sum(axis=0)
    return (occurs > 0) & (occurs < len(labels))


def _truth(labels: np.ndarray, count: int) -> np.ndarray:
    """[N,C]: has the row the label?"""
    return labels > 0.5 if labels.ndim == 2 else labels[:, None] == np.arange(count)


def _means(
    weights: np.ndarray, labels: np.ndarray, probabilities: np.ndarray
) -> dict[str, np.ndarray]:
    """Both figures, [S] or less: draws that no label can be ranked by are left out."""
    count = probabilities.shape[1]
    truth = _truth(labels, count)
    wanted = np.flatnonzero(rankable(labels, count))
    if not len(wanted):
        return {}
    each = np.array([_each(weights, truth[:, c], probabilities[:, c]) for c in wanted])  # [C,2,S]
    told = ~np.isnan(each)
    some = told.any(axis=(0, 1))
    area, precision = np.where(told, each, 0)[..., some].sum(axis=0) / told[..., some].sum(axis=0)
    return {"roc_auc": area, "average_precision": precision}


def _each(
    weights: np.ndarray, truth: np.ndarray, scores: np.ndarray
) -> tuple[np.ndarray, np.ndarray]:
    """ROC-AUC and average precision of one label in each draw, [S]; nan where a side is missing.

    Args:
        weights: [S,N], how often a draw took each row.
        truth: [N], whether the row has the label.
        scores: [N], how probable that is said to be.
    """
    order = np.argsort(-scores, kind="stable")
    starts = np.flatnonzero(np.append(True, np.diff(scores[order]) != 0))
    ordered = weights[:, order]
    rows = np.add.reduceat(ordered, starts, axis=1)  # [S,G], the most probable first
    hits = np.add.reduceat(ordered * truth[order], starts, axis=1)
    seen, found = rows.cumsum(axis=1), hits.cumsum(axis=1)
    with_it = found[:, -1]
    without = seen[:, -1] - with_it
    # Of the rows without the label those below lose, and those of the same group half.
    below = without[:, None] - (seen - found) + (rows - hits) / 2
    sides = np.where((with_it > 0) & (without > 0), with_it, np.nan)
    area = (hits * below).sum(axis=1) / (sides * np.maximum(without, 1))
    precision = (hits * found / np.maximum(seen, 1)).sum(axis=1) / sides
    return area, precision
