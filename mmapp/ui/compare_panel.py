"""Part of the Train tab: many runs that differ in fusion, tuning and seed, queued at once."""

from __future__ import annotations

import html
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import gradio as gr

from mmapp.choices import choices_of
from mmapp.errors import SettingsError
from mmapp.runs.compare import COMPARED, Plan, plan, seconds_of_one
from mmapp.runs.queue import RunQueue, new_name
from mmapp.runs.run import Order
from mmapp.settings import TrainSettings
from mmapp.ui import words
from mmapp.ui.data_tab import DataTab
from mmapp.ui.handlers import spoken
from mmapp.ui.progress import duration

MOST_SEEDS = 10

OrderOf = Callable[[dict[str, Any], dict[str, Any]], Order]


def build(
    queue: RunQueue, data: DataTab, knobs: dict[str, Any], order_of: OrderOf
) -> gr.Button:
    """Draw the panel and wire it; gives the button that leads to the table.

    Args:
        queue: does the runs.
        data: what they learn from.
        knobs: the widgets of all settings; those of fusion and tuning are not asked.
        order_of: the chosen data and the widgets' values by name -> a run's order.
    """
    with gr.Accordion(words.SEVERAL, open=False) as panel:
        gr.Markdown(words.SEVERAL_INTRO)
        with gr.Row():
            fusions = _boxes("fusion", list(COMPARED))
            tunings = _boxes("tuning", [TrainSettings().tuning])
        seeds = gr.Slider(1, MOST_SEEDS, 1, step=1, label=words.SEEDS, info=words.SEEDS_INFO)
        outlook = gr.HTML(elem_id="compare-outlook")
        start = gr.Button(words.SEVERAL_START, elem_id="compare-start")
        group = gr.Textbox(label=words.COMPARISON, visible=False)
        told = gr.Markdown(elem_id="compare-told")
        to_table = gr.Button(words.TO_TABLE, visible=False, elem_id="compare-to-table")

    others = {name: knob for name, knob in knobs.items() if name not in ("fusion", "tuning")}
    act = _Actions(queue, tuple(others), order_of)
    given = [data.chosen, fusions, tunings, seeds, *others.values()]
    private: dict[str, Any] = {"api_visibility": "private", "show_progress": "hidden"}
    chosen = [widget.change for widget in (data.chosen, fusions, tunings, seeds, knobs["epochs"])]
    gr.on(
        [panel.expand, *chosen],
        act.foresee,
        given,
        [outlook, start],
        trigger_mode="always_last",  # boxes may be ticked faster than runs are counted
        **private,
    )
    start.click(act.compare, given, [group, told, to_table], api_name="compare")
    # Who freezes the encoders of one run will hardly want to compare runs that do not.
    knobs["tuning"].change(lambda tuning: [tuning], knobs["tuning"], tunings, **private)
    return to_table


def _boxes(field: str, chosen: list[str]) -> gr.CheckboxGroup:
    names = choices_of(TrainSettings.model_fields[field])
    label = words.COMPARED[field]
    return gr.CheckboxGroup(names, value=chosen, label=label, elem_id=f"compare-{field}")


@dataclass(frozen=True)
class _Actions:
    """What the panel says and does.

    Attributes:
        queue: does the runs.
        knobs: names of the settings that do not differ, in the order of their widgets.
        order_of: see `build`.
    """

    queue: RunQueue
    knobs: tuple[str, ...]
    order_of: OrderOf

    @spoken
    def foresee(self, *given: Any) -> list[Any]:
        """How many runs it makes, about how long they take, and what cannot be had together."""
        try:
            planned = self._plan("", *given)
        except SettingsError as error:
            return [_line(str(error)), gr.Button(words.SEVERAL_START, interactive=False)]
        count = len(planned.orders)
        told = [words.RUNS.format(count=count)]
        each = seconds_of_one(self.queue.folder, planned.orders[0])
        if each:
            told.append(words.ROUGHLY.format(time=duration(each * count)))
        lines = [", ".join(told), *map(words.LEFT_OUT.format, planned.left_out)]
        button = gr.Button(words.QUEUE_RUNS.format(count=count), interactive=True)
        return ["".join(map(_line, lines)), button]

    @spoken
    def compare(
        self,
        choice: dict[str, Any],
        fusions: list[str],
        tunings: list[str],
        seeds: int,
        *values: Any,
    ) -> list[Any]:
        """Train models that differ in fusion, tuning and seed, one after the other.

        Args:
            choice: the data, as the data tab keeps it for a visitor.
            fusions: those to compare.
            tunings: those to compare each fusion with.
            seeds: runs of each.
            values: every other setting of a run, as the page lists them.

        Returns:
            The comparison's name, and what was queued, in words.
        """
        group = new_name()
        planned = self._plan(group, choice, fusions, tunings, seeds, *values)
        for order in planned.orders:
            self.queue.submit(order)
        told = words.QUEUED.format(count=len(planned.orders))
        return [group, told, gr.Button(visible=True)]

    def _plan(
        self,
        group: str,
        choice: dict[str, Any],
        fusions: list[str],
        tunings: list[str],
        seeds: int,
        *values: Any,
    ) -> Plan:
        """Raises SettingsError; also when there is nothing to compare."""
        base = self.order_of(choice, dict(zip(self.knobs, values, strict=True)))
        first = base.settings.seed
        planned = plan(base, fusions, tunings, range(first, first + int(seeds)), group)
        if len(planned.orders) < 2:
            raise SettingsError(words.TOO_FEW)
        return planned


def _line(text: str) -> str:
    return f'<p class="mm quiet">{html.escape(text)}</p>'
