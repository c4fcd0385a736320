"""Runs a model over a loader and brings the logits home, in table order."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from itertools import chain
from typing import Any, cast

import numpy as np
import torch
from accelerate.utils import gather_object

from mmapp.data.cells import OUTSIDE
from mmapp.data.loading import Asked, PairLoader, Shard
from mmapp.data.processor import UNREAD
from mmapp.device import autocast

FORWARD_INPUTS = (
    "input_ids",
    "attention_mask",
    "pixel_values",
    "present",
    "encodings",
    "word_starts",
)

# Of a word that the model did not see: far more probably outside than anything else.
SURELY = 10.0


@dataclass(frozen=True)
class Outputs:
    """What a model said about N rows.

    Attributes:
        logits: [N,C] float32; of the task tag [W,C], the words of all rows one after the other.
        labels: [N] class numbers, [N,C] zeros and ones where a row may have several, or [W]; or None.
        several: each label's probability stands on its own.
        words: of the task tag, how many words each row has, [N].
        joint: [N,2,D] text and image in the joint space of an aligned model; absent halves are zeros.
        temperature: what logits are divided by before they become probabilities; `collect` leaves 1.
    """

    logits: np.ndarray
    labels: np.ndarray | None
    several: bool = False
    joint: np.ndarray | None = None
    words: np.ndarray | None = None
    temperature: float = 1.0

    def truth(self) -> np.ndarray:
        """The labels, of rows that are known to have them."""
        if self.labels is None:
            raise ValueError("these rows have no labels")
        return self.labels

    def by_row(self, values: np.ndarray) -> list[np.ndarray]:
        """Values of words [W,...] as one array for each row."""
        if self.words is None:
            raise ValueError("these answers are not of words")
        return np.split(values, np.cumsum(self.words)[:-1])

    def placed(self) -> np.ndarray:
        """The joint vectors, of a model that is known to be aligned."""
        if self.joint is None:
            raise ValueError("this model has no joint space")
        return self.joint

    def probabilities(self) -> np.ndarray:
        """Softmax of logits over temperature, [N,C] or [W,C]; of several labels, each one's sigmoid."""
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
    model: torch.nn.Module,
    loader: PairLoader,
    *,
    device: torch.device,
    precision: str = "fp32",
    shard: Shard | None = None,
    progress: Callable[[int], None] | None = None,
) -> Outputs:
    """Logits of every row of the loader's dataset, and where an aligned model puts its halves.

    Args:
        model: a FusionModel, on `device`; it is put into evaluation mode and back.
        loader: batches of the rows, in any order.
        precision: "fp32", "bf16" or "fp16" for the heavy arithmetic.
        shard: this process's part; the parts of all processes are gathered.
        progress: called with the number of rows done.
    """
    learning = model.training
    model.eval()
    found: list[dict[str, np.ndarray]] = []
    done = 0
    for batch in loader.batches(shard=shard):
        with autocast(device, precision):
            said = model(**forward_inputs(to_device(batch, device)))
        part = {"index": batch["index"], "logits": said.logits, "joint": said.joint}
        if "labels" in batch:
            part["labels"] = batch["labels"].long()
        found.append({name: _array(value) for name, value in part.items() if value is not None})
        done += batch["size"]
        if progress:
            progress(done)
    model.train(learning)
    if shard and shard.world > 1:
        found = gather_object(found)
    if getattr(model, "of_words", False):
        names = cast(Any, model).config.label_names
        return words_in_order(found, loader.dataset.asked, names)
    return _in_order(found, len(loader.dataset), getattr(model, "several", False))


def _array(values: torch.Tensor) -> np.ndarray:
    return (values.float() if values.is_floating_point() else values).cpu().numpy()


def _in_order(found: list[dict[str, np.ndarray]], count: int, several: bool) -> Outputs:
    if not found:
        return Outputs(np.zeros((0, 0), np.float32), None, several)
    whole = {name: np.zeros((count, *v.shape[1:]), v.dtype) for name, v in found[0].items()}
    for part in found:
        for name, values in part.items():
            whole[name][part["index"]] = values
    return Outputs(whole["logits"], whole.get("labels"), several, whole.get("joint"))


def words_in_order(
    found: list[dict[str, np.ndarray]], asked: Asked, names: Sequence[str]
) -> Outputs:
    """The words of all rows, in table order.

    Args:
        found: batches: `index` [B] of the rows, and their `logits` [B,W,C], padded to the longest row.
        asked: the words of each row, and their labels where they are known.
        names: C labels.
    """
    starts = asked.starts or []
    rows = [np.zeros((0, len(names)), np.float32)] * len(starts)
    for part in found:
        for row, logits in zip(part["index"], part["logits"], strict=True):
            rows[row] = _said(logits, starts[row], names)
    labels = None if asked.labels is None else np.array(list(chain.from_iterable(asked.labels)), int)
    logits = np.concatenate(rows) if rows else np.zeros((0, len(names)), np.float32)
    return Outputs(logits, labels, words=np.array(list(map(len, starts)), int))


def _said(logits: np.ndarray, starts: Sequence[int], names: Sequence[str]) -> np.ndarray:
    """Logits of one row's words, out of a padded [W,C]; a word that was not read counts as outside."""
    said = logits[: len(starts)].copy()
    unread = np.zeros(len(names), said.dtype)
    if OUTSIDE in names:
        unread[list(names).index(OUTSIDE)] = SURELY
    said[np.array(starts, dtype=int) == UNREAD] = unread
    return said
