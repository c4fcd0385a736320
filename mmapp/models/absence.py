"""What stands for an absent half: its encoder does not run on it, a learnt vector takes its place.

Shapes: B pairs, T tokens of any kind, D a width.
"""

from __future__ import annotations

import torch
from torch import nn

from mmapp.models.encoders import Encoding


def encode_present(
    encoder: nn.Module, inputs: tuple[torch.Tensor | None, ...], present: torch.Tensor | None
) -> Encoding:
    """Run the encoder on the rows that are there; the others get zeros and no real token."""
    if present is None or present.all():
        return encoder(*inputs)
    rows = present.nonzero().squeeze(1)
    # With nobody there one row is encoded all the same, for the shapes.
    some = rows if len(rows) else rows.new_zeros(1)
    part = encoder(*(value[some] for value in inputs if value is not None))
    whole = []
    for field in part:
        spread = field.new_zeros(len(present), *field.shape[1:])
        if len(rows):
            spread = spread.index_copy(0, rows, field)
        whole.append(spread)
    return Encoding(*whole)


def learnt(vector: torch.Tensor, like: torch.Tensor) -> Encoding:
    """An Encoding of B rows that holds nothing but the learnt vector."""
    pooled = vector.to(like.dtype).expand(len(like), -1)
    mask = torch.ones(len(like), 1, dtype=torch.bool, device=like.device)
    return Encoding(pooled, pooled.unsqueeze(1), mask)


def replace(encoding: Encoding, present: torch.Tensor, vector: torch.Tensor) -> Encoding:
    """The learnt vector in place of absent rows: as the whole, and as the one real token."""
    vector = vector.to(encoding.pooled.dtype)
    first = torch.zeros_like(encoding.mask)
    first[:, 0] = True
    return Encoding(
        torch.where(present[:, None], encoding.pooled, vector),
        torch.where(present[:, None, None], encoding.tokens, vector),
        torch.where(present[:, None], encoding.mask, first),
    )
