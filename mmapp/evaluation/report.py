"""The report of a model on a split: plain numbers, ready for report.json."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from typing import Any

import numpy as np

from mmapp.evaluation import calibration, metrics
from mmapp.evaluation.outputs import Outputs
from mmapp.evaluation.ranking import ranking
from mmapp.evaluation.tagging import make_tag_report
from mmapp.evaluation.tagging import score as score_tags

WITH_INTERVAL = ("accuracy", "macro_f1")


def score(outputs: Outputs, names: Sequence[str]) -> dict[str, float]:
    """Every score that fits what was asked: of rows, or of the words of rows."""
    if outputs.words is not None:
        return score_tags(outputs, names)
    return metrics.score(outputs.truth(), outputs.probabilities())


def make_report(outputs: Outputs, names: list[str], split: str) -> dict[str, Any]:
    """Scores, intervals, labels one by one, and the most frequent answer as the first baseline.

    Args:
        outputs: logits and labels of N rows; probabilities are those of its temperature.
        names: the label of each class number.
        split: which rows these are, as text.

    Returns:
        Plain values; `confusion` only where a row has exactly one label. Of words, entities are what
        is scored, and `n` counts rows. `calibration` has the temperature, what `calibration.describe`
        says, and is of words where those are asked.
    """
    if outputs.labels is None or not len(outputs.labels):
        return {"n": 0, "split": split}
    if outputs.words is not None:
        return {**make_tag_report(outputs, names, split), "calibration": _calibration(outputs)}
    labels, probabilities = outputs.labels, outputs.probabilities()
    fitting = metrics.metrics_for(labels)
    report = {
        "n": len(labels),
        "split": split,
        **metrics.score(labels, probabilities),
        **ranking(labels, probabilities),
        "intervals": {
            name: list(metrics.bootstrap(labels, probabilities, fitting[name]))
            for name in WITH_INTERVAL
        },
        "calibration": _calibration(outputs),
        "majority": _majority(labels, names),
        "per_class": metrics.per_class(labels, probabilities, names),
    }
    if labels.ndim == 1:
        counts = metrics.confusion(labels, probabilities)
        report["confusion"] = {"labels": names, "counts": counts}
    return report


def _calibration(outputs: Outputs) -> dict[str, Any]:
    """The temperature and what it did."""
    before = replace(outputs, temperature=1.0).probabilities()
    told = calibration.describe(outputs.truth(), outputs.probabilities(), before)
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
