"""Which weights learn, and at which rate. Knows names of parameters and no data."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, cast

from torch import nn

from mmapp.errors import SettingsError
from mmapp.models.fusion import FUSIONS
from mmapp.models.layers import depths, layers_of
from mmapp.models.model import FusionModel
from mmapp.settings import TrainSettings
from mmapp.sources import Source

FRESH_RATE = 1e-3  # projections, fusion and head
SCRATCH_RATE = 5e-4  # encoders that start from nothing; a small BERT collapses at twice that
PRETRAINED_RATE = 3e-5  # pretrained encoders; more makes them forget
# Few numbers that stand beside or add to kept weights move far before anything is forgotten; both
# papers' best rates are ten times and more those of full tuning.
RATES = {"lora": 3e-4, "bias": 1e-3}


def tune_head(model: FusionModel, settings: TrainSettings) -> None:
    """Projections, fusion and head learn; the encoders stay as they are."""
    model.requires_grad_(True)
    for encoder in encoders(model).values():
        encoder.requires_grad_(False)


def tune_lora(model: FusionModel, settings: TrainSettings) -> None:
    """Beside the encoders' kept matrices learn products of two thin ones, until `merge` adds them up.

    Hu et al., "LoRA: Low-Rank Adaptation of Large Language Models", ICLR 2022.
    """
    tune_head(model, settings)
    for encoder in encoders(model).values():
        _adapt(encoder, settings.lora_rank)


def tune_bias(model: FusionModel, settings: TrainSettings) -> None:
    """Of the encoders only the biases learn.

    Ben Zaken et al., "BitFit: Simple Parameter-efficient Fine-tuning", ACL 2022.
    """
    tune_head(model, settings)
    for encoder in encoders(model).values():
        biases = [weight for name, weight in encoder.named_parameters() if _is_bias(name)]
        if not biases:
            raise _unfit(encoder, "no biases", "bias")
        for bias in biases:
            bias.requires_grad_(True)


def tune_top(model: FusionModel, settings: TrainSettings) -> None:
    """The last layers of each encoder learn, and what comes after them."""
    tune_head(model, settings)
    for encoder in encoders(model).values():
        layers = len(layers_of(encoder))
        if not layers:
            raise _unfit(encoder, "no list of layers", "top-k")
        kept = max(0, layers - settings.top_layers)
        depth = depths(encoder)
        for name, weight in encoder.named_parameters():
            weight.requires_grad_(depth[name] > kept)


def tune_full(model: FusionModel, settings: TrainSettings) -> None:
    """Every weight learns."""
    model.requires_grad_(True)


TUNINGS: dict[str, Callable[[FusionModel, TrainSettings], None]] = {
    "head": tune_head,
    "lora": tune_lora,
    "bias": tune_bias,
    "top-k": tune_top,
    "full": tune_full,
}


def apply_tuning(model: FusionModel, settings: TrainSettings) -> None:
    """Set which weights learn, as `settings.tuning` says.

    Raises:
        SettingsError: there is no such tuning, or an encoder has nothing that it could tune.
    """
    if settings.tuning not in TUNINGS:
        raise SettingsError(
            f"There is no tuning {settings.tuning!r}. Expected one of {', '.join(TUNINGS)}."
        )
    merge(model)
    TUNINGS[settings.tuning](model, settings)


def merge(model: nn.Module) -> None:
    """Add what LoRA learnt to the weights it stands beside, and leave plain modules behind."""
    for name, module in list(model.named_modules()):
        module.__dict__.pop("peft_config", None)
        if hasattr(module, "lora_A"):
            adapter = cast(Any, module)
            adapter.merge()
            model.set_submodule(name, adapter.get_base_layer())


def encoders(model: FusionModel) -> dict[str, nn.Module]:
    """The encoders the model has, by modality."""
    both = {"text": model.text_encoder, "image": model.image_encoder}
    return {modality: encoder for modality, encoder in both.items() if encoder is not None}


def parameter_groups(model: FusionModel, settings: TrainSettings) -> list[dict[str, Any]]:
    """Learning weights in groups of one rate and one decay each, as torch's optimizers take them.

    Each encoder has its own rate, lower layers perhaps a lower one, everything else the other one.
    Biases, norms, the learnt absence vectors and class tokens (single rows, whatever their shape) are
    not pulled towards zero.
    """
    rates = _encoder_rates(model, settings)
    rest = _first(settings.learning_rate, FRESH_RATE)
    groups: dict[tuple[float, bool], dict[str, Any]] = {}
    for name, parameter in model.named_parameters():
        if not parameter.requires_grad:
            continue
        rate, decays = rates.get(name, rest), parameter.squeeze().ndim > 1
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


def _encoder_rates(model: FusionModel, settings: TrainSettings) -> dict[str, float]:
    """The step size of every weight of the encoders, by its name in the model.

    Each layer's is `layer_decay` times that of the one above it. Howard & Ruder, "Universal Language
    Model Fine-tuning for Text Classification", ACL 2018.
    """
    rates = {}
    for modality, encoder in encoders(model).items():
        own = _own_rate(getattr(model.config, f"{modality}_encoder"), settings.tuning)
        rate = _first(settings.encoder_learning_rate, settings.learning_rate, own)
        depth = depths(encoder)
        top = max(depth.values())
        for name, layer in depth.items():
            rates[f"{modality}_encoder.{name}"] = rate * settings.layer_decay ** (top - layer)
    return rates


def usual_rates(settings: TrainSettings) -> tuple[float, float]:
    """The step sizes that these settings come to: of projections, fusion and head; of the encoders.

    Of two encoders it is the smaller one.
    """
    names = [getattr(settings, f"{half}_encoder") for half in FUSIONS[settings.fusion].reads]
    own = min(_own_rate(name, settings.tuning) for name in names)
    return (
        _first(settings.learning_rate, FRESH_RATE),
        _first(settings.encoder_learning_rate, settings.learning_rate, own),
    )


def _own_rate(encoder: str, tuning: str) -> float:
    """An encoder's step size when nobody names another."""
    usual = PRETRAINED_RATE if Source.parse(encoder).pretrained else SCRATCH_RATE
    return max(usual, RATES.get(tuning, 0.0))


def _first(*rates: float | None) -> float:
    return next(rate for rate in rates if rate is not None)


def _is_bias(name: str) -> bool:
    """torch writes bias, in_proj_bias, bias_ih_l0; relative_position_bias_table is none."""
    last = name.rpartition(".")[2]
    return last.startswith("bias") or last.endswith("bias")


def _adapt(encoder: nn.Module, rank: int) -> None:
    """Put peft's LoRA layers in the place of an encoder's linear ones. Raises SettingsError."""
    targets = _targets(encoder)
    # Its import takes seconds, which only this tuning is to wait for.
    from peft import LoraConfig, inject_adapter_in_model  # noqa: PLC0415

    # alpha / rank scales the product; kept at 2, the rate does not depend on the rank.
    config = LoraConfig(r=rank, lora_alpha=2 * rank, target_modules=targets)
    inject_adapter_in_model(config, encoder)
    for module in encoder.modules():
        if isinstance(module, nn.TransformerEncoderLayer):
            # In evaluation torch reads such a layer's weights past their modules, and so past LoRA,
            # unless one of them has a hook. This one goes when the module does.
            module.linear1.register_forward_hook(lambda *_: None)


def _targets(encoder: nn.Module) -> list[str]:
    """Names of the linear layers; of an encoder without any, of its convolutions.

    Subclasses are left out: most read their weights in a way of their own, to which nothing can be
    added (the projection inside torch's MultiheadAttention, standardised convolutions).
    """
    for kinds in ((nn.Linear,), (nn.Conv1d, nn.Conv2d)):
        names = [
            name
            for name, module in encoder.named_modules()
            # peft asks that the rank be a multiple of a convolution's groups.
            if type(module) in kinds and getattr(module, "groups", 1) == 1
        ]
        if names:
            return names
    raise _unfit(encoder, "no linear layers or convolutions", "lora")


def _unfit(encoder: nn.Module, lacks: str, tuning: str) -> SettingsError:
    return SettingsError(
        f"{type(encoder.backbone).__name__} has {lacks}, so tuning {tuning} cannot be used with it. "
        "Choose the tuning full or head, or another encoder."
    )
