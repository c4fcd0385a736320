"""A settings class <-> widgets: every knob is drawn from its own field. Knows no tab."""

from __future__ import annotations

import types
from collections.abc import Sequence
from typing import Any, Literal, Union, get_args, get_origin

import gradio as gr
from gradio.components import Component
from pydantic.fields import FieldInfo

from mmapp.settings import Settings, choices_of


def draw(kind: type[Settings], names: Sequence[str]) -> dict[str, Component]:
    """One widget for each named field, in the place where it is called."""
    return {name: _widget(name, kind.model_fields[name]) for name in names}


def read(kind: type[Settings], values: dict[str, Any]) -> dict[str, Any]:
    """What the widgets hold, as arguments of `kind`; an emptied widget means the default."""
    given = {}
    for name, value in values.items():
        plain = _plain(kind.model_fields[name].annotation)
        if value in (None, ""):
            continue
        given[name] = plain(value) if plain in (int, float) and value == plain(value) else value
    return given


def _widget(name: str, field: FieldInfo) -> Component:
    extra: dict[str, Any] = field.json_schema_extra  # type: ignore[assignment]
    label = name.replace("_", " ").capitalize()
    label = f"{label} ({extra['unit']})" if extra["unit"] else label
    choices = choices_of(field)
    if choices:
        return gr.Dropdown(
            choices,
            value=field.default,
            label=label,
            info=field.description,
            allow_custom_value=bool(extra["suggest"]),
        )
    if _plain(field.annotation) in (int, float):
        return gr.Number(
            value=field.default,
            label=label,
            info=f"{field.description}{_bounds(extra)}",
            precision=0 if _plain(field.annotation) is int else None,
            minimum=extra["low"],
            maximum=extra["high"],
            step=1 if _plain(field.annotation) is int else None,
        )
    return gr.Textbox(value=field.default, label=label, info=field.description)


def _bounds(extra: dict[str, Any]) -> str:
    if extra["low"] is None or extra["high"] is None or extra["high"] > 10**6:
        return ""
    return f" ({extra['low']:g} to {extra['high']:g})"


def _plain(annotation: Any) -> Any:
    """The type behind an optional."""
    if get_origin(annotation) in (Union, types.UnionType):
        annotation = next(part for part in get_args(annotation) if part is not type(None))
    return str if get_origin(annotation) is Literal else annotation
