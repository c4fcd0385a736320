"""The report of a model on a split: plain numbers, ready for report.json."""

from __future__ import annotations

from typing import Any

import numpy as np

from mmapp.evaluation import metrics
from mmapp.evaluation.outputs import Outputs

WITH_INTERVAL = ("accuracy", "macro_f1")


def make_report(outputs: Outputs, names: list[str], split: str) -> dict[str, Any]:
    """Scores, intervals, classes, confusion and the majority class as the first baseline.

    Args:
        outputs: logits and labels of N rows.
        names: the label of each class number.
        split: which rows these are, as text.
    """
    if outputs.labels is None or not len(outputs.labels):
        return {"n": 0, "split": split}
    labels, probabilities = outputs.labels, outputs.probabilities()
    most = int(np.bincount(labels, minlength=len(names)).argmax())
    always = np.zeros_like(probabilities)
    always[:, most] = 1.0
    return {
        "n": len(labels),
        "split": split,
        **metrics.score(labels, probabilities),
        "intervals": {
            name: list(metrics.bootstrap(labels, probabilities, metrics.METRICS[name]))
            for name in WITH_INTERVAL
        },
        "majority": {
            "label": names[most],
            "accuracy": metrics.accuracy(labels, always),
            "macro_f1": metrics.macro_f1(labels, always),
        },
        "per_class": metrics.per_class(labels, probabilities, names),
        "confusion": {"labels": names, "counts": metrics.confusion(labels, probabilities)},
    }
