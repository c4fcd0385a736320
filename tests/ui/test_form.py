"""The form draws every knob from its field, and what it reads back is taken by the settings."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import gradio as gr
import pytest
from gradio.components import Component

from mmapp.choices import choices_of
from mmapp.errors import SettingsError
from mmapp.settings import SearchSettings, TrainSettings
from mmapp.ui import form, train_tab

FIELDS = TrainSettings.model_fields


def on_a_page(draw: Callable[..., dict[str, Component]], *arguments: Any) -> dict[str, Component]:
    with gr.Blocks():
        return draw(*arguments)


@pytest.fixture(scope="module")
def widgets(drawn_by: Callable[..., Any]) -> dict[str, Component]:
    return drawn_by(on_a_page, form.draw, TrainSettings, list(FIELDS))


@pytest.mark.parametrize("name", FIELDS)
def test_every_field_has_a_widget_with_its_default_unit_and_help(
    name: str, widgets: dict[str, Any]
) -> None:
    widget, field = widgets[name], FIELDS[name]
    extra: Any = field.json_schema_extra
    assert widget.value == field.default or (widget.value, field.default) == ("", None)
    assert widget.info.startswith(field.description)
    assert widget.label.lower().startswith(name.replace("_", " "))
    assert extra["unit"] in widget.label
    if choices_of(field):
        assert [choice[0] for choice in widget.choices] == choices_of(field)
        assert widget.allow_custom_value == bool(extra["suggest"])
    elif isinstance(widget, gr.Number):
        assert (widget.minimum, widget.maximum) == (extra["low"], extra["high"])
        assert (widget.precision == 0) == (field.annotation is int)


def test_what_the_untouched_form_says_are_the_defaults(widgets: dict[str, Any]) -> None:
    given = form.read({name: widget.value for name, widget in widgets.items()})
    assert TrainSettings(**given) == TrainSettings()


def test_several_names_are_chosen_from_a_list_and_read_back_as_one_text(
    drawn_by: Callable[..., Any],
) -> None:
    fields = SearchSettings.model_fields
    widgets = drawn_by(on_a_page, form.draw, SearchSettings, list(fields))
    assert widgets["fusions"].value == ["attention", "bilinear", "concat"]
    assert [choice[0] for choice in widgets["fusions"].choices] == choices_of(fields["fusions"])
    assert (widgets["tunings"].value, widgets["tunings"].multiselect) == ([], True)
    untouched = form.read({name: widget.value for name, widget in widgets.items()})
    assert SearchSettings(**untouched) == SearchSettings()
    assert form.read({"fusions": ["concat", "gated"], "tunings": []}) == {"fusions": "concat,gated"}


@pytest.mark.parametrize("empty", [None, ""])
def test_an_emptied_widget_means_the_default(empty: Any) -> None:
    assert form.read({"epochs": empty, "clip": 0, "dropout": 0.0, "fusion": "concat"}) == {
        "clip": 0,
        "dropout": 0.0,
        "fusion": "concat",
    }


def test_numbers_typed_as_text_are_converted_and_checked() -> None:
    assert TrainSettings(**form.read({"learning_rate": "1e-4"})).learning_rate == 1e-4
    with pytest.raises(SettingsError, match="learning_rate"):
        TrainSettings(**form.read({"learning_rate": "fast"}))


def test_the_train_tab_draws_every_knob_but_the_columns_and_the_start(
    drawn_by: Callable[..., Any],
) -> None:
    knobs = drawn_by(on_a_page, train_tab._draw_knobs)
    columns = {name for name in FIELDS if name.endswith("_column")}
    assert set(knobs) == set(FIELDS) - columns - {"start_from"}
    assert len(columns) == 4
