"""Where the layers of encoders of many makes are found; built without weights, from their configs."""

from __future__ import annotations

import pytest
import torch
from torch import nn
from transformers import (
    AlbertConfig,
    AutoModel,
    ConvNextConfig,
    MPNetConfig,
    PreTrainedConfig,
    ResNetConfig,
    ViTConfig,
)

from mmapp.models.layers import depths, layers_of
from mmapp.models.scratch import IMAGE, TEXT
from mmapp.models.torchvision_trunk import TorchvisionConfig

# Of each encoder the number of its layers, and the layer of some of its weights.
ENCODERS: dict[str, tuple[PreTrainedConfig, int, dict[str, int]]] = {
    "mpnet": (
        MPNetConfig(num_hidden_layers=3),
        3,
        {
            "embeddings.word_embeddings.weight": 0,
            "encoder.relative_attention_bias.weight": 0,
            "encoder.layer.0.output.dense.bias": 1,
            "encoder.layer.2.output.dense.bias": 3,
            "pooler.dense.weight": 3,
        },
    ),
    "albert, one layer for all": (
        AlbertConfig(num_hidden_layers=3),
        1,
        {"encoder.embedding_hidden_mapping_in.weight": 0, "pooler.weight": 1},
    ),
    "vit": (
        ViTConfig(num_hidden_layers=3),
        3,
        {"embeddings.cls_token": 0, "layers.1.mlp.fc1.weight": 2, "layernorm.weight": 3},
    ),
    "resnet, its stages and not their longer insides": (
        ResNetConfig(depths=[3, 4, 6, 3]),
        4,
        {
            "embedder.embedder.convolution.weight": 0,
            "encoder.stages.0.layers.0.shortcut.convolution.weight": 1,
            "encoder.stages.3.layers.2.layer.2.normalization.bias": 4,
        },
    ),
    "convnext": (
        ConvNextConfig(),
        4,
        {"embeddings.patch_embeddings.weight": 0, "layernorm.weight": 4},
    ),
    "torchvision resnet": (
        TorchvisionConfig(name="resnet18"),
        5,
        {
            "trunk.conv1.weight": 1,
            "trunk.bn1.weight": 1,
            "trunk.layer1.0.conv1.weight": 2,
            "trunk.layer4.1.bn2.bias": 5,
        },
    ),
    "torchvision vgg, a list in a list of one": (
        TorchvisionConfig(name="vgg11_bn"),
        8,
        {"trunk.features.0.weight": 1, "trunk.features.1.bias": 1, "trunk.features.26.bias": 8},
    ),
    "torchvision densenet, a norm at its end": (
        TorchvisionConfig(name="densenet121"),
        8,
        {"trunk.features.norm0.weight": 1, "trunk.features.norm5.weight": 8},
    ),
    "torchvision vit": (
        TorchvisionConfig(name="vit_b_16"),
        12,
        {
            "trunk.class_token": 0,
            "trunk.encoder.pos_embedding": 0,
            "trunk.encoder.layers.encoder_layer_0.mlp.0.weight": 1,
            "trunk.encoder.ln.weight": 12,
        },
    ),
    "torchvision maxvit, a stem before a list": (
        TorchvisionConfig(name="maxvit_t"),
        4,
        {"trunk.stem.0.0.weight": 0},
    ),
    "scratch bert": (
        TEXT["bert"](20, 12),
        2,
        {"embeddings.LayerNorm.weight": 0, "pooler.dense.weight": 2},
    ),
    "scratch transformer": (
        TEXT["transformer"](20, 12),
        2,
        {"embeddings.weight": 0, "layers.0.norm1.bias": 1, "norm.weight": 2},
    ),
    "scratch lstm, which has no list": (
        TEXT["lstm"](20, 12),
        0,
        {"embeddings.weight": 0, "cells.weight_ih_l0": 1, "cells.bias_hh_l0_reverse": 1},
    ),
    "scratch cnn": (IMAGE["cnn"](), 4, {"blocks.0.1.weight": 1, "blocks.3.0.weight": 4}),
    "scratch resnet": (
        IMAGE["resnet"](),
        3,
        {"embedder.embedder.convolution.weight": 0},
    ),
}


@pytest.mark.parametrize("name", ENCODERS)
def test_the_layers_of_an_encoder_are_found_whatever_its_make(name: str) -> None:
    config, count, some = ENCODERS[name]
    with torch.device("meta"):
        encoder = AutoModel.from_config(config)

    found = depths(encoder)

    assert len(layers_of(encoder)) == count
    assert {weight: found[weight] for weight in some} == some
    assert found.keys() == dict(encoder.named_parameters()).keys()
    assert max(found.values()) == max(count, 1)


def test_a_norm_before_the_first_layer_of_a_list_comes_before_it() -> None:
    encoder = nn.Sequential(nn.LayerNorm(2), nn.Linear(2, 2), nn.Linear(2, 2), nn.Linear(2, 2))

    assert depths(encoder) == {
        "0.weight": 0, "0.bias": 0, "1.weight": 1, "1.bias": 1,
        "2.weight": 2, "2.bias": 2, "3.weight": 3, "3.bias": 3,
    }  # fmt: skip
