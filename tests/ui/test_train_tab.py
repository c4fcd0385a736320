"""The Train tab's knobs follow the preset and the start, and what they say is what is ordered."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import gradio as gr
import pytest

from mmapp.runs.queue import RunQueue
from mmapp.settings import PRESETS, TrainSettings
from mmapp.training.continuing import continued
from mmapp.ui import form, train_tab
from mmapp.ui.shelf import BUNDLED, Shelf

KNOBS = tuple(
    name for name in TrainSettings.model_fields if name not in ("start_from", *train_tab.COLUMNS)
)
DATA = {"source": "sample:digits", "title": "sample:digits", "columns": {}}


@pytest.fixture
def act(tmp_path: Path) -> train_tab._Actions:
    queue = RunQueue(tmp_path / "runs")
    return train_tab._Actions(queue, Shelf(queue), (train_tab.START, *KNOBS), 0)


@pytest.fixture
def ordered(act: train_tab._Actions, drawn_by: Callable[..., Any]) -> Callable[..., TrainSettings]:
    """ordered(start, values): the settings of the run that is queued when the knobs say this."""

    def press(start: str, values: list[Any], **data: Any) -> TrainSettings:
        frame = drawn_by(act.begin, DATA | data, start, *values)
        run = act.queue.find(frame[0])
        assert run is not None
        return run.order().settings

    return press


@pytest.mark.parametrize("preset", PRESETS)
def test_a_preset_sets_every_knob(preset: str, act: train_tab._Actions) -> None:
    values = dict(zip(KNOBS, act.fill(preset, ""), strict=True))
    assert TrainSettings(**form.read(values)) == TrainSettings(**PRESETS[preset])


def test_a_start_sets_the_knobs_that_are_its_own(act: train_tab._Actions) -> None:
    values = dict(zip(KNOBS, act.fill("classic", "digits"), strict=True))
    assert (values["text_encoder"], values["image_encoder"]) == ("scratch:bert", "scratch:cnn")
    assert (values["task"], values["image_size"]) == ("match", 32)
    assert values["tuning"] == "head"  # of the preset, as what the checkpoint says nothing about


def test_what_the_knobs_say_is_ordered(
    act: train_tab._Actions, ordered: Callable[..., TrainSettings]
) -> None:
    values = act.fill("quick", "digits")
    values[KNOBS.index("epochs")] = 2
    assert ordered("digits", values) == continued("digits", epochs=2)
    assert ordered("", act.fill("quick", "")) == TrainSettings()


def test_columns_are_those_of_the_data_shown(
    act: train_tab._Actions, ordered: Callable[..., TrainSettings]
) -> None:
    settings = ordered("digits", act.fill("quick", "digits"), columns={"text_column": "text"})
    assert (settings.text_column, settings.label_column) == ("text", None)


def test_another_encoder_than_the_starts_is_refused_and_no_folder_can_be_named(
    act: train_tab._Actions,
) -> None:
    values = act.fill("classic", "")
    with pytest.raises(gr.Error, match="trained with the text encoder scratch:bert, and bert-base"):
        act.begin(DATA, "digits", *values)
    with pytest.raises(gr.Error, match="no finished model"):
        act.begin(DATA, str(BUNDLED / "digits"), *values)
