"""FusionModel: encoders -> projection -> fusion -> head. Built from its config alone.

Downloads nothing and loads nothing: pretrained encoders are put in by `build_model`, trained
weights by transformers' own `from_pretrained`.

Shapes: B pairs, T word pieces, P image positions, S pixels, D the shared width, C labels.
"""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Any, TypeVar, cast

import torch
from torch import nn
from transformers import AutoConfig, AutoModel, PreTrainedConfig, PreTrainedModel
from transformers import initialization as init
from transformers.utils import ModelOutput

from mmapp.errors import CheckpointError, SettingsError
from mmapp.models.absence import encode_present, learnt, replace
from mmapp.models.alignment import Alignment
from mmapp.models.configuration import FusionConfig
from mmapp.models.encoders import Encoding, ImageEncoder, TextEncoder
from mmapp.models.fusion import FUSIONS, Early, Fusion
from mmapp.models.fusion_parts import OwnStart
from mmapp.models.heads import TASKS
from mmapp.models.projection import Projection, Standardise
from mmapp.sources import ADAPTER

T = TypeVar("T")

MODALITIES = ("text", "image")  # the order of the columns of `present`


@dataclass
class FusionOutput(ModelOutput):
    """What FusionModel gives.

    Attributes:
        loss: mean over the rows, when labels were given.
        logits: [B,C]; of the task tag [B,W,C].
        joint: [B,2,D] text and image in the joint space, of an aligned model; absent halves are zeros.
        scale: [1] what cosines between them are multiplied by.
    """

    loss: torch.Tensor | None = None
    logits: torch.Tensor | None = None
    joint: torch.Tensor | None = None
    scale: torch.Tensor | None = None


class FusionModel(PreTrainedModel):
    """Text and image of a pair -> logits.

    An absent half (`present` False) is replaced by a learnt vector before fusion, so nothing of what
    stands in its place can reach the logits; its encoder does not even run on that row. Where the text
    encoder reads the image too (fusion `early`), the vector takes its place before that reading.
    """

    config_class = FusionConfig
    base_model_prefix = "fusion_model"
    main_input_name = "pixel_values"
    input_modalities = ["image", "text"]
    config: FusionConfig
    _supports_sdpa = True

    def __init__(self, config: FusionConfig) -> None:
        """Raises SettingsError for a fusion or task that does not exist, and EncoderError for a text
        encoder that cannot do what the fusion asks of it."""
        super().__init__(config)
        fusion = _choice(FUSIONS, config.fusion, "fusion")
        text = cast(PreTrainedConfig, config.text_config)
        image = cast(PreTrainedConfig, config.image_config)
        self.text_encoder = TextEncoder(text) if "text" in fusion.reads else None
        self.image_encoder = None
        if "image" in fusion.reads:
            self.image_encoder = ImageEncoder(image, config.fixed_batch_norm)
        widths = {"text": config.text_width, "image": config.image_width}
        self.projections = nn.ModuleDict(
            {modality: Projection(widths[modality], config.width) for modality in fusion.reads}
        )
        self.absent = nn.ParameterDict(
            {modality: nn.Parameter(torch.zeros(config.width)) for modality in MODALITIES}
        )
        self.fusion: Fusion
        if issubclass(fusion, Early):
            self.fusion = fusion(config.width, cast(TextEncoder, self.text_encoder).word_width)
        else:
            self.fusion = fusion(config.width)
        self.head = _choice(TASKS, config.task, "task")(
            config.width, len(config.label_names), config.dropout
        )
        self.alignment = Alignment(config.width) if config.alignment else None
        self.post_init()

    @classmethod
    def from_pretrained(cls, *args: Any, **options: Any) -> FusionModel:
        """As transformers', but weights come from safetensors only; a pickle is never opened.

        Raises CheckpointError for a folder with an adapter beside it, which transformers would load,
        a pickle as well.
        """
        if args and Path(str(args[0]), ADAPTER).is_file():
            raise CheckpointError(f"{args[0]} brings an adapter; only whole models are opened.")
        opened = super().from_pretrained(*args, **{**options, "use_safetensors": True})
        _into_own_memory(opened[0] if isinstance(opened, tuple) else opened)
        return opened

    def _init_weights(self, module: nn.Module) -> None:
        if module is self.head.out:
            # Nearly equal logits at first: the loss starts at that of guessing, not above it.
            init.normal_(module.weight, std=0.02)
            init.zeros_(module.bias)
        elif isinstance(module, OwnStart):
            module.reset_parameters()
        elif isinstance(module, nn.Linear):
            init.xavier_uniform_(module.weight)
            init.zeros_(module.bias)
        elif isinstance(module, nn.LayerNorm):
            init.ones_(module.weight)
            init.zeros_(module.bias)
        elif isinstance(module, Standardise):
            init.zeros_(module.mean)
            init.ones_(module.scale)
        elif isinstance(module, nn.ParameterDict):
            for parameter in module.values():
                init.normal_(parameter, std=0.02)

    @property
    def several(self) -> bool:
        """May a row have any number of the labels?"""
        return self.head.several

    @property
    def of_words(self) -> bool:
        """Is there an answer for each word?"""
        return self.head.of_words

    def train(self, mode: bool = True) -> FusionModel:
        """As usual, but an encoder that does not learn stays in evaluation mode."""
        super().train(mode)
        for encoder in (self.text_encoder, self.image_encoder):
            if encoder is not None and not any(p.requires_grad for p in encoder.parameters()):
                encoder.eval()
        return self

    def forward(
        self,
        input_ids: torch.Tensor | None = None,
        attention_mask: torch.Tensor | None = None,
        pixel_values: torch.Tensor | None = None,
        present: torch.Tensor | None = None,
        labels: torch.Tensor | None = None,
        encodings: dict[str, Encoding] | None = None,
        word_starts: torch.Tensor | None = None,
    ) -> FusionOutput:
        """Logits of B pairs.

        Args:
            input_ids: [B,T].
            attention_mask: [B,T].
            pixel_values: [B,3,S,S].
            present: [B,2] bool, (text, image); None when every half is there.
            labels: [B]; with them the loss is given too.
            encodings: what `encode` gave for these pairs, instead of the first three above.
            word_starts: [B,W], of the task tag: the first word piece of each word.

        Raises:
            SettingsError: encodings were given, but the text encoder reads the image too.
        """
        if encodings is None:
            encodings = self.encode(input_ids, attention_mask, pixel_values, present)
        elif self.fusion.image_words:
            raise SettingsError(
                f"Fusion {self.config.fusion} cannot use features computed before: its text encoder "
                "reads the image, too."
            )
        text, image = self._shared(encodings, present)
        logits = self.head(self.fusion(text, image), word_starts)
        loss = None if labels is None else self.head.losses(logits, labels).mean()
        if self.alignment is None:
            return FusionOutput(loss=loss, logits=logits)
        joint = self.alignment(text.pooled, image.pooled, present)
        return FusionOutput(loss=loss, logits=logits, joint=joint, scale=self.alignment.scale)

    def encode(
        self,
        input_ids: torch.Tensor | None,
        attention_mask: torch.Tensor | None,
        pixel_values: torch.Tensor | None,
        present: torch.Tensor | None = None,
    ) -> dict[str, Encoding]:
        """The encoders' own outputs, for the modalities the fusion reads; zeros where absent."""
        encodings = {}
        if self.image_encoder is not None:
            encodings["image"] = encode_present(
                self.image_encoder, (pixel_values,), _column(present, "image")
            )
        if isinstance(self.fusion, Early):
            encodings["text"] = self._read(input_ids, attention_mask, encodings["image"], present)
        elif self.text_encoder is not None:
            encodings["text"] = encode_present(
                self.text_encoder, (input_ids, attention_mask), _column(present, "text")
            )
        return encodings

    def _read(
        self,
        input_ids: torch.Tensor | None,
        attention_mask: torch.Tensor | None,
        image: Encoding,
        present: torch.Tensor | None,
    ) -> Encoding:
        """The text encoder's output for the words with the image among them."""
        as_words = cast(Early, self.fusion).as_words
        encoder = cast(TextEncoder, self.text_encoder)
        words = encoder.words(cast(torch.Tensor, input_ids), cast(torch.Tensor, attention_mask))
        column = _column(present, "text")
        if column is not None:
            words = replace(words, column, as_words.project(self.absent["text"]))
        return encoder.read(words, as_words(self._into_shared("image", image, present)))

    def projection(self, modality: str) -> Projection:
        """The way of a modality that the fusion reads into the shared space."""
        return cast(Projection, self.projections[modality])

    def _shared(
        self, encodings: dict[str, Encoding], present: torch.Tensor | None
    ) -> tuple[Encoding, Encoding]:
        """Both modalities D wide, the learnt vector in place of what is absent or not read."""
        some = next(iter(encodings.values()))
        shared = []
        for modality in MODALITIES:
            if modality not in encodings:
                shared.append(learnt(self.absent[modality], some.pooled))
            elif modality == "text" and self.fusion.image_words:
                # Nothing of an absent text is in it, but the image is.
                shared.append(self.projection("text")(encodings["text"]))
            else:
                shared.append(self._into_shared(modality, encodings[modality], present))
        return shared[0], shared[1]

    def _into_shared(
        self, modality: str, encoding: Encoding, present: torch.Tensor | None
    ) -> Encoding:
        """One modality D wide, the learnt vector in place of what is absent."""
        projected = self.projection(modality)(encoding)
        column = _column(present, modality)
        return projected if column is None else replace(projected, column, self.absent[modality])


def _into_own_memory(model: nn.Module) -> None:
    """Move weights out of the file they are mapped from. There they lie at odd addresses, for which
    some processors take other kernels, and the last bit of an answer would differ from the trained
    model's."""
    for tensor in (*model.parameters(), *model.buffers()):
        tensor.data = tensor.data.clone()


def _choice(table: dict[str, T], name: str, what: str) -> T:
    if name not in table:
        raise SettingsError(f"There is no {what} {name!r}. Expected one of {', '.join(table)}.")
    return table[name]


def _column(present: torch.Tensor | None, modality: str) -> torch.Tensor | None:
    return None if present is None else present[:, MODALITIES.index(modality)]


AutoConfig.register(FusionConfig.model_type, FusionConfig)
AutoModel.register(FusionConfig, FusionModel)
