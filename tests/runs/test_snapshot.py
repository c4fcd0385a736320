"""A snapshot gives back the state it was taken of, and a kill while writing leaves the one before."""

from __future__ import annotations

import json
import os
from pathlib import Path
from typing import Any

import pytest
import torch

from mmapp.data.pairs import PairTable
from mmapp.errors import RunError
from mmapp.runs.snapshot import load_processor, load_snapshot, save_processor, save_snapshot
from mmapp.settings import TrainSettings
from mmapp.training.loop import train
from mmapp.training.prepare import Prepared, prepare
from mmapp.training.state import TrainingState

SETTINGS = TrainSettings(width=8, image_size=32, batch_size=8, epochs=2, precision="fp32", patience=0)


@pytest.fixture
def prepared(small_pairs: PairTable) -> Prepared:
    return prepare(small_pairs, SETTINGS)


@pytest.fixture
def states(prepared: Prepared) -> Any:
    """The loop's state, standing still after each step; 4 steps an epoch."""

    def steps() -> Any:
        state = TrainingState()
        for event in train(prepared.model, prepared.loaders, SETTINGS, state=state):
            if event.kind == "step":
                yield state

    return steps()


def taken(state: TrainingState) -> tuple[dict[str, torch.Tensor], dict[str, Any]]:
    """What was captured, as bytes that later steps do not change."""
    tensors, values = state.capture()
    return {name: t.clone() for name, t in tensors.items()}, json.loads(json.dumps(values))


def held_by(state: TrainingState) -> dict[str, torch.Tensor]:
    return state._tensors


def test_a_snapshot_gives_back_every_tensor_and_value(states: Any, tmp_path: Path) -> None:
    state = [next(states) for _ in range(6)][-1]
    tensors, values = taken(state)
    save_snapshot(tmp_path / "resume", state)

    read = load_snapshot(tmp_path / "resume")

    assert held_by(read).keys() == tensors.keys()
    assert [name for name, t in tensors.items() if not torch.equal(held_by(read)[name], t)] == []
    assert (read.step, read.epoch, read.step_in_epoch) == (6, 1, 2)
    assert read.evaluations == values["evaluations"]
    assert len(read.evaluations) == 1


def test_only_the_last_snapshot_is_kept(states: Any, tmp_path: Path) -> None:
    for _ in range(3):
        save_snapshot(tmp_path / "resume", next(states))
    assert sorted(os.listdir(tmp_path / "resume")) == ["state.json", "step-3.safetensors"]
    assert load_snapshot(tmp_path / "resume").step == 3


@pytest.mark.parametrize("number", [1, 2])
def test_a_kill_before_the_snapshot_is_named_leaves_the_one_before(
    number: int, states: Any, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Two files get their names by a rename, the tensors' first; the process dies at either."""
    folder = tmp_path / "resume"
    save_snapshot(folder, next(states))
    before = {name: t.clone() for name, t in held_by(load_snapshot(folder)).items()}
    renamed: list[str] = []

    def die(old: Path, new: Path) -> None:
        renamed.append(Path(new).name)
        if len(renamed) == number:
            raise KeyboardInterrupt
        Path(old).rename(new)

    state = next(states)
    with monkeypatch.context() as patch:
        patch.setattr("mmapp.runs.snapshot.os.replace", die)
        with pytest.raises(KeyboardInterrupt):
            save_snapshot(folder, state)
    assert renamed == ["step-2.safetensors", "state.json"][:number]

    read = load_snapshot(folder)
    assert read.step == 1
    assert [name for name, t in before.items() if not torch.equal(held_by(read)[name], t)] == []

    save_snapshot(folder, state)
    assert load_snapshot(folder).step == 2


def test_without_a_snapshot_a_run_begins_at_the_beginning(tmp_path: Path) -> None:
    state = load_snapshot(tmp_path / "resume")
    assert (state.step, state.epoch, held_by(state)) == (0, 0, {})


@pytest.mark.parametrize(
    ("name", "content"),
    [
        ("state.json", b"{"),
        ("state.json", b'{"values": {}}'),
        ("state.json", b'{"tensors": "gone.safetensors", "values": {}}'),
        ("step-1.safetensors", b"\x10\x00\x00\x00\x00\x00\x00\x00{}"),
    ],
)
def test_a_damaged_snapshot_is_told(name: str, content: bytes, states: Any, tmp_path: Path) -> None:
    save_snapshot(tmp_path, next(states))
    (tmp_path / name).write_bytes(content)
    with pytest.raises(RunError, match=f"^{tmp_path} is damaged and cannot be gone on from: "):
        load_snapshot(tmp_path)


def test_the_processor_is_kept_whole_or_not_at_all(
    prepared: Prepared, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    folder = tmp_path / "resume" / "processor"
    assert load_processor(folder) is None

    def die(*_: object) -> None:
        raise KeyboardInterrupt

    with monkeypatch.context() as patch:
        patch.setattr(type(prepared.processor.tokenizer), "save_pretrained", die)
        with pytest.raises(KeyboardInterrupt):
            save_processor(folder, prepared.processor)
    assert load_processor(folder) is None

    save_processor(folder, prepared.processor)
    read = load_processor(folder)
    assert read is not None
    texts = ["a red square", "one blue thing"]
    assert read.ids(texts) == prepared.processor.ids(texts)
