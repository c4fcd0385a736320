"""The resume folder: one snapshot of a TrainingState, written so that a kill leaves the last one.

    resume/state.json            plain values, and the name of the tensors' file; written last
    resume/step-N.safetensors    weights, optimizer, randomness, best weights
    resume/processor/            so that a vocabulary is not learnt again
"""

from __future__ import annotations

import json
import os
from pathlib import Path

from safetensors import SafetensorError
from safetensors.torch import load_file, save_file

from mmapp.data.processor import FusionProcessor
from mmapp.errors import RunError
from mmapp.training.state import TrainingState


def save_snapshot(folder: Path, state: TrainingState) -> None:
    """Write the state; the snapshot before it is removed only once this one is complete."""
    folder.mkdir(parents=True, exist_ok=True)
    tensors, values = state.capture()
    name = f"step-{state.step}.safetensors"
    beside = folder / f".{name}"
    save_file(tensors, beside)
    os.replace(beside, folder / name)
    written = folder / ".state.json"
    written.write_text(json.dumps({"tensors": name, "values": values}), encoding="utf-8")
    os.replace(written, folder / "state.json")
    for path in folder.glob("*.safetensors"):
        if path.name != name:
            path.unlink()


def load_snapshot(folder: Path) -> TrainingState:
    """The last complete snapshot, or a fresh state when there is none. Raises RunError."""
    if not (folder / "state.json").is_file():
        return TrainingState()
    try:
        held = json.loads((folder / "state.json").read_text(encoding="utf-8"))
        return TrainingState((load_file(folder / held["tensors"]), held["values"]))
    except (OSError, ValueError, KeyError, SafetensorError) as error:
        raise RunError(f"{folder} is damaged and cannot be gone on from: {error}.") from error


def save_processor(folder: Path, processor: FusionProcessor) -> None:
    """Keep the processor; complete once the folder has its name."""
    beside = folder.with_name(f".{folder.name}")
    beside.mkdir(parents=True, exist_ok=True)
    processor.save_pretrained(beside)
    beside.rename(folder)


def load_processor(folder: Path) -> FusionProcessor | None:
    """The processor kept at the run's start, if it came that far."""
    return FusionProcessor.from_pretrained(folder) if folder.is_dir() else None
