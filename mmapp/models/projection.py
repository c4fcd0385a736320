"""The way from an encoder's own space into the shared one. Knows no encoder and no fusion.

Shapes: N rows, B pairs, T tokens, D the shared width.
"""

from __future__ import annotations

from collections.abc import Sequence

import torch
import torch.nn.functional as F
from torch import nn

from mmapp.models.encoders import Encoding


class Standardise(nn.Module):
    """(x - mean) / deviation of each number, with statistics measured once, before training.

    What all rows of an encoder have in common is often ten times larger than what tells them
    apart; left in, a fusion that multiplies spends its first epochs on removing it.
    """

    mean: torch.Tensor
    scale: torch.Tensor

    def __init__(self, width: int) -> None:
        super().__init__()
        self.register_buffer("mean", torch.zeros(width))
        self.register_buffer("scale", torch.ones(width))

    @torch.no_grad()
    def fit(self, values: torch.Tensor) -> None:
        """Measure on values [N,D]."""
        self.mean.copy_(values.mean(dim=0))
        self.scale.copy_(1 / values.std(dim=0).clamp(min=1e-3))

    def forward(self, values: torch.Tensor) -> torch.Tensor:
        return (values - self.mean) * self.scale


class Projection(nn.Module):
    """An encoder's output -> the shared space, the whole and each token on its own."""

    def __init__(self, width_in: int, width: int) -> None:
        super().__init__()
        self.standardise_pooled = Standardise(width_in)
        self.standardise_tokens = Standardise(width_in)
        self.into = nn.Linear(width_in, width)

    def fit(self, encodings: Sequence[Encoding]) -> None:
        """Measure the spread of an encoder's output on some batches of rows that are present."""
        whole = torch.cat([encoding.pooled for encoding in encodings])
        if len(whole) > 1:
            self.standardise_pooled.fit(whole.float())
            parts = [encoding.tokens[encoding.mask] for encoding in encodings]
            self.standardise_tokens.fit(torch.cat(parts).float())

    @property
    def measured(self) -> bool:
        """Was it fitted, here or in the model it was taken over from? Until then all means are zero."""
        return bool(self.standardise_pooled.mean.any())

    def forward(self, encoding: Encoding) -> Encoding:
        """Encoding of the encoder's width -> Encoding of width D."""
        return Encoding(
            F.gelu(self.into(self.standardise_pooled(encoding.pooled))),
            F.gelu(self.into(self.standardise_tokens(encoding.tokens))),
            encoding.mask,
        )
