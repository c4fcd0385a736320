"""The fourth tab: the report of a model, comparisons, all runs side by side, and ensembles of them."""

from __future__ import annotations

from typing import Any

import gradio as gr

from mmapp.ui import comparison_view, plots, side_by_side, views, words
from mmapp.ui.handlers import spoken
from mmapp.ui.shelf import Shelf
from mmapp.ui.try_tab import TryTab


def build(shelf: Shelf, trained: gr.State, trying: TryTab) -> None:
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
        compared = comparison_view.build(shelf.queue, tab)
        several = side_by_side.build(shelf)
    shown = [headline, per_class, confusion]

    @spoken
    def show(key: str | None) -> list[Any]:
        report = shelf.report(key) if key else None
        if not report:
            return [f'<p class="mm quiet">{words.NO_REPORT}</p>', "", ""]
        matrix = report.get("confusion")
        return [
            views.report(report),
            views.per_class(report),
            plots.confusion(matrix["labels"], matrix["counts"]) if matrix else words.NO_CONFUSION,
        ]

    @spoken
    def refresh(key: str | None, own: str) -> list[Any]:
        """The tab was opened or a model was made: the visitor's own first, if it has a result."""
        choices = shelf.choices()
        chosen = own if own in [choice[1] for choice in choices] else key
        return [gr.Dropdown(choices, value=chosen), *side_by_side.frame(shelf), *show(chosen)]

    @spoken
    def renew() -> list[Any]:
        """A run of a comparison came to its end while the visitor looks on."""
        return [gr.Dropdown(shelf.choices()), *side_by_side.frame(shelf)]

    private: dict[str, Any] = {"api_visibility": "private", "show_progress": "hidden"}
    listed = [run, several.members, several.table]
    filled = [*listed, *shown]
    compared.change(renew, None, listed, **private)
    run.input(show, run, shown, **private)
    tab.select(refresh, [run, trained], filled, **private)
    several.making.success(refresh, [run, several.made], filled, **private).success(
        lambda key: gr.Dropdown(shelf.choices(), value=key), several.made, trying.model, **private
    )
