"""What training makes small: losses beyond the task's own, and how much each row counts.

Shapes: B rows, C labels. Every loss gives one number a row, [B].
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

import numpy as np
import torch
import torch.nn.functional as F

from mmapp.errors import SettingsError
from mmapp.models.heads import ClassifyHead
from mmapp.settings import TrainSettings

Loss = Callable[[torch.Tensor, torch.Tensor, TrainSettings], torch.Tensor]


def cross_entropy(
    logits: torch.Tensor, labels: torch.Tensor, settings: TrainSettings
) -> torch.Tensor:
    """-log of the label's probability; with smoothing, part of its weight goes to all labels.

    Szegedy et al., "Rethinking the Inception Architecture", CVPR 2016.
    """
    return F.cross_entropy(
        logits, labels, reduction="none", label_smoothing=settings.label_smoothing
    )


def each_binary(
    logits: torch.Tensor, labels: torch.Tensor, settings: TrainSettings
) -> torch.Tensor:
    """Binary cross-entropy of every label of every row: labels [B,C] of zeros and ones -> [B,C]."""
    smoothed = labels * (1 - settings.label_smoothing) + settings.label_smoothing / 2
    return F.binary_cross_entropy_with_logits(logits, smoothed, reduction="none")


def binary(logits: torch.Tensor, labels: torch.Tensor, settings: TrainSettings) -> torch.Tensor:
    """Each label for itself, yes or no: mean over labels of the binary cross-entropy."""
    target = F.one_hot(labels, logits.shape[-1]).to(logits.dtype)
    return each_binary(logits, target, settings).mean(dim=-1)


def logistic(logits: torch.Tensor, labels: torch.Tensor, settings: TrainSettings) -> torch.Tensor:
    """log(1 + exp(-y m)), y being plus or minus one and m how much the second label leads."""
    sign = labels.to(logits.dtype) * 2 - 1
    return F.softplus(-sign * (logits[:, 1] - logits[:, 0]))


def focal(logits: torch.Tensor, labels: torch.Tensor, settings: TrainSettings) -> torch.Tensor:
    """Cross-entropy times (1 - p)^gamma: what is sure already counts little.

    Lin et al., "Focal Loss for Dense Object Detection", ICCV 2017.
    """
    given = logits.log_softmax(dim=-1).gather(1, labels.unsqueeze(1)).squeeze(1).exp()
    return (1 - given) ** settings.focal_gamma * cross_entropy(logits, labels, settings)


LOSSES: dict[str, Loss] = {
    "auto": cross_entropy,
    "cross-entropy": cross_entropy,
    "binary": binary,
    "logistic": logistic,
    "focal": focal,
}


def each_focal(
    logits: torch.Tensor, labels: torch.Tensor, settings: TrainSettings
) -> torch.Tensor:
    """`each_binary` times (1 - p)^gamma, p being the probability of the right answer."""
    right = torch.where(labels > 0.5, logits, -logits).sigmoid()
    return (1 - right) ** settings.focal_gamma * each_binary(logits, labels, settings)


# For rows with any number of labels. Yes or no is plus or minus one, so logistic is binary there.
LOSSES_OF_SEVERAL: dict[str, Loss] = {
    "auto": each_binary,
    "binary": each_binary,
    "logistic": each_binary,
    "focal": each_focal,
}


class Objective:
    """The loss of a run: the chosen one, each row weighted by its label.

    Args:
        settings: `loss`, `class_weights` and the numbers they need.
        counts: how often each label occurs in the training rows, [C].
        device: where logits and labels are.

    Raises:
        SettingsError: no such loss, or one that the number of labels rules out.
    """

    def __init__(
        self, settings: TrainSettings, counts: Sequence[int], device: torch.device
    ) -> None:
        self.loss = _choose(LOSSES, settings)
        if settings.loss == "logistic" and len(counts) != 2:
            raise SettingsError(
                f"The logistic loss wants two labels, plus and minus one; there are {len(counts)}. "
                "Choose auto, binary or focal."
            )
        self.settings = settings
        self.weights: torch.Tensor | None = None
        if settings.class_weights == "balanced":
            self.weights = balanced(counts).to(device)

    def __call__(self, logits: torch.Tensor, labels: torch.Tensor) -> torch.Tensor:
        """logits [B,C], labels [B] -> losses [B]."""
        losses = self.loss(logits.float(), labels, self.settings)
        return losses if self.weights is None else losses * self.weights[labels]


class SeveralObjective:
    """The loss of a run whose rows may have any number of labels, each label weighed on its own.

    Args:
        settings: see Objective.
        counts: how many of the training rows have each label, [C].
        rows: how many training rows there are.
        device: where logits and labels are.

    Raises:
        SettingsError: no such loss for several labels.
    """

    def __init__(
        self, settings: TrainSettings, counts: Sequence[int], rows: int, device: torch.device
    ) -> None:
        self.loss = _choose(LOSSES_OF_SEVERAL, settings)
        self.settings = settings
        self.weights: torch.Tensor | None = None
        if settings.class_weights == "balanced":
            answers = [balanced([rows - count, count]) for count in counts]
            self.weights = torch.stack(answers).to(device)  # [C,2]: of a no, of a yes

    def __call__(self, logits: torch.Tensor, labels: torch.Tensor) -> torch.Tensor:
        """logits [B,C], labels [B,C] of zeros and ones -> losses [B]."""
        each = self.loss(logits.float(), labels.float(), self.settings)
        if self.weights is not None:
            each = each * torch.where(labels > 0.5, self.weights[:, 1], self.weights[:, 0])
        return each.mean(dim=-1)


class WordsObjective:
    """The loss of a run that labels words: a row's is the mean over its words.

    Args:
        each: of logits [W,C] and labels [W], the losses [W].
    """

    def __init__(self, each: Objective) -> None:
        self.each = each

    def __call__(self, logits: torch.Tensor, labels: torch.Tensor) -> torch.Tensor:
        """logits [B,W,C], labels [B,W], below zero where nothing is asked -> losses [B]."""
        asked = labels >= 0
        losses = logits.new_zeros(labels.shape, dtype=torch.float32)
        losses[asked] = self.each(logits[asked], labels[asked])
        return losses.sum(dim=1) / asked.sum(dim=1).clamp(min=1)


def make_objective(
    settings: TrainSettings, labels: Sequence[Any], head: ClassifyHead, device: torch.device
) -> Objective | SeveralObjective | WordsObjective:
    """The objective that fits what the head says and the training rows' labels, as datasets have them.

    Raises SettingsError.
    """
    if head.several:
        counts = np.sum(labels, axis=0).astype(int)
        return SeveralObjective(settings, counts, len(labels), device)
    numbers = np.concatenate(labels) if head.of_words else np.asarray(labels)
    counts = np.bincount(numbers, minlength=head.out.out_features)
    objective = Objective(settings, counts.tolist(), device)
    return WordsObjective(objective) if head.of_words else objective


def _choose(table: dict[str, Loss], settings: TrainSettings) -> Loss:
    if settings.loss not in table:
        known = ", ".join(table)
        raise SettingsError(f"There is no loss {settings.loss!r} here. Expected one of {known}.")
    return table[settings.loss]


def balanced(counts: Sequence[int]) -> torch.Tensor:
    """Weights [C] under which every label counts the same in sum and the mean row counts one.

    A label without a row gets weight zero: there is nothing to weigh.
    """
    found = torch.tensor(counts, dtype=torch.float32)
    present = (found > 0).sum()
    return torch.where(found > 0, found.sum() / (present * found.clamp(min=1)), 0.0)
