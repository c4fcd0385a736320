"""Several models that answer as one: how their probabilities become one. Pure functions on arrays.

Shapes: M models, N rows, C labels.
"""

from __future__ import annotations

from collections.abc import Callable

import numpy as np

from mmapp.errors import SettingsError

SURE = 1e-6  # no vote makes an answer quite certain, so that its logarithm stays finite


def mean(probabilities: np.ndarray, weights: np.ndarray) -> np.ndarray:
    """[M,N,C] -> [N,C]: the weighted mean of what the models say."""
    return np.einsum("m,mnc->nc", weights / weights.sum(), probabilities)


def vote(probabilities: np.ndarray, weights: np.ndarray) -> np.ndarray:
    """[M,N,C] -> [N,C]: the share of the models whose most probable label it is.

    A tie goes to the label that the models together find more probable.
    """
    chosen = np.eye(probabilities.shape[-1])[probabilities.argmax(axis=-1)]
    ballots = mean(chosen, weights) + SURE * mean(probabilities, weights)
    return ballots / ballots.sum(axis=-1, keepdims=True)


# What the members' probabilities are put together by; weighted and greedy are means whose weights
# were chosen on validation pairs when the ensemble was made.
STRATEGIES: dict[str, Callable[[np.ndarray, np.ndarray], np.ndarray]] = {
    "mean": mean,
    "weighted": mean,
    "vote": vote,
    "greedy": mean,
}


def combine(probabilities: np.ndarray, weights: np.ndarray, strategy: str) -> np.ndarray:
    """[M,N,C] -> [N,C] by a strategy of STRATEGIES. Raises SettingsError."""
    if strategy not in STRATEGIES:
        known = ", ".join(STRATEGIES)
        raise SettingsError(f"There is no strategy {strategy!r}. Expected one of {known}.")
    return STRATEGIES[strategy](probabilities, weights)


def greedy_weights(
    probabilities: np.ndarray, score: Callable[[np.ndarray], float], rounds: int = 20
) -> np.ndarray:
    """How often each model is taken when the one that helps most is added again and again.

    Args:
        probabilities: [M,N,C] on validation rows.
        score: of the mean [N,C] of those taken so far; more is better.
        rounds: how many are taken; the best prefix counts.

    Returns:
        [M] counts, at least one above zero.

    Caruana et al., "Ensemble Selection from Libraries of Models", ICML 2004.
    """
    taken = np.zeros(len(probabilities))
    best, best_score = taken, -np.inf
    for _ in range(rounds):
        tried = [taken + one for one in np.eye(len(probabilities))]
        scores = [score(mean(probabilities, counts)) for counts in tried]
        taken = tried[int(np.argmax(scores))]
        if max(scores) > best_score + 1e-12:
            best, best_score = taken, max(scores)
    return best
