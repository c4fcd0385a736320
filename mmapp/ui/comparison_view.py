"""Part of the Results tab: what the runs of a comparison add up to, while they run and after."""

from __future__ import annotations

import html
import time
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import gradio as gr

from mmapp.errors import RunError
from mmapp.runs.compare import Cell, as_grid, comparisons, gather
from mmapp.runs.queue import RunQueue
from mmapp.runs.run import OVER, Run
from mmapp.ui import plots, words
from mmapp.ui.handlers import spoken

BASELINES = ("text-only", "image-only")
POLL_SECONDS = 2.0


def build(queue: RunQueue, tab: gr.Tab) -> gr.HTML:
    """Draw it in the place where it is called, and wire it; it is read anew when `tab` opens.

    Gives the picture, which changes whenever a run comes to its end.
    """
    with gr.Accordion(words.COMPARISONS, open=True):
        with gr.Row(equal_height=True):
            chosen = gr.Dropdown(
                label=words.COMPARISON, scale=4, visible=False, elem_id="comparison"
            )
            cancel = gr.Button(
                words.CANCEL, scale=1, min_width=160, visible=False, elem_id="comparison-cancel"
            )
        shown = gr.HTML(_quiet(words.NO_COMPARISON), elem_id="comparison-shown")
    # Inside a tab a timer ticks only while the tab is open: nobody else has to look.
    timer = gr.Timer(POLL_SECONDS, active=False)

    # A list that was drawn when the server started would refuse the names a caller of the API has.
    name = gr.Textbox(visible=False, label=words.COMPARISON)
    count = gr.Number(visible=False, label=words.CANCELLED)

    act, outputs = _Actions(queue), [chosen, name, cancel, shown, timer]
    private: dict[str, Any] = {"api_visibility": "private", "show_progress": "hidden"}
    tab.select(act.refresh, chosen, outputs, **private)
    chosen.input(act.show, chosen, outputs, **private)
    timer.tick(act.show, chosen, outputs, **private)
    cancel.click(act.cancel, name, count, api_name="cancel_comparison").success(
        act.show, chosen, outputs, **private
    )
    return shown


@dataclass(frozen=True)
class _Actions:
    """What the dropdown, the button and the timer do."""

    queue: RunQueue

    @spoken
    def refresh(self, group: str | None) -> list[Any]:
        """The tab was opened: a comparison at work comes first, else the one looked at last."""
        found = comparisons(self.queue.folder)
        at_work = next((name for name, runs in found.items() if _unfinished(runs)), None)
        return self._frame(found, at_work or group)

    @spoken
    def show(self, group: str | None) -> list[Any]:
        return self._frame(comparisons(self.queue.folder), group)

    @spoken
    def cancel(self, group: str) -> int:
        """Cancel a comparison: runs that wait are cancelled, the one at work stops and saves.

        Args:
            group: the comparison's name.

        Returns:
            How many runs were cancelled or asked to stop.
        """
        runs = comparisons(self.queue.folder).get(group or "")
        if runs is None:
            raise RunError(words.NO_COMPARISON)
        unfinished = _unfinished(runs)
        for run in reversed(unfinished):  # the last first, so that none begins meanwhile
            self.queue.stop(run)
        return len(unfinished)

    def _frame(self, found: dict[str, list[Run]], group: str | None) -> list[Any]:
        """Everything the view shows of a comparison, the newest when there is none of that name."""
        if not found:
            return [gr.skip()] * 3 + [_quiet(words.NO_COMPARISON), gr.Timer(active=False)]
        group = group if group in found else next(iter(found))
        busy = bool(_unfinished(found[group]))
        titles = [(title(runs), name) for name, runs in found.items()]
        return [
            gr.Dropdown(titles, value=group, visible=True),
            group,
            gr.Button(visible=busy),
            picture(gather(found[group])),
            gr.Timer(active=busy),
        ]


def title(runs: Sequence[Run]) -> str:
    """How a comparison is named in lists: data, how many runs, when."""
    first = runs[0].order()
    when = time.strftime("%d %b %H:%M", time.localtime(runs[0].state()["created"]))
    return f"{first.title or first.data} · {words.RUNS.format(count=len(runs))} · {when}"


def picture(cells: Sequence[Cell]) -> str:
    """A dot for every fusion and tuning that has a result, the table of all, and what went wrong."""
    alone = len({cell.tuning for cell in cells}) == 1
    ranges = [
        plots.Range(
            cell.fusion if alone else f"{cell.fusion} · {cell.tuning}",
            cell.accuracies,
            cell.fusion in BASELINES,
        )
        for cell in cells
        if cell.accuracies
    ]
    header, rows = as_grid(cells)
    failures = "".join(
        f'<div class="mm-error">{html.escape(f"{cell.fusion} · {cell.tuning}: {failure}")}</div>'
        for cell in cells
        for failure in dict.fromkeys(cell.failures)
    )
    return (
        f"{plots.ranges(words.TEST_ACCURACY, ranges)}{plots.table(header, rows)}"
        f'{_quiet(words.TABLE_INFO)}<div class="mm">{failures}</div>'
    )


def _unfinished(runs: Sequence[Run]) -> list[Run]:
    return [run for run in runs if run.status not in OVER]


def _quiet(text: str) -> str:
    return f'<p class="mm quiet">{html.escape(text)}</p>'
