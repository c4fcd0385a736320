"""Scores where rows may have several labels, by hand and against scikit-learn."""

from __future__ import annotations

import json
import math

import numpy as np
import pytest
from sklearn import metrics as sk

from mmapp.evaluation.metrics import metrics_for, per_class, score
from mmapp.evaluation.outputs import Outputs
from mmapp.evaluation.report import make_report

# label 0 is said of rows 0 and 1, label 1 of rows 0 and 2, label 2 of none
PROBABILITIES = np.array([[0.9, 0.8, 0.1], [0.7, 0.2, 0.4], [0.1, 0.6, 0.3]])
LABELS = np.array([[1, 1, 0], [0, 0, 0], [0, 1, 1]])


def test_scores_by_hand() -> None:
    found = score(LABELS, PROBABILITIES)
    assert found["accuracy"] == pytest.approx(1 / 3)  # only row 0 is right whole
    # F1: label 0 has one hit of two said and one given, label 1 is perfect, label 2 never said
    assert found["macro_f1"] == pytest.approx((2 / 3 + 1 + 0) / 3)
    assert found["micro_f1"] == pytest.approx(2 * 3 / (4 + 4))
    right = [0.9, 0.8, 0.9, 0.3, 0.8, 0.6, 0.9, 0.6, 0.3]
    assert found["log_loss"] == pytest.approx(-sum(map(math.log, right)) / 9)


@pytest.mark.parametrize(("name", "average"), [("macro_f1", "macro"), ("weighted_f1", "weighted")])
def test_f1_is_scikit_learns(name: str, average: str) -> None:
    draw = np.random.default_rng(0)
    labels = draw.integers(2, size=(200, 5))
    probabilities = draw.random((200, 5))
    expected = sk.f1_score(labels, probabilities >= 0.5, average=average)
    assert metrics_for(labels)[name](labels, probabilities) == pytest.approx(expected)


def test_the_table_of_labels_counts_each_as_a_question_of_its_own() -> None:
    [first, second, third] = per_class(LABELS, PROBABILITIES, ["a", "b", "c"])
    assert (first["precision"], first["recall"], first["support"]) == (0.5, 1.0, 1)
    assert (second["f1"], second["support"]) == (1.0, 2)
    assert (third["f1"], third["support"]) == (0.0, 1)


def test_the_report_names_the_most_frequent_set_and_has_no_confusion() -> None:
    labels = np.array([[1, 1, 0], [1, 1, 0], [0, 0, 1]])
    report = make_report(Outputs(np.zeros((3, 3)), labels, several=True), ["a", "b", "c"], "test")
    assert report["majority"]["label"] == "a|b"
    assert report["majority"]["accuracy"] == pytest.approx(2 / 3)
    assert "confusion" not in report
    assert json.loads(json.dumps(report, allow_nan=False)) == report


def test_probabilities_of_several_labels_stand_each_on_its_own() -> None:
    outputs = Outputs(np.array([[0.0, math.log(3.0)]]), None, several=True)
    assert outputs.probabilities()[0].tolist() == pytest.approx([0.5, 0.75])
