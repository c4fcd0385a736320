"""Which weights learn, and at which rate. Knows names of parameters and no data."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from torch import nn

from mmapp.errors import SettingsError
from mmapp.models.model import FusionModel
from mmapp.settings import TrainSettings
from mmapp.sources import Source

FRESH_RATE = 1e-3  # projections, fusion and head
SCRATCH_RATE = 5e-4  # encoders that start from nothing; a small BERT collapses at twice that
PRETRAINED_RATE = 3e-5  # pretrained encoders; more makes them forget


def tune_full(model: FusionModel) -> None:
    """Every weight learns."""
    model.requires_grad_(True)


def tune_head(model: FusionModel) -> None:
    """Projections, fusion and head learn; the encoders stay as they are."""
    model.requires_grad_(True)
    for encoder in encoders(model).values():
        encoder.requires_grad_(False)


TUNINGS: dict[str, Callable[[FusionModel], None]] = {"full": tune_full, "head": tune_head}


def apply_tuning(model: FusionModel, tuning: str) -> None:
    """Set which weights learn. Raises SettingsError for a tuning that does not exist."""
    if tuning not in TUNINGS:
        raise SettingsError(
            f"There is no tuning {tuning!r}. Expected one of {', '.join(TUNINGS)}."
        )
    TUNINGS[tuning](model)


def encoders(model: FusionModel) -> dict[str, nn.Module]:
    """The encoders the model has, by modality."""
    both = {"text": model.text_encoder, "image": model.image_encoder}
    return {modality: encoder for modality, encoder in both.items() if encoder is not None}


def parameter_groups(model: FusionModel, settings: TrainSettings) -> list[dict[str, Any]]:
    """Learning weights in groups of one rate and one decay each, as torch's optimizers take them.

    Each encoder has its own rate, everything else the other one. Biases, norms, the learnt absence
    vectors and class tokens (single rows, whatever their shape) are not pulled towards zero.
    """
    groups: dict[tuple[float, bool], dict[str, Any]] = {}
    for name, parameter in model.named_parameters():
        if not parameter.requires_grad:
            continue
        rate, decays = _rate(name, model, settings), parameter.squeeze().ndim > 1
        group = groups.setdefault(
            (rate, decays),
            {
                "params": [],
                "names": [],
                "lr": rate,
                "weight_decay": settings.weight_decay if decays else 0.0,
            },
        )
        group["params"].append(parameter)
        group["names"].append(name)
    return list(groups.values())


def _rate(name: str, model: FusionModel, settings: TrainSettings) -> float:
    """The step size of one weight: what the user set, else what suits where it comes from."""
    for modality in encoders(model):
        if name.startswith(f"{modality}_encoder."):
            source = Source.parse(getattr(model.config, f"{modality}_encoder"))
            own = PRETRAINED_RATE if source.pretrained else SCRATCH_RATE
            return _first(settings.encoder_learning_rate, settings.learning_rate, own)
    return _first(settings.learning_rate, FRESH_RATE)


def _first(*rates: float | None) -> float:
    return next(rate for rate in rates if rate is not None)
