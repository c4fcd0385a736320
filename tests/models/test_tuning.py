"""Which weights learn and at which rate, by name."""

from __future__ import annotations

import pytest
import torch
from transformers import BertConfig

from mmapp.errors import SettingsError
from mmapp.models.configuration import FusionConfig
from mmapp.models.fusion import FUSIONS
from mmapp.models.model import FusionModel
from mmapp.models.scratch import SmallCnnConfig
from mmapp.models.tuning import TUNINGS, apply_tuning, encoders, parameter_groups
from mmapp.settings import TrainSettings

IMAGE_WEIGHTS = {
    f"image_encoder.backbone.blocks.{block}.{part}"
    for block in (0, 1)
    for part in ("0.weight", "1.weight", "1.bias")  # a convolution without bias, a norm
}
# Everything but the encoders of a concat model.
HEAD_WEIGHTS = {
    "projections.text.into.weight",
    "projections.text.into.bias",
    "projections.image.into.weight",
    "projections.image.into.bias",
    "absent.text",
    "absent.image",
    "fusion.mix.weight",
    "fusion.mix.bias",
    "head.out.weight",
    "head.out.bias",
}


@pytest.fixture
def model() -> FusionModel:
    """A concat of a BERT that was named by its Hub id and a CNN that starts from nothing."""
    text = BertConfig(
        vocab_size=20,
        hidden_size=16,
        num_hidden_layers=1,
        num_attention_heads=2,
        intermediate_size=32,
        max_position_embeddings=12,
    )
    return FusionModel(
        FusionConfig(
            text_config=text,
            image_config=SmallCnnConfig(channels=(8, 16)),
            text_encoder="bert-base-uncased",
            image_encoder="scratch:cnn",
            text_width=16,
            image_width=16,
            fusion="concat",
            width=8,
            num_labels=3,
        )
    )


def learning(model: FusionModel) -> set[str]:
    return {name for name, p in model.named_parameters() if p.requires_grad}


def test_head_tuning_leaves_the_encoders_as_they_are(model: FusionModel) -> None:
    apply_tuning(model, "head")

    assert learning(model) == HEAD_WEIGHTS


def test_full_tuning_lets_every_weight_learn_again(model: FusionModel) -> None:
    apply_tuning(model, "head")
    apply_tuning(model, "full")

    text = {n for n, _ in model.named_parameters() if n.startswith("text_encoder.backbone.")}
    # 5 of the embeddings, 16 of the one layer, 2 of the pooler
    assert len(text) == 23
    assert learning(model) == HEAD_WEIGHTS | IMAGE_WEIGHTS | text


@pytest.mark.parametrize("fusion", FUSIONS)
@pytest.mark.parametrize("tuning", TUNINGS)
def test_every_tuning_of_every_fusion_leaves_the_head_something_to_learn(
    model: FusionModel, tuning: str, fusion: str
) -> None:
    model.config.fusion = fusion
    other = FusionModel(model.config)

    apply_tuning(other, tuning)

    assert {"head.out.weight", "head.out.bias"} <= learning(other)


def test_an_unknown_tuning_is_answered_with_the_choices(model: FusionModel) -> None:
    with pytest.raises(SettingsError, match="no tuning 'most'. Expected one of full, head"):
        apply_tuning(model, "most")


def test_encoders_are_those_the_model_has(model: FusionModel) -> None:
    assert encoders(model) == {"text": model.text_encoder, "image": model.image_encoder}
    model.config.fusion = "text-only"
    assert list(encoders(FusionModel(model.config))) == ["text"]


def rates(model: FusionModel, **settings: float) -> dict[str, tuple[float, float]]:
    """Rate and decay of every weight in a group, by name; each stands in one group only."""
    groups = parameter_groups(model, TrainSettings(weight_decay=0.25, **settings))
    by_name = dict(model.named_parameters())
    found: dict[str, tuple[float, float]] = {}
    for group in groups:
        for name, parameter in zip(group["names"], group["params"], strict=True):
            assert by_name[name] is parameter
            assert name not in found
            found[name] = (group["lr"], group["weight_decay"])
    return found


@pytest.mark.parametrize(
    ("settings", "pretrained", "scratch", "rest"),
    [
        ({}, 3e-5, 5e-4, 1e-3),
        ({"learning_rate": 0.02}, 0.02, 0.02, 0.02),
        ({"encoder_learning_rate": 0.003}, 0.003, 0.003, 1e-3),
        ({"learning_rate": 0.02, "encoder_learning_rate": 0.003}, 0.003, 0.003, 0.02),
        ({"learning_rate": 0.02, "encoder_learning_rate": 0.0}, 0.0, 0.0, 0.02),
    ],
)
def test_each_weight_gets_the_rate_of_where_it_comes_from(
    model: FusionModel, settings: dict[str, float], pretrained: float, scratch: float, rest: float
) -> None:
    found = rates(model, **settings)

    assert found.keys() == dict(model.named_parameters()).keys()
    assert {n: found[n][0] for n in HEAD_WEIGHTS} == dict.fromkeys(HEAD_WEIGHTS, rest)
    assert {n: found[n][0] for n in IMAGE_WEIGHTS} == dict.fromkeys(IMAGE_WEIGHTS, scratch)
    text = found.keys() - HEAD_WEIGHTS - IMAGE_WEIGHTS
    assert {found[n][0] for n in text} == {pretrained}


def test_only_matrices_and_kernels_are_pulled_towards_zero(model: FusionModel) -> None:
    found = rates(model)

    decayed = {name for name, (_, decay) in found.items() if decay}
    assert decayed & (HEAD_WEIGHTS | IMAGE_WEIGHTS) == {
        "projections.text.into.weight",
        "projections.image.into.weight",
        "fusion.mix.weight",
        "head.out.weight",
        "image_encoder.backbone.blocks.0.0.weight",
        "image_encoder.backbone.blocks.1.0.weight",
    }
    text = {name for name in decayed if name.startswith("text_encoder")}
    assert not [name for name in text if "bias" in name or "LayerNorm" in name]
    # 3 embeddings, 6 matrices of the layer, 1 of the pooler
    assert len(text) == 10
    assert {decay for _, decay in found.values()} == {0.0, 0.25}


def test_weights_that_do_not_learn_are_in_no_group(model: FusionModel) -> None:
    apply_tuning(model, "head")

    assert rates(model).keys() == HEAD_WEIGHTS


def test_groups_are_what_torchs_optimizers_take(model: FusionModel) -> None:
    groups = parameter_groups(model, TrainSettings())

    assert len({(group["lr"], group["weight_decay"]) for group in groups}) == len(groups)
    for group in groups:
        group.pop("names")
    torch.optim.AdamW(groups)
