"""One optimizer step: forward, loss, backward in parts, clipping. Knows no epoch and no event."""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator
from contextlib import nullcontext
from typing import Any

import torch
from accelerate import Accelerator
from torch import nn
from torch.optim import Optimizer
from torch.optim.lr_scheduler import LambdaLR

from mmapp.data.loading import Batch, Shard
from mmapp.errors import TrainingError
from mmapp.evaluation.outputs import forward_inputs, to_device
from mmapp.training.contrastive import ContrastiveTerm

Objective = Callable[[torch.Tensor, torch.Tensor], torch.Tensor]

SPLIT = (
    "The memory did not suffice for {size} pairs at once; from here on each batch is worked through "
    "in {parts} parts. {result}, each step takes a little longer."
)
SAME = "The result is the same"
COMPARED_LESS = "Alignment compares the pairs of a part only, with fewer others than before"
TOO_SMALL = (
    "The memory does not suffice even for one pair at a time. Choose smaller encoders, a smaller "
    "image_size or max_length, or tuning head."
)


class Stepper:
    """Takes steps over batches, each in as many parts as the memory asks for.

    Args:
        model: as accelerate prepared it.
        optimizer: likewise.
        schedule: moved on by one at every step.
        objective: logits [B,C], labels [B] -> losses [B].
        contrast: adds to them, of an aligned model.
        accelerator: this process's.
        shard: this process's part of every batch.
        clip: longest gradient allowed; 0 for any.
        parts: how many parts a batch is worked through in at first.

    Attributes:
        warnings: sentences since they were last taken.
    """

    def __init__(
        self,
        model: nn.Module,
        optimizer: Optimizer,
        schedule: LambdaLR,
        *,
        objective: Objective,
        contrast: ContrastiveTerm | None = None,
        accelerator: Accelerator,
        shard: Shard,
        clip: float,
        parts: int,
    ) -> None:
        self.model = model
        self.optimizer = optimizer
        self.schedule = schedule
        self.objective = objective
        self.contrast = contrast
        self.accelerator = accelerator
        self.shard = shard
        self.clip = clip
        self.parts = parts
        self.warnings: list[str] = []

    def take(self, batch: Batch) -> float:
        """One step; gives the mean loss over this process's rows of the batch.

        Raises:
            TrainingError: the loss is no longer a number, or one pair alone is too much.
        """
        while True:
            try:
                loss = self._backward(batch)
                break
            except RuntimeError as error:
                if not _out_of_memory(error):
                    raise
                self._split(len(batch["labels"]))
        if not math.isfinite(loss):
            raise TrainingError(
                f"The loss is {loss} at step {self.schedule.last_epoch + 1}: training has lost its "
                "way. Lower the learning rate, or set precision to fp32."
            )
        if self.clip:
            self.accelerator.clip_grad_norm_(self.model.parameters(), self.clip)
        self.optimizer.step()
        self.schedule.step()
        self.optimizer.zero_grad(set_to_none=True)
        return loss

    def _backward(self, batch: Batch) -> float:
        """Gradients of the whole batch's mean loss, summed up part by part."""
        rows = len(batch["labels"])
        total = 0.0
        # Gradients are averaged over processes; the factor makes that a mean over the whole batch.
        alone = batch["size"] < self.shard.world
        factor = 1.0 if alone else rows / batch["size"] * self.shard.world
        parts = list(split(batch, min(self.parts, rows)))
        for number, part in enumerate(parts, start=1):
            moved = to_device(part, self.accelerator.device)
            last = number == len(parts)
            with nullcontext() if last else self.accelerator.no_sync(self.model):
                output = self.model(**forward_inputs(moved))
                losses = self.objective(output.logits, moved["labels"])
                if self.contrast is not None:
                    losses = losses + self.contrast(output, moved["index"])
                self.accelerator.backward(losses.sum() * (factor / rows))
            total += float(losses.detach().sum())
        return total / rows

    def _split(self, rows: int) -> None:
        """Twice as many parts from here on. Of many processes none may change its pace alone."""
        self.optimizer.zero_grad(set_to_none=True)
        if torch.cuda.is_available():
            torch.cuda.empty_cache()
        if self.parts >= rows or self.shard.world > 1:
            raise TrainingError(TOO_SMALL if self.shard.world == 1 else _MANY)
        size, result = -(-rows // self.parts), SAME if self.contrast is None else COMPARED_LESS
        self.warnings.append(SPLIT.format(size=size, parts=2 * self.parts, result=result))
        self.parts *= 2


_MANY = "The memory of one device did not suffice. Set accumulation to 2 or more and start again."


def split(batch: Batch, parts: int) -> Iterator[Batch]:
    """The batch's rows in `parts` runs of nearly equal length; what has no rows is left out."""
    if parts == 1:
        yield batch
        return
    rows = len(batch["labels"])
    bounds = [rows * i // parts for i in range(parts + 1)]
    for start, end in zip(bounds[:-1], bounds[1:], strict=True):
        yield {key: _cut(value, start, end) for key, value in batch.items() if key != "size"}


def _cut(value: Any, start: int, end: int) -> Any:
    if isinstance(value, dict):
        return {key: _cut(part, start, end) for key, part in value.items()}
    if isinstance(value, tuple):
        return type(value)(*(_cut(part, start, end) for part in value))
    return value[start:end]


def _out_of_memory(error: RuntimeError) -> bool:
    """CUDA has its own exception; a CPU's allocator says it in words."""
    return isinstance(error, torch.OutOfMemoryError) or "can't allocate memory" in str(error)
