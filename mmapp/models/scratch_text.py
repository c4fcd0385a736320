"""Text encoders trained from nothing that transformers does not bring: TextCNN, recurrent, Transformer.

Each takes input_ids or inputs_embeds and an attention mask, as a BERT does, and gives
last_hidden_state [B,T,D]; padding never reaches a real word's state.
"""

from __future__ import annotations

import math
from typing import Any

import torch
import torch.nn.functional as F
from torch import nn
from torch.nn.utils.rnn import pack_padded_sequence, pad_packed_sequence
from transformers import AutoConfig, AutoModel, PreTrainedConfig, PreTrainedModel
from transformers import initialization as init
from transformers.modeling_outputs import BaseModelOutputWithPooling

CELLS: dict[str, Any] = {"rnn": nn.RNN, "lstm": nn.LSTM, "gru": nn.GRU}


class ScratchTextConfig(PreTrainedConfig):
    """What the encoders here have in common: a vocabulary and a width."""

    vocab_size: int = 1000
    hidden_size: int = 128
    max_position_embeddings: int = 512
    pad_token_id: int | None = 0
    own_pooling: bool = False  # the encoder's own `pooled` counts, not the mean of its states


class TextCnnConfig(ScratchTextConfig):
    """`windows` are the numbers of words each group of filters sees."""

    model_type = "mmapp_textcnn"
    windows: tuple[int, ...] | list[int] = (2, 3, 4, 5)
    own_pooling: bool = True


class RecurrentConfig(ScratchTextConfig):
    """`cell` is a key of CELLS."""

    model_type = "mmapp_recurrent"
    cell: str = "lstm"


class TransformerConfig(ScratchTextConfig):
    """`layers` of self-attention with `heads` each."""

    model_type = "mmapp_transformer"
    layers: int = 2
    heads: int = 4


class ScratchText(PreTrainedModel):
    """Words -> embeddings; what follows is the subclass's `states`."""

    main_input_name = "input_ids"
    config: ScratchTextConfig

    def __init__(self, config: ScratchTextConfig) -> None:
        super().__init__(config)
        self.embeddings = nn.Embedding(config.vocab_size, config.hidden_size)

    def get_input_embeddings(self) -> nn.Module:
        return self.embeddings

    def _init_weights(self, module: nn.Module) -> None:
        """Keep torch's own initialisation of layers; embeddings start small, as BERT's do."""
        if module is self.embeddings:
            init.normal_(module.weight, std=0.02)

    def forward(
        self,
        input_ids: torch.Tensor | None = None,
        attention_mask: torch.Tensor | None = None,
        inputs_embeds: torch.Tensor | None = None,
    ) -> BaseModelOutputWithPooling:
        """input_ids [B,T] or inputs_embeds [B,T,D], attention_mask [B,T] -> states [B,T,D]."""
        if inputs_embeds is None:
            inputs_embeds = self.embeddings(input_ids)
        if attention_mask is None:
            attention_mask = inputs_embeds.new_ones(inputs_embeds.shape[:2])
        mask = attention_mask.bool()
        states = self.states(inputs_embeds * mask.unsqueeze(-1), mask)
        return BaseModelOutputWithPooling(
            last_hidden_state=states, pooler_output=self.pooled(states, mask)
        )

    def states(self, embedded: torch.Tensor, mask: torch.Tensor) -> torch.Tensor:
        """embedded [B,T,D], mask [B,T] -> [B,T,D]."""
        raise NotImplementedError

    def pooled(self, states: torch.Tensor, mask: torch.Tensor) -> torch.Tensor | None:
        """The whole [B,D], where the encoder has a way of its own; else None."""
        return None


class TextCnn(ScratchText):
    """Filters over windows of words, the strongest answer of each over the text.

    Kim, "Convolutional Neural Networks for Sentence Classification", EMNLP 2014.
    """

    config_class = TextCnnConfig
    config: TextCnnConfig

    def __init__(self, config: TextCnnConfig) -> None:
        super().__init__(config)
        filters = config.hidden_size // len(config.windows)
        self.windows = nn.ModuleList(
            nn.Conv1d(config.hidden_size, filters, window, padding=window // 2)
            for window in config.windows
        )
        self.post_init()

    def states(self, embedded: torch.Tensor, mask: torch.Tensor) -> torch.Tensor:
        words = embedded.transpose(1, 2)  # [B,D,T]
        length = words.shape[-1]
        seen = [F.relu(window(words))[..., :length] for window in self.windows]
        return torch.cat(seen, dim=1).transpose(1, 2)

    def pooled(self, states: torch.Tensor, mask: torch.Tensor) -> torch.Tensor:
        # After the ReLU nothing is below zero, so zero cannot win over a real word.
        return (states * mask.unsqueeze(-1)).amax(dim=1)


class Recurrent(ScratchText):
    """An RNN, LSTM or GRU, read in both directions. Schuster & Paliwal, 1997."""

    config_class = RecurrentConfig
    config: RecurrentConfig

    def __init__(self, config: RecurrentConfig) -> None:
        super().__init__(config)
        self.cells = CELLS[config.cell](
            config.hidden_size, config.hidden_size // 2, batch_first=True, bidirectional=True
        )
        self.post_init()

    def states(self, embedded: torch.Tensor, mask: torch.Tensor) -> torch.Tensor:
        # Packed by length, the backward direction starts at the last real word.
        lengths = mask.sum(dim=1).clamp(min=1).cpu()
        packed = pack_padded_sequence(embedded, lengths, batch_first=True, enforce_sorted=False)
        states, _ = self.cells(packed)
        padded, _ = pad_packed_sequence(
            states, batch_first=True, total_length=embedded.shape[1]
        )
        return padded


class TransformerText(ScratchText):
    """Self-attention in pre-norm layers over words and their positions.

    Vaswani et al., "Attention Is All You Need", NeurIPS 2017.
    """

    config_class = TransformerConfig
    config: TransformerConfig

    def __init__(self, config: TransformerConfig) -> None:
        super().__init__(config)
        self.layers = nn.ModuleList(
            nn.TransformerEncoderLayer(
                config.hidden_size,
                config.heads,
                2 * config.hidden_size,
                dropout=0.0,
                activation="gelu",
                batch_first=True,
                norm_first=True,
            )
            for _ in range(config.layers)
        )
        self.norm = nn.LayerNorm(config.hidden_size)
        self.post_init()

    def states(self, embedded: torch.Tensor, mask: torch.Tensor) -> torch.Tensor:
        states = embedded + 0.02 * positions(embedded)
        for layer in self.layers:
            states = layer(states, src_key_padding_mask=~mask)
        return self.norm(states)


def positions(like: torch.Tensor) -> torch.Tensor:
    """Sines and cosines of T positions, [T,D], on the device and in the type of `like` [B,T,D]."""
    length, width = like.shape[1:]
    rates = torch.exp(torch.arange(0, width, 2, device=like.device) * (-math.log(1e4) / width))
    angles = torch.arange(length, device=like.device).unsqueeze(1) * rates
    return torch.stack([angles.sin(), angles.cos()], dim=-1).flatten(1)[:, :width].to(like.dtype)


for _config, _model in (
    (TextCnnConfig, TextCnn),
    (RecurrentConfig, Recurrent),
    (TransformerConfig, TransformerText),
):
    AutoConfig.register(_config.model_type, _config)
    AutoModel.register(_config, _model)
