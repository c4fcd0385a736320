"""One self-describing folder: written beside its place and renamed, read without trust.

    config.json             FusionConfig, labels included
    model.safetensors       all weights
    tokenizer files, preprocessor_config.json
    metrics.json            the report on the test split
    history.jsonl           one line an epoch
    settings.json           every knob, and the command that does it again
    README.md               the model card

Knows no run and no Hub. What is read back is never executed and never unpickled.
"""

from __future__ import annotations

import json
import math
import os
import shutil
import textwrap
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from transformers import PreTrainedConfig

from mmapp.data.processor import FusionProcessor
from mmapp.errors import CheckpointError
from mmapp.models.configuration import FORMAT_VERSION, FusionConfig
from mmapp.models.model import FusionModel
from mmapp.sources import ADAPTER, first_line, public_name
from mmapp.storage.card import write_card
from mmapp.storage.folder import find_checkpoint, read_json

WEIGHTS = "model.safetensors"
INDEX = "model.safetensors.index.json"  # of weights in several files


@dataclass(frozen=True)
class Facts:
    """What is known about a model besides its weights; everything a card may say.

    Attributes:
        report: of the test split, as `make_report` gives it.
        history: values of the "evaluated" events, one an epoch.
        settings: every knob, plain values.
        command: the command line that trains it again.
        data: `PairTable.describe()` of the training data, findings left out.
        timing: seconds it took, pairs a second, device.
    """

    report: dict[str, Any]
    history: list[dict[str, Any]]
    settings: dict[str, Any]
    command: str
    data: dict[str, Any]
    timing: dict[str, Any] = field(default_factory=dict)


def save_checkpoint(
    folder: Path, model: FusionModel, processor: FusionProcessor, facts: Facts
) -> None:
    """Write the folder beside its place and rename it; an earlier one is replaced as a whole."""
    beside = folder.with_name(f".{folder.name}.writing")
    shutil.rmtree(beside, ignore_errors=True)
    beside.mkdir(parents=True)
    config = model.config
    config.text_encoder = public_name(config.text_encoder)
    config.image_encoder = public_name(config.image_encoder)
    for part in (config.text_config, config.image_config):
        if isinstance(part, PreTrainedConfig):
            part.name_or_path = ""  # transformers notes the folder it was loaded from
    model.save_pretrained(beside)
    processor.save_pretrained(beside)
    _write_json(beside / "metrics.json", facts.report)
    _write_json(beside / "settings.json", {"settings": facts.settings, "command": facts.command})
    lines = "".join(json.dumps(values) + "\n" for values in facts.history)
    (beside / "history.jsonl").write_text(lines, encoding="utf-8")
    card = write_card(config, processor, facts)
    (beside / "README.md").write_text(card, encoding="utf-8")
    put_in_place(beside, folder)


def put_in_place(written: Path, folder: Path) -> None:
    """Rename a finished folder to its name; what stood there before goes last."""
    old = folder.with_name(f".{folder.name}.old")
    shutil.rmtree(old, ignore_errors=True)
    if folder.exists():
        folder.rename(old)
    os.replace(written, folder)
    shutil.rmtree(old, ignore_errors=True)


def load_checkpoint(name: str | Path) -> tuple[FusionModel, FusionProcessor]:
    """Open a checkpoint: the model in evaluation mode, in float32, and its processor.

    Raises:
        CheckpointError: not a checkpoint of this app, damaged, or not trustworthy.
    """
    folder = find_checkpoint(name)
    check_folder(folder)
    try:
        opened: Any = FusionModel.from_pretrained(
            folder, local_files_only=True, output_loading_info=True
        )
        processor = FusionProcessor.from_pretrained(folder, local_files_only=True)
    except CheckpointError:
        raise
    except Exception as error:  # on damaged or hostile files the libraries raise nearly anything
        reason = textwrap.shorten(first_line(error), 300, placeholder=" …")
        raise CheckpointError(f"{folder} could not be opened: {reason}") from error
    model, loading = opened
    missing = sorted(loading["missing_keys"])
    if missing:  # they would be drawn at random, and every answer with them
        raise CheckpointError(
            f"{folder} lacks {len(missing)} of the model's weights ({', '.join(missing[:3])}). "
            "The folder is incomplete, or mixes files of two checkpoints."
        )
    vocabulary = getattr(model.config.text_config, "vocab_size", None)
    if vocabulary and len(processor.tokenizer) > vocabulary:
        raise CheckpointError(
            f"The tokenizer in {folder} has {len(processor.tokenizer)} pieces, but the model knows "
            f"{vocabulary}. The folder mixes files of two checkpoints."
        )
    return model.eval(), processor


def check_folder(folder: Path) -> None:
    """Refuse what is not ours before any library opens it.

    Raises:
        CheckpointError: a file is missing, config.json is not ours, asks for code, or is of a
            format newer than this app or of an impossible temperature; or an adapter lies beside it.
    """
    values = read_json(folder / "config.json")
    if values.get("model_type") != FusionConfig.model_type:
        raise CheckpointError(
            f"{folder} holds a {values.get('model_type') or 'model of unknown type'}, "
            f"not a checkpoint of this app. As an encoder it may serve: give it to train."
        )
    if any("auto_map" in config for config in _configs(values)):
        raise CheckpointError(f"{folder} asks to run code that it brings. Such folders are not opened.")
    if (folder / ADAPTER).exists():
        raise CheckpointError(
            f"{folder} brings {ADAPTER}, and transformers would read pickles for it. Such folders are "
            "not opened; checkpoints of this app hold their weights merged."
        )
    version = values.get("format_version", FORMAT_VERSION)
    if not isinstance(version, int) or version > FORMAT_VERSION:
        raise CheckpointError(
            f"{folder} is of format {version}; this app reads up to {FORMAT_VERSION}. Update the app."
        )
    temperature = values.get("temperature", 1.0)
    if type(temperature) not in (int, float) or not 0 < temperature < math.inf:
        raise CheckpointError(
            f"{folder} is calibrated by the temperature {temperature!r}; expected a number above zero."
        )
    if not any((folder / name).is_file() for name in (WEIGHTS, INDEX)):
        raise CheckpointError(f"{folder} has no {WEIGHTS}; other weight files are not read.")
    if (folder / INDEX).is_file():
        _check_index(folder / INDEX)


def _check_index(path: Path) -> None:
    """An index may name files of any kind, pickles too, and anywhere. Raises CheckpointError."""
    named = read_json(path).get("weight_map")
    files = sorted(map(str, named.values())) if isinstance(named, dict) else []
    strange = [name for name in files if Path(name).name != name or Path(name).suffix != ".safetensors"]
    if strange or not files:
        wrong = strange[0] if strange else "no file"
        raise CheckpointError(
            f"{path} names {wrong}; weights are read only from .safetensors files beside it."
        )


def _configs(values: dict[str, Any]) -> Iterator[dict[str, Any]]:
    """A config and those nested in it. (A label may be called anything, so id2label is none.)"""
    yield values
    for name, part in values.items():
        if isinstance(part, dict) and name not in ("id2label", "label2id"):
            yield from _configs(part)


def _write_json(path: Path, values: Any) -> None:
    path.write_text(json.dumps(values, indent=2, ensure_ascii=False) + "\n", encoding="utf-8")
