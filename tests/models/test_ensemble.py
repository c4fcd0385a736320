"""Ways to make one answer of several, by hand."""

from __future__ import annotations

import numpy as np
import pytest

from mmapp.errors import SettingsError
from mmapp.models.ensemble import STRATEGIES, combine, greedy_weights

# Three models, one row, two labels: two lean a little to the first, one is sure of the second.
SAID = np.array([[[0.6, 0.4]], [[0.6, 0.4]], [[0.0, 1.0]]])


@pytest.mark.parametrize(
    ("strategy", "weights", "expected"),
    [
        ("mean", [1, 1, 1], [0.4, 0.6]),
        ("weighted", [1, 0, 1], [0.3, 0.7]),
        ("vote", [1, 1, 1], [2 / 3, 1 / 3]),
        ("vote", [1, 1, 3], [0.4, 0.6]),
        ("greedy", [2, 0, 1], [0.4, 0.6]),
    ],
)
def test_what_several_say_becomes_one(
    strategy: str, weights: list[float], expected: list[float]
) -> None:
    together = combine(SAID, np.array(weights), strategy)
    assert together[0].tolist() == pytest.approx(expected, abs=1e-5)


def test_a_tied_vote_goes_to_what_is_more_probable_together() -> None:
    tied = combine(SAID[1:], np.ones(2), "vote")
    assert tied.argmax() == 1
    assert tied[0].tolist() == pytest.approx([0.5, 0.5], abs=1e-5)


@pytest.mark.parametrize("strategy", STRATEGIES)
def test_together_they_still_sum_to_one(strategy: str) -> None:
    said = np.random.default_rng(0).dirichlet(np.ones(4), size=(3, 10))
    assert combine(said, np.array([1.0, 2.0, 0.5]), strategy).sum(axis=-1) == pytest.approx(1.0)


def test_greedy_leaves_out_a_model_that_only_harms() -> None:
    truth = np.eye(2)[np.random.default_rng(1).integers(2, size=200)]
    first_half = (np.arange(200) < 100)[:, None]
    right = np.stack([np.where(first_half, 0.9, 0.3), np.where(first_half, 0.3, 0.9)])
    said = np.concatenate([right, np.full((1, 200, 1), 0.1)])  # probability of the truth
    said = np.where(truth > 0, said, 1 - said)

    def score(together: np.ndarray) -> float:
        return float(np.log((together * truth).sum(axis=-1)).mean())

    weights = greedy_weights(said, score)

    assert weights[2] == 0
    assert (weights[:2] > 0).all()
    assert score(combine(said, weights, "greedy")) > max(score(one) for one in said)


def test_an_unknown_strategy_is_told_with_the_known_ones() -> None:
    with pytest.raises(SettingsError, match="no strategy 'median'. Expected one of mean, weighted"):
        combine(SAID, np.ones(3), "median")
