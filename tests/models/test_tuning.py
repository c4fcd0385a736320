"""Which weights learn and at which rate, by name."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
import torch
from transformers import AutoConfig, BertConfig, ModernBertConfig, PreTrainedConfig

from mmapp.errors import SettingsError
from mmapp.models.configuration import FusionConfig
from mmapp.models.fusion import FUSIONS
from mmapp.models.model import FusionModel
from mmapp.models.scratch import TEXT, SmallCnnConfig
from mmapp.models.tuning import (
    TUNINGS,
    apply_tuning,
    encoders,
    merge,
    parameter_groups,
    usual_rates,
)
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
    apply_tuning(model, TrainSettings(tuning="head"))

    assert learning(model) == HEAD_WEIGHTS


def test_full_tuning_lets_every_weight_learn_again(model: FusionModel) -> None:
    apply_tuning(model, TrainSettings(tuning="head"))
    apply_tuning(model, TrainSettings(tuning="full"))

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

    apply_tuning(other, TrainSettings(tuning=tuning))

    assert {"head.out.weight", "head.out.bias"} <= learning(other)


def weights_of(prefix: str, modules: str, kinds: tuple[str, ...]) -> set[str]:
    return {f"{prefix}.{module}.{kind}" for module in modules.split() for kind in kinds}


BOTH = ("weight", "bias")
LORA = ("lora_A.default.weight", "lora_B.default.weight")
BERT_LINEAR = (
    "attention.self.query attention.self.key attention.self.value attention.output.dense "
    "intermediate.dense output.dense"
)
BERT_LAYER = f"{BERT_LINEAR} attention.output.LayerNorm output.LayerNorm"
VIT_LINEAR = "attention.q_proj attention.k_proj attention.v_proj attention.o_proj mlp.fc1 mlp.fc2"
VIT_LAYER = f"{VIT_LINEAR} layernorm_before layernorm_after"
RESNET = "embedder.embedder stages.0.layers.0.layer.0 stages.0.layers.0.layer.1"
RESNET_LAST = (
    "stages.1.layers.0.shortcut stages.1.layers.0.layer.0 stages.1.layers.0.layer.1"
)
# What of each encoder of two layers learns: with top-k the last layer and what comes after it.
LEARNING = {
    "bert": {
        "lora": weights_of("encoder.layer.0", BERT_LINEAR, LORA)
        | weights_of("encoder.layer.1", BERT_LINEAR, LORA)
        | weights_of("pooler", "dense", LORA),
        "bias": weights_of("encoder.layer.0", BERT_LAYER, ("bias",))
        | weights_of("encoder.layer.1", BERT_LAYER, ("bias",))
        | {"embeddings.LayerNorm.bias", "pooler.dense.bias"},
        "top-k": weights_of("encoder.layer.1", BERT_LAYER, BOTH) | weights_of("pooler", "dense", BOTH),
    },
    "vit": {
        "lora": weights_of("layers.0", VIT_LINEAR, LORA)
        | weights_of("layers.1", VIT_LINEAR, LORA)
        | weights_of("pooler", "dense", LORA),
        "bias": weights_of("layers.0", VIT_LAYER, ("bias",))
        | weights_of("layers.1", VIT_LAYER, ("bias",))
        | {"embeddings.patch_embeddings.projection.bias", "layernorm.bias", "pooler.dense.bias"},
        "top-k": weights_of("layers.1", VIT_LAYER, BOTH)
        | {"layernorm.weight", "layernorm.bias", "pooler.dense.weight", "pooler.dense.bias"},
    },
    "resnet": {
        "lora": {
            f"{'' if block.startswith('embedder') else 'encoder.'}{block}.convolution.{kind}"
            for block in f"{RESNET} {RESNET_LAST}".split()
            for kind in LORA
        },
        "bias": {
            f"{'' if block.startswith('embedder') else 'encoder.'}{block}.normalization.bias"
            for block in f"{RESNET} {RESNET_LAST}".split()
        },
        "top-k": weights_of("encoder", RESNET_LAST, ("convolution.weight",))
        | weights_of("encoder", RESNET_LAST, ("normalization.weight", "normalization.bias")),
    },
    "cnn": {
        "lora": weights_of("blocks", "0.0 1.0", LORA),
        "bias": {"blocks.0.1.bias", "blocks.1.1.bias"},
        "top-k": {"blocks.1.0.weight", "blocks.1.1.weight", "blocks.1.1.bias"},
    },
}
# Encodings are means over words and class tokens; what else the encoders compute is not looked at.
UNUSED = ("text_encoder.backbone.pooler.", "image_encoder.backbone.pooler.")


def build(text: PreTrainedConfig, image: PreTrainedConfig) -> FusionModel:
    """A concat with fresh weights, large enough at the end for differences to reach the logits."""
    widths = {
        f"{name}_width": getattr(config, "hidden_size", None) or max(sizes(config))
        for name, config in (("text", text), ("image", image))
    }
    model = FusionModel(
        FusionConfig(
            text_config=text,
            image_config=image,
            text_encoder="bert-base-uncased",
            image_encoder="scratch:cnn",
            fusion="concat",
            width=8,
            num_labels=3,
            **widths,
        )
    )
    torch.nn.init.normal_(model.head.out.weight)
    return model


def sizes(config: PreTrainedConfig) -> list[int]:
    return list(getattr(config, "hidden_sizes", None) or config.channels)


@pytest.fixture
def configs(tiny_bert: Path, tiny_vit: Path, tiny_resnet: Path) -> dict[str, PreTrainedConfig]:
    folders = {"bert": tiny_bert, "vit": tiny_vit, "resnet": tiny_resnet}
    read = {name: AutoConfig.from_pretrained(folder) for name, folder in folders.items()}
    return {**read, "cnn": SmallCnnConfig(channels=(8, 16))}


def batch() -> dict[str, torch.Tensor]:
    """Four pairs, of which the second has no image and the third no text."""
    mask = torch.ones(4, 6, dtype=torch.long)
    mask[0, 4:] = 0
    return {
        "input_ids": torch.randint(5, 15, (4, 6)),
        "attention_mask": mask,
        "pixel_values": torch.randn(4, 3, 32, 32),
        "present": torch.tensor([[True, True], [True, False], [False, True], [True, True]]),
        "labels": torch.tensor([0, 1, 2, 1]),
    }


@torch.no_grad()
def logits(model: FusionModel) -> torch.Tensor:
    torch.manual_seed(5)
    return model.eval()(**batch()).logits


def take_steps(model: FusionModel, settings: TrainSettings) -> None:
    """Two: the first moves only one of LoRA's two matrices, for the other is still zero."""
    groups = parameter_groups(model, settings)
    optimizer = torch.optim.SGD([{"params": group["params"]} for group in groups], lr=0.5)
    model.train()
    for _ in range(2):
        optimizer.zero_grad()
        model(**batch()).loss.backward()
        optimizer.step()


@pytest.mark.parametrize("image", ["vit", "resnet", "cnn"])
@pytest.mark.parametrize("tuning", ["lora", "bias", "top-k"])
def test_exactly_the_weights_a_tuning_names_learn_and_move(
    configs: dict[str, PreTrainedConfig], tuning: str, image: str
) -> None:
    model = build(configs["bert"], configs[image])
    settings = TrainSettings(tuning=tuning, top_layers=1, lora_rank=2)
    expected = HEAD_WEIGHTS | {
        f"{modality}_encoder.backbone.{name}"
        for modality, encoder in (("text", "bert"), ("image", image))
        for name in LEARNING[encoder][tuning]
    }

    apply_tuning(model, settings)
    assert learning(model) == expected

    before = {name: weight.detach().clone() for name, weight in model.named_parameters()}
    take_steps(model, settings)
    moved = {n for n, weight in model.named_parameters() if not torch.equal(weight, before[n])}
    assert moved == {name for name in expected if not name.startswith(UNUSED)}


def test_top_k_of_more_layers_than_there_are_leaves_the_embeddings_as_they_are(
    configs: dict[str, PreTrainedConfig],
) -> None:
    model = build(configs["bert"], configs["vit"])

    apply_tuning(model, TrainSettings(tuning="top-k", top_layers=50))

    frozen = dict(model.named_parameters()).keys() - learning(model)
    assert {name for name in frozen if "embeddings" not in name} == set()
    assert len(frozen) == 5 + 4


@pytest.mark.parametrize("text", ["bert", "transformer", "textcnn"])
@pytest.mark.parametrize("image", ["vit", "resnet", "cnn"])
def test_lora_merged_is_lora_applied(
    configs: dict[str, PreTrainedConfig], text: str, image: str
) -> None:
    """In evaluation torch's own Transformer layer would read its weights past LoRA's."""
    model = build(TEXT[text](20, 12), configs[image])
    untouched = {name: weight.clone() for name, weight in model.state_dict().items()}
    settings = TrainSettings(tuning="lora", lora_rank=3)
    apply_tuning(model, settings)
    at_first = logits(model)
    take_steps(model, settings)
    applied = logits(model)

    merge(model)

    assert (applied - at_first).abs().max() > 0.01
    torch.testing.assert_close(logits(model), applied, rtol=1e-5, atol=1e-5)
    assert model.state_dict().keys() == untouched.keys()
    moved = {n for n, w in model.state_dict().items() if not torch.equal(w, untouched[n])}
    assert [name for name in moved if name.startswith("text_encoder")]
    assert [name for name in moved if name.startswith("image_encoder")]
    assert not [name for module in model.modules() for name in vars(module) if "peft" in name]


def test_lora_changes_nothing_before_the_first_step(configs: dict[str, PreTrainedConfig]) -> None:
    model = build(configs["bert"], configs["cnn"])
    before = logits(model)

    apply_tuning(model, TrainSettings(tuning="lora"))

    assert torch.equal(logits(model), before)


def test_another_tuning_after_lora_begins_with_the_merged_weights(
    configs: dict[str, PreTrainedConfig],
) -> None:
    model = build(configs["bert"], configs["cnn"])
    names = dict(model.named_parameters()).keys()
    settings = TrainSettings(tuning="lora", lora_rank=2)
    apply_tuning(model, settings)
    take_steps(model, settings)
    reached = logits(model)

    apply_tuning(model, TrainSettings(tuning="full"))

    assert learning(model) == names
    torch.testing.assert_close(logits(model), reached, rtol=1e-5, atol=1e-5)


@pytest.mark.parametrize(
    ("tuning", "text", "lacks"),
    [
        ("lora", TEXT["lstm"](20, 12), "Recurrent has no linear layers or convolutions"),
        ("top-k", TEXT["gru"](20, 12), "Recurrent has no list of layers"),
        (
            "bias",
            ModernBertConfig(
                vocab_size=20, hidden_size=16, intermediate_size=16, num_hidden_layers=1,
                num_attention_heads=2, pad_token_id=0, bos_token_id=1, eos_token_id=2,
                cls_token_id=1, sep_token_id=2,
            ),
            "ModernBertModel has no biases",
        ),
    ],
)  # fmt: skip
def test_an_encoder_that_has_nothing_to_tune_is_named(
    configs: dict[str, PreTrainedConfig], tuning: str, text: PreTrainedConfig, lacks: str
) -> None:
    model = build(text, configs["cnn"])

    with pytest.raises(SettingsError, match=f"{lacks}, so tuning {tuning} cannot be used with it"):
        apply_tuning(model, TrainSettings(tuning=tuning))


def test_an_unknown_tuning_is_answered_with_the_choices(model: FusionModel) -> None:
    with pytest.raises(SettingsError, match="no tuning 'most'. Expected one of head, lora, bias"):
        apply_tuning(model, TrainSettings(tuning="most"))


def test_encoders_are_those_the_model_has(model: FusionModel) -> None:
    assert encoders(model) == {"text": model.text_encoder, "image": model.image_encoder}
    model.config.fusion = "text-only"
    assert list(encoders(FusionModel(model.config))) == ["text"]


def rates(model: FusionModel, **settings: Any) -> dict[str, tuple[float, float]]:
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


@pytest.mark.parametrize(
    ("tuning", "pretrained", "scratch"),
    [("head", 3e-5, 5e-4), ("top-k", 3e-5, 5e-4), ("lora", 3e-4, 5e-4), ("bias", 1e-3, 1e-3)],
)
def test_encoders_of_which_little_learns_have_larger_rates(
    model: FusionModel, tuning: str, pretrained: float, scratch: float
) -> None:
    """The model is not tuned here, so that every weight stands in a group."""
    found = rates(model, tuning=tuning)

    assert {rate for n, (rate, _) in found.items() if n.startswith("text_")} == {pretrained}
    assert {rate for n, (rate, _) in found.items() if n.startswith("image_")} == {scratch}
    assert {found[name][0] for name in HEAD_WEIGHTS} == {1e-3}


@pytest.mark.parametrize("tuning", ["full", "lora"])
def test_lower_layers_learn_slower(configs: dict[str, PreTrainedConfig], tuning: str) -> None:
    model = build(configs["bert"], configs["resnet"])
    apply_tuning(model, TrainSettings(tuning=tuning))
    kind = "weight" if tuning == "full" else "lora_A.default.weight"

    found = rates(model, tuning=tuning, layer_decay=0.5, learning_rate=0.08)

    by_hand = {
        "head.out.weight": 0.08,
        "projections.text.into.bias": 0.08,
        f"text_encoder.backbone.pooler.dense.{kind}": 0.08,
        f"text_encoder.backbone.encoder.layer.1.output.dense.{kind}": 0.08,
        f"text_encoder.backbone.encoder.layer.0.output.dense.{kind}": 0.04,
        f"image_encoder.backbone.encoder.stages.1.layers.0.layer.1.convolution.{kind}": 0.08,
        f"image_encoder.backbone.encoder.stages.0.layers.0.layer.1.convolution.{kind}": 0.04,
        f"image_encoder.backbone.embedder.embedder.convolution.{kind}": 0.02,
    }
    if tuning == "full":
        words = "text_encoder.backbone.embeddings"
        by_hand |= {f"{words}.word_embeddings.weight": 0.02, f"{words}.LayerNorm.bias": 0.02}
    assert {name: found[name][0] for name in by_hand} == pytest.approx(by_hand)


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
    apply_tuning(model, TrainSettings(tuning="head"))

    assert rates(model).keys() == HEAD_WEIGHTS


def test_groups_are_what_torchs_optimizers_take(model: FusionModel) -> None:
    groups = parameter_groups(model, TrainSettings())

    assert len({(group["lr"], group["weight_decay"]) for group in groups}) == len(groups)
    for group in groups:
        group.pop("names")
    torch.optim.AdamW(groups)


@pytest.mark.parametrize(
    ("given", "rates"),
    [
        ({}, (1e-3, 5e-4)),
        ({"text_encoder": "bert-base-uncased"}, (1e-3, 3e-5)),
        ({"text_encoder": "bert-base-uncased", "fusion": "image-only"}, (1e-3, 5e-4)),
        ({"text_encoder": "bert-base-uncased", "tuning": "lora"}, (1e-3, 3e-4)),
        ({"learning_rate": 0.2}, (0.2, 0.2)),
        ({"learning_rate": 0.2, "encoder_learning_rate": 0.1}, (0.2, 0.1)),
    ],
)
def test_the_usual_rates_are_those_that_learning_begins_with(
    given: dict[str, Any], rates: tuple[float, float]
) -> None:
    assert usual_rates(TrainSettings(**given)) == rates
