"""A run's state and events -> one status line, one bar, one picture. Pure reading of the folder."""

from __future__ import annotations

import html
from typing import Any

from mmapp.runs.run import AT_WORK, OVER, Order, Run
from mmapp.runs.trials import Trial, best_of, trials_of
from mmapp.ui import plots, words


def status(run: Run, events: list[dict[str, Any]], place: int) -> str:
    """What the run is doing, how far it is, how long it will take."""
    state = run.state()
    name = words.STATUS[state["status"]]
    order = run.order()
    doing = _doing if order.search is None else _searching
    told = [order.title or order.data, *order.how, doing(state, events, place), _result(run)]
    parts = "".join(f'<span class="quiet">{html.escape(part)}</span>' for part in told if part)
    error = ""
    if state["status"] in ("failed", "interrupted") and state.get("message"):
        error = f'<div class="mm-error" role="alert">{html.escape(state["message"])}</div>'
    return (
        f'<div class="mm" role="status"><div class="mm-status"><b>{html.escape(name)}</b>{parts}</div>'
        f"{_bar(state, _share(order, state, events))}{error}</div>"
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


def _searching(state: dict[str, Any], events: list[dict[str, Any]], place: int) -> str:
    """The same of a search: its trial and the best so far, or the best of all."""
    trials = trials_of(events)
    best = best_of(trials)
    if state["status"] in OVER and best:
        return words.BEST_TRIAL.format(**best, count=len(trials))
    begun = [event["number"] for event in events if event["event"] == "proposed"]
    if state["status"] not in AT_WORK or not begun:
        return _doing(state, [], place)
    so_far = words.BEST_SO_FAR.format(**best) if best else ""
    return f"{words.TRIAL.format(number=begun[-1])}{so_far}"


def _result(run: Run) -> str:
    """The test score, once there is one."""
    report = run.report() or {}
    if not report.get("n"):
        return ""
    low, high = report["intervals"]["accuracy"]
    return words.RESULT.format(accuracy=report["accuracy"], low=low, high=high)


def _share(order: Order, state: dict[str, Any], events: list[dict[str, Any]]) -> float:
    """How much of the work is done; a search ends with its time or with its trials."""
    if order.search is not None:
        tried = len(trials_of(events)) / order.search.trials
        return min(1.0, max(tried, state.get("spent", 0.0) / (60 * order.search.minutes)))
    step = next((e for e in reversed(events) if e["event"] == "step"), None)
    return step["step"] / step["steps"] if step else 0.0


def _bar(state: dict[str, Any], share: float) -> str:
    """The share of the work that is done, in per cent."""
    share = 100.0 if state["status"] == "done" else 100 * share
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
    """The curves of a run or the trials of a search, once there is something to draw."""
    trials = trials_of(events)
    if trials:
        return plots.table(words.TRIAL_HEADERS, [_row(trial) for trial in trials], words_in=2)
    return plots.curves(events) if any(e["event"] == "step" for e in events) else ""


def _row(trial: Trial) -> list[Any]:
    score = trial["message"] if trial["score"] is None else trial["score"]
    rate, epoch = f"{trial['learning_rate']:.3g}", trial["epoch"] or "–"
    figures = [trial["number"], rate, score, epoch, duration(trial["seconds"])]
    return [trial["fusion"], trial["tuning"], *figures]
