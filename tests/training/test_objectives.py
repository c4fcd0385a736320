"""Losses against numbers worked out by hand and against each other; weights against duplicates."""

from __future__ import annotations

import math

import pytest
import torch
import torch.nn.functional as F

from mmapp.errors import SettingsError
from mmapp.settings import TrainSettings
from mmapp.training.objectives import LOSSES, Objective, balanced

CPU = torch.device("cpu")
LOGITS = torch.tensor([[0.0, math.log(3.0)], [math.log(3.0), 0.0]])  # probabilities 1/4 and 3/4
LABELS = torch.tensor([1, 1])


def losses(**changes: object) -> list[float]:
    objective = Objective(TrainSettings(**changes), [1, 1], CPU)
    return objective(LOGITS, LABELS).tolist()


@pytest.mark.parametrize(
    ("changes", "expected"),
    [
        ({}, [-math.log(3 / 4), -math.log(1 / 4)]),
        ({"loss": "cross-entropy"}, [-math.log(3 / 4), -math.log(1 / 4)]),
        # a tenth of the weight on each label, on top of the label's own eight tenths
        (
            {"label_smoothing": 0.2},
            [
                -0.9 * math.log(3 / 4) - 0.1 * math.log(1 / 4),
                -0.9 * math.log(1 / 4) - 0.1 * math.log(3 / 4),
            ],
        ),
        # (1 - p)² times cross-entropy
        ({"loss": "focal"}, [-math.log(3 / 4) / 16, -math.log(1 / 4) * 9 / 16]),
        # the second label leads by log 3, or trails by it
        ({"loss": "logistic"}, [math.log(1 + 1 / 3), math.log(1 + 3)]),
        # two questions a row: is it label 0 (a no is right), is it label 1 (a yes is right)
        (
            {"loss": "binary"},
            [
                (math.log(2) + math.log(1 + 1 / 3)) / 2,
                (math.log(1 + 3) + math.log(2)) / 2,
            ],
        ),
    ],
)
def test_a_loss_is_what_its_formula_says(
    changes: dict[str, object], expected: list[float]
) -> None:
    assert losses(**changes) == pytest.approx(expected, rel=1e-5)


def test_focal_without_gamma_is_cross_entropy() -> None:
    assert losses(loss="focal", focal_gamma=0.0) == pytest.approx(losses(loss="cross-entropy"))


def test_two_labels_and_the_logistic_loss_are_cross_entropy_in_other_clothes() -> None:
    assert losses(loss="logistic") == pytest.approx(losses(loss="cross-entropy"))


@pytest.mark.parametrize("loss", LOSSES)
def test_every_loss_falls_when_the_label_becomes_more_probable(loss: str) -> None:
    objective = Objective(TrainSettings(loss=loss), [1, 1], CPU)
    ladder = torch.stack([torch.zeros(5), torch.linspace(-2, 2, 5)], dim=1)

    found = objective(ladder, torch.ones(5, dtype=torch.long))

    assert (found.diff() < 0).all()


def test_balanced_weights_count_as_duplicating_the_rare_rows_would() -> None:
    """Three rows of label 0 and one of label 1 against the same with label 1 three times."""
    logits = torch.tensor([[2.0, 0.0], [1.0, 0.5], [0.0, 1.0], [0.3, 0.2]], requires_grad=True)
    labels = torch.tensor([0, 0, 0, 1])
    weighted = Objective(TrainSettings(class_weights="balanced"), [3, 1], CPU)
    weighted(logits, labels).mean().backward()
    assert logits.grad is not None
    found, logits.grad = logits.grad, None

    repeated = torch.tensor([0, 1, 2, 3, 3, 3])
    F.cross_entropy(logits[repeated], labels[repeated]).backward()

    torch.testing.assert_close(found, logits.grad)


def test_balanced_weights_by_hand() -> None:
    assert balanced([3, 1]).tolist() == pytest.approx([4 / 6, 4 / 2])
    assert balanced([2, 0, 2]).tolist() == pytest.approx([1.0, 0.0, 1.0])


def test_the_logistic_loss_wants_two_labels() -> None:
    with pytest.raises(SettingsError, match="wants two labels.*there are 3.*Choose auto"):
        Objective(TrainSettings(loss="logistic"), [1, 1, 1], CPU)


def test_an_unknown_loss_is_told_with_the_known_ones() -> None:
    with pytest.raises(SettingsError, match="no loss 'hinge' here. Expected one of auto, cross-"):
        Objective(TrainSettings(loss="hinge"), [1, 1], CPU)


def test_class_weights_find_the_rare_label_that_plain_training_ignores() -> None:
    """One row in thirty, told apart by less than a row's own noise."""

    def minority_recall(class_weights: str) -> float:
        torch.manual_seed(0)
        rare = torch.arange(3000) % 30 == 0
        inputs = torch.randn(3000, 2)
        inputs[rare, 0] += 1.5
        labels = rare.long()
        counts = torch.bincount(labels).tolist()
        objective = Objective(TrainSettings(class_weights=class_weights), counts, CPU)
        model = torch.nn.Linear(2, 2)
        optimizer = torch.optim.Adam(model.parameters(), lr=0.05)
        for _ in range(200):
            optimizer.zero_grad()
            objective(model(inputs), labels).mean().backward()
            optimizer.step()
        return float((model(inputs).argmax(dim=1)[rare] == 1).float().mean())

    assert minority_recall("none") < 0.2
    assert minority_recall("balanced") > 0.6
