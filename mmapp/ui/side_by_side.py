"""Part of the Results tab: runs and ensembles in one table, and an ensemble made of some of them."""

from __future__ import annotations

import html
from dataclasses import dataclass
from typing import Any

import gradio as gr
from gradio.events import Dependency

from mmapp.models.ensemble import STRATEGIES
from mmapp.runs.run import list_runs
from mmapp.ui import plots, words
from mmapp.ui.handlers import spoken
from mmapp.ui.shelf import Shelf, run_title


@dataclass(frozen=True)
class SideBySide:
    """What the Results tab fills and waits for.

    Attributes:
        table: all runs and ensembles that have a report.
        members: runs to choose from.
        made: the key of the ensemble made last.
        making: what to wait for.
    """

    table: gr.HTML
    members: gr.Dropdown
    made: gr.Textbox
    making: Dependency


def build(shelf: Shelf) -> SideBySide:
    """Draw it in the place where it is called, and wire it."""
    with gr.Accordion(words.COMPARE, open=True):
        shown = gr.HTML(table(shelf), elem_id="results-compare")
    with gr.Accordion(words.ENSEMBLE, open=True):
        gr.Markdown(words.ENSEMBLE_INTRO)
        with gr.Row():
            # The shelf itself checks what it is given; a caller of the API knows runs that this
            # list, drawn when the server started, does not.
            members = gr.Dropdown(
                _members(shelf),
                value=[],
                multiselect=True,
                allow_custom_value=True,
                label=words.MEMBERS,
                info=words.MEMBERS_INFO,
                elem_id="ensemble-members",
            )
            strategy = gr.Radio(
                [(words.STRATEGIES[name], name) for name in STRATEGIES],
                value="mean",
                label=words.STRATEGY,
                elem_id="ensemble-strategy",
            )
        start = gr.Button(words.ENSEMBLE_START, elem_id="ensemble-start")
        made = gr.Textbox(label=words.MODEL, visible=False)
        told = gr.HTML(elem_id="ensemble-told")

    @spoken
    def make_ensemble(keys: list[str], strategy: str) -> list[Any]:
        """Join finished runs on the same data into one model, which is judged on the test pairs.

        Args:
            keys: two or more runs, as the list of models names them.
            strategy: mean; weighted, by accuracy on validation pairs; vote; greedy selection.

        Returns:
            The ensemble's key, as the list of models names it, and its title in words.
        """
        key = shelf.join(keys or [], strategy)
        said = words.ENSEMBLE_MADE.format(title=shelf.ensemble_title(key))
        return [key, f'<p class="mm" role="status">{html.escape(said)}</p>']

    making = start.click(make_ensemble, [members, strategy], [made, told], api_name="make_ensemble")
    return SideBySide(shown, members, made, making)


def frame(shelf: Shelf) -> list[Any]:
    """What the members' list and the table show by now."""
    return [gr.Dropdown(_members(shelf)), table(shelf)]


def _members(shelf: Shelf) -> list[tuple[str, str]]:
    """(what the visitor reads, key) of the runs that an ensemble can be made of."""
    return [(run_title(run), run.id) for run in shelf.runs()]


def table(shelf: Shelf) -> str:
    """All runs and ensembles that have a report, the best first."""
    named = [(run_title(run), run.report()) for run in list_runs(shelf.queue.folder)]
    named += [(shelf.ensemble_title(key), shelf.report(key)) for key in shelf.ensembles()]
    rows = [
        [title, report["accuracy"], report["macro_f1"], report["n"]]
        for title, report in named
        if report and report.get("n")
    ]
    rows.sort(key=lambda row: -row[2])
    if not rows:
        return f'<p class="mm quiet">{words.NO_RUNS}</p>'
    return plots.table(words.COMPARE_HEADERS, rows)
