"""The report of hand-made outputs, number by number."""

from __future__ import annotations

import json
import math

import numpy as np
import pytest

from mmapp.evaluation.metrics import METRICS, bootstrap
from mmapp.evaluation.outputs import Outputs
from mmapp.evaluation.report import make_report

NAMES = ["cat", "dog"]
# Probabilities of dog: 1/4, 1/4, 3/4, 3/4, 1/4; the last two are mistakes.
THIRD = math.log(3)
OUTPUTS = Outputs(
    logits=np.array([[THIRD, 0], [THIRD, 0], [0, THIRD], [0, THIRD], [THIRD, 0]], np.float32),
    labels=np.array([0, 0, 1, 0, 1]),
)


def test_a_report_by_hand() -> None:
    report = make_report(OUTPUTS, NAMES, "test")

    assert (report["n"], report["split"]) == (5, "test")
    assert report["accuracy"] == pytest.approx(3 / 5)
    assert report["macro_f1"] == pytest.approx((2 / 3 + 1 / 2) / 2)
    assert report["log_loss"] == pytest.approx(-(3 * math.log(3 / 4) + 2 * math.log(1 / 4)) / 5)
    assert report["confusion"] == {"labels": NAMES, "counts": [[2, 1], [1, 1]]}
    assert [row["support"] for row in report["per_class"]] == [3, 2]
    assert report.keys() >= METRICS.keys()


def test_the_first_baseline_always_says_the_most_frequent_label() -> None:
    majority = make_report(OUTPUTS, NAMES, "test")["majority"]

    # Three cats of five; F1 of cat 2·3/(3 + 5), of dog 0.
    assert majority["label"] == "cat"
    assert majority["accuracy"] == pytest.approx(3 / 5)
    assert majority["macro_f1"] == pytest.approx((6 / 8 + 0) / 2)


def test_headline_numbers_have_their_bootstrap_interval() -> None:
    report = make_report(OUTPUTS, NAMES, "test")

    for name, interval in report["intervals"].items():
        by_hand = bootstrap(OUTPUTS.labels, OUTPUTS.probabilities(), METRICS[name])
        assert interval == list(by_hand)
        assert interval[0] < report[name] < interval[1]
    assert {"accuracy", "macro_f1"} <= report["intervals"].keys()


def test_a_report_is_plain_json() -> None:
    report = make_report(OUTPUTS, NAMES, "test")

    assert json.loads(json.dumps(report, allow_nan=False)) == report


@pytest.mark.parametrize(
    "outputs",
    [
        Outputs(np.zeros((0, 0), np.float32), None),  # what `collect` gives of no rows
        Outputs(np.zeros((0, 2), np.float32), np.zeros(0, np.int64)),
        Outputs(np.zeros((3, 2), np.float32), None),
    ],
    ids=["no rows", "no rows but labels", "no labels"],
)
def test_where_there_is_nothing_to_score_the_report_says_so(outputs: Outputs) -> None:
    assert make_report(outputs, NAMES, "test") == {"n": 0, "split": "test"}


def test_a_class_that_the_split_lacks_has_a_row_all_the_same() -> None:
    outputs = Outputs(np.array([[2.0, 0, 0], [0, 2.0, 0]], np.float32), np.array([0, 1]))

    report = make_report(outputs, ["cat", "dog", "eel"], "test")

    assert [row["label"] for row in report["per_class"]] == ["cat", "dog", "eel"]
    assert report["per_class"][2]["support"] == 0
    assert report["confusion"]["counts"][2] == [0, 0, 0]
