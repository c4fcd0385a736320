"""A comparison in the page: foreseen, queued, shown while it runs, cancelled as a whole."""

from __future__ import annotations

import dataclasses
import html
from functools import partial
from pathlib import Path
from typing import Any

import gradio as gr
import pytest

from mmapp.runs.queue import RunQueue
from mmapp.runs.run import Order
from mmapp.settings import TrainSettings
from mmapp.ui import comparison_view, words
from mmapp.ui.compare_panel import _Actions
from mmapp.ui.shelf import Shelf
from mmapp.ui.train_tab import _order

CHOICE = {"source": "sample:digits", "title": "<i>mine</i>", "columns": {}}


@pytest.fixture
def queue(tmp_path: Path) -> RunQueue:
    return RunQueue(tmp_path / "runs")


@pytest.fixture
def panel(queue: RunQueue) -> _Actions:
    return _Actions(queue, ("epochs",), partial(_order, Shelf(queue)))


def test_what_will_run_is_told_before_it_does(panel: _Actions, queue: RunQueue) -> None:
    told, button = panel.foresee(CHOICE, ["early", "sum"], ["head", "full"], 2, 3)
    assert told.startswith('<p class="mm quiet">6 runs</p>')
    assert "Left out: Fusion early and tuning head exclude each other: the text encoder" in told
    assert (button.value, button.interactive) == ("Queue 6 runs", True)
    assert list(queue.folder.iterdir()) == []


@pytest.mark.parametrize(
    ("given", "sentence"),
    [
        ((["sum"], ["full"], 1, 3), words.TOO_FEW),
        (([], ["full"], 2, 3), words.TOO_FEW),
        ((["early"], ["head"], 2, 3), "exclude each other"),
        ((["sum"], ["full"], 2, 0), "epochs: input should be greater"),
    ],
)
def test_what_cannot_run_is_told_and_not_queued(
    panel: _Actions, queue: RunQueue, given: tuple[Any, ...], sentence: str
) -> None:
    told, button = panel.foresee(CHOICE, *given)
    assert sentence in html.unescape(told)
    assert not button.interactive
    with pytest.raises(gr.Error, match=sentence):
        panel.compare(CHOICE, *given)
    assert list(queue.folder.iterdir()) == []


def test_how_long_it_takes_is_told_by_runs_on_the_same_data(
    panel: _Actions, queue: RunQueue
) -> None:
    """10 and 30 seconds an epoch: 20, times three epochs, times two runs; others do not count."""
    same, other = TrainSettings(epochs=2), TrainSettings(text_encoder="scratch:gru")
    done = [("sample:digits", same, 20), ("sample:digits", same, 60), ("else", same, 5000)]
    for data, settings, seconds in [*done, ("sample:digits", other, 5000)]:
        run = queue.submit(Order(data, settings))
        run.write_report({"timing": {"seconds": seconds}})
        run.write_state(status="done")
    told, _ = panel.foresee(CHOICE, ["sum", "concat"], ["full"], 1, 3)
    assert "2 runs, roughly 2 min in all" in told


def test_the_runs_are_queued_in_turn_and_can_be_cancelled_as_one(
    panel: _Actions, queue: RunQueue
) -> None:
    alone = queue.submit(Order("sample:digits", TrainSettings()))
    group, told, button = panel.compare(CHOICE, ["sum", "concat"], ["full"], 2, 3)
    assert (told, button.visible) == ("4 runs are queued.", True)
    orders = [run.order() for run in queue.waiting()[1:]]
    assert [(o.settings.fusion, o.settings.seed) for o in orders] == [
        ("sum", 0), ("concat", 0), ("sum", 1), ("concat", 1),
    ]  # fmt: skip
    assert {(o.group, o.title, o.settings.epochs) for o in orders} == {(group, "<i>mine</i>", 3)}

    view = comparison_view._Actions(queue)
    chosen, name, cancel, shown, timer = view.refresh(None)
    assert chosen.choices[0][0].startswith("<i>mine</i> · 4 runs · ")
    assert (chosen.value, name) == (group, group)
    assert cancel.visible and timer.active
    assert shown.count("2 waiting") == 2

    assert view.cancel(group) == 4
    assert [run.id for run in queue.waiting()] == [alone.id]
    _, _, cancel, shown, timer = view.show(group)
    assert not cancel.visible and not timer.active
    assert shown.count("2 stopped") == 2
    with pytest.raises(gr.Error, match="No comparison yet"):
        view.cancel("another")


def test_one_at_work_is_shown_before_the_one_looked_at_last(
    panel: _Actions, queue: RunQueue
) -> None:
    view = comparison_view._Actions(queue)
    assert words.NO_COMPARISON in view.refresh(None)[3]
    first, *_ = panel.compare(CHOICE, ["sum", "concat"], ["full"], 1, 3)
    second, *_ = panel.compare(CHOICE, ["sum", "gated"], ["full"], 1, 3)
    view.cancel(second)
    assert view.refresh(second)[1] == first
    view.cancel(first)
    assert view.refresh(first)[1] == first
    assert view.refresh("gone")[1] == second


def test_names_and_messages_from_outside_are_shown_as_text(queue: RunQueue) -> None:
    script = "<script>alert(1)</script>"
    order = Order("data", TrainSettings(fusion=script, tuning="full"), script, "one")
    for number, status in enumerate(("done", "failed")):
        run = queue.submit(dataclasses.replace(order))
        run.write_state(status=status, message=script)
        if not number:
            run.write_report({"accuracy": 0.5})
    [cell] = comparison_view.gather(queue_runs(queue))
    shown = comparison_view.picture([cell])
    assert "<script" not in shown
    assert shown.count("&lt;script&gt;") == 5  # label, name, row of the table, and twice in the failure
    assert "text-only" not in shown


def queue_runs(queue: RunQueue) -> list[Any]:
    return comparison_view.comparisons(queue.folder)["one"]
