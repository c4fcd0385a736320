"""How far probabilities can be believed: the temperature that mends them, and the calibration error.

Pure functions on arrays; knows no model.

Shapes: N rows, C classes. Labels are [N] class numbers, or [N,C] zeros and ones where a row may have
several.
"""

from __future__ import annotations

from typing import Any

import numpy as np
from scipy.optimize import minimize_scalar
from scipy.special import logsumexp

from mmapp.evaluation.metrics import answers, metrics_for

BINS = 15
SHARPEST, FLATTEST = 20.0, 0.02  # how far logits may be stretched or shrunk


def fit_temperature(logits: np.ndarray, labels: np.ndarray) -> float:
    """The number above zero by which logits [N,C] are to be divided so that their log-loss is least.

    It changes how sure the answers are and none of the answers. Of several labels it is the log-loss
    of every yes and no. Guo et al., "On Calibration of Modern Neural Networks", ICML 2017.

    The loss is convex in one over the temperature, so that is what is looked for. A normal prior of
    mean one and deviation one on it weighs no more than a row or two; without it a handful of rows
    that are all answered right would call for a temperature of zero.
    """
    scores = logits.astype(np.float64)

    def cost(stretch: float) -> float:
        return _total_log_loss(stretch * scores, labels) + 0.5 * (stretch - 1) ** 2

    found = minimize_scalar(cost, bounds=(FLATTEST, SHARPEST), method="bounded")
    return float(1 / found.x) if found.fun < cost(1.0) else 1.0


def _total_log_loss(logits: np.ndarray, labels: np.ndarray) -> float:
    if labels.ndim == 2:
        return float(np.logaddexp(0, np.where(labels > 0.5, -logits, logits)).sum())
    return float((logsumexp(logits, axis=1) - logits[np.arange(len(labels)), labels]).sum())


def reliability(
    labels: np.ndarray, probabilities: np.ndarray, bins: int = BINS
) -> list[dict[str, Any]]:
    """Answers sorted by how sure they are into bins of one width; empty bins are left out.

    Of several labels every yes and no is an answer.

    Returns:
        Of each bin its `count`, the mean `confidence` and the `accuracy` of its answers.
    """
    sure, right = _single_answers(labels, probabilities)
    place = np.clip(np.ceil(sure * bins).astype(int) - 1, 0, bins - 1)
    counts, sums, hits = (np.bincount(place, weights, bins) for weights in (None, sure, right))
    return [
        {
            "count": int(counts[i]),
            "confidence": float(sums[i] / counts[i]),
            "accuracy": float(hits[i] / counts[i]),
        }
        for i in np.flatnonzero(counts)
    ]


def calibration_error(labels: np.ndarray, probabilities: np.ndarray, bins: int = BINS) -> float:
    """Mean over answers of how far the accuracy of their bin is from its confidence.

    Naeini et al., "Obtaining Well Calibrated Probabilities Using Bayesian Binning", AAAI 2015.
    """
    found = reliability(labels, probabilities, bins)
    gaps = [row["count"] * abs(row["accuracy"] - row["confidence"]) for row in found]
    return sum(gaps) / sum(row["count"] for row in found)


def describe(labels: np.ndarray, probabilities: np.ndarray, before: np.ndarray) -> dict[str, Any]:
    """Plain values about calibrated probabilities [N,C], and what they were `before` [N,C]."""
    log_loss = metrics_for(labels)["log_loss"]
    return {
        "ece": calibration_error(labels, probabilities),
        "ece_before": calibration_error(labels, before),
        "log_loss": log_loss(labels, probabilities),
        "log_loss_before": log_loss(labels, before),
        "bins": reliability(labels, probabilities),
    }


def _single_answers(labels: np.ndarray, probabilities: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Confidence and rightness of every answer: one a row, or one for every label of every row."""
    if labels.ndim == 2:
        right = answers(probabilities) == (labels > 0.5)
        return np.maximum(probabilities, 1 - probabilities).ravel(), right.ravel()
    return probabilities.max(axis=1), probabilities.argmax(axis=1) == labels
