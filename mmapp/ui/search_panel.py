"""A panel of the third tab: a search for good settings in place of one training. Knows no run."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import gradio as gr
from gradio.components import Component

from mmapp.settings import SearchSettings
from mmapp.ui import form, words

NAMES = tuple(SearchSettings.model_fields)


@dataclass(frozen=True)
class SearchPanel:
    """The widgets in the order of `NAMES`, and the button that begins."""

    widgets: list[Component]
    start: gr.Button


def build() -> SearchPanel:
    """Draw the panel, closed."""
    widgets: list[Component] = []
    with gr.Accordion(words.SEARCH, open=False):
        gr.Markdown(words.SEARCH_INTRO)
        for first in range(0, len(NAMES), 2):
            with gr.Row():
                widgets += form.draw(SearchSettings, NAMES[first : first + 2]).values()
        start = gr.Button(words.SEARCH_START, elem_id="search-start")
    return SearchPanel(widgets, start)


def read(values: Sequence[Any]) -> SearchSettings:
    """What the widgets hold. Raises SettingsError."""
    return SearchSettings(**form.read(dict(zip(NAMES, values, strict=True))))
