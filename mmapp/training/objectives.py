"""What training makes small: losses beyond the task's own, and how much each row counts.

Shapes: B rows, C labels. Every loss gives one number a row, [B].
"""

from __future__ import annotations

from collections.abc import Callable, Sequence

import torch
import torch.nn.functional as F

from mmapp.errors import SettingsError
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


def binary(logits: torch.Tensor, labels: torch.Tensor, settings: TrainSettings) -> torch.Tensor:
    """Each label for itself, yes or no: mean over labels of the binary cross-entropy."""
    target = F.one_hot(labels, logits.shape[-1]).to(logits.dtype)
    smoothed = target * (1 - settings.label_smoothing) + settings.label_smoothing / 2
    return F.binary_cross_entropy_with_logits(logits, smoothed, reduction="none").mean(dim=-1)


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
        if settings.loss not in LOSSES:
            known = ", ".join(LOSSES)
            raise SettingsError(f"There is no loss {settings.loss!r}. Expected one of {known}.")
        if settings.loss == "logistic" and len(counts) != 2:
            raise SettingsError(
                f"The logistic loss wants two labels, plus and minus one; there are {len(counts)}. "
                "Choose auto, binary or focal."
            )
        self.loss = LOSSES[settings.loss]
        self.settings = settings
        self.weights: torch.Tensor | None = None
        if settings.class_weights == "balanced":
            self.weights = balanced(counts).to(device)

    def __call__(self, logits: torch.Tensor, labels: torch.Tensor) -> torch.Tensor:
        """logits [B,C], labels [B] -> losses [B]."""
        losses = self.loss(logits.float(), labels, self.settings)
        return losses if self.weights is None else losses * self.weights[labels]


def balanced(counts: Sequence[int]) -> torch.Tensor:
    """Weights [C] under which every label counts the same in sum and the mean row counts one.

    A label without a row gets weight zero: there is nothing to weigh.
    """
    found = torch.tensor(counts, dtype=torch.float32)
    present = (found > 0).sum()
    return torch.where(found > 0, found.sum() / (present * found.clamp(min=1)), 0.0)
