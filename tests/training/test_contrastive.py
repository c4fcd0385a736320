"""InfoNCE against numbers worked out by hand; what must not be told apart is not."""

from __future__ import annotations

import math

import numpy as np
import pytest
import torch

from mmapp.data.loading import Asked
from mmapp.data.pairs import PairTable
from mmapp.errors import TrainingError
from mmapp.models.fusion import FUSIONS
from mmapp.settings import NOT_APART, TrainSettings
from mmapp.training.contrastive import info_nce, make_contrastive_term
from mmapp.training.loop import train
from mmapp.training.prepare import prepare

CPU = torch.device("cpu")
SCALE = torch.tensor([math.log(2.0)])  # a cosine c counts 2 ** c

# Cosines of each text (a row) with each image (a column): the images are the axes.
COSINES = torch.tensor([[1.0, 0.0, 0.0], [0.6, 0.8, 0.0], [0.0, 0.0, -1.0]])
APART = torch.tensor([[0, 0], [1, 1], [2, 2]])
ALL = torch.ones(3, dtype=torch.bool)


def joint(cosines: torch.Tensor = COSINES) -> torch.Tensor:
    return torch.stack([cosines, torch.eye(3)], dim=1)


def cross_entropy(own: float, *others: float) -> float:
    return -math.log(2**own / sum(2**cosine for cosine in (own, *others)))


def terms(halves: torch.Tensor = APART, belong: torch.Tensor = ALL) -> list[float]:
    return info_nce(joint(), SCALE, halves, belong).tolist()


def test_three_pairs_by_hand() -> None:
    """Of each row the mean of its text among the images and its image among the texts."""
    expected = [
        (cross_entropy(1.0, 0.0, 0.0) + cross_entropy(1.0, 0.6, 0.0)) / 2,
        (cross_entropy(0.8, 0.6, 0.0) + cross_entropy(0.8, 0.0, 0.0)) / 2,
        (cross_entropy(-1.0, 0.0, 0.0) + cross_entropy(-1.0, 0.0, 0.0)) / 2,
    ]
    assert terms() == pytest.approx(expected)


def test_rows_of_the_same_text_are_not_told_apart() -> None:
    """Rows 0 and 1 say the same: each other's image is no wrong one, nor is either text of an image."""
    found = terms(halves=torch.tensor([[7, 0], [7, 1], [2, 2]]))
    expected = [
        (cross_entropy(1.0, 0.0) + cross_entropy(1.0, 0.0)) / 2,
        (cross_entropy(0.8, 0.0) + cross_entropy(0.8, 0.0)) / 2,
    ]
    assert found == pytest.approx([*expected, terms()[2]])


def test_rows_of_the_same_image_are_not_told_apart() -> None:
    found = terms(halves=torch.tensor([[0, 7], [1, 7], [2, 2]]))
    assert found == pytest.approx(terms(halves=torch.tensor([[7, 0], [7, 1], [2, 2]])))


def test_what_a_third_row_shows_to_be_true_is_no_wrong_choice() -> None:
    """Text 0 with image 0, text 1 with image 1; row 2 has text 0 with image 1."""
    found = terms(halves=torch.tensor([[0, 0], [1, 1], [0, 1]]))
    assert found[0] == pytest.approx(cross_entropy(1.0, 0.6) / 2)  # image 0 with text 1 alone


def test_a_mismatch_has_no_term_and_makes_no_partners() -> None:
    belong = torch.tensor([True, False, True])

    found = terms(belong=belong)
    of_the_same_text = terms(halves=torch.tensor([[7, 0], [7, 1], [2, 2]]), belong=belong)

    assert found == pytest.approx([terms()[0], 0.0, terms()[2]])
    # image 1 stands beside the same text and is a wrong one; text 1 is text 0, and a right one
    assert of_the_same_text[0] == pytest.approx(
        (cross_entropy(1.0, 0.0, 0.0) + cross_entropy(1.0, 0.0)) / 2
    )


def test_a_row_without_one_half_has_no_term_and_offers_only_the_other() -> None:
    half = joint()
    half[1, 1] = 0  # no image

    found = info_nce(half, SCALE, torch.tensor([[0, 0], [1, -1], [2, 2]]), ALL).tolist()

    expected = (cross_entropy(1.0, 0.0) + cross_entropy(1.0, 0.6, 0.0)) / 2
    assert found == pytest.approx([expected, 0.0, found[2]])


def test_absent_halves_are_not_the_same_half() -> None:
    found = terms(halves=torch.tensor([[-1, 0], [-1, 1], [2, 2]]))
    assert found[2] == pytest.approx(terms()[2])
    assert found[1] == pytest.approx(terms()[1])


def test_the_order_of_the_rows_does_not_matter() -> None:
    rows = torch.randn(12, 2, 5)
    halves = torch.randint(6, (12, 2))
    belong = torch.rand(12) > 0.3
    order = torch.randperm(12)

    found = info_nce(rows[order], SCALE, halves[order], belong[order])

    torch.testing.assert_close(found, info_nce(rows, SCALE, halves, belong)[order])


def test_gradients_are_finite_where_nothing_can_be_compared() -> None:
    rows = torch.zeros(3, 2, 4, requires_grad=True)
    info_nce(rows, SCALE, torch.full((3, 2), -1), ALL).sum().backward()
    assert rows.grad is not None
    assert torch.equal(rows.grad, torch.zeros(3, 2, 4))


def test_a_step_down_the_term_brings_halves_together_and_others_apart() -> None:
    rows = torch.nn.functional.normalize(torch.randn(8, 2, 5), dim=-1).requires_grad_()
    halves = torch.arange(8).unsqueeze(1).expand(8, 2)
    info_nce(rows, SCALE, halves, torch.ones(8, dtype=torch.bool)).mean().backward()
    assert rows.grad is not None

    def gap(joint: torch.Tensor) -> torch.Tensor:
        cosines = joint[:, 0] @ joint[:, 1].T
        return cosines.diagonal().mean() - cosines.mean()

    assert gap((rows - rows.grad).detach()) > gap(rows.detach())


def test_the_training_loss_counts_the_term(small_pairs: PairTable, quick: TrainSettings) -> None:
    """Of an untrained model (a step size of nothing) once with the term and twice with half of it."""

    def loss(alignment: float) -> float:
        settings = quick.replace(
            alignment=alignment, learning_rate=0.0, dropout=0.0, modality_dropout=0.0, epochs=1
        )
        prepared = prepare(small_pairs, settings)
        prepared.model.text_encoder.backbone.config.hidden_dropout_prob = 0.0
        for module in prepared.model.modules():
            if isinstance(module, torch.nn.Dropout):
                module.p = 0.0
        events = list(train(prepared.model, prepared.loaders, settings))
        return next(e.values["train_loss"] for e in events if e.kind == "evaluated")

    one, two, three = loss(1.0), loss(2.0), loss(3.0)
    assert one > 1.5  # the task's own is log 3 at first
    assert two - one == pytest.approx(three - two, rel=1e-4)


def test_nothing_to_compare_is_told(gappy_pairs: PairTable, quick: TrainSettings) -> None:
    settings = quick.replace(alignment=2.0)
    rows = prepare(gappy_pairs, settings).loaders.train.dataset
    rows.halves = np.where(np.arange(len(rows.halves))[:, None] > 0, [[-1, 3]], [[0, 0]])
    with pytest.raises(TrainingError) as told:
        make_contrastive_term(settings, rows, "classify", CPU)
    assert str(told.value) == (
        "Alignment 2 compares pairs that have both a text and an image, and 1 training pairs have. Add "
        "such pairs, or set alignment to 0."
    )


def test_of_the_task_match_only_matches_are_compared(
    small_pairs: PairTable, quick: TrainSettings
) -> None:
    settings = quick.replace(alignment=1.0)
    rows = prepare(small_pairs, settings).loaders.train.dataset
    rows.asked = Asked([i % 2 for i in range(len(rows))])
    term = make_contrastive_term(settings, rows, "match", CPU)
    assert term is not None
    assert term.belong.int().tolist() == rows.labels


def test_the_fusions_without_halves_apart_are_those_that_are_refused() -> None:
    blind = {name for name, kind in FUSIONS.items() if kind.image_words or len(kind.reads) < 2}
    assert set(NOT_APART) == blind
