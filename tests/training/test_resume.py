"""A run that was cut off goes on, and ends as if it had never been: the same weights to the bit."""

from __future__ import annotations

import json
from collections.abc import Callable
from typing import Any, NamedTuple

import pytest
import safetensors.torch
import torch
from torch import nn

from mmapp.data.pairs import PairTable
from mmapp.runs.run import Run
from mmapp.settings import TrainSettings
from mmapp.training.continuing import continued
from mmapp.training.history import Event
from mmapp.training.loop import train
from mmapp.training.prepare import Prepared, prepare
from mmapp.training.state import TrainingState

# full: dropout in the text encoder and running statistics in the image encoder have to go on, too.
KINDS = {
    "full": {"image_encoder": "scratch:resnet", "fusion": "attention"},
    "head": {"tuning": "head", "fusion": "attention"},
    "head without tokens": {"tuning": "head", "fusion": "bilinear", "alignment": 1.0},
    "lora": {"tuning": "lora", "lora_rank": 2, "image_encoder": "scratch:resnet"},
    "bias": {"tuning": "bias", "optimizer": "sgd", "fusion": "attention"},
    "top-k": {
        "tuning": "top-k",
        "top_layers": 1,
        "layer_decay": 0.5,
        "optimizer": "adam",
        "image_encoder": "scratch:resnet",
        "alignment": 1.0,
    },
}


class Snapshot(NamedTuple):
    """A state as the folder of a run holds it: bytes of safetensors, and JSON."""

    tensors: bytes
    values: str

    @classmethod
    def of(cls, state: TrainingState) -> Snapshot:
        tensors, values = state.capture()
        return cls(safetensors.torch.save(tensors), json.dumps(values))

    def state(self) -> TrainingState:
        return TrainingState((safetensors.torch.load(self.tensors), json.loads(self.values)))


class Whole(NamedTuple):
    """A run that went to its end, a snapshot taken on the way, and the events after it."""

    model: nn.Module
    snapshot: Snapshot
    later: list[Event]


def settings_of(kind: str, quick: TrainSettings) -> TrainSettings:
    return quick.replace(
        epochs=3, modality_dropout=0.3, learning_rate=0.01, watch="loss", **KINDS[kind]
    )


def run_whole(table: PairTable, settings: TrainSettings, when: Callable[[Event], bool]) -> Whole:
    """Train to the end; the snapshot is taken at the first event that is asked for."""
    prepared, state = prepare(table, settings), TrainingState()
    taken: list[Snapshot] = []
    later: list[Event] = []
    for event in train(prepared.model, prepared.loaders, settings, state=state):
        if taken:
            later.append(event)
        elif when(event):
            taken.append(Snapshot.of(state))
    return Whole(prepared.model, taken[0], later)


def go_on(
    table: PairTable, settings: TrainSettings, state: TrainingState
) -> tuple[Prepared, list[Event]]:
    """Train on from a restored state, as another process does: with other random numbers first."""
    torch.manual_seed(99)
    prepared = prepare(table, settings)
    torch.rand(5)
    return prepared, list(train(prepared.model, prepared.loaders, settings, state=state))


def differing(one: nn.Module, other: nn.Module) -> list[str]:
    """Names of the weights and running statistics that are not equal to the bit."""
    left, right = one.state_dict(), other.state_dict()
    assert left.keys() == right.keys()
    return [name for name in left if not torch.equal(left[name], right[name])]


def told(events: list[Event]) -> list[tuple[str, dict[str, Any]]]:
    """What events say, but for how long things took and what comes before the first step."""
    timed = ("pairs_per_second", "seconds_left")
    return [
        (event.kind, {k: v for k, v in event.values.items() if k not in timed})
        for event in events
        if event.kind not in ("started", "encoded")
    ]


@pytest.mark.parametrize("step", [1, 3, 4, 6, 12])
@pytest.mark.parametrize("kind", KINDS)
def test_gone_on_from_any_step_a_run_ends_as_if_it_had_never_been_cut_off(
    small_pairs: PairTable, quick: TrainSettings, kind: str, step: int
) -> None:
    """Of four steps an epoch: within the first, at its end, within the second, at the very end."""
    settings = settings_of(kind, quick)
    whole = run_whole(
        small_pairs, settings, lambda e: e.kind == "step" and e.values["step"] == step
    )

    prepared, events = go_on(small_pairs, settings, whole.snapshot.state())

    assert events[0].values["step"] == step
    assert told(events) == told(whole.later)
    assert differing(prepared.model, whole.model) == []


@pytest.mark.parametrize("tuning", ["head", "full"])
def test_a_run_that_starts_from_another_goes_on_as_well(
    small_pairs: PairTable, first_run: Run, tuning: str
) -> None:
    settings = continued(first_run.folder, tuning=tuning, batch_size=8, epochs=2, precision="fp32")
    whole = run_whole(small_pairs, settings, lambda e: e.values.get("step") == 3)

    prepared, events = go_on(small_pairs, settings, whole.snapshot.state())

    assert told(events) == told(whole.later)
    assert differing(prepared.model, whole.model) == []


@pytest.mark.parametrize("kind", ["full", "lora"])
def test_gone_on_from_a_stop_a_run_ends_as_if_it_had_never_been_stopped(
    small_pairs: PairTable, quick: TrainSettings, kind: str
) -> None:
    settings = settings_of(kind, quick)
    whole = run_whole(small_pairs, settings, lambda e: e.kind == "started")
    stopped, state = prepare(small_pairs, settings), TrainingState()
    snapshots = [
        Snapshot.of(state)  # the best epoch's weights are put back only after this last event
        for event in train(
            stopped.model, stopped.loaders, settings, lambda: state.step == 6, state=state
        )
        if event.values.get("reason") == "stopped"
    ]

    prepared, events = go_on(small_pairs, settings, snapshots[0].state())

    assert events[0].values["step"] == 6
    assert differing(prepared.model, whole.model) == []


def test_gone_on_from_an_evaluation_it_is_not_counted_twice(
    small_pairs: PairTable, quick: TrainSettings
) -> None:
    settings = settings_of("full", quick)
    whole = run_whole(small_pairs, settings, lambda e: e.kind == "evaluated")
    state = whole.snapshot.state()

    prepared, events = go_on(small_pairs, settings, state)

    assert differing(prepared.model, whole.model) == []
    assert [values["epoch"] for values in state.evaluations] == [1, 2, 3]
    assert told(events) == told(whole.later)


def test_a_lora_run_ends_with_the_best_epochs_matrices_added_to_the_weights(
    small_pairs: PairTable, quick: TrainSettings
) -> None:
    settings = settings_of("lora", quick)
    prepared, state = prepare(small_pairs, settings), TrainingState()
    before = {name: weight.clone() for name, weight in prepared.model.state_dict().items()}
    for event in train(prepared.model, prepared.loaders, settings, state=state):
        if event.kind == "finished":
            kept, _ = state.capture()
            kept = {name: tensor.clone() for name, tensor in kept.items()}

    after = prepared.model.state_dict()

    assert after.keys() == before.keys()
    place = "text_encoder.backbone.encoder.layer.0.output.dense"
    a, b = (kept[f"best.{place}.lora_{which}.default.weight"] for which in "AB")
    added = 2.0 * b @ a  # alpha / rank
    assert added.abs().max() > 1e-3
    torch.testing.assert_close(after[f"{place}.weight"], before[f"{place}.weight"] + added)
    assert torch.equal(after[f"{place}.bias"], before[f"{place}.bias"])
