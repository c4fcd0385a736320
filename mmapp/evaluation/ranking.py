"""How well probabilities rank the rows, each label against the rest. Pure functions on arrays.

Shapes: N rows, C labels. Labels are [N] class numbers, or [N,C] zeros and ones where a row may have
several.
"""

from __future__ import annotations

import numpy as np
from sklearn import metrics as sk

RANKINGS = {"roc_auc": sk.roc_auc_score, "average_precision": sk.average_precision_score}


def ranking(labels: np.ndarray, probabilities: np.ndarray) -> dict[str, float]:
    """ROC-AUC and average precision, each the mean over the labels that some rows have and some lack.

    roc_auc is the chance that a row with the label is found more probable than one without.
    average_precision is the mean precision at the rows that have it. Empty where there is no such
    label.
    """
    classes = np.arange(probabilities.shape[1])
    truth = labels > 0.5 if labels.ndim == 2 else labels[:, None] == classes  # [N,C]
    told_apart = np.flatnonzero(truth.any(axis=0) & ~truth.all(axis=0))
    if not len(told_apart):
        return {}
    return {
        name: float(np.mean([figure(truth[:, c], probabilities[:, c]) for c in told_apart]))
        for name, figure in RANKINGS.items()
    }
