"""The third tab: choose how, start, watch, stop, resume. Reads runs; the queue's workers write them."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from functools import partial
from typing import Any

import gradio as gr
from gradio.components import Component

from mmapp.runs.queue import RunQueue
from mmapp.runs.run import OVER, RESUMABLE, Order, Run
from mmapp.settings import PRESETS, DataSettings, ModelSettings, TrainSettings
from mmapp.training.continuing import TAKEN, continued, settings_for
from mmapp.ui import compare_panel, form, progress, search_panel, words
from mmapp.ui.data_tab import DataTab
from mmapp.ui.handlers import spoken
from mmapp.ui.shelf import Shelf
from mmapp.ui.try_tab import TryTab

LOG_LINES = 200
START = "start_from"
COLUMNS = [name for name in DataSettings.model_fields if name.endswith("_column")]

# The run's address, so that a reload, another device or a colleague finds it again.
KEEP_ADDRESS = """(id) => {
  const url = new URL(window.location);
  if (id) { url.searchParams.set("run", id); window.history.replaceState(null, "", url); }
}"""


@dataclass(frozen=True)
class TrainTab:
    """What the interface wires across tabs."""

    tab: gr.Tab
    run: gr.State
    to_table: gr.Button


def build(
    queue: RunQueue, shelf: Shelf, data: DataTab, trying: TryTab, page: gr.Blocks, timer: gr.Timer
) -> TrainTab:
    """Draw the tab and wire it; `timer` must stand outside all tabs, or it would not tick."""
    with gr.Tab(words.TRAIN, id="train") as tab:
        run_id = gr.State("")
        remembered = gr.BrowserState("", storage_key="mmapp.run", secret="mmapp")
        title = gr.Markdown(_title(data.chosen.value))
        source = gr.Dropdown(
            _starts(shelf), value="", label=words.START_FROM, info=words.START_FROM_INFO
        )
        preset = gr.Radio(
            [(words.PRESETS[name], name) for name in PRESETS], value="quick", label=words.PRESET
        )
        with gr.Accordion(words.ADVANCED, open=False):
            knobs = _draw_knobs()
        asked = {START: source, **knobs}
        to_table = compare_panel.build(queue, data, asked, partial(_order, shelf))
        panel = search_panel.build()
        with gr.Row():
            start = gr.Button(words.START, variant="primary", elem_id="train-start")
            stop = gr.Button(words.STOP, interactive=False, elem_id="train-stop")
            resume = gr.Button(words.RESUME, interactive=False, elem_id="train-resume")
        status = gr.HTML(f'<p class="mm quiet">{words.NO_RUN}</p>', elem_id="train-status")
        curves = gr.HTML(elem_id="train-curves")
        with gr.Accordion(words.LOG, open=False):
            log = gr.Textbox(show_label=False, lines=12, max_lines=12, elem_id="train-log")

    shown = [run_id, remembered, timer, status, curves, log, stop, resume, trying.model, source]
    act = _Actions(queue, shelf, tuple(asked), len(shown))
    private: dict[str, Any] = {"api_visibility": "private", "show_progress": "hidden"}
    started = start.click(act.begin, [data.chosen, *asked.values()], shown, **private)
    wanted = [data.chosen, *panel.widgets, *asked.values()]
    searching = panel.start.click(act.search, wanted, shown, **private)
    for began in (started, searching):
        # gr.State stays on the server; only what the browser itself keeps reaches its JavaScript.
        began.success(None, remembered, None, js=KEEP_ADDRESS, **private)
    stop.click(act.stop, run_id, shown, queue=False, **private)
    resume.click(act.resume, run_id, shown, **private)
    timer.tick(act.poll, run_id, shown, concurrency_limit=None, **private)
    page.load(act.find_again, remembered, shown, **private)
    filled = list(knobs.values())
    gr.on([preset.input, source.input], act.fill, [preset, source], filled, **private)
    data.chosen.change(_title, data.chosen, title, **private)
    return TrainTab(tab, run_id, to_table)


@dataclass(frozen=True)
class _Actions:
    """What the buttons, the timer and the page's load do; each answers with a frame.

    Attributes:
        queue: starts and stops runs.
        shelf: knows the models that finished runs left.
        asked: names of the settings, in the order of their widgets.
        width: how many widgets a frame fills.
    """

    queue: RunQueue
    shelf: Shelf
    asked: tuple[str, ...]
    width: int

    @spoken
    def fill(self, preset: str, start: str) -> list[Any]:
        """What the knobs say: the preset's values, and before them those of the chosen start."""
        values = PRESETS[preset]
        if not start:
            settings = TrainSettings(**values)
        else:
            learning = {name: value for name, value in values.items() if name not in TAKEN}
            settings = continued(self.shelf.folder(start), **learning)
        return [getattr(settings, name) for name in self.asked if name != START]

    @spoken
    def begin(self, choice: dict[str, Any], *values: Any) -> list[Any]:
        return self._frame(self.queue.submit(self._order(choice, values)))

    @spoken
    def search(self, choice: dict[str, Any], *values: Any) -> list[Any]:
        """The panel's values come first."""
        own = len(search_panel.NAMES)
        wanted = search_panel.read(values[:own])
        return self._frame(self.queue.submit(replace(self._order(choice, values[own:]), search=wanted)))

    def _order(self, choice: dict[str, Any], values: Sequence[Any]) -> Order:
        return _order(self.shelf, choice, dict(zip(self.asked, values, strict=True)))

    @spoken
    def poll(self, identity: str) -> list[Any]:
        return self._frame(self.queue.find(identity))

    @spoken
    def find_again(self, kept: str, request: gr.Request) -> list[Any]:
        """The run in the address, else the one this browser started last."""
        addressed = self.queue.find(request.query_params.get("run", ""))
        return self._frame(addressed or self.queue.find(kept or ""))

    @spoken
    def stop(self, identity: str) -> list[Any]:
        run = self.queue.find(identity)
        if run is not None:
            self.queue.stop(run)
        return self._frame(run)

    @spoken
    def resume(self, identity: str) -> list[Any]:
        run = self.queue.find(identity)
        if run is not None:
            self.queue.resume(run)
        return self._frame(run)

    def _frame(self, run: Run | None) -> list[Any]:
        """Everything the tab shows of a run; without one nothing changes, the timer included."""
        if run is None:
            return [gr.skip()] * self.width
        events, state = run.events(), run.state()["status"]
        over = state in OVER
        models = starts = gr.skip()
        if over and run.has_checkpoint():
            models = gr.Dropdown(self.shelf.choices(), value=run.id)
            starts = gr.Dropdown(_starts(self.shelf))
        return [
            run.id,
            run.id,
            gr.Timer(active=not over),
            progress.status(run, events, self.queue.place(run) if state == "queued" else 0),
            progress.picture(events),
            _tail(run),
            gr.Button(interactive=not over),
            gr.Button(interactive=state in RESUMABLE),
            models,
            starts,
        ]


def _draw_knobs() -> dict[str, Component]:
    """Every knob of TrainSettings but the columns, which belong to the data, and the start, which is
    chosen above: no visitor names a folder of this machine."""
    model = list(ModelSettings.model_fields)
    dealing = [name for name in DataSettings.model_fields if name not in COLUMNS]
    known = {*model, *DataSettings.model_fields, "start_from"}
    learning = [name for name in TrainSettings.model_fields if name not in known]
    knobs: dict[str, Component] = {}
    for group, names in (("model", model), ("training", learning), ("data", dealing)):
        gr.Markdown(f"**{words.GROUPS[group]}**")
        for first in range(0, len(names), 3):
            with gr.Row():
                knobs |= form.draw(TrainSettings, names[first : first + 3])
    return knobs


def _starts(shelf: Shelf) -> list[tuple[str, str]]:
    """What a run can start from: nothing, or any model on the shelf."""
    return [(words.START_NOTHING, ""), *shelf.choices()]


def _order(shelf: Shelf, choice: dict[str, Any], values: dict[str, Any]) -> Order:
    """What to do with the chosen data; `values` are the widgets', by the names of their settings."""
    given = form.read(values)
    # Of this data other columns may have been chosen than of the data learnt from before.
    given |= dict.fromkeys(COLUMNS) | choice["columns"]
    if given.get(START):
        given[START] = str(shelf.folder(given[START]))
    return Order(choice["source"], settings_for(given), choice["title"])


def _title(choice: dict[str, Any]) -> str:
    return words.CHOSEN_DATA.format(title=choice["title"].replace("*", "\\*"))


def _tail(run: Run) -> str:
    if not run.log.exists():
        return ""
    lines = run.log.read_text(encoding="utf-8", errors="replace").splitlines()
    return "\n".join(lines[-LOG_LINES:])
