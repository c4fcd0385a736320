"""Everything a run needs to go on, on a model small enough to see all of it."""

from __future__ import annotations

import json
from typing import Any

import pytest
import safetensors.torch
import torch
from torch import nn
from torch.optim import AdamW
from torch.optim.lr_scheduler import LambdaLR
from transformers import T5Config, T5EncoderModel

from mmapp.training.state import Captured, TrainingState, changing


class Small(nn.Module):
    """A frozen layer, a learning one, and running statistics."""

    def __init__(self) -> None:
        super().__init__()
        self.frozen = nn.Linear(2, 3).requires_grad_(False)
        self.norm = nn.BatchNorm1d(3)
        self.out = nn.Linear(3, 1)

    def forward(self, values: torch.Tensor) -> torch.Tensor:
        return self.out(nn.functional.dropout(self.norm(self.frozen(values)), 0.5))


CHANGING = {
    "norm.weight",
    "norm.bias",
    "norm.running_mean",
    "norm.running_var",
    "norm.num_batches_tracked",
    "out.weight",
    "out.bias",
}


def make(seed: int) -> tuple[Small, AdamW, LambdaLR]:
    torch.manual_seed(seed)
    model = Small()
    decayed = [p for p in model.parameters() if p.requires_grad and p.ndim > 1]
    rest = [p for p in model.parameters() if p.requires_grad and p.ndim == 1]
    optimizer = AdamW(
        [{"params": decayed, "lr": 0.1, "weight_decay": 0.1}, {"params": rest, "lr": 0.2}]
    )
    return model, optimizer, LambdaLR(optimizer, lambda step: 1 / (1 + step))


def step(model: Small, optimizer: AdamW, schedule: LambdaLR, state: TrainingState) -> None:
    loss = model(torch.randn(4, 2)).square().mean()
    loss.backward()
    optimizer.step()
    schedule.step()
    optimizer.zero_grad()
    state.advance(float(loss.detach()), 4)


def on_disk_and_back(captured: Captured) -> Captured:
    tensors, values = captured
    return safetensors.torch.load(safetensors.torch.save(tensors)), json.loads(json.dumps(values))


def test_only_what_training_can_change_is_kept() -> None:
    assert changing(make(0)[0]).keys() == CHANGING


def test_a_restored_run_goes_on_as_the_other_one_does() -> None:
    parts = make(0)
    model, optimizer, schedule = parts
    state = TrainingState()
    state.bind(*parts)
    for _ in range(3):
        step(*parts, state)
    captured = on_disk_and_back(state.capture())
    frozen = {name: t.clone() for name, t in model.frozen.state_dict().items()}
    for _ in range(2):
        step(*parts, state)

    others = make(1)  # other weights, other random numbers
    others[0].frozen.load_state_dict(frozen)
    again = TrainingState(captured)
    again.bind(*others)
    for _ in range(2):
        step(*others, again)

    for name, tensor in model.state_dict().items():
        assert torch.equal(tensor, others[0].state_dict()[name]), name
    rates = [group["lr"] for group in optimizer.param_groups]
    assert [group["lr"] for group in others[1].param_groups] == rates
    assert others[2].get_last_lr() == schedule.get_last_lr()
    assert (again.step, again.mean_loss()) == (state.step, state.mean_loss())


def test_what_is_captured_are_tensors_and_plain_values_of_every_part() -> None:
    parts = make(0)
    state = TrainingState()
    state.bind(*parts)
    step(*parts, state)
    state.keep_best(parts[0])

    tensors, values = state.capture()

    kinds: dict[str, set[str]] = {}
    for name in tensors:
        kind, _, rest = name.partition(".")
        kinds.setdefault(kind, set()).add(rest)
    assert kinds["model"] == kinds["best"] == CHANGING
    assert "cpu" in kinds["random"]
    assert kinds["optimizer"] == {
        f"{number}.{name}" for number in range(4) for name in ("step", "exp_avg", "exp_avg_sq")
    }
    assert json.loads(json.dumps(values, allow_nan=False))["step"] == 1


def test_position_and_evaluations_come_back() -> None:
    parts = make(0)
    state = TrainingState()
    state.bind(*parts)
    state.evaluations.append({"epoch": 1, "loss": 0.5})
    for _ in range(3):
        step(*parts, state)
    state.next_epoch()
    step(*parts, state)

    again = TrainingState(on_disk_and_back(state.capture()))

    assert (again.step, again.epoch, again.step_in_epoch) == (4, 1, 1)
    assert again.evaluations == [{"epoch": 1, "loss": 0.5}]


def test_a_new_state_changes_neither_weights_nor_random_numbers() -> None:
    parts = make(0)
    before = {name: t.clone() for name, t in parts[0].state_dict().items()}
    generator = torch.get_rng_state()

    TrainingState().bind(*parts)

    assert torch.equal(torch.get_rng_state(), generator)
    assert all(torch.equal(t, before[name]) for name, t in parts[0].state_dict().items())


def test_the_mean_loss_weighs_steps_by_their_pairs_and_starts_anew_with_an_epoch() -> None:
    state = TrainingState()
    state.advance(1.0, 8)
    state.advance(3.0, 2)
    assert state.mean_loss() == pytest.approx((8 + 6) / 10)

    state.next_epoch()

    assert state.mean_loss() == 0
    assert (state.step, state.epoch, state.step_in_epoch) == (2, 1, 0)


def test_the_best_weights_are_copies_and_are_put_back() -> None:
    parts = make(0)
    state = TrainingState()
    state.bind(*parts)
    step(*parts, state)
    state.keep_best(parts[0])
    best = {name: t.clone() for name, t in parts[0].state_dict().items()}
    step(*parts, state)
    assert not torch.equal(parts[0].out.weight, best["out.weight"])

    state.load_best(parts[0])

    assert all(torch.equal(t, best[name]) for name, t in parts[0].state_dict().items())


def test_the_best_weights_survive_a_restart() -> None:
    parts = make(0)
    state = TrainingState()
    state.bind(*parts)
    state.keep_best(parts[0])
    best = parts[0].out.weight.detach().clone()
    step(*parts, state)

    others = make(0)
    again = TrainingState(on_disk_and_back(state.capture()))
    again.bind(*others)
    assert not torch.equal(others[0].out.weight, best)
    again.load_best(others[0])

    assert torch.equal(others[0].out.weight, best)


def test_before_the_first_evaluation_there_is_no_best_to_put_back() -> None:
    model = make(0)[0]
    before = model.out.weight.detach().clone()

    TrainingState().load_best(model)

    assert torch.equal(model.out.weight, before)


def test_tied_weights_can_be_captured() -> None:
    """T5 has its embeddings under two names; safetensors refuses tensors that share memory."""
    config: dict[str, Any] = {"vocab_size": 8, "d_model": 4, "d_kv": 2, "d_ff": 4}
    model = T5EncoderModel(T5Config(**config, num_layers=1, num_heads=2))
    optimizer = AdamW(model.parameters(), lr=0.1)
    state = TrainingState()
    state.bind(model, optimizer, LambdaLR(optimizer, lambda step: 1.0))

    tensors, _ = on_disk_and_back(state.capture())

    names = ("model.shared.weight", "model.encoder.embed_tokens.weight")
    assert torch.equal(tensors[names[0]], tensors[names[1]])
