"""Layers that fusions are made of. Know no encoder, task or device.

Shapes: B pairs, T word pieces, P image positions, D the shared width, E the width of word embeddings.
"""

from __future__ import annotations

import math

import torch
import torch.nn.functional as F
from torch import nn
from transformers import initialization as init

from mmapp.models.encoders import Encoding


class OwnStart(nn.Module):
    """A module with weights that do not begin as the model's others do."""

    def reset_parameters(self) -> None:
        """Give those weights their beginning, unless they were loaded."""
        raise NotImplementedError


class ShutLinear(OwnStart, nn.Linear):
    """A linear layer that begins at zero."""

    def reset_parameters(self) -> None:
        init.zeros_(self.weight)
        init.zeros_(self.bias)


class Gathering(nn.Module):
    """One direction of co-attention: every token gathers what it needs of the other side, and is
    compared with it, side by side and multiplied (Seo et al., "BiDAF", ICLR 2017).

    What was gathered is an average and varies little; the norm brings it back to the size of what
    it is compared with. Without it, `sample:digits` stays at chance for several epochs.
    """

    def __init__(self, width: int, heads: int) -> None:
        super().__init__()
        self.attend = CrossAttention(width, heads)
        self.norm = nn.LayerNorm(width)
        self.compare = nn.Linear(3 * width, width)

    def forward(
        self, asking: torch.Tensor, other: torch.Tensor, other_mask: torch.Tensor
    ) -> torch.Tensor:
        """asking [B,T,D], other [B,P,D], other_mask [B,P] -> [B,T,D]."""
        gathered = self.norm(self.attend(asking, other, other_mask))
        return F.gelu(self.compare(torch.cat([asking, gathered, asking * gathered], dim=-1)))


class CrossAttention(nn.Module):
    """Multi-head attention from one sequence to another. Vaswani et al., NeurIPS 2017."""

    def __init__(self, width: int, heads: int) -> None:
        super().__init__()
        self.heads = heads
        self.query = nn.Linear(width, width)
        self.key = nn.Linear(width, width)
        self.value = nn.Linear(width, width)
        self.out = nn.Linear(width, width)

    def forward(
        self, asking: torch.Tensor, other: torch.Tensor, other_mask: torch.Tensor
    ) -> torch.Tensor:
        """asking [B,T,D], other [B,P,D], other_mask [B,P] -> [B,T,D]."""
        split = (len(asking), -1, self.heads, asking.shape[-1] // self.heads)
        query = self.query(asking).view(split).transpose(1, 2)  # [B,heads,T,D/heads]
        key = self.key(other).view(split).transpose(1, 2)
        value = self.value(other).view(split).transpose(1, 2)
        seen = other_mask[:, None, None, :]  # no token attends to padding
        gathered = F.scaled_dot_product_attention(query, key, value, attn_mask=seen)
        return self.out(gathered.transpose(1, 2).flatten(2))


class ImageWords(OwnStart):
    """An image as a few words of a text: its positions averaged over a grid, brought to the width of
    word embeddings, each with a learnt vector that says "image" and where in it.

    Args:
        width: D.
        word_width: E.
        side: the grid has side x side cells; an image of no more positions keeps its own.
    """

    def __init__(self, width: int, word_width: int, side: int) -> None:
        super().__init__()
        self.side = side
        self.into = nn.Linear(width, word_width)
        self.norm = nn.LayerNorm(word_width)
        self.places = nn.Parameter(torch.empty(side * side, word_width))
        self.reset_parameters()

    def reset_parameters(self) -> None:
        init.normal_(self.places, std=0.02)

    def project(self, values: torch.Tensor) -> torch.Tensor:
        """[...,D] -> [...,E]."""
        return self.norm(self.into(values))

    def forward(self, image: Encoding) -> Encoding:
        """tokens [B,P,D] -> tokens [B,side·side,E]; a cell is real where a position in it is."""
        tokens, mask = image.tokens, image.mask
        if tokens.shape[1] > self.side**2:
            weights = mask.unsqueeze(-1).to(tokens.dtype)
            share = _cells(weights, self.side)
            tokens = _cells(tokens * weights, self.side) / share.clamp(min=1e-6)
            mask = share.squeeze(-1) > 0
        words = self.project(tokens) + self.places[: tokens.shape[1]]
        return Encoding(self.project(image.pooled), words, mask)


def _cells(tokens: torch.Tensor, side: int) -> torch.Tensor:
    """Means over the cells of a grid: [B,P,C] -> [B,side·side,C], P the positions of a picture row by
    row; where they are no square, over stretches of the row they stand in."""
    values = tokens.transpose(1, 2)
    rows = math.isqrt(values.shape[-1])
    if rows**2 == values.shape[-1]:
        values = F.adaptive_avg_pool2d(values.unflatten(-1, (rows, rows)), side).flatten(2)
    else:
        values = F.adaptive_avg_pool1d(values, side**2)
    return values.transpose(1, 2)
