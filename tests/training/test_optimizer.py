"""Optimizers over the right groups, and rates at chosen steps worked out by hand."""

from __future__ import annotations

import math
from typing import Any

import pytest
import torch
from torch import nn
from torch.optim import SGD, Adam, AdamW, Optimizer

from mmapp.data.pairs import PairTable
from mmapp.models.tuning import apply_tuning
from mmapp.settings import TrainSettings
from mmapp.training.loop import train
from mmapp.training.optimizer import OPTIMIZERS, learning_rate, make_optimizer, make_schedule
from mmapp.training.prepare import prepare


def rates(settings: TrainSettings, steps: int) -> list[float]:
    """The rate that each of `steps` steps is taken with, and the one left after them; base 1."""
    optimizer = SGD([nn.Parameter(torch.zeros(1))], lr=1.0)
    schedule = make_schedule(optimizer, settings, steps)
    found = []
    for _ in range(steps):
        found.append(learning_rate(optimizer))
        optimizer.step()
        schedule.step()
    return [*found, learning_rate(optimizer)]


HALF_ROOT = math.sqrt(0.5)


@pytest.mark.parametrize(
    ("schedule", "expected"),
    [
        # Two of ten steps rise by thirds to the full rate, which the third step has.
        ("constant", [1 / 3, 2 / 3, 1, 1, 1, 1, 1, 1, 1, 1, 1]),
        ("linear", [1 / 3, 2 / 3, 1, 7 / 8, 6 / 8, 5 / 8, 4 / 8, 3 / 8, 2 / 8, 1 / 8, 0]),
    ],
)
def test_warm_up_and_the_shape_after_it(schedule: str, expected: list[float]) -> None:
    settings = TrainSettings(schedule=schedule, warmup=0.2)

    assert rates(settings, 10) == pytest.approx(expected)


def test_cosine_falls_along_half_a_wave() -> None:
    found = rates(TrainSettings(schedule="cosine", warmup=0.2), 10)

    assert found[:3] == pytest.approx([1 / 3, 2 / 3, 1])
    assert found[4] == pytest.approx(0.5 + 0.5 * HALF_ROOT)  # a quarter of the way: cos 45°
    assert found[6] == pytest.approx(0.5)
    assert found[8] == pytest.approx(0.5 - 0.5 * HALF_ROOT)
    assert found[10] == pytest.approx(0, abs=1e-12)


@pytest.mark.parametrize("schedule", ["constant", "linear", "cosine"])
def test_without_warm_up_the_first_step_has_the_full_rate(schedule: str) -> None:
    assert rates(TrainSettings(schedule=schedule, warmup=0.0), 4)[0] == 1


@pytest.mark.parametrize("schedule", ["linear", "cosine"])
def test_a_run_of_one_step_takes_it(schedule: str) -> None:
    assert rates(TrainSettings(schedule=schedule, warmup=0.1), 1)[0] == 1


def test_the_schedule_keeps_the_proportions_between_groups() -> None:
    optimizer = SGD(
        [
            {"params": [nn.Parameter(torch.zeros(1))], "lr": 0.1},
            {"params": [nn.Parameter(torch.zeros(1))], "lr": 0.3},
        ]
    )
    schedule = make_schedule(optimizer, TrainSettings(schedule="linear", warmup=0.0), 4)
    optimizer.step()
    schedule.step()

    assert [group["lr"] for group in optimizer.param_groups] == pytest.approx([0.075, 0.225])
    assert learning_rate(optimizer) == pytest.approx(0.225)


def test_adamw_is_given_every_learning_weight_once_with_its_rate_and_decay(
    small_pairs: PairTable, quick: TrainSettings
) -> None:
    settings = quick.replace(
        tuning="head", learning_rate=0.02, encoder_learning_rate=0.5, weight_decay=0.3
    )
    model = prepare(small_pairs, settings).model
    apply_tuning(model, settings)

    optimizer = make_optimizer(model, settings)

    held = [p for group in optimizer.param_groups for p in group["params"]]
    learning = [p for p in model.parameters() if p.requires_grad]
    assert isinstance(optimizer, AdamW)
    assert sorted(map(id, held)) == sorted(map(id, learning))
    assert {(g["lr"], g["weight_decay"]) for g in optimizer.param_groups} == {
        (0.02, 0.3),
        (0.02, 0.0),
    }


def test_the_first_step_is_adamws_formula(small_pairs: PairTable, quick: TrainSettings) -> None:
    """After one step both running means are the gradient's own: w ← w(1 - ηλ) - η g/(|g| + ε)."""
    settings = quick.replace(learning_rate=0.01, weight_decay=0.2)
    model = prepare(small_pairs, settings).model
    before = {name: p.detach().clone() for name, p in model.named_parameters()}
    gradients = {name: torch.randn_like(p) for name, p in before.items()}
    for name, parameter in model.named_parameters():
        parameter.grad = gradients[name].clone()

    make_optimizer(model, settings).step()

    for name, parameter in model.named_parameters():
        decay = 0.2 if parameter.ndim > 1 else 0.0
        g = gradients[name]
        expected = before[name] * (1 - 0.01 * decay) - 0.01 * g / (g.abs() + 1e-8)
        torch.testing.assert_close(parameter.detach(), expected, rtol=1e-5, atol=1e-6)


# torch's own, with what the names promise spelled out, and not the fused kernels.
TORCHS: dict[str, tuple[type[Optimizer], dict[str, Any]]] = {
    "adamw": (AdamW, {}),
    "adam": (Adam, {}),
    "sgd": (SGD, {"momentum": 0.9, "nesterov": True}),
}


def test_there_is_an_optimizer_for_every_name_a_setting_may_have() -> None:
    assert list(OPTIMIZERS) == ["adamw", "adam", "sgd"] == list(TORCHS)
    assert set(OPTIMIZERS) == set(TrainSettings.model_fields["optimizer"].annotation.__args__)


@pytest.mark.parametrize("name", TORCHS)
def test_the_first_steps_are_those_of_torchs_own(
    small_pairs: PairTable, quick: TrainSettings, name: str
) -> None:
    """Three, for the momentum of the first is its gradient alone. One weight misses that one, as it
    does in training when no half is absent from the first batch."""
    settings = quick.replace(optimizer=name, learning_rate=0.01, weight_decay=0.2)
    model = prepare(small_pairs, settings).model
    copies = {n: nn.Parameter(p.detach().clone()) for n, p in model.named_parameters()}
    own, options = TORCHS[name]
    decayed = [p for p in copies.values() if p.squeeze().ndim > 1]
    rest = [p for p in copies.values() if p.squeeze().ndim <= 1]
    reference = own(
        [{"params": decayed, "weight_decay": 0.2}, {"params": rest, "weight_decay": 0.0}],
        lr=0.01, foreach=False, fused=False, **options,
    )  # fmt: skip
    optimizer = make_optimizer(model, settings)

    for step in range(3):
        for n, parameter in model.named_parameters():
            if step or n != "absent.text":
                parameter.grad = torch.randn_like(parameter)
                copies[n].grad = parameter.grad.clone()
        optimizer.step()
        reference.step()

    assert all(group["fused"] for group in optimizer.param_groups)
    for n, parameter in model.named_parameters():
        torch.testing.assert_close(parameter, copies[n], rtol=1e-5, atol=1e-6, msg=n)


@pytest.mark.parametrize(("name", "rate"), [("adamw", 0.01), ("adam", 0.01), ("sgd", 0.1)])
def test_every_optimizer_learns_what_can_be_told_apart(
    small_pairs: PairTable, quick: TrainSettings, name: str, rate: float
) -> None:
    settings = quick.replace(
        optimizer=name, learning_rate=rate, epochs=10, schedule="constant", tuning="head"
    )
    prepared = prepare(small_pairs, settings)

    losses = [
        event.values["loss"]
        for event in train(prepared.model, prepared.loaders, settings)
        if event.kind == "evaluated"
    ]

    assert losses[-1] < 0.25 < 0.7 < losses[0]
