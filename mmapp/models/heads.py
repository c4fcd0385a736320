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

    several = False  # a row may have any number of the labels
    of_words = False  # every word has a label

    def forward(self, fused: Encoding, word_starts: torch.Tensor | None = None) -> torch.Tensor:
        """Logits [B,C]; `word_starts` is for heads that answer for words."""
        return self.out(self.dropout(fused.pooled))

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


class TagHead(ClassifyHead):
    """A label for each word, told from its first word piece, which has read the image by then."""

    of_words = True

    def forward(self, fused: Encoding, word_starts: torch.Tensor | None = None) -> torch.Tensor:
        """Logits of words [B,W,C]: `word_starts` [B,W] are their first pieces. Without it, of word
        pieces [B,T,C]."""
        tokens = fused.tokens
        if word_starts is not None:
            # A fusion that reads no text gives one token, which then answers for every word.
            first = word_starts.clamp(0, tokens.shape[1] - 1)
            tokens = tokens.gather(1, first.unsqueeze(-1).expand(-1, -1, tokens.shape[-1]))
        return self.out(self.dropout(tokens))

    @staticmethod
    def losses(logits: torch.Tensor, labels: torch.Tensor) -> torch.Tensor:
        """Mean over a row's words of the cross-entropy: logits [B,W,C], labels [B,W] -> [B]. Words
        labelled -100 are not asked about."""
        each = F.cross_entropy(logits.float().transpose(1, 2), labels, reduction="none")
        return each.sum(dim=1) / (labels >= 0).sum(dim=1).clamp(min=1)


TASKS: dict[str, type[ClassifyHead]] = {
    "classify": ClassifyHead,
    "multilabel": MultilabelHead,
    "match": MatchHead,
    "tag": TagHead,
}
