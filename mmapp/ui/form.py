"""A settings class <-> widgets: every knob is drawn from its own field. Knows no tab."""

from __future__ import annotations

import types
from collections.abc import Sequence
from typing import Any, Literal, Union, get_args, get_origin

import gradio as gr
from gradio.components import Component
from pydantic.fields import FieldInfo

from mmapp.choices import choices_of
from mmapp.knobs import Settings
from mmapp.ui import words


def draw(kind: type[Settings], names: Sequence[str]) -> dict[str, Component]:
    """One widget for each named field, in the place where it is called."""
    return {name: _widget(name, kind.model_fields[name]) for name in names}


def read(values: dict[str, Any]) -> dict[str, Any]:
    """What the widgets hold, as arguments of their settings class, which converts and checks them.

    An emptied widget means the default.
    """
    joined = {n: ",".join(v) if isinstance(v, list) else v for n, v in values.items()}
    return {name: value for name, value in joined.items() if value not in (None, "")}


def _widget(name: str, field: FieldInfo) -> Component:
    extra: dict[str, Any] = field.json_schema_extra  # type: ignore[assignment]
    label = name.replace("_", " ").capitalize()
    label = f"{label} ({extra['unit']})" if extra["unit"] else label
    choices = choices_of(field)
    if extra["several"]:
        chosen = field.default.split(",") if field.default else []
        return gr.Dropdown(
            choices, value=chosen, multiselect=True, label=label, info=field.description
        )
    if choices:
        return gr.Dropdown(
            choices,
            value=field.default,
            label=label,
            info=field.description,
            allow_custom_value=bool(extra["suggest"]),
        )
    if _plain(field.annotation) in (int, float) and field.default is not None:
        return gr.Number(
            value=field.default,
            label=label,
            info=f"{field.description}{_bounds(extra)}",
            precision=0 if _plain(field.annotation) is int else None,
            minimum=extra["low"],
            maximum=extra["high"],
        )
    # An emptied number widget says 0, so a number that may be left open is a line of text.
    placeholder = words.LEFT_OPEN if field.default is None else None
    return gr.Textbox(
        value=field.default,
        label=label,
        info=f"{field.description}{_bounds(extra)}",
        placeholder=placeholder,
    )


def _bounds(extra: dict[str, Any]) -> str:
    if extra["low"] is None or extra["high"] is None or extra["high"] > 10**6:
        return ""
    return f" ({extra['low']:g} to {extra['high']:g})"


def _plain(annotation: Any) -> Any:
    """The type behind an optional."""
    if get_origin(annotation) in (Union, types.UnionType):
        annotation = next(part for part in get_args(annotation) if part is not type(None))
    return str if get_origin(annotation) is Literal else annotation
