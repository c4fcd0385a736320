"""The encoders trained from nothing, by name, small enough for a CPU; and the small CNN itself.

Each is an ordinary transformers configuration, so AutoModel builds it like any pretrained one.
"""

from __future__ import annotations

from collections.abc import Callable
from functools import partial

import torch
from torch import nn
from transformers import (
    AutoConfig,
    AutoModel,
    BertConfig,
    PreTrainedConfig,
    PreTrainedModel,
    ResNetConfig,
)
from transformers.modeling_outputs import BaseModelOutput

from mmapp.models.scratch_text import RecurrentConfig, TextCnnConfig, TransformerConfig


class SmallCnnConfig(PreTrainedConfig):
    """Configuration of SmallCnn: `channels` of its blocks."""

    model_type = "mmapp_cnn"
    channels: tuple[int, ...] | list[int] = (16, 32, 64, 128)


class SmallCnn(PreTrainedModel):
    """Blocks of a convolution that halves the side, group norm and ReLU.

    Group norm, because it does the same in training and prediction and for any batch size. Four
    blocks, so that a position sees 31 pixels: with three, handwritten digits of 32 pixels came out
    at 0.96 instead of 0.99.
    """

    config_class = SmallCnnConfig
    main_input_name = "pixel_values"

    def __init__(self, config: SmallCnnConfig) -> None:
        super().__init__(config)
        inputs = [3, *config.channels]
        self.blocks = nn.Sequential(*map(_block, inputs[:-1], inputs[1:]))
        self.post_init()

    def _init_weights(self, module: nn.Module) -> None:
        """Keep torch's own initialisation, which suits convolutions followed by a norm."""

    def forward(self, pixel_values: torch.Tensor) -> BaseModelOutput:
        """[B,3,S,S] -> last_hidden_state [B,C,S/16,S/16]."""
        return BaseModelOutput(last_hidden_state=self.blocks(pixel_values))


def _block(before: int, after: int) -> nn.Sequential:
    return nn.Sequential(
        nn.Conv2d(before, after, 3, stride=2, padding=1, bias=False),
        nn.GroupNorm(8, after),
        nn.ReLU(),
    )


def small_bert(vocab_size: int, max_length: int) -> PreTrainedConfig:
    """A BERT of two layers, 128 wide; no dropout, for what starts from nothing underfits first."""
    return BertConfig(
        vocab_size=vocab_size,
        hidden_size=128,
        num_hidden_layers=2,
        num_attention_heads=4,
        intermediate_size=256,
        max_position_embeddings=max_length,
        hidden_dropout_prob=0.0,
        attention_probs_dropout_prob=0.0,
    )


def small_cnn() -> PreTrainedConfig:
    return SmallCnnConfig()


def small_resnet() -> PreTrainedConfig:
    """A ResNet of three stages with one basic block each."""
    return ResNetConfig(
        embedding_size=32, hidden_sizes=[32, 64, 128], depths=[1, 1, 1], layer_type="basic"
    )


def text_cnn(vocab_size: int, max_length: int) -> PreTrainedConfig:
    return TextCnnConfig(vocab_size=vocab_size, max_position_embeddings=max_length)


def recurrent(cell: str, vocab_size: int, max_length: int) -> PreTrainedConfig:
    return RecurrentConfig(cell=cell, vocab_size=vocab_size, max_position_embeddings=max_length)


def small_transformer(vocab_size: int, max_length: int) -> PreTrainedConfig:
    return TransformerConfig(vocab_size=vocab_size, max_position_embeddings=max_length)


TEXT: dict[str, Callable[[int, int], PreTrainedConfig]] = {
    "bert": small_bert,
    "textcnn": text_cnn,
    "rnn": partial(recurrent, "rnn"),
    "lstm": partial(recurrent, "lstm"),
    "gru": partial(recurrent, "gru"),
    "transformer": small_transformer,
}
IMAGE: dict[str, Callable[[], PreTrainedConfig]] = {"cnn": small_cnn, "resnet": small_resnet}

AutoConfig.register(SmallCnnConfig.model_type, SmallCnnConfig)
AutoModel.register(SmallCnnConfig, SmallCnn)
