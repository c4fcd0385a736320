"""Pairs and settings -> model, processor and loaders, ready for the loop."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import nn

from mmapp.data.cells import words_of
from mmapp.data.labels import label_set, task_of, with_task
from mmapp.data.loading import PairDataset, PairLoader
from mmapp.data.pairs import SPLITS, LabelSet, PairTable
from mmapp.data.processor import FusionProcessor, build_processor
from mmapp.data.splits import few_shots
from mmapp.device import cores, inference_device, rows_at_once, seed_everything
from mmapp.errors import EncoderError, SettingsError, TrainingError
from mmapp.models.configuration import FusionConfig
from mmapp.models.encoders import (
    ImageEncoder,
    TextEncoder,
    image_config,
    pretrained_backbone,
    text_config,
)
from mmapp.models.fusion import FUSIONS
from mmapp.models.heads import TASKS
from mmapp.models.model import FusionModel
from mmapp.settings import DataSettings, TrainSettings
from mmapp.sources import Source, first_line
from mmapp.training.origin import Origin


@dataclass(frozen=True)
class Loaders:
    """One loader a split."""

    train: PairLoader
    validation: PairLoader
    test: PairLoader


@dataclass(frozen=True)
class Prepared:
    """Everything the loop needs, and everything a checkpoint will hold besides the weights.

    Unpacks as `model, processor, loaders`.

    Attributes:
        anew: parts that a run with `start_from` could not take over, see `Origin.hand_over`.
    """

    model: FusionModel
    processor: FusionProcessor
    loaders: Loaders
    anew: tuple[str, ...] = ()

    def __iter__(self) -> Iterator[Any]:
        return iter((self.model, self.processor, self.loaders))


def prepare(
    table: PairTable,
    settings: TrainSettings,
    *,
    processor: FusionProcessor | None = None,
    folder: Path | None = None,
) -> Prepared:
    """Build what the settings ask for, fitted to the table.

    Args:
        table: labelled pairs with splits, from `load_pairs`.
        settings: every knob.
        processor: one made earlier for the same run, when it is resumed.
        folder: where decoded images are kept; the system's temporary folder by default.

    Raises:
        SettingsError: an unknown task or fusion.
        EncoderError: an encoder cannot be found or loaded.
        CheckpointError: the checkpoint to start from cannot be opened.
        TrainingError: there is nothing to learn from or nothing to tell apart.
    """
    origin = Origin(settings) if settings.start_from else None
    task = task_of(table, settings.task)
    for name, choices, what in ((task, TASKS, "task"), (settings.fusion, FUSIONS, "fusion")):
        if name not in choices:
            raise SettingsError(f"There is no {what} {name!r}. Expected one of {', '.join(choices)}.")
    identity = table.fingerprint()
    table = with_task(table, task)
    labels = label_set(table.labels(), task)
    _require_enough(table, labels)
    if settings.shots is not None:
        table = few_shots(table, settings.shots, settings.seed)
    if origin is not None:
        labels = origin.labels(labels, task)
        processor = processor or origin.processor(settings)
    if processor is None:
        texts = [_spelled(text, labels) for text in table.part("train").frame["text"] if text]
        processor = build_processor(settings, texts, _usual_side(table))
    seed_everything(settings.seed)
    model = build_model(settings, task, labels, processor, origin)
    anew = origin.hand_over(model) if origin is not None else ()
    model.config.data_settings = DataSettings(
        **{name: getattr(settings, name) for name in DataSettings.model_fields}
    ).model_dump()
    model.config.data_fingerprint = identity
    return Prepared(model, processor, _loaders(table, labels, processor, settings, folder), anew)


def _spelled(text: str, labels: LabelSet) -> str:
    """A text as the tokenizer will see it."""
    return " ".join(words_of(text)) if labels.of_words else text


def build_model(
    settings: TrainSettings,
    task: str,
    labels: LabelSet,
    processor: FusionProcessor,
    origin: Origin | None = None,
) -> FusionModel:
    """A FusionModel with pretrained encoders where they were named, the rest drawn at random.

    Encoders that `origin` has are built as its own, also drawn: it hands its weights over later.

    Raises EncoderError.
    """
    reads = FUSIONS[settings.fusion].reads
    config = FusionConfig(
        text_encoder=settings.text_encoder,
        image_encoder=settings.image_encoder,
        fusion=settings.fusion,
        task=task,
        width=settings.width,
        dropout=settings.dropout,
        alignment=settings.alignment,
        id2label=dict(enumerate(labels.names)),
        label2id={name: i for i, name in enumerate(labels.names)},
    )
    encoders: dict[str, nn.Module] = {}
    if "text" in reads and not (origin and origin.describe("text", config)):
        encoders["text_encoder"] = _text_encoder(config, processor)
    if "image" in reads and not (origin and origin.describe("image", config)):
        encoders["image_encoder"] = _image_encoder(config, processor)
    if config.text_config is not None:
        # The tokenizer's own limit was respected; the encoder's table of positions may be shorter.
        beside = FUSIONS[config.fusion].image_words
        processor.max_length = min(processor.max_length, _longest(config.text_config) - beside)
    model = FusionModel(config)
    for name, encoder in encoders.items():
        setattr(model, name, encoder)
    return model


def _text_encoder(config: FusionConfig, processor: FusionProcessor) -> TextEncoder:
    """Build or load the text encoder, and write what it is into the config."""
    source = Source.parse(config.text_encoder)
    beside = FUSIONS[config.fusion].image_words
    part = text_config(source, len(processor.tokenizer), processor.max_length + beside)
    backbone = pretrained_backbone(source, part, "text") if source.pretrained else None
    encoder = TextEncoder(part, backbone).eval()
    config.text_config = part
    config.text_width = _width(encoder, **processor.pad(processor.ids(["a"])))
    return encoder


def _image_encoder(config: FusionConfig, processor: FusionProcessor) -> ImageEncoder:
    """Build or load the image encoder, and write what it is into the config."""
    source = Source.parse(config.image_encoder)
    part = image_config(source)
    backbone = pretrained_backbone(source, part, "image") if source.pretrained else None
    encoder = ImageEncoder(part, source.pretrained, backbone).eval()
    config.image_config = part
    config.fixed_batch_norm = source.pretrained
    side = processor.image_size
    config.image_width = _width(encoder, pixel_values=torch.zeros(1, 3, side, side))
    return encoder


@torch.inference_mode()
def _width(encoder: nn.Module, **inputs: torch.Tensor) -> int:
    """Ask the encoder itself: configs have many names for it, and some have none.

    Raises EncoderError when the encoder cannot read a single row.
    """
    try:
        return int(encoder(**inputs).pooled.shape[-1])
    except Exception as error:
        kind = type(encoder.backbone).__name__
        raise EncoderError(
            f"{kind} cannot be used as this kind of encoder: {first_line(error)}"
        ) from error


def _longest(config: object) -> int:
    """Word pieces an encoder has positions for. RoBERTa's kin lose two to their padding index."""
    positions = getattr(config, "max_position_embeddings", None) or 10**6
    kin = "roberta" in getattr(config, "model_type", "") or getattr(config, "model_type", "") in (
        "camembert",
        "mpnet",
    )
    return positions - 2 if kin else positions


def _usual_side(table: PairTable) -> int:
    sides = table.frame[["width", "height"]].max(axis=1)
    return int(np.median(sides[sides > 0])) if (sides > 0).any() else 32


def _require_enough(table: PairTable, labels: LabelSet) -> None:
    if len(labels) < 2:
        only = labels.names[0] if labels.names else "none"
        raise TrainingError(
            f"All {len(table)} pairs have the label {only!r}. Training needs at least two labels."
        )
    for split in SPLITS:
        if not len(table.part(split)):
            raise TrainingError(
                f"No pair is in the {split} split ({len(table)} pairs in all). "
                "Add pairs, or give every split some rows."
            )


def _loaders(
    table: PairTable,
    labels: LabelSet,
    processor: FusionProcessor,
    settings: TrainSettings,
    folder: Path | None,
) -> Loaders:
    workers = min(cores() - 2, 8) if torch.cuda.is_available() else 0
    judged = rows_at_once(inference_device(), processor.image_size, settings.batch_size)
    made = {}
    for split in SPLITS:
        dataset = PairDataset(
            table.part(split), processor, labels, folder, of_words=labels.of_words
        )
        learning = split == "train"
        made[split] = PairLoader(
            dataset,
            settings.batch_size if learning else judged,
            shuffle=learning,
            seed=settings.seed,
            modality_dropout=settings.modality_dropout if learning else 0.0,
            workers=max(workers, 0),
        )
    return Loaders(**made)

