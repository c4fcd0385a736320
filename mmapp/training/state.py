"""Everything a run needs to go on from a step boundary, as tensors and plain values.

Knows no file: `capture` and `restore` speak of dicts; who stores them is another floor's matter.
"""

from __future__ import annotations

from typing import Any

import torch
from torch import nn
from torch.optim import Optimizer
from torch.optim.lr_scheduler import LambdaLR

from mmapp.device import random_state, set_random_state
from mmapp.models.tuning import merge

Captured = tuple[dict[str, torch.Tensor], dict[str, Any]]


class TrainingState:
    """Position, weights, optimizer, randomness and the best epoch's weights of a run.

    Args:
        captured: what `capture` gave earlier; empty for a new run. It takes effect when the loop
            binds its model and optimizer.

    Attributes:
        step: optimizer steps taken.
        epoch: epochs completed.
        step_in_epoch: steps taken of the epoch after those.
        evaluations: values of every "evaluated" event so far.
    """

    def __init__(self, captured: Captured | None = None) -> None:
        self._tensors, values = captured or ({}, {})
        self.step: int = values.get("step", 0)
        self.epoch: int = values.get("epoch", 0)
        self.step_in_epoch: int = values.get("step_in_epoch", 0)
        self.evaluations: list[dict[str, Any]] = values.get("evaluations", [])
        self._loss_sum: float = values.get("loss_sum", 0.0)
        self._loss_pairs: int = values.get("loss_pairs", 0)
        self._optimizer_values: dict[str, Any] = values.get("optimizer", {})
        self._best: dict[str, torch.Tensor] = _under("best.", self._tensors)

    def bind(self, model: nn.Module, optimizer: Optimizer, schedule: LambdaLR) -> None:
        """Attach to a run; a restored state writes itself into the model, optimizer and generators."""
        self._model, self._optimizer, self._schedule = model, optimizer, schedule
        if not self._tensors:
            return
        _load(model, _under("model.", self._tensors))
        _load_optimizer(optimizer, _under("optimizer.", self._tensors), self._optimizer_values)
        schedule.last_epoch = self.step
        schedule._last_lr = [group["lr"] for group in optimizer.param_groups]
        set_random_state(_under("random.", self._tensors))
        self._tensors = {}

    def advance(self, loss: float, pairs: int) -> None:
        """One step was taken, over `pairs` pairs with this mean loss."""
        self.step += 1
        self.step_in_epoch += 1
        self._loss_sum += loss * pairs
        self._loss_pairs += pairs

    def mean_loss(self) -> float:
        """Mean training loss over the epoch's pairs so far."""
        return self._loss_sum / max(self._loss_pairs, 1)

    def next_epoch(self) -> None:
        self.epoch += 1
        self.step_in_epoch = 0
        self._loss_sum, self._loss_pairs = 0.0, 0

    def keep_best(self, model: nn.Module) -> None:
        """Copy the weights that can change, as those of the best epoch so far."""
        self._best = {name: t.detach().clone().cpu() for name, t in changing(model).items()}

    def load_best(self, model: nn.Module) -> None:
        """Put the best epoch's weights back, as plain ones also where LoRA's stood beside them.

        Before the first evaluation they are those of the last step. Nothing can be captured after
        this: the names of what learnt are gone.
        """
        if self._best:
            _load(model, self._best)
        merge(model)

    def capture(self) -> Captured:
        """Everything, as (tensors by name, plain values). Taken at a step boundary."""
        optimizer = self._optimizer.state_dict()
        tensors = {f"model.{name}": t for name, t in changing(self._model).items()}
        tensors |= {f"best.{name}": t for name, t in self._best.items()}
        tensors |= {f"random.{name}": t for name, t in random_state().items()}
        for number, values in optimizer["state"].items():
            tensors |= {f"optimizer.{number}.{name}": t for name, t in values.items()}
        groups = [{k: v for k, v in g.items() if k != "params"} for g in optimizer["param_groups"]]
        values = {
            "step": self.step,
            "epoch": self.epoch,
            "step_in_epoch": self.step_in_epoch,
            "evaluations": self.evaluations,
            "loss_sum": self._loss_sum,
            "loss_pairs": self._loss_pairs,
            "optimizer": {"groups": groups},
        }
        return _apart(tensors), values


def changing(model: nn.Module) -> dict[str, torch.Tensor]:
    """The weights and running statistics that training can change."""
    frozen = {name for name, parameter in model.named_parameters() if not parameter.requires_grad}
    return {name: t for name, t in model.state_dict().items() if name not in frozen}


def _apart(tensors: dict[str, torch.Tensor]) -> dict[str, torch.Tensor]:
    """Contiguous tensors of which no two share memory, as safetensors wants them; tied weights do."""
    seen: set[int] = set()
    apart = {}
    for name, tensor in tensors.items():
        value = tensor.detach().contiguous()
        place = value.untyped_storage().data_ptr()
        apart[name] = value.clone() if place in seen else value
        seen.add(place)
    return apart


def _under(prefix: str, tensors: dict[str, torch.Tensor]) -> dict[str, torch.Tensor]:
    return {k.removeprefix(prefix): t for k, t in tensors.items() if k.startswith(prefix)}


@torch.no_grad()
def _load(model: nn.Module, tensors: dict[str, torch.Tensor]) -> None:
    own = model.state_dict()
    for name, value in tensors.items():
        own[name].copy_(value)


def _load_optimizer(
    optimizer: Optimizer, tensors: dict[str, torch.Tensor], values: dict[str, Any]
) -> None:
    fresh = optimizer.state_dict()
    state: dict[int, dict[str, torch.Tensor]] = {}
    for name, value in tensors.items():
        number, _, field = name.partition(".")
        state.setdefault(int(number), {})[field] = value
    groups = [
        {**old, "params": new["params"]}
        for old, new in zip(values["groups"], fresh["param_groups"], strict=True)
    ]
    optimizer.load_state_dict({"state": state, "param_groups": groups})
