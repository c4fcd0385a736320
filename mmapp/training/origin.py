"""The checkpoint a run starts from: what of its words, labels and weights a new model takes over.

Knows no data, only its labels.
"""

from __future__ import annotations

from dataclasses import replace

import torch

from mmapp.data.pairs import LabelSet
from mmapp.data.processor import FusionProcessor
from mmapp.errors import CheckpointError
from mmapp.models.configuration import FusionConfig
from mmapp.models.model import FusionModel
from mmapp.settings import TrainSettings
from mmapp.storage.checkpoint import load_checkpoint
from mmapp.training.continuing import ENCODERS, require_own_encoders, start_folder


class Origin:
    """A checkpoint, opened for a new run to begin with.

    Args:
        settings: `start_from` names it; the other knobs are the new run's.

    Raises:
        CheckpointError: it cannot be opened, or is an ensemble.
        SettingsError: the settings name other encoders.
    """

    def __init__(self, settings: TrainSettings) -> None:
        try:
            folder = start_folder(str(settings.start_from))
            self.model, self._processor = load_checkpoint(folder)
        except CheckpointError as error:
            raise CheckpointError(
                f"What this run starts from is needed, also to resume it. {error}"
            ) from error
        self.config = self.model.config
        own = {encoder: getattr(self.config, encoder) for encoder in ENCODERS}
        require_own_encoders(own, settings.model_dump())

    def processor(self, settings: TrainSettings) -> FusionProcessor:
        """Its own processor, its vocabulary with it, at the sizes of the settings."""
        own = self._processor
        longest = min(settings.max_length, own.tokenizer.model_max_length)
        side = settings.image_size or own.image_size
        return FusionProcessor(own.tokenizer, side, own.image_mean, own.image_std, longest)

    def labels(self, found: LabelSet, task: str) -> LabelSet:
        """Its labels in their order, then the new ones; those found, where it knows none of them."""
        own = self.config.label_names
        if task != self.config.task or not set(own) & set(found.names):
            return found
        return replace(found, names=(*own, *(name for name in found.names if name not in own)))

    def describe(self, modality: str, config: FusionConfig) -> bool:
        """Write its encoder of a modality into a new model's config. False where it has none."""
        if getattr(self.config, f"{modality}_config") is None:
            return False
        fields = [f"{modality}_config", f"{modality}_width"]
        for name in (*fields, "fixed_batch_norm") if modality == "image" else fields:
            setattr(config, name, getattr(self.config, name))
        return True

    @torch.no_grad()
    def hand_over(self, model: FusionModel) -> tuple[str, ...]:
        """Copy its weights into a new model, wherever part and shape fit.

        A part is taken whole or not at all: an encoder, a projection with its measured statistics, the
        vectors of absent halves, the fusion if it is the same one; of the head, if task and fusion are
        the same, each label's row.

        Returns:
            The parts that stay as they are, "head (label)" being a row of the head.
        """
        left = []
        own = _parts(self.model)
        other_fusion = model.config.fusion != self.config.fusion
        for part, tensors in _parts(model).items():
            held = own.get(part, {})
            if other_fusion and part in ("fusion", "head"):
                left.append(part)
            elif part == "head":
                left += self._hand_over_head(model)
            elif _shapes(tensors) != _shapes(held):
                left.append(part)
            else:
                for name, tensor in tensors.items():
                    tensor.copy_(held[name])
        return tuple(left)

    def _hand_over_head(self, model: FusionModel) -> list[str]:
        new, own = model.config, self.config
        if (new.task, new.width) != (own.task, own.width):
            return ["head"]
        shared = [name for name in new.label_names if name in own.label_names]
        to = [new.label_names.index(name) for name in shared]
        rows = [own.label_names.index(name) for name in shared]
        for tensor, held in zip(_head(model), _head(self.model), strict=True):
            tensor[to] = held[rows]
        return [f"head ({name})" for name in new.label_names if name not in shared]


def _parts(model: FusionModel) -> dict[str, dict[str, torch.Tensor]]:
    """Weights and statistics by the part they belong to; each modality's projection is one."""
    parts: dict[str, dict[str, torch.Tensor]] = {}
    for name, tensor in model.state_dict().items():
        first, second, *_ = name.split(".")
        part = f"{first}.{second}" if first == "projections" else first
        parts.setdefault(part, {})[name] = tensor
    return parts


def _head(model: FusionModel) -> list[torch.Tensor]:
    """The head's tensors, each with one row a label."""
    return list(model.head.state_dict().values())


def _shapes(tensors: dict[str, torch.Tensor]) -> dict[str, torch.Size]:
    return {name: tensor.shape for name, tensor in tensors.items()}
