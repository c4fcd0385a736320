"""What is asked of the fused pair: logits, loss and probabilities of each task; a TASKS table."""

from __future__ import annotations

import torch
import torch.nn.functional as F
from torch import nn

from mmapp.models.encoders import Encoding


class ClassifyHead(nn.Module):
    """One of C labels: a linear layer on the fused whole.

    Args:
        width: D of the fused encoding.
        labels: C.
        dropout: share of the fused numbers hidden while training.
    """

    def __init__(self, width: int, labels: int, dropout: float) -> None:
        super().__init__()
        self.dropout = nn.Dropout(dropout)
        self.out = nn.Linear(width, labels)

    def forward(self, fused: Encoding) -> torch.Tensor:
        """Logits [B,C]."""
        return self.out(self.dropout(fused.pooled))

    several = False  # a row may have any number of the labels

    @staticmethod
    def losses(logits: torch.Tensor, labels: torch.Tensor) -> torch.Tensor:
        """Cross-entropy of each row: logits [B,C], labels [B] -> [B]."""
        return F.cross_entropy(logits.float(), labels, reduction="none")

    @staticmethod
    def probabilities(logits: torch.Tensor) -> torch.Tensor:
        """[B,C] -> [B,C], rows sum to one."""
        return logits.float().softmax(dim=-1)


class MatchHead(ClassifyHead):
    """Do text and image belong together? Two labels, mismatch and match, in this order."""


class MultilabelHead(ClassifyHead):
    """Any of C labels: each is a question of its own."""

    several = True

    @staticmethod
    def losses(logits: torch.Tensor, labels: torch.Tensor) -> torch.Tensor:
        """Mean over labels of the binary cross-entropy: logits [B,C], labels [B,C] -> [B]."""
        each = F.binary_cross_entropy_with_logits(logits.float(), labels, reduction="none")
        return each.mean(dim=-1)

    @staticmethod
    def probabilities(logits: torch.Tensor) -> torch.Tensor:
        """[B,C] -> [B,C], each on its own between zero and one."""
        return logits.float().sigmoid()


TASKS: dict[str, type[ClassifyHead]] = {
    "classify": ClassifyHead,
    "multilabel": MultilabelHead,
    "match": MatchHead,
}
