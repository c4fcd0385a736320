"""ROC-AUC and average precision by hand and against scikit-learn; what cannot be ranked is left out."""

from __future__ import annotations

import json

import numpy as np
import pytest
from sklearn import metrics as sk

from mmapp.evaluation.outputs import Outputs
from mmapp.evaluation.ranking import ranking
from mmapp.evaluation.report import make_report


def test_four_rows_by_hand() -> None:
    yes = np.array([0.9, 0.8, 0.4, 0.1])
    found = ranking(np.array([[1], [0], [1], [0]]), yes[:, None])
    assert found["roc_auc"] == pytest.approx(3 / 4)  # only 0.4 against 0.8 is the wrong way round
    assert found["average_precision"] == pytest.approx((1 / 1 + 2 / 3) / 2)


def test_every_class_against_the_rest_is_scikit_learns() -> None:
    rng = np.random.default_rng(6)
    probabilities = rng.dirichlet(np.ones(4), size=50)
    labels = rng.integers(4, size=50)
    found = ranking(labels, probabilities)
    area = sk.roc_auc_score(labels, probabilities, multi_class="ovr", average="macro")
    assert found["roc_auc"] == pytest.approx(area)
    assert found["average_precision"] == pytest.approx(
        sk.average_precision_score(np.eye(4, dtype=int)[labels], probabilities, average="macro")
    )


def test_a_class_that_no_row_has_is_left_out() -> None:
    rng = np.random.default_rng(7)
    probabilities = rng.dirichlet(np.ones(3), size=20)
    labels = 2 * rng.integers(2, size=20)
    areas = [sk.roc_auc_score(labels == c, probabilities[:, c]) for c in (0, 2)]
    assert ranking(labels, probabilities)["roc_auc"] == pytest.approx(np.mean(areas))


def test_where_nothing_can_be_ranked_the_report_has_no_such_figure() -> None:
    report = make_report(Outputs(np.zeros((3, 2)), np.zeros(3, int)), ["a", "b"], "test")
    assert not {"roc_auc", "average_precision"} & report.keys()
    assert json.loads(json.dumps(report, allow_nan=False)) == report
