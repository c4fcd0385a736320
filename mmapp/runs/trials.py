"""What a search has found so far: its trials, read from its events. Imports no torch.

A trial is the values of a "trial" event; `score` is the validation figure of its best epoch, None
when it came to no result.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from mmapp.training.history import History

Trial = dict[str, Any]


def trials_of(events: Sequence[dict[str, Any]]) -> list[Trial]:
    """The trials that have ended, each once: the best first, those without a result last."""
    ended = {e["number"]: _values(e) for e in events if e["event"] == "trial"}
    scored = [trial for trial in ended.values() if trial["score"] is not None]
    failed = [trial for trial in ended.values() if trial["score"] is None]
    return [*sorted(scored, key=merit, reverse=True), *failed]


def best_of(trials: Sequence[Trial]) -> Trial | None:
    """The first of them, if it has a result."""
    return trials[0] if trials and trials[0]["score"] is not None else None


def _values(event: dict[str, Any]) -> Trial:
    return {name: value for name, value in event.items() if name not in ("event", "time")}


def merit(trial: Trial) -> tuple[float, float]:
    """What makes one result better than another, as with epochs of a run: ties go to the lower loss."""
    return History(trial["watch"], 0).merit({trial["watch"]: trial["score"], "loss": trial["loss"]})


def in_a_line(trial: Trial) -> str:
    """A trial that begins, or one that has ended, for the one who waits."""
    name = f"trial {trial['number']}: {trial['fusion']}, {trial['tuning']}, {trial['learning_rate']:g}"
    if "watch" not in trial:
        return f"{name} …"
    if trial["score"] is None:
        return f"{name}: {trial['message']}"
    best = ", best so far" if trial.get("best") else ""
    return f"{name}: validation {trial['watch']} {trial['score']:.3f}{best}"


def as_text_table(trials: Sequence[Trial]) -> str:
    """The trials in their order, for a terminal."""
    watch = trials[0]["watch"]
    lines = [f"trial  {'fusion':<11} {'tuning':<7} rate      {watch:>8}  epoch  seconds"]
    for trial in trials:
        score = "failed" if trial["score"] is None else f"{trial['score']:.3f}"
        lines.append(
            f"{trial['number']:>5}  {trial['fusion']:<11} {trial['tuning']:<7} "
            f"{trial['learning_rate']:<9.3g} {score:>8}  {trial['epoch'] or '-':>5}  "
            f"{trial['seconds']:>7.1f}"
        )
    return "\n".join(lines)
