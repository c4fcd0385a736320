"""The second tab: choose or upload pairs, see them, their balance, their findings."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Any

import gradio as gr

from mmapp.data.ingest import load_pairs
from mmapp.data.pairs import PairTable
from mmapp.data.samples import SAMPLES
from mmapp.settings import DataSettings
from mmapp.ui import views, words
from mmapp.ui.handlers import spoken
from mmapp.ui.uploads import keep_upload

ROLES = ("image", "text", "label", "split")
DEFAULT: dict[str, Any] = {"source": "sample:digits", "title": "sample:digits", "columns": {}}


@dataclass(frozen=True)
class DataTab:
    """What other tabs read: `chosen` holds the source, its title and the chosen columns."""

    tab: gr.Tab
    chosen: gr.State
    to_train: gr.Button


def build() -> DataTab:
    """Draw the tab and wire it."""
    with gr.Tab(words.DATA, id="data") as tab:
        chosen = gr.State(DEFAULT)
        gr.Markdown(words.DATA_INTRO)
        with gr.Row(equal_height=True):
            sample = gr.Radio(
                [(words.SAMPLES[name], f"sample:{name}") for name in SAMPLES],
                value=DEFAULT["source"],
                label=words.SAMPLE,
                elem_id="data-sample",
            )
            upload = gr.File(
                label=words.UPLOAD, file_count="multiple", height=150, elem_id="data-upload"
            )
        gr.Markdown(words.UPLOAD_INFO)
        summary = gr.HTML(elem_id="data-summary")
        to_train = gr.Button(words.TO_TRAIN, variant="primary", elem_id="data-to-train")
        with gr.Accordion(words.COLUMNS, open=False):
            gr.Markdown(words.COLUMNS_INFO)
            with gr.Row():
                columns = [
                    gr.Dropdown([], label=words.COLUMN_LABELS[role], allow_custom_value=True)
                    for role in ROLES
                ]
            again = gr.Button(words.READ_AGAIN)
        with gr.Accordion(words.FINDINGS, open=True):
            findings = gr.HTML(elem_id="data-findings")
        with gr.Accordion(words.PAIRS, open=True):
            cards = gr.HTML(elem_id="data-pairs")
    shown = [chosen, summary, findings, cards, *columns]

    @spoken
    def take_sample(source: str) -> list[Any]:
        return _show({"source": source, "title": source, "columns": {}})

    @spoken
    def take_upload(files: list[str] | None) -> list[Any]:
        if not files:
            return [gr.skip()] * len(shown)
        source, title = keep_upload([Path(file) for file in files])
        return _show({"source": str(source), "title": title, "columns": {}})

    @spoken
    def read_again(choice: dict[str, Any], *named: str | None) -> list[Any]:
        pairs = zip(ROLES, named, strict=True)
        columns = {f"{role}_column": name for role, name in pairs if name}
        return _show({**choice, "columns": columns})

    @spoken
    def show_first(choice: dict[str, Any], already: str | None) -> list[Any]:
        return [gr.skip()] * len(shown) if already else _show(choice)

    private: dict[str, Any] = {"api_visibility": "private"}
    first = tab.select(show_first, [chosen, summary], shown, **private)
    # Else a sample that is still being read would take the place of what was chosen meanwhile.
    sample.input(take_sample, sample, shown, cancels=first, **private)
    upload.upload(take_upload, upload, shown, cancels=first, **private)
    again.click(read_again, [chosen, *columns], shown, **private)
    return DataTab(tab, chosen, to_train)


def _show(choice: dict[str, Any]) -> list[Any]:
    """Read the data; give the choice, what is shown of it, and the columns to choose from."""
    table = load_pairs(choice["source"], DataSettings(**choice["columns"]))
    described = table.describe()
    return [
        choice,
        views.summary(described),
        views.findings(list(table.findings)),
        views.cards(table),
        *_column_widgets(table, choice["columns"]),
    ]


def _column_widgets(table: PairTable, named: dict[str, str]) -> list[gr.Dropdown]:
    """Each shows which column was taken and why; emptied, it is guessed again."""
    taken = {choice.role: choice for choice in table.columns}
    every = sorted({c.column for c in taken.values() if c.column} | set(named.values()))
    return [
        gr.Dropdown(every, value=taken[role].column, info=taken[role].reason) for role in ROLES
    ]
