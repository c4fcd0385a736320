"""Device, precision, threads, seeds: the only place that asks what hardware there is."""

from __future__ import annotations

import os
import random

import numpy as np
import torch
from accelerate import Accelerator
from accelerate.utils import DistributedDataParallelKwargs

from mmapp.errors import SettingsError

# Below this many parameters the casts of bf16 cost a CPU more than its faster products save.
LARGE_ENOUGH_FOR_BF16 = 4_000_000

# Sixteen pictures of 224 by 224. What a layer makes of more is so large that the system clears new
# pages for it at every layer, which takes a CPU as long as the arithmetic itself.
PIXELS_AT_ONCE = 16 * 224 * 224


def cores() -> int:
    """Processor cores this process may use."""
    return len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1


def seed_everything(seed: int) -> None:
    """Start every random generator of this process from the same number."""
    random.seed(seed)
    np.random.seed(seed)
    torch.manual_seed(seed)


def choose_precision(wanted: str, parameters: int) -> str:
    """"fp32", "bf16" or "fp16" for `wanted`, which may also be "auto".

    auto takes bf16 where the hardware multiplies it natively: emulated, it is tens of times slower.

    Raises:
        SettingsError: fp16 was asked for without a GPU.
    """
    on_gpu = torch.cuda.is_available()
    if wanted == "fp16" and not on_gpu:
        raise SettingsError("precision fp16 needs a GPU. Choose auto, bf16 or fp32.")
    if wanted != "auto":
        return wanted
    if on_gpu:
        return "bf16" if torch.cuda.is_bf16_supported(including_emulation=False) else "fp16"
    native = torch.cpu._is_avx512_bf16_supported() or torch.cpu._is_amx_tile_supported()
    return "bf16" if native and parameters >= LARGE_ENOUGH_FOR_BF16 else "fp32"


def make_accelerator(precision: str) -> Accelerator:
    """accelerate's view of this process: its device, its rank, its precision ("fp32" ...)."""
    mixed = "no" if precision == "fp32" else precision
    # A batch in which one modality is absent everywhere leaves its encoder without gradients.
    unused = DistributedDataParallelKwargs(find_unused_parameters=True)
    return Accelerator(mixed_precision=mixed, kwargs_handlers=[unused])


def inference_device() -> torch.device:
    return torch.device("cuda" if torch.cuda.is_available() else "cpu")


def autocast(device: torch.device, precision: str) -> torch.autocast:
    """A context in which heavy arithmetic runs in the given precision."""
    dtype = torch.float16 if precision == "fp16" else torch.bfloat16
    return torch.autocast(device.type, dtype=dtype, enabled=precision != "fp32")


def rows_at_once(device: torch.device, side: int, most: int) -> int:
    """How many pictures of this side (in pixels) to send through a model where nothing learns."""
    if device.type != "cpu":
        return most
    return max(1, min(most, PIXELS_AT_ONCE // side**2))


def random_state() -> dict[str, torch.Tensor]:
    """The states of torch's global generators, to be put back by `set_random_state`."""
    states = {"cpu": torch.get_rng_state()}
    if torch.cuda.is_available():
        states["cuda"] = torch.cuda.get_rng_state()
    return states


def set_random_state(states: dict[str, torch.Tensor]) -> None:
    torch.set_rng_state(states["cpu"])
    if "cuda" in states and torch.cuda.is_available():
        torch.cuda.set_rng_state(states["cuda"])
