"""What each fusion can learn and what it cannot: whether word and colour agree, which half tells."""

from __future__ import annotations

from collections.abc import Callable
from functools import partial

import pytest
import torch
import torch.nn.functional as F
from torch import nn
from transformers import BertConfig

from mmapp.models.configuration import FusionConfig
from mmapp.models.encoders import Encoding
from mmapp.models.fusion import FUSIONS, Weighted
from mmapp.models.model import FusionModel
from mmapp.models.scratch import SmallCnnConfig

KINDS = 4  # of words, and of colours
WIDTH = 16
CAN = {"gated", "bilinear", "attention", "early"}
CANNOT = {"concat", "sum", "weighted", "late", "text-only", "image-only"}
COLOURS = torch.tensor([[1.0, -1.0, -1.0], [-1.0, 1.0, -1.0], [-1.0, -1.0, 1.0], [1.0, 1.0, -1.0]])

Drawn = tuple[torch.Tensor, torch.Tensor, torch.Tensor]


def agreeing(count: int, kinds: int = KINDS) -> Drawn:
    """words [B], colours [B], whether they agree [B]; as many agree as not, each half at chance."""
    words = torch.arange(count) % kinds
    agree = torch.arange(count) // kinds % 2
    other = (words + torch.randint(1, kinds, (count,))) % kinds
    return words, torch.where(agree.bool(), words, other), agree


def told_by(modality: str, count: int) -> Drawn:
    """words [B], colours [B] and a label that one of them alone tells."""
    words, colours = torch.randint(KINDS, (2, count))
    return words, colours, (words if modality == "text" else colours) % 2


def encoding(kinds: torch.Tensor, meanings: torch.Tensor, length: int) -> Encoding:
    """A noisy vector of each kind as the whole, and as one of `length` tokens; the others are noise."""
    noise = 0.1 * torch.randn(len(kinds), 1 + length, WIDTH)
    noise[:, :2] += meanings[kinds].unsqueeze(1)
    return Encoding(noise[:, 0], noise[:, 1:], torch.ones(len(kinds), length, dtype=torch.bool))


class Pair(nn.Module):
    """A fusion of encodings that are given, and a linear head: KINDS words and KINDS colours."""

    def __init__(self, fusion: str) -> None:
        super().__init__()
        self.fusion = FUSIONS[fusion](WIDTH)
        self.head = nn.Linear(WIDTH, 2)
        self.meanings = torch.randn(2, KINDS, WIDTH)

    def forward(self, words: torch.Tensor, colours: torch.Tensor) -> torch.Tensor:
        text = encoding(words, self.meanings[0], length=3)
        image = encoding(colours, self.meanings[1], length=4)
        return self.head(self.fusion(text, image).pooled)


class Whole(nn.Module):
    """A whole small FusionModel on ids and pixels. The word stands among others, at any place."""

    def __init__(self, fusion: str) -> None:
        super().__init__()
        text = BertConfig(
            vocab_size=20,
            hidden_size=32,
            num_hidden_layers=1,
            num_attention_heads=2,
            intermediate_size=64,
            max_position_embeddings=16,
            hidden_dropout_prob=0.0,
            attention_probs_dropout_prob=0.0,
        )
        config = FusionConfig(
            text_config=text,
            image_config=SmallCnnConfig(channels=(8, 16)),
            fusion=fusion,
            text_width=32,
            image_width=16,
            width=WIDTH,
            num_labels=2,
            dropout=0.0,
        )
        self.model = FusionModel(config)

    def forward(self, words: torch.Tensor, colours: torch.Tensor) -> torch.Tensor:
        ids = torch.randint(10, 20, (len(words), 5))
        ids.scatter_(1, torch.randint(1, 5, (len(words), 1)), words.unsqueeze(1) + 5)
        pixels = COLOURS[colours, :, None, None] + 0.3 * torch.randn(len(words), 3, 32, 32)
        mask = torch.ones_like(ids)
        return self.model(input_ids=ids, attention_mask=mask, pixel_values=pixels).logits


def learn(
    model: nn.Module, draw: Callable[[int], Drawn], steps: int, rate: float, batch: int
) -> float:
    """Adam on fresh pairs at every step; gives the accuracy on pairs that were never seen."""
    optimizer = torch.optim.Adam(model.parameters(), lr=rate)
    for _ in range(steps):
        words, colours, labels = draw(batch)
        loss = F.cross_entropy(model(words, colours), labels)
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
    words, colours, labels = draw(512)
    with torch.no_grad():
        return float((model(words, colours).argmax(dim=1) == labels).float().mean())


@pytest.mark.parametrize("name", sorted(CAN - {"early"}))
def test_these_learn_whether_word_and_colour_agree(name: str) -> None:
    assert learn(Pair(name), agreeing, 200, 1e-2, 64) > 0.95


@pytest.mark.parametrize("name", sorted(CANNOT))
def test_a_sum_of_what_each_half_says_stays_at_chance(name: str) -> None:
    assert learn(Pair(name), agreeing, 200, 1e-2, 64) < 0.65


@pytest.mark.parametrize("name", ["concat", "sum", "weighted", "late"])
@pytest.mark.parametrize("modality", ["text", "image"])
def test_a_sum_learns_what_either_half_tells_by_itself(name: str, modality: str) -> None:
    """So it was agreement, and not the training, that kept them at chance."""
    assert learn(Pair(name), partial(told_by, modality), 200, 1e-2, 64) > 0.95


def test_early_learns_agreement_though_nothing_but_the_text_encoder_joins_the_halves() -> None:
    assert learn(Whole("early"), partial(agreeing, kinds=2), 200, 3e-3, 32) > 0.95


def test_the_same_encoders_with_concat_do_not_learn_it() -> None:
    assert learn(Whole("concat"), partial(agreeing, kinds=2), 200, 3e-3, 32) < 0.65


@pytest.mark.parametrize(("modality", "other"), [("text", "image"), ("image", "text")])
def test_the_weights_move_to_the_half_that_tells_and_sum_to_one(modality: str, other: str) -> None:
    pair = Pair("weighted")
    assert isinstance(pair.fusion, Weighted)

    learn(pair, partial(told_by, modality), 200, 1e-2, 64)

    weights = pair.fusion.weights()
    assert weights[modality] > 0.7 > 0.3 > weights[other]
    assert sum(weights.values()) == pytest.approx(1)


def test_every_fusion_is_spoken_for_here() -> None:
    assert set(FUSIONS) == CAN | CANNOT
