"""The temperature is found again where it is known; the calibration error is computed by hand."""

from __future__ import annotations

import math

import numpy as np
import pytest

from mmapp.evaluation.calibration import calibration_error, fit_temperature, reliability
from mmapp.evaluation.metrics import metrics_for
from mmapp.evaluation.outputs import Outputs
from mmapp.evaluation.report import make_report

NAMES = ["a", "b", "c"]


def drawn(several: bool, rows: int = 20_000) -> tuple[np.ndarray, np.ndarray]:
    """Logits, and labels that are drawn with just the probabilities that the logits say."""
    rng = np.random.default_rng(4)
    logits = 2 * rng.normal(size=(rows, 3))
    if several:
        return logits, (rng.random((rows, 3)) < 1 / (1 + np.exp(-logits))).astype(np.int64)
    return logits, (logits + rng.gumbel(size=(rows, 3))).argmax(axis=1)


@pytest.mark.parametrize("several", [False, True])
@pytest.mark.parametrize("factor", [0.25, 1.0, 4.0])
def test_logits_that_were_scaled_are_scaled_back(factor: float, several: bool) -> None:
    logits, labels = drawn(several)
    assert fit_temperature(factor * logits, labels) == pytest.approx(factor, rel=0.03)


@pytest.mark.parametrize("several", [False, True])
def test_the_log_loss_it_is_fitted_on_never_rises_and_no_answer_changes(several: bool) -> None:
    rng = np.random.default_rng(5)
    for rows in (1, 2, 5, 40):
        for scale in (0.01, 1.0, 30.0):
            logits = (scale * rng.normal(size=(rows, 3))).astype(np.float32)
            labels = rng.integers(2, size=(rows, 3)) if several else rng.integers(3, size=rows)
            raw = Outputs(logits, labels, several)
            mended = Outputs(logits, labels, several, temperature=fit_temperature(logits, labels))
            metrics = metrics_for(labels)
            before, after = raw.probabilities(), mended.probabilities()
            assert metrics["log_loss"](labels, after) <= metrics["log_loss"](labels, before) + 1e-6
            assert metrics["accuracy"](labels, after) == metrics["accuracy"](labels, before)


def test_rows_that_are_all_answered_right_do_not_make_it_vanish() -> None:
    assert 0.2 < fit_temperature(5 * np.eye(3), np.arange(3)) <= 1


def test_the_calibration_error_of_two_bins_by_hand() -> None:
    sure = np.array([0.5, 0.3, 0.4, 0.9, 0.7])  # of the first class; the third is sure of another
    probabilities = np.stack([sure, 1 - sure], axis=1)
    labels = np.array([0, 0, 1, 0, 1])
    # Of two bins all but the first row fall in (0.5, 1]: 0.7 wrong, 0.6 right, 0.9 right, 0.7 wrong.
    low, high = reliability(labels, probabilities, bins=2)
    assert low == {"count": 1, "confidence": 0.5, "accuracy": 1.0}
    assert (high["count"], high["accuracy"]) == (4, 0.5)
    assert high["confidence"] == pytest.approx((0.7 + 0.6 + 0.9 + 0.7) / 4)
    by_hand = (1 * (1 - 0.5) + 4 * (0.725 - 0.5)) / 5
    assert calibration_error(labels, probabilities, bins=2) == pytest.approx(by_hand)


def test_of_several_labels_every_yes_and_no_is_an_answer() -> None:
    found = reliability(np.array([[1, 0]]), np.array([[0.8, 0.6]]), bins=2)
    assert found == [{"count": 2, "confidence": pytest.approx(0.7), "accuracy": 0.5}]


def test_a_report_tells_before_and_after() -> None:
    logits, labels = drawn(several=False, rows=2000)
    told = make_report(Outputs(4 * logits, labels, temperature=4.0), NAMES, "test")
    raw = make_report(Outputs(4 * logits, labels), NAMES, "test")
    found = told["calibration"]
    assert found["temperature"] == 4.0
    assert (found["log_loss"], found["log_loss_before"]) == (told["log_loss"], raw["log_loss"])
    assert found["ece"] < 0.03 < 0.1 < found["ece_before"] == raw["calibration"]["ece"]
    assert sum(row["count"] for row in found["bins"]) == 2000
    assert told["accuracy"] == raw["accuracy"]


def test_words_are_calibrated_word_by_word() -> None:
    logits = np.array([[2.0, 0.0], [0.0, 2.0], [2.0, 0.0]])
    outputs = Outputs(logits, np.array([0, 1, 1]), words=np.array([2, 1]), temperature=2.0)
    found = make_report(outputs, ["O", "B-X"], "test")["calibration"]
    sure = 1 / (1 + math.exp(-1))
    assert found["bins"] == [
        {"count": 3, "confidence": pytest.approx(sure), "accuracy": pytest.approx(2 / 3)}
    ]
    assert found["ece"] == pytest.approx(sure - 2 / 3)
