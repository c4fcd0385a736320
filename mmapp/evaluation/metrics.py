"""Scores of predictions against labels. Pure functions on arrays; a METRICS table.

Shapes: N rows, C classes.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np
from sklearn import metrics as sk

Metric = Callable[[np.ndarray, np.ndarray], float]


def accuracy(labels: np.ndarray, probabilities: np.ndarray) -> float:
    """Share of rows whose most probable class is the label."""
    return float((probabilities.argmax(axis=1) == labels).mean())


def macro_f1(labels: np.ndarray, probabilities: np.ndarray) -> float:
    """Mean over classes of F1; classes that neither occur nor are predicted do not count."""
    return _f1(labels, probabilities, "macro")


def weighted_f1(labels: np.ndarray, probabilities: np.ndarray) -> float:
    """Mean over classes of F1, weighted by how often each occurs."""
    return _f1(labels, probabilities, "weighted")


def balanced_accuracy(labels: np.ndarray, probabilities: np.ndarray) -> float:
    """Mean over the classes that occur of the share of their rows that is found."""
    predicted = probabilities.argmax(axis=1)
    return float(np.mean([(predicted[labels == c] == c).mean() for c in np.unique(labels)]))


def log_loss(labels: np.ndarray, probabilities: np.ndarray) -> float:
    """Mean of -log of the probability given to the label, in nats."""
    given = probabilities[np.arange(len(labels)), labels]
    return abs(float(np.log(np.clip(given, 1e-12, 1.0)).mean()))


def exact_accuracy(labels: np.ndarray, probabilities: np.ndarray) -> float:
    """Share of rows of which every label is told right: labels [N,C] of zeros and ones."""
    return float((answers(probabilities) == (labels > 0.5)).all(axis=1).mean())


def several_macro_f1(labels: np.ndarray, probabilities: np.ndarray) -> float:
    """Mean over labels of F1; labels that neither occur nor are given do not count."""
    f1, _ = _several_f1(labels, probabilities)
    return float(f1.mean()) if len(f1) else 0.0


def several_weighted_f1(labels: np.ndarray, probabilities: np.ndarray) -> float:
    """Mean over labels of F1, weighted by how often each occurs."""
    f1, occurs = _several_f1(labels, probabilities)
    return float(np.average(f1, weights=occurs)) if occurs.sum() else 0.0


def micro_f1(labels: np.ndarray, probabilities: np.ndarray) -> float:
    """F1 over all answers of all rows together."""
    said, given = answers(probabilities), labels > 0.5
    total = said.sum() + given.sum()
    return float(2 * (said & given).sum() / total) if total else 0.0


def binary_log_loss(labels: np.ndarray, probabilities: np.ndarray) -> float:
    """Mean over rows and labels of -log of the probability given to the right answer, in nats."""
    right = np.where(labels > 0.5, probabilities, 1 - probabilities)
    return abs(float(np.log(np.clip(right, 1e-12, 1.0)).mean()))


def answers(probabilities: np.ndarray) -> np.ndarray:
    """[N,C] yes or no: every label that is more probable than not."""
    return probabilities >= 0.5


METRICS: dict[str, Metric] = {
    "accuracy": accuracy,
    "macro_f1": macro_f1,
    "weighted_f1": weighted_f1,
    "balanced_accuracy": balanced_accuracy,
    "log_loss": log_loss,
}


# The same where rows may have several labels: labels [N,C] of zeros and ones.
METRICS_OF_SEVERAL: dict[str, Metric] = {
    "accuracy": exact_accuracy,
    "macro_f1": several_macro_f1,
    "weighted_f1": several_weighted_f1,
    "micro_f1": micro_f1,
    "log_loss": binary_log_loss,
}


def metrics_for(labels: np.ndarray) -> dict[str, Metric]:
    """The metrics that fit labels [N] of class numbers or [N,C] of zeros and ones."""
    return METRICS_OF_SEVERAL if labels.ndim == 2 else METRICS


def score(labels: np.ndarray, probabilities: np.ndarray) -> dict[str, float]:
    """Every metric that fits the labels."""
    return {name: metric(labels, probabilities) for name, metric in metrics_for(labels).items()}


def confusion(labels: np.ndarray, probabilities: np.ndarray) -> list[list[int]]:
    """[C,C] counts: row the label, column the prediction."""
    classes = range(probabilities.shape[1])
    return sk.confusion_matrix(labels, probabilities.argmax(axis=1), labels=classes).tolist()


def per_class(
    labels: np.ndarray, probabilities: np.ndarray, names: list[str]
) -> list[dict[str, Any]]:
    """Precision, recall, F1 and support (rows of that label) of every class."""
    said = answers(probabilities) if labels.ndim == 2 else probabilities.argmax(axis=1)
    precision, recall, f1, support = sk.precision_recall_fscore_support(
        labels, said, labels=range(len(names)), zero_division=0.0
    )
    return [
        {
            "label": name,
            "precision": float(precision[i]),
            "recall": float(recall[i]),
            "f1": float(f1[i]),
            "support": int(support[i]),
        }
        for i, name in enumerate(names)
    ]


def bootstrap(
    labels: np.ndarray,
    probabilities: np.ndarray,
    metric: Metric,
    *,
    samples: int = 1000,
    seed: int = 0,
) -> tuple[float, float]:
    """95 % interval of a metric: its 2.5th and 97.5th percentile over rows drawn with replacement.

    Efron, "Bootstrap Methods", 1979. The interval is about which rows were tested, not about which
    seed was trained with.
    """
    rng = np.random.default_rng(seed)
    values = []
    for _ in range(samples):
        drawn = rng.integers(len(labels), size=len(labels))
        values.append(metric(labels[drawn], probabilities[drawn]))
    low, high = np.percentile(values, [2.5, 97.5])
    return float(low), float(high)


def paired_difference(
    labels: np.ndarray,
    before: np.ndarray,
    after: np.ndarray,
    metric: Metric,
    *,
    samples: int = 1000,
    seed: int = 0,
) -> tuple[float, float, float]:
    """A metric of `after` minus that of `before`, and the 95 % interval of the difference.

    Both are probabilities [N,C] of the same rows, and each draw of rows is scored with both: what is
    hard about a row is hard for both and falls out, so the interval is narrower than that of two
    models on rows of their own. Efron & Tibshirani, "An Introduction to the Bootstrap", 1993.
    """
    rng = np.random.default_rng(seed)
    differences = []
    for _ in range(samples):
        drawn = rng.integers(len(labels), size=len(labels))
        differences.append(
            metric(labels[drawn], after[drawn]) - metric(labels[drawn], before[drawn])
        )
    low, high = np.percentile(differences, [2.5, 97.5])
    return metric(labels, after) - metric(labels, before), float(low), float(high)


def _several_f1(
    labels: np.ndarray, probabilities: np.ndarray
) -> tuple[np.ndarray, np.ndarray]:
    """F1 of every label that occurs or is given, and how often each of them occurs."""
    said, given = answers(probabilities), labels > 0.5
    hits, total = (said & given).sum(axis=0), said.sum(axis=0) + given.sum(axis=0)
    counted = total > 0
    return 2 * hits[counted] / total[counted], given.sum(axis=0)[counted]


def _f1(labels: np.ndarray, probabilities: np.ndarray, average: str) -> float:
    """F1 from counts, as scikit-learn defines it; written out because the bootstrap calls it often."""
    predicted = probabilities.argmax(axis=1)
    classes = probabilities.shape[1]
    hits = np.bincount(labels[predicted == labels], minlength=classes)
    given = np.bincount(labels, minlength=classes)
    said = np.bincount(predicted, minlength=classes)
    counted = (given + said) > 0
    f1 = 2 * hits[counted] / (given + said)[counted]
    weights = given[counted] if average == "weighted" else None
    return float(np.average(f1, weights=weights))
