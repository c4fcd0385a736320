"""The tasks' losses and probabilities against numbers worked out by hand."""

from __future__ import annotations

import math

import pytest
import torch

from mmapp.models.encoders import Encoding
from mmapp.models.heads import TASKS, ClassifyHead, MatchHead, MultilabelHead, TagHead

# Softmax: (3/4, 1/4) and (1/8, 7/8).
LOGITS = torch.tensor([[math.log(3), 0.0], [0.0, math.log(7)]])


ONE_OF_N = [task for task, head in TASKS.items() if not head.several and not head.of_words]


@pytest.mark.parametrize("task", ONE_OF_N)
def test_probabilities_of_a_row_sum_to_one(task: str) -> None:
    torch.testing.assert_close(
        TASKS[task].probabilities(LOGITS), torch.tensor([[3 / 4, 1 / 4], [1 / 8, 7 / 8]])
    )


@pytest.mark.parametrize("task", ONE_OF_N)
def test_the_loss_of_each_row_is_minus_the_log_of_the_labels_probability(task: str) -> None:
    losses = TASKS[task].losses(LOGITS, torch.tensor([1, 1]))

    torch.testing.assert_close(losses, torch.tensor([math.log(4), math.log(8 / 7)]))


@pytest.mark.parametrize("dtype", [torch.bfloat16, torch.float16])
def test_losses_and_probabilities_are_computed_in_single_precision(dtype: torch.dtype) -> None:
    logits = torch.tensor([[10.0, 0.0]], dtype=dtype)

    loss = ClassifyHead.losses(logits, torch.tensor([0]))

    # log(1 + e⁻¹⁰) = 4.54e-5; half precision would lose it beside the ten.
    assert float(loss) == pytest.approx(math.log1p(math.exp(-10)), rel=1e-3)
    assert ClassifyHead.probabilities(logits).dtype == torch.float32


def test_logits_are_a_linear_layer_on_the_fused_whole() -> None:
    head = ClassifyHead(width=2, labels=3, dropout=0.5).eval()
    with torch.no_grad():
        head.out.weight.copy_(torch.tensor([[1.0, 0.0], [0.0, 1.0], [1.0, 1.0]]))
        head.out.bias.copy_(torch.tensor([0.0, 10.0, 100.0]))
    fused = Encoding(torch.tensor([[2.0, 3.0]]), torch.zeros(1, 1, 2), torch.ones(1, 1).bool())

    assert head(fused).tolist() == [[2, 13, 105]]


@torch.no_grad()
def test_dropout_hides_fused_numbers_while_training_only() -> None:
    head = ClassifyHead(width=1000, labels=1, dropout=0.5)
    head.out.weight.fill_(1.0)
    head.out.bias.zero_()
    fused = Encoding(torch.ones(1, 1000), torch.zeros(1, 1, 1000), torch.ones(1, 1).bool())

    # What is kept counts double: 1000 on average, and exactly 1000 when nothing is hidden.
    shown = float(head.train()(fused))
    assert shown != 1000
    assert 850 < shown < 1150
    assert float(head.eval()(fused)) == 1000


def test_match_has_the_two_labels_of_a_classifier() -> None:
    assert issubclass(MatchHead, ClassifyHead)
    assert ONE_OF_N == ["classify", "match"]


@torch.no_grad()
def test_words_are_told_from_their_first_pieces() -> None:
    head = TagHead(width=1, labels=2, dropout=0.0).eval()
    head.out.weight.copy_(torch.tensor([[1.0], [-1.0]]))
    head.out.bias.zero_()
    tokens = torch.tensor([[[1.0], [2.0], [3.0]], [[4.0], [5.0], [6.0]]])
    fused = Encoding(torch.zeros(2, 1), tokens, torch.ones(2, 3).bool())

    logits = head(fused, torch.tensor([[0, 2], [1, -1]]))

    assert logits[..., 0].tolist() == [[1, 3], [5, 4]]  # the last is no word, whatever it says
    assert head(fused)[..., 0].tolist() == [[1, 2, 3], [4, 5, 6]]
    one = Encoding(torch.zeros(1, 1), tokens[:1, :1], torch.ones(1, 1).bool())
    assert head(one, torch.tensor([[0, 1, 2]]))[..., 0].tolist() == [[1, 1, 1]]


def test_the_loss_of_a_tagged_row_is_the_mean_over_its_words() -> None:
    logits = torch.stack([LOGITS, LOGITS])

    losses = TagHead.losses(logits, torch.tensor([[1, 1], [1, -100]]))

    expected = [(math.log(4) + math.log(8 / 7)) / 2, math.log(4)]
    torch.testing.assert_close(losses, torch.tensor(expected))


def test_several_labels_are_questions_each_on_its_own() -> None:
    """Odds of three to one for the first label: right of the first row, wrong of the second."""
    logits = torch.tensor([[math.log(3), 0.0], [math.log(3), 0.0]])
    labels = torch.tensor([[1.0, 0.0], [0.0, 0.0]])

    losses = MultilabelHead.losses(logits, labels)

    expected = [(math.log(4 / 3) + math.log(2)) / 2, (math.log(4) + math.log(2)) / 2]
    torch.testing.assert_close(losses, torch.tensor(expected))
    torch.testing.assert_close(
        MultilabelHead.probabilities(logits[:1]), torch.tensor([[3 / 4, 1 / 2]])
    )
