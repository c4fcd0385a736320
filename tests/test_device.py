"""What is chosen on which hardware, with the hardware's answers given by the test."""

from __future__ import annotations

import os
import random

import numpy as np
import pytest
import torch

from mmapp import device
from mmapp.device import LARGE_ENOUGH_FOR_BF16, choose_precision, rows_at_once
from mmapp.errors import SettingsError

SMALL, LARGE = LARGE_ENOUGH_FOR_BF16 - 1, LARGE_ENOUGH_FOR_BF16


def set_hardware(
    monkeypatch: pytest.MonkeyPatch, gpu: bool, gpu_bf16: bool, cpu_bf16: str = ""
) -> None:
    """`cpu_bf16` names the instructions the processor has: "avx512", "amx" or neither."""
    monkeypatch.setattr(torch.cuda, "is_available", lambda: gpu)
    monkeypatch.setattr(
        torch.cuda,
        "is_bf16_supported",
        # Emulation is "supported" on any card, which is why the question must leave it out.
        lambda including_emulation=True: gpu_bf16 or including_emulation,
    )
    monkeypatch.setattr(torch.cpu, "_is_avx512_bf16_supported", lambda: cpu_bf16 == "avx512")
    monkeypatch.setattr(torch.cpu, "_is_amx_tile_supported", lambda: cpu_bf16 == "amx")


@pytest.mark.parametrize(
    ("wanted", "parameters", "gpu", "gpu_bf16", "cpu_bf16", "chosen"),
    [
        ("auto", SMALL, True, True, "", "bf16"),
        ("auto", LARGE, True, False, "", "fp16"),
        ("auto", LARGE, True, False, "amx", "fp16"),
        ("auto", LARGE, False, False, "amx", "bf16"),
        ("auto", LARGE, False, False, "avx512", "bf16"),
        ("auto", SMALL, False, False, "amx", "fp32"),
        ("auto", LARGE, False, False, "", "fp32"),
        ("auto", LARGE, False, True, "", "fp32"),
        ("fp32", LARGE, True, True, "amx", "fp32"),
        ("bf16", SMALL, False, False, "", "bf16"),
        ("fp16", SMALL, True, True, "", "fp16"),
    ],
)
def test_the_precision_that_is_chosen(
    monkeypatch: pytest.MonkeyPatch,
    wanted: str,
    parameters: int,
    gpu: bool,
    gpu_bf16: bool,
    cpu_bf16: str,
    chosen: str,
) -> None:
    set_hardware(monkeypatch, gpu, gpu_bf16, cpu_bf16)

    assert choose_precision(wanted, parameters) == chosen


def test_half_precision_without_a_gpu_is_refused_with_the_choices(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    set_hardware(monkeypatch, gpu=False, gpu_bf16=False)

    with pytest.raises(SettingsError, match="needs a GPU. Choose auto, bf16 or fp32"):
        choose_precision("fp16", LARGE)


@pytest.mark.parametrize(("precision", "mixed"), [("fp32", "no"), ("bf16", "bf16")])
def test_accelerate_is_told_the_precision_in_its_own_words(precision: str, mixed: str) -> None:
    assert device.make_accelerator(precision).mixed_precision == mixed


@pytest.mark.parametrize(
    ("precision", "dtype"), [("fp32", torch.float32), ("bf16", torch.bfloat16)]
)
def test_autocast_runs_heavy_arithmetic_in_the_precision(
    precision: str, dtype: torch.dtype
) -> None:
    with device.autocast(torch.device("cpu"), precision):
        product = torch.ones(2, 2) @ torch.ones(2, 2)

    assert product.dtype == dtype


def test_one_seed_starts_every_generator() -> None:
    def draw() -> tuple[float, float, float]:
        return random.random(), float(np.random.rand()), float(torch.rand(()))

    device.seed_everything(7)
    first = draw()
    device.seed_everything(7)
    again = draw()
    device.seed_everything(8)
    other = draw()

    assert first == again
    assert not set(first) & set(other)


def test_a_random_state_that_was_kept_gives_the_same_numbers_again() -> None:
    kept = device.random_state()
    first = torch.rand(3)

    device.set_random_state(kept)

    assert torch.equal(torch.rand(3), first)


def test_only_cores_that_this_process_may_use_are_counted(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(os, "sched_getaffinity", lambda _: {0, 3, 5}, raising=False)

    assert device.cores() == 3


def test_where_the_system_does_not_say_all_cores_count(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delattr(os, "sched_getaffinity", raising=False)
    monkeypatch.setattr(os, "cpu_count", lambda: 6)

    assert device.cores() == 6


@pytest.mark.parametrize(("gpu", "kind"), [(True, "cuda"), (False, "cpu")])
def test_predictions_are_made_on_a_gpu_where_there_is_one(
    monkeypatch: pytest.MonkeyPatch, gpu: bool, kind: str
) -> None:
    set_hardware(monkeypatch, gpu, gpu_bf16=False)

    assert device.inference_device().type == kind


@pytest.mark.parametrize(
    ("kind", "side", "most", "expected"),
    [("cpu", 224, 64, 16), ("cpu", 32, 64, 64), ("cpu", 2000, 64, 1), ("cuda", 224, 64, 64)],
)
def test_a_cpu_is_given_fewer_large_pictures_at_once(
    kind: str, side: int, most: int, expected: int
) -> None:
    assert rows_at_once(torch.device(kind), side, most) == expected
