"""A run's state and events -> one status line, one bar, one picture. Pure reading of the folder."""

from __future__ import annotations

import html
from typing import Any

from mmapp.runs.run import Run
from mmapp.ui import plots, words


def status(run: Run, events: list[dict[str, Any]], place: int) -> str:
    """What the run is doing, how far it is, how long it will take."""
    state = run.state()
    name = words.STATUS[state["status"]]
    order = run.order()
    what = [order.title or order.data, order.settings.fusion, order.settings.tuning]
    told = [*what, _doing(state, events, place), _result(run)]
    parts = "".join(f'<span class="quiet">{html.escape(part)}</span>' for part in told if part)
    error = ""
    if state["status"] in ("failed", "interrupted") and state.get("message"):
        error = f'<div class="mm-error" role="alert">{html.escape(state["message"])}</div>'
    return (
        f'<div class="mm" role="status"><div class="mm-status"><b>{html.escape(name)}</b>{parts}</div>'
        f"{_bar(state, events)}{error}</div>"
    )


def _doing(state: dict[str, Any], events: list[dict[str, Any]], place: int) -> str:
    if state["status"] == "queued":
        return words.QUEUED_BEHIND.format(count=place) if place else words.PREPARING
    if state["status"] in ("running", "stopping"):
        last = next((e for e in reversed(events) if e["event"] in ("encoded", "step")), None)
        if last is None:
            return words.PREPARING
        if last["event"] == "encoded":
            return words.ENCODING.format(**last)
        step = words.STEP.format(**last)
        left = words.LEFT.format(time=duration(last["seconds_left"] or 0))
        return f"{step}, {left}"
    best = next((e["best_epoch"] for e in reversed(events) if e["event"] == "finished"), None)
    return words.BEST.format(epoch=best) if best else ""


def _result(run: Run) -> str:
    """The test score, once there is one."""
    report = run.report() or {}
    if not report.get("n"):
        return ""
    low, high = report["intervals"]["accuracy"]
    return words.RESULT.format(accuracy=report["accuracy"], low=low, high=high)


def _bar(state: dict[str, Any], events: list[dict[str, Any]]) -> str:
    """How much of the work is done, in per cent."""
    step = next((e for e in reversed(events) if e["event"] == "step"), None)
    share = 100 * step["step"] / step["steps"] if step else 0.0
    if state["status"] == "done":
        share = 100.0
    return (
        f'<div class="mm-progress" role="progressbar" aria-valuemin="0" aria-valuemax="100" '
        f'aria-valuenow="{share:.0f}" aria-label="{words.TRAIN}">'
        f'<i style="width:{share:.1f}%"></i></div>'
    )


def duration(seconds: float) -> str:
    """ "40 s", "3 min", "2 h 10 min"."""
    if seconds < 90:
        return f"{max(1, round(seconds))} s"
    minutes = round(seconds / 60)
    return f"{minutes} min" if minutes < 90 else f"{minutes // 60} h {minutes % 60} min"


def picture(events: list[dict[str, Any]]) -> str:
    """The curves, once there is something to draw."""
    return plots.curves(events) if any(e["event"] == "step" for e in events) else ""
