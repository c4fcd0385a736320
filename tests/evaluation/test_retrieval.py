"""Recall by hand, by brute force and by chance."""

from __future__ import annotations

import itertools

import numpy as np
import pytest

from mmapp.evaluation import retrieval as module
from mmapp.evaluation.outputs import Outputs
from mmapp.evaluation.retrieval import recall, retrieval, retrieval_report


def on_circle(degrees: list[float]) -> np.ndarray:
    angles = np.deg2rad(degrees)
    return np.stack([np.cos(angles), np.sin(angles)], axis=1)


def test_four_pairs_by_hand() -> None:
    """Texts at 0, 30, 90, 180 degrees, their images at 10, 80, 70, 170: text 1 is nearest to image 0,
    text 2 to image 1; image 1 is nearest to text 2, image 2 too."""
    joint = np.stack([on_circle([0, 30, 90, 180]), on_circle([10, 80, 70, 170])], axis=1)
    halves = np.repeat(np.arange(4)[:, None], 2, axis=1)

    found = retrieval(joint, halves, np.ones(4, bool))

    assert found["pairs"] == 4
    assert found["text_to_image"]["recall@1"] == 0.5
    assert found["image_to_text"]["recall@1"] == 0.75
    assert found["text_to_image"]["recall@5"] == found["text_to_image"]["chance@5"] == 1.0
    assert found["text_to_image"]["chance@1"] == 0.25
    low, high = found["image_to_text"]["interval"]
    assert 0 <= low < 0.75 < high <= 1


def test_any_true_partner_counts_and_everybody_asks_once() -> None:
    """Text 0 stands with images 0 and 1, and asks once; it is nearest to image 1."""
    joint = np.stack([on_circle([0, 0, 90]), on_circle([60, 5, 85])], axis=1)
    found = retrieval(joint, np.array([[0, 0], [0, 1], [1, 2]]), np.ones(3, bool))
    asked = found["text_to_image"]
    assert (found["pairs"], asked["asked"], asked["candidates"]) == (3, 2, 3)
    assert asked["recall@1"] == 1.0
    assert asked["chance@1"] == pytest.approx((2 / 3 + 1 / 3) / 2)


def test_mismatches_and_single_halves_do_not_count() -> None:
    joint = np.stack([on_circle([0, 90, 45, 45]), on_circle([5, 85, 45, 45])], axis=1)
    joint[3, 0] = 0
    halves = np.array([[0, 0], [1, 1], [2, 2], [-1, 3]])

    found = retrieval(joint, halves, np.array([True, True, False, True]))

    assert (found["pairs"], found["image_to_text"]["candidates"]) == (2, 2)
    assert retrieval(joint, halves, np.zeros(4, bool)) == {"pairs": 0}


def test_a_model_that_finds_all_alike_finds_nothing() -> None:
    same = np.ones((7, 2, 3))
    halves = np.repeat(np.arange(7)[:, None], 2, axis=1)
    found = retrieval(same, halves, np.ones(7, bool))["text_to_image"]
    assert (found["recall@1"], found["recall@5"]) == (0.0, 0.0)


@pytest.mark.parametrize("at_once", [3, 1024])
def test_recall_is_what_sorting_gives(at_once: int, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(module, "AT_ONCE", at_once)
    rng = np.random.default_rng(0)
    asking, candidates = rng.normal(size=(8, 3)), rng.normal(size=(11, 3))
    own = np.repeat(np.arange(8)[:, None], 2, axis=1)
    pairs = np.unique(np.concatenate([own, rng.integers(8, size=(9, 2))]), axis=0)

    found = recall(asking, candidates, pairs)

    for depth in (1, 5):
        ranked = [np.argsort(-(candidates @ one))[:depth] for one in asking]
        hits = [set(own) & set(pairs[pairs[:, 0] == q, 1]) for q, own in enumerate(ranked)]
        assert found[f"recall@{depth}"] == np.mean([bool(hit) for hit in hits])


def test_chance_is_what_all_orders_give() -> None:
    pairs = np.array([[0, 0], [0, 3], [1, 1]])
    found = recall(np.eye(2, 4), np.eye(7, 4), pairs)
    for depth in (1, 5):
        drawn = list(itertools.combinations(range(7), depth))
        share = np.mean([[0 in some or 3 in some, 1 in some] for some in drawn])
        assert found[f"chance@{depth}"] == pytest.approx(share)


def test_a_report_has_no_retrieval_where_nothing_was_aligned() -> None:
    outputs = Outputs(np.zeros((2, 2)), np.array([0, 1]))
    assert retrieval_report(outputs, np.zeros((2, 2), int), "classify") == {}


def test_of_the_task_match_the_report_counts_the_matches() -> None:
    outputs = Outputs(np.zeros((3, 2)), np.array([1, 0, 1]), joint=np.ones((3, 2, 2)))
    halves = np.array([[0, 0], [1, 1], [2, 2]])
    assert retrieval_report(outputs, halves, "match")["retrieval"]["pairs"] == 2
    assert retrieval_report(outputs, halves, "classify")["retrieval"]["pairs"] == 3
