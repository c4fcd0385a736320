"""How far probabilities can be believed: temperature, calibration error, and what doubt would save.

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
POINTS = 50  # of the curve of accuracy against coverage, at most
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


def confidence(probabilities: np.ndarray, several: bool) -> np.ndarray:
    """Probability that the answer to a row is right, [...,C] -> [...].

    Of several labels, that all of it is, were they independent.
    """
    if not several:
        return probabilities.max(axis=-1)
    return np.where(answers(probabilities), probabilities, 1 - probabilities).prod(axis=-1)


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


def coverage(labels: np.ndarray, probabilities: np.ndarray) -> list[dict[str, float]]:
    """What is answered and how well, if rows below a confidence are not: from the surest row to all.

    El-Yaniv & Wiener, "On the Foundations of Noise-free Selective Classification", JMLR 2010.

    Returns:
        Points of a `threshold` (the least confidence that is answered), the `coverage` (share of rows
        answered) and the `accuracy` among those.
    """
    several = labels.ndim == 2
    sure = confidence(probabilities, several)
    right = (answers(probabilities) == (labels > 0.5)).all(axis=1) if several else (
        probabilities.argmax(axis=1) == labels
    )
    order = np.argsort(-sure, kind="stable")
    sure, hits = sure[order], right[order].cumsum()
    ends = np.flatnonzero(np.append(sure[1:] < sure[:-1], True))  # rows as sure as each other go together
    kept = ends[np.unique(np.linspace(0, len(ends) - 1, POINTS).round().astype(int))]
    return [
        {
            "threshold": float(sure[i]),
            "coverage": float((i + 1) / len(sure)),
            "accuracy": float(hits[i] / (i + 1)),
        }
        for i in kept
    ]


def describe(labels: np.ndarray, probabilities: np.ndarray, before: np.ndarray) -> dict[str, Any]:
    """Plain values about calibrated probabilities [N,C], and what they were `before` [N,C]."""
    return {
        "ece_before": calibration_error(labels, before),
        "log_loss_before": metrics_for(labels)["log_loss"](labels, before),
        "bins": reliability(labels, probabilities),
        "coverage": coverage(labels, probabilities),
    }


def _single_answers(labels: np.ndarray, probabilities: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Confidence and rightness of every answer: one a row, or one for every label of every row."""
    if labels.ndim == 2:
        right = answers(probabilities) == (labels > 0.5)
        return np.maximum(probabilities, 1 - probabilities).ravel(), right.ravel()
    return probabilities.max(axis=1), probabilities.argmax(axis=1) == labels
