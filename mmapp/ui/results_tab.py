"""The fourth tab: the report of a run, label by label, and all runs side by side."""

from __future__ import annotations

import json
from typing import Any

import gradio as gr

from mmapp.errors import MmappError
from mmapp.runs.run import Run, list_runs
from mmapp.ui import plots, views, words
from mmapp.ui.handlers import spoken
from mmapp.ui.shelf import Shelf, run_title


def build(shelf: Shelf, trained: gr.State) -> None:
    """Draw the tab and wire it; `trained` holds the visitor's own run."""
    with gr.Tab(words.RESULTS, id="results") as tab:
        gr.Markdown(words.RESULTS_INTRO)
        run = gr.Dropdown(
            shelf.choices(), value=shelf.first(), label=words.RUN, elem_id="results-run"
        )
        headline = gr.HTML(f'<p class="mm quiet">{words.NO_REPORT}</p>', elem_id="results-headline")
        with gr.Accordion(words.PER_CLASS, open=True):
            per_class = gr.HTML(elem_id="results-classes")
        with gr.Accordion(words.CONFUSION, open=True):
            confusion = gr.HTML(elem_id="results-confusion")
        with gr.Accordion(words.COMPARE, open=True):
            compared = gr.HTML(elem_id="results-compare")
    shown = [headline, per_class, confusion]

    @spoken
    def show(key: str | None) -> list[Any]:
        if not key:
            return [gr.skip()] * len(shown)
        report = json.loads((shelf.folder(key) / "metrics.json").read_text(encoding="utf-8"))
        matrix = report.get("confusion")
        return [
            views.report(report),
            views.per_class(report),
            plots.confusion(matrix["labels"], matrix["counts"]) if matrix else words.NO_CONFUSION,
        ]

    @spoken
    def refresh(key: str | None, own: str) -> list[Any]:
        """The tab was opened: the visitor's own run first, if it has a result by now."""
        choices = shelf.choices()
        keys = [choice[1] for choice in choices]
        chosen = own if own in keys else key
        return [gr.Dropdown(choices, value=chosen), compare(shelf), *show(chosen)]

    private: dict[str, Any] = {"api_visibility": "private"}
    run.input(show, run, shown, **private)
    tab.select(refresh, [run, trained], [run, compared, *shown], **private)


def compare(shelf: Shelf) -> str:
    """A table of all runs that have a report, the best first."""
    rows: list[list[Any]] = []
    for run in list_runs(shelf.queue.folder):
        report = run.report()
        if report and report.get("n"):
            scores = [report["accuracy"], report["macro_f1"], report["n"]]
            rows.append([run_title(run), *_what(run), *scores])
    rows.sort(key=lambda row: -row[5])
    return plots.table(words.COMPARE_HEADERS, rows, words_in=4) if rows else ""


def _what(run: Run) -> list[str]:
    """Data, fusion and tuning of a run; of one whose orders cannot be read, nothing."""
    try:
        order = run.order()
    except MmappError:
        return ["", "", ""]
    return [order.title or order.data, *order.how]
