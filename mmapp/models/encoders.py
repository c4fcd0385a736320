"""Hugging Face and torchvision encoders behind one output. Knows no fusion and no label.

Shapes: B pairs, T word pieces, P image positions, S pixels, D an encoder's own width, E that of
its word embeddings.
"""

from __future__ import annotations

import inspect
from pathlib import Path
from typing import Any, NamedTuple

import torch
from torch import nn
from torch.nn.modules.batchnorm import _BatchNorm
from transformers import (
    AutoConfig,
    AutoModel,
    AutoModelForTextEncoding,
    PreTrainedConfig,
    PreTrainedModel,
)

from mmapp.errors import EncoderError
from mmapp.models import scratch
from mmapp.models.torchvision_trunk import TorchvisionConfig, pretrained_trunk
from mmapp.sources import ADAPTER, Source, fetch


class Encoding(NamedTuple):
    """One modality, encoded.

    Attributes:
        pooled: [B,D] the whole.
        tokens: [B,T,D] its parts: word pieces, or image positions.
        mask: [B,T] True where a token is real and not padding.
    """

    pooled: torch.Tensor
    tokens: torch.Tensor
    mask: torch.Tensor


class TextEncoder(nn.Module):
    """A text encoder of transformers; `pooled` is the mean over real word pieces, unless the encoder
    is known by another way (TextCNN by its maximum).

    The mean serves every encoder alike, frozen ones included; the first token of a BERT that was
    never tuned on sentences says little.

    Args:
        config: of the backbone.
        backbone: the encoder itself where it was loaded already; built from `config` otherwise.
    """

    def __init__(self, config: PreTrainedConfig, backbone: PreTrainedModel | None = None) -> None:
        super().__init__()
        self.backbone = backbone or _text_class(config).from_config(config)

    def forward(self, input_ids: torch.Tensor, attention_mask: torch.Tensor) -> Encoding:
        """input_ids [B,T], attention_mask [B,T] -> Encoding."""
        output = self.backbone(input_ids=input_ids, attention_mask=attention_mask)
        mask = attention_mask.bool()
        return Encoding(self._whole(output, mask), output.last_hidden_state, mask)

    def words(self, input_ids: torch.Tensor, attention_mask: torch.Tensor) -> Encoding:
        """What `read` reads: the words' embeddings [B,T,E], without regard to place or neighbours."""
        tokens = self.backbone.get_input_embeddings()(input_ids)
        mask = attention_mask.bool()
        return Encoding(masked_mean(tokens, mask), tokens, mask)

    def read(self, words: Encoding, beside: Encoding) -> Encoding:
        """Encode words [B,T,E] with P further tokens [B,P,E] after each row's last real word.

        `tokens` and `mask` are those of the words, `pooled` is over both.
        """
        embedded = torch.cat([words.tokens, beside.tokens.to(words.tokens.dtype)], dim=1)
        mask = torch.cat([words.mask, beside.mask], dim=1)
        # Padding goes to the end. Left in between, places and neighbours would depend on the batch.
        real = mask.sum(dim=1, keepdim=True)
        order = torch.where(mask, mask.cumsum(dim=1), real + (~mask).cumsum(dim=1)) - 1
        output = self.backbone(
            inputs_embeds=torch.zeros_like(embedded).scatter(1, _along(order, embedded), embedded),
            attention_mask=torch.zeros_like(order).scatter(1, order, mask.to(order.dtype)),
        )
        packed = output.last_hidden_state
        states = packed.gather(1, _along(order, packed))
        pooled = self._whole(output, torch.arange(mask.shape[1], device=mask.device) < real)
        return Encoding(pooled, states[:, : words.tokens.shape[1]], words.mask)

    def _whole(self, output: Any, mask: torch.Tensor) -> torch.Tensor:
        if getattr(self.backbone.config, "own_pooling", False):
            return output.pooler_output
        return masked_mean(output.last_hidden_state, mask)

    @property
    def word_width(self) -> int:
        """E, the width of the word embeddings that `read` takes.

        Raises:
            EncoderError: the encoder reads nothing but numbers of word pieces.
        """
        takes = inspect.signature(self.backbone.forward).parameters
        try:
            table: Any = self.backbone.get_input_embeddings() if "inputs_embeds" in takes else None
            return int(table.weight.shape[-1])
        except (AttributeError, NotImplementedError) as error:
            raise EncoderError(
                f"{type(self.backbone).__name__} reads only word pieces, so fusion early cannot put an "
                "image among them. Choose another text encoder (any BERT), or another fusion."
            ) from error


class ImageEncoder(nn.Module):
    """A vision encoder of transformers or torchvision.

    `pooled` is the class token where the encoder has one, else its own pooler's output where that
    was trained with it, else the mean over positions.

    Args:
        config: of the backbone.
        fixed_batch_norm: keep batch-norm statistics as they are, also while training. Small batches
            replace pretrained statistics by noise; some encoders of transformers do so in one step.
        backbone: the encoder itself where it was loaded already; built from `config` otherwise.
    """

    def __init__(
        self,
        config: PreTrainedConfig,
        fixed_batch_norm: bool = False,
        backbone: PreTrainedModel | None = None,
    ) -> None:
        super().__init__()
        self.backbone = backbone or AutoModel.from_config(config)
        self.fixed_batch_norm = fixed_batch_norm

    def train(self, mode: bool = True) -> ImageEncoder:
        super().train(mode)
        if self.fixed_batch_norm:
            for module in self.modules():
                if isinstance(module, _BatchNorm):
                    module.eval()
        return self

    def forward(self, pixel_values: torch.Tensor) -> Encoding:
        """pixel_values [B,3,S,S] -> Encoding."""
        config = self.backbone.config
        other_size = getattr(config, "image_size", None) not in (None, pixel_values.shape[-1])
        resizes = other_size and _interpolates(self.backbone)
        options = {"interpolate_pos_encoding": True} if resizes else {}
        output = self.backbone(pixel_values=pixel_values, **options)
        states = output.last_hidden_state
        if states.ndim == 4:
            tokens = states.flatten(2).transpose(1, 2)  # [B,C,H,W] -> [B,P,C]
            pooled = tokens.mean(dim=1)
        else:
            extra = _extra_tokens(config, states.shape[1], pixel_values.shape[-1])
            tokens = states[:, extra:]
            pooler = getattr(output, "pooler_output", None)
            whole = pooler if pooler is not None else tokens.mean(dim=1)
            pooled = states[:, 0] if extra else whole
        mask = torch.ones(tokens.shape[:2], dtype=torch.bool, device=tokens.device)
        return Encoding(pooled, tokens, mask)


def _along(order: torch.Tensor, tokens: torch.Tensor) -> torch.Tensor:
    """Places [B,T] as an index into tokens [B,T,D]."""
    return order.unsqueeze(-1).expand_as(tokens)


def masked_mean(tokens: torch.Tensor, mask: torch.Tensor) -> torch.Tensor:
    """Mean over the real tokens: [B,T,D], [B,T] -> [B,D]."""
    weights = mask.unsqueeze(-1).to(tokens.dtype)
    return (tokens * weights).sum(dim=1) / weights.sum(dim=1).clamp(min=1)


def _extra_tokens(config: PreTrainedConfig, count: int, side: int) -> int:
    """How many tokens (class token, registers) stand before the patches of a vision transformer."""
    patch = getattr(config, "patch_size", None)
    if isinstance(config, TorchvisionConfig):
        return 1  # of torchvision's classifiers only the ViT gives tokens, and it has a class token
    if not isinstance(patch, int):
        return 0
    patches = (side // patch) ** 2
    return count - patches if 0 < count - patches < 16 else 0


def _interpolates(backbone: nn.Module) -> bool:
    return "interpolate_pos_encoding" in inspect.signature(backbone.forward).parameters


def _text_class(config: PreTrainedConfig) -> Any:
    return AutoModelForTextEncoding if getattr(config, "is_encoder_decoder", False) else AutoModel


def text_config(source: Source, vocab_size: int, max_length: int) -> PreTrainedConfig:
    """The configuration of a text encoder.

    Raises:
        EncoderError: no scratch encoder of that name, or nothing loadable at that id or folder.
    """
    if source.kind == "scratch":
        return _scratch(scratch.TEXT, source.name, "text")(vocab_size, max_length)
    if source.kind == "torchvision":
        raise EncoderError("torchvision has no text encoders. Name a Hugging Face id or a folder.")
    config = fetch(AutoConfig.from_pretrained, source)
    return getattr(config, "text_config", config)


def image_config(source: Source) -> PreTrainedConfig:
    """The configuration of an image encoder; of a two-tower model (CLIP, SigLIP) the vision tower.

    Raises:
        EncoderError: no scratch or torchvision encoder of that name, or nothing loadable there.
    """
    if source.kind == "scratch":
        return _scratch(scratch.IMAGE, source.name, "image")()
    if source.kind == "torchvision":
        return TorchvisionConfig(name=source.name)
    config = fetch(AutoConfig.from_pretrained, source)
    return getattr(config, "vision_config", config)


def pretrained_backbone(source: Source, config: PreTrainedConfig, modality: str) -> PreTrainedModel:
    """The encoder with its pretrained weights, in float32.

    Args:
        source: not a scratch one.
        config: what `text_config` or `image_config` gave for it.
        modality: "text" or "image".

    Raises:
        EncoderError: not on disk and not reachable, or without safetensors weights.
    """
    if source.kind == "torchvision":
        return pretrained_trunk(source.name)
    if source.is_folder and Path(source.name, ADAPTER).is_file():
        raise EncoderError(f"{source.name} brings an adapter. Merge it into the encoder and save that.")
    loader = _text_class(config) if modality == "text" else AutoModel
    return fetch(
        loader.from_pretrained, source, config=config, dtype=torch.float32, use_safetensors=True
    )


def _scratch(table: dict[str, Any], name: str, modality: str) -> Any:
    if name not in table:
        known = ", ".join(f"scratch:{key}" for key in table)
        raise EncoderError(f"There is no {modality} encoder scratch:{name}. Expected one of {known}.")
    return table[name]
