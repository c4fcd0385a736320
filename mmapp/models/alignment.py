"""The joint space of an aligned model, where a text and an image that belong together lie close.

Knows no encoder, loss or label.

Shapes: B pairs, D the shared width.
"""

from __future__ import annotations

import math

import torch
import torch.nn.functional as F
from torch import nn
from transformers import initialization as init

from mmapp.models.fusion_parts import OwnStart

SCALE = 1 / 0.07  # at first
MOST = 100.0  # a larger scale makes training unstable


class Alignment(OwnStart):
    """Each half of a pair as a vector of length one; how alike two of them are is their cosine.

    A softmax over cosines alone could never be sure, so they are multiplied by a learnt scale.
    Radford et al., "Learning Transferable Visual Models From Natural Language Supervision", ICML 2021.

    Args:
        width: D.
    """

    def __init__(self, width: int) -> None:
        super().__init__()
        self.from_text = nn.Linear(width, width)
        self.from_image = nn.Linear(width, width)
        self.log_scale = nn.Parameter(torch.empty(1))

    def reset_parameters(self) -> None:
        init.constant_(self.log_scale, math.log(SCALE))

    @property
    def scale(self) -> torch.Tensor:
        """[1]: what cosines are multiplied by."""
        return self.log_scale.clamp(max=math.log(MOST)).exp()

    def forward(
        self, text: torch.Tensor, image: torch.Tensor, present: torch.Tensor | None
    ) -> torch.Tensor:
        """text [B,D], image [B,D], present [B,2] -> [B,2,D]; an absent half is all zeros."""
        halves = torch.stack([self.from_text(text), self.from_image(image)], dim=1)
        joint = F.normalize(halves.float(), dim=-1)
        return joint if present is None else joint * present.unsqueeze(-1)
