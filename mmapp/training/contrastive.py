"""The contrastive term: brings the halves of a pair together in the joint space, and others apart.

Knows a row by its number in the training split.

Shapes: N training rows, B rows of a batch, D the width of the joint space.
"""

from __future__ import annotations

import numpy as np
import torch
import torch.nn.functional as F

from mmapp.data.labels import belonging
from mmapp.data.loading import PairDataset
from mmapp.errors import TrainingError
from mmapp.models.model import FusionOutput
from mmapp.settings import TrainSettings


class ContrastiveTerm:
    """What the contrast adds to the loss of each row.

    Args:
        weight: what it is multiplied by.
        halves: [N,2] numbers of the distinct texts and pictures, as `PairTable.halves` gives them.
        belong: [N] rows whose text and image belong together.
        device: where the model's outputs are.
    """

    def __init__(
        self, weight: float, halves: np.ndarray, belong: np.ndarray, device: torch.device
    ) -> None:
        self.weight = weight
        self.halves = torch.from_numpy(halves).to(device)
        self.belong = torch.from_numpy(belong).to(device)

    def __call__(self, output: FusionOutput, index: torch.Tensor) -> torch.Tensor:
        """What an aligned model gave for the rows numbered `index` [B] -> [B]."""
        if output.joint is None or output.scale is None:
            raise ValueError("the model has no joint space")
        rows = self.halves[index], self.belong[index]
        return self.weight * info_nce(output.joint, output.scale, *rows)


def make_contrastive_term(
    settings: TrainSettings, rows: PairDataset, task: str, device: torch.device
) -> ContrastiveTerm | None:
    """The term that the settings ask for over the training rows; None where they ask for none.

    Raises TrainingError when no two rows can be compared.
    """
    if not settings.alignment:
        return None
    belong = belonging(rows.labels or (), task)
    whole = int(((rows.halves >= 0).all(axis=1) & belong).sum())
    if whole < 2:
        raise TrainingError(
            f"Alignment {settings.alignment:g} compares pairs that have both a text and an image, and "
            f"{whole} training pairs have. Add such pairs, or set alignment to 0."
        )
    return ContrastiveTerm(settings.alignment, rows.halves, belong, device)


def info_nce(
    joint: torch.Tensor, scale: torch.Tensor, halves: torch.Tensor, belong: torch.Tensor
) -> torch.Tensor:
    """How far each text is from telling its own image among the batch's, and each image its own text.

    The mean of both directions' cross-entropies. What a row of the batch shows to be true of each other
    is never told apart. A row without both halves, or whose halves do not belong together, has no term,
    but what it has stands among the others' choices.
    van den Oord et al., "Representation Learning with Contrastive Predictive Coding", 2018; in both
    directions: Radford et al. (see `Alignment`).

    Args:
        joint: [B,2,D] text and image; absent halves are zeros.
        scale: [1] what cosines are multiplied by.
        halves: [B,2] numbers of the distinct texts and pictures, -1 for none.
        belong: [B] bool.

    Returns:
        [B], in nats.
    """
    present = joint.detach().any(dim=-1)
    others = ~_partners(halves, belong)
    alike = scale * joint[:, 0] @ joint[:, 1].T  # [B,B]: a text a row, an image a column
    of_text = _own_among(alike, others & present[:, 1])
    of_image = _own_among(alike.T, others.T & present[:, 0])
    return torch.where(present.all(dim=1) & belong, (of_text + of_image) / 2, 0.0)


def _partners(halves: torch.Tensor, belong: torch.Tensor) -> torch.Tensor:
    """[B,B]: is there a row in which the text of row i and the image of row j belong together?"""
    same = (halves[:, None] == halves) & (halves >= 0)  # [B,B,2]
    of_text, of_image = same.float().unbind(dim=-1)
    return (of_text * belong) @ of_image > 0


def _own_among(alike: torch.Tensor, others: torch.Tensor) -> torch.Tensor:
    """Cross-entropy of the diagonal of [B,B] among itself and the others of its row."""
    own = torch.eye(len(alike), dtype=torch.bool, device=alike.device)
    among = alike.masked_fill(~(own | others), -torch.inf)
    return F.cross_entropy(among, torch.arange(len(alike), device=alike.device), reduction="none")
