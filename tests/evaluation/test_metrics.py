"""Every score against numbers worked out by hand, and against scikit-learn."""

from __future__ import annotations

import math

import numpy as np
import pytest
from sklearn import metrics as sk

from mmapp.evaluation.metrics import (
    METRICS,
    accuracy,
    balanced_accuracy,
    bootstrap,
    confusion,
    log_loss,
    macro_f1,
    paired_difference,
    per_class,
    score,
    weighted_f1,
)

LABELS = np.array([0, 0, 0, 1, 1, 2])
# Predicted 0 0 1 1 1 1: the third class is never said.
PROBABILITIES = np.array(
    [
        [0.8, 0.1, 0.1],
        [0.5, 0.25, 0.25],
        [0.2, 0.6, 0.2],
        [0.3, 0.4, 0.3],
        [0.1, 0.8, 0.1],
        [0.3, 0.5, 0.2],
    ]
)


BY_HAND = {
    "accuracy": 4 / 6,
    # F1: 2·2/(2 + 3) = 4/5; 2·2/(4 + 2) = 2/3; 0
    "macro_f1": (4 / 5 + 2 / 3 + 0) / 3,
    "weighted_f1": (3 * 4 / 5 + 2 * 2 / 3 + 0) / 6,
    "balanced_accuracy": (2 / 3 + 2 / 2 + 0) / 3,
    "log_loss": -math.log(0.8 * 0.5 * 0.2 * 0.4 * 0.8 * 0.2) / 6,
}


@pytest.mark.parametrize("metric", METRICS)
def test_a_metric_by_hand(metric: str) -> None:
    assert METRICS[metric](LABELS, PROBABILITIES) == pytest.approx(BY_HAND[metric])


def test_a_score_has_every_metric_as_a_plain_float() -> None:
    scores = score(LABELS, PROBABILITIES)

    assert scores == pytest.approx(BY_HAND)
    assert {type(value) for value in scores.values()} == {float}


@pytest.mark.parametrize("classes", [2, 5])
@pytest.mark.parametrize("seed", range(5))
def test_metrics_equal_scikit_learns(classes: int, seed: int) -> None:
    rng = np.random.default_rng(seed)
    # So few rows that some class often occurs on one side only, or on neither.
    labels = rng.integers(classes, size=7)
    probabilities = rng.dirichlet(np.ones(classes), size=7)
    said = probabilities.argmax(axis=1)

    assert accuracy(labels, probabilities) == pytest.approx(sk.accuracy_score(labels, said))
    for metric, average in ((macro_f1, "macro"), (weighted_f1, "weighted")):
        expected = sk.f1_score(labels, said, average=average, zero_division=0.0)
        assert metric(labels, probabilities) == pytest.approx(expected)
    recalls = sk.recall_score(labels, said, average=None, labels=np.unique(labels))
    assert balanced_accuracy(labels, probabilities) == pytest.approx(recalls.mean())
    expected_loss = sk.log_loss(labels, probabilities, labels=range(classes))
    assert log_loss(labels, probabilities) == pytest.approx(expected_loss)


def test_a_label_given_no_chance_at_all_costs_much_but_not_infinitely() -> None:
    sure_and_wrong = np.array([[1.0, 0.0]])

    assert log_loss(np.array([1]), sure_and_wrong) == pytest.approx(-math.log(1e-12))
    assert log_loss(np.array([0]), sure_and_wrong) == 0


def test_the_confusion_has_labels_as_rows_and_predictions_as_columns() -> None:
    assert confusion(LABELS, PROBABILITIES) == [[2, 1, 0], [0, 2, 0], [0, 1, 0]]


def test_the_confusion_keeps_a_place_for_classes_that_do_not_occur() -> None:
    assert confusion(np.array([1]), np.array([[0.0, 1.0, 0.0]])) == [[0] * 3, [0, 1, 0], [0] * 3]


def test_per_class_by_hand() -> None:
    rows = per_class(LABELS, PROBABILITIES, ["cat", "dog", "eel"])

    assert rows[0] == pytest.approx(
        {"label": "cat", "precision": 1.0, "recall": 2 / 3, "f1": 4 / 5, "support": 3}
    )
    assert rows[1] == pytest.approx(
        {"label": "dog", "precision": 2 / 4, "recall": 1.0, "f1": 2 / 3, "support": 2}
    )
    # Never said: its precision is 0/0, told as 0 and without a warning.
    assert rows[2] == {"label": "eel", "precision": 0, "recall": 0, "f1": 0, "support": 1}


def coin(rows: int, right: float) -> tuple[np.ndarray, np.ndarray]:
    """Labels and probabilities of which exactly the share `right` is predicted right."""
    labels = np.zeros(rows, np.int64)
    wrong = np.arange(rows) >= round(rows * right)
    return labels, np.where(wrong[:, None], [[0.1, 0.9]], [[0.9, 0.1]])


def test_a_bootstrap_interval_has_the_width_that_the_binomial_has() -> None:
    """A share of 0.7 of 1000 rows has the deviation √(0.7·0.3/1000); 1.96 of it hold 95 %."""
    low, high = bootstrap(*coin(1000, 0.7), accuracy)

    assert low == pytest.approx(0.7 - 1.96 * 0.01449, abs=0.003)
    assert high == pytest.approx(0.7 + 1.96 * 0.01449, abs=0.003)


def test_four_times_as_many_rows_halve_a_bootstrap_interval() -> None:
    few, many = (bootstrap(*coin(rows, 0.5), accuracy) for rows in (100, 400))

    assert (few[1] - few[0]) / (many[1] - many[0]) == pytest.approx(2, rel=0.1)


def test_a_bootstrap_interval_covers_the_truth_as_often_as_it_says() -> None:
    """Of 200 tests of 60 rows, drawn where the true accuracy is 0.7, about 190 cover it."""
    rng = np.random.default_rng(3)
    covered = 0
    for _ in range(200):
        right = rng.random(60) < 0.7
        probabilities = np.where(right[:, None], [[0.9, 0.1]], [[0.1, 0.9]])
        low, high = bootstrap(np.zeros(60, np.int64), probabilities, accuracy, samples=200)
        covered += low <= 0.7 <= high

    assert 178 <= covered <= 198


def test_a_bootstrap_interval_follows_from_its_seed() -> None:
    rng = np.random.default_rng(0)
    data = rng.integers(3, size=50), rng.dirichlet(np.ones(3), size=50)

    assert bootstrap(*data, log_loss, seed=1) == bootstrap(*data, log_loss, seed=1)
    assert bootstrap(*data, log_loss, seed=1) != bootstrap(*data, log_loss, seed=2)


def test_where_nothing_varies_the_interval_is_a_point() -> None:
    assert bootstrap(*coin(20, 1.0), accuracy, samples=50) == (1.0, 1.0)


def answers(right: np.ndarray) -> np.ndarray:
    """Probabilities of rows whose label is 0, right where said."""
    return np.where(right[:, None], [[0.9, 0.1]], [[0.1, 0.9]])


def test_a_paired_difference_has_the_width_that_theory_gives() -> None:
    """Of 1000 rows 100 got right and 50 got wrong: each adds +1, -1 or 0, of mean 0.05 and variance
    0.15 - 0.05²; what both get right adds nothing, which unpaired intervals would not know."""
    before, after = np.arange(1000) < 600, np.arange(1000) < 700
    after[:50] = False
    labels = np.zeros(1000, np.int64)

    by, low, high = paired_difference(labels, answers(before), answers(after), accuracy)

    deviation = math.sqrt((0.15 - 0.05**2) / 1000)
    assert by == pytest.approx(0.05)
    assert low == pytest.approx(0.05 - 1.96 * deviation, abs=0.002)
    assert high == pytest.approx(0.05 + 1.96 * deviation, abs=0.002)


def test_a_paired_difference_covers_the_truth_as_often_as_it_says() -> None:
    """Of 200 tests of 80 rows, drawn where the true difference is 0.2, about 190 cover it."""
    rng = np.random.default_rng(5)
    labels, covered = np.zeros(80, np.int64), 0
    for _ in range(200):
        fate = rng.random(80)  # 0.5 right twice, 0.3 right only after, 0.1 only before, 0.1 never
        before, after = (fate < 0.5) | (fate > 0.9), fate < 0.8
        _, low, high = paired_difference(
            labels, answers(before), answers(after), accuracy, samples=100
        )
        covered += low <= 0.2 <= high

    assert 178 <= covered <= 198


def test_what_did_not_change_differs_by_nothing_and_follows_from_the_seed() -> None:
    rng = np.random.default_rng(0)
    labels, some, other = rng.integers(3, size=50), *rng.dirichlet(np.ones(3), size=(2, 50))

    assert paired_difference(labels, some, some, macro_f1) == (0, 0, 0)
    there = paired_difference(labels, some, other, log_loss, seed=1)
    back = paired_difference(labels, other, some, log_loss, seed=1)
    assert there == paired_difference(labels, some, other, log_loss, seed=1)
    assert there[0] == log_loss(labels, other) - log_loss(labels, some)
    assert back == pytest.approx((-there[0], -there[2], -there[1]))
