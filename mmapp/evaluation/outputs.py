"""Runs a model over a loader and brings the logits home, in table order."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, replace
from typing import Any

import numpy as np
import torch
from accelerate.utils import gather_object

from mmapp.data.loading import PairLoader, Shard
from mmapp.device import autocast
from mmapp.models.model import FusionModel

FORWARD_INPUTS = (
    "input_ids",
    "attention_mask",
    "pixel_values",
    "present",
    "encodings",
)


@dataclass(frozen=True)
class Outputs:
    """What a model said about N rows.

    Attributes:
        logits: [N,C] float32.
        labels: [N] class numbers, or [N,C] zeros and ones where a row may have several; or None.
        several: each label's probability stands on its own.
        temperature: what the logits are divided by before they become probabilities.
    """

    logits: np.ndarray
    labels: np.ndarray | None
    several: bool = False
    temperature: float = 1.0

    def truth(self) -> np.ndarray:
        """The labels, of rows that are known to have them."""
        if self.labels is None:
            raise ValueError("these rows have no labels")
        return self.labels

    def probabilities(self) -> np.ndarray:
        """Softmax of the logits over the temperature, [N,C]; of several labels, each one's sigmoid."""
        logits = self.logits / self.temperature
        if self.several:
            return 0.5 * (1 + np.tanh(0.5 * logits))
        shifted = logits - logits.max(axis=1, keepdims=True)
        raised = np.exp(shifted)
        return raised / raised.sum(axis=1, keepdims=True)


def to_device(batch: dict[str, Any], device: torch.device) -> dict[str, Any]:
    """The batch's tensors, on the device."""
    return {key: _move(value, device) for key, value in batch.items()}


def _move(value: Any, device: torch.device) -> Any:
    if isinstance(value, torch.Tensor):
        return value.to(device, non_blocking=True)
    if isinstance(value, dict):
        return {key: _move(part, device) for key, part in value.items()}
    if isinstance(value, tuple):
        return type(value)(*(_move(part, device) for part in value))
    return value


def forward_inputs(batch: dict[str, Any]) -> dict[str, Any]:
    """The part of a batch that FusionModel.forward takes, labels left out."""
    return {key: batch[key] for key in FORWARD_INPUTS if key in batch}


@torch.inference_mode()
def collect(
    model: FusionModel,
    loader: PairLoader,
    *,
    device: torch.device,
    precision: str = "fp32",
    shard: Shard | None = None,
    progress: Callable[[int], None] | None = None,
) -> Outputs:
    """Logits of every row of the loader's dataset.

    Args:
        model: on `device`; it is put into evaluation mode and back.
        loader: batches of the rows, in any order.
        precision: "fp32", "bf16" or "fp16" for the heavy arithmetic.
        shard: this process's part; the parts of all processes are gathered.
        progress: called with the number of rows done.
    """
    learning = model.training
    model.eval()
    found: list[tuple[np.ndarray, np.ndarray, np.ndarray | None]] = []
    done = 0
    for batch in loader.batches(shard=shard):
        index, labels = batch["index"].numpy(), batch.get("labels")
        with autocast(device, precision):
            logits = model(**forward_inputs(to_device(batch, device))).logits
        found.append((index, logits.float().cpu().numpy(), None if labels is None else labels.numpy()))
        done += batch["size"]
        if progress:
            progress(done)
    model.train(learning)
    if shard and shard.world > 1:
        found = gather_object(found)
    outputs = _in_order(found, len(loader.dataset), model.several)
    return replace(outputs, temperature=model.config.temperature)


def _in_order(
    found: list[tuple[np.ndarray, np.ndarray, np.ndarray | None]], count: int, several: bool
) -> Outputs:
    if not found:
        return Outputs(np.zeros((0, 0), np.float32), None, several)
    logits = np.zeros((count, found[0][1].shape[1]), np.float32)
    labels = np.zeros((count, *logits.shape[1:]) if several else count, np.int64)
    for index, some_logits, some_labels in found:
        logits[index] = some_logits
        if some_labels is not None:
            labels[index] = some_labels
    return Outputs(logits, None if found[0][2] is None else labels, several)
