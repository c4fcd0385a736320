"""The report of a model on a split: plain numbers, ready for report.json."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import numpy as np

from mmapp.evaluation import calibration, metrics, ranking
from mmapp.evaluation.outputs import Outputs

WITH_INTERVAL = ("accuracy", "macro_f1")  # besides what is said of the ranking


def make_report(outputs: Outputs, names: list[str], split: str) -> dict[str, Any]:
    """Scores, intervals, labels one by one, and the most frequent answer as the first baseline.

    Args:
        outputs: logits and labels of N rows, and the temperature; figures that look at probabilities
            are those of the calibrated ones.
        names: the label of each class number.
        split: which rows these are, as text.

    Returns:
        Plain values; `confusion` only where a row has exactly one label; `not_ranked` are the labels
        left out of roc_auc and average_precision, for no row has them or every row does.
    """
    if outputs.labels is None or not len(outputs.labels):
        return {"n": 0, "split": split}
    labels, probabilities = outputs.labels, outputs.probabilities()
    fitting = metrics.metrics_for(labels)
    report = {
        "n": len(labels),
        "split": split,
        **metrics.score(labels, probabilities),
        **ranking.ranking(labels, probabilities),
        "ece": calibration.calibration_error(labels, probabilities),
        "intervals": {
            **{
                name: list(metrics.bootstrap(labels, probabilities, fitting[name]))
                for name in WITH_INTERVAL
            },
            **ranking.ranking_intervals(labels, probabilities),
        },
        "not_ranked": _not_ranked(labels, names),
        "calibration": _calibration(outputs, labels, probabilities),
        "majority": _majority(labels, names),
        "per_class": metrics.per_class(labels, probabilities, names),
    }
    if labels.ndim == 1:
        counts = metrics.confusion(labels, probabilities)
        report["confusion"] = {"labels": names, "counts": counts}
    return report


def _not_ranked(labels: np.ndarray, names: list[str]) -> list[str]:
    rankable = ranking.rankable(labels, len(names))
    return [name for name, can in zip(names, rankable, strict=True) if not can]


def _calibration(
    outputs: Outputs, labels: np.ndarray, probabilities: np.ndarray
) -> dict[str, Any]:
    """The temperature and what it did; the same before and after where there is none."""
    before = replace(outputs, temperature=1.0).probabilities()
    told = calibration.describe(labels, probabilities, before)
    return {"temperature": outputs.temperature, **told}


def _majority(labels: np.ndarray, names: list[str]) -> dict[str, Any]:
    """How far the most frequent answer gets, given to every row."""
    found, counts = np.unique(labels, axis=0, return_counts=True)
    most = found[counts.argmax()]
    row = most if labels.ndim == 2 else np.arange(len(names)) == most
    always = np.tile(row.astype(np.float64), (len(labels), 1))
    fitting = metrics.metrics_for(labels)
    return {
        "label": "|".join(name for name, said in zip(names, row, strict=True) if said),
        **{name: fitting[name](labels, always) for name in WITH_INTERVAL},
    }
