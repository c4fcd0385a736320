"""Events of a run and what they add up to: curves, best epoch, patience. Imports no torch.

The loop emits events, the run folder pins them down, pages and reports read them back.
"""

from __future__ import annotations

import time
from collections.abc import Iterable
from dataclasses import dataclass, field
from typing import Any, Literal

# started    step, steps, epochs, pairs, parameters, learning, device, processes, precision
# encoded    modality, done, total, found, per_second          (tuning head; found: by earlier runs)
# step       step, steps, epoch, loss, learning_rate, pairs_per_second, seconds_left
# evaluated  step, epoch, train_loss, loss, accuracy, macro_f1, ..., best
# saved      step
# warning    message
# proposed   number, fusion, tuning, learning_rate             (a search begins a trial)
# trial      number, fusion, tuning, learning_rate, watch, score, loss, epoch, best, seconds, message
# finished   reason (done | patience | time | stopped), step, epoch, best_epoch; of a search: best
# failed     message
Kind = Literal[
    "started", "encoded", "step", "evaluated", "saved", "warning", "proposed", "trial", "finished",
    "failed",
]  # fmt: skip


@dataclass(frozen=True)
class Event:
    """One thing that happened, in plain Python values.

    Attributes:
        kind: see the table above.
        values: what the kind calls for.
        time: seconds since 1970.
    """

    kind: Kind
    values: dict[str, Any] = field(default_factory=dict)
    time: float = field(default_factory=time.time)

    def record(self) -> dict[str, Any]:
        """One flat object, as events.jsonl holds it."""
        return {"event": self.kind, "time": round(self.time, 3), **self.values}

    @classmethod
    def of_record(cls, record: dict[str, Any]) -> Event:
        values = dict(record)
        return cls(values.pop("event"), time=values.pop("time", 0.0), values=values)


class History:
    """The evaluations so far and what follows from them.

    Args:
        watch: the figure that counts: "loss" is better low, everything else high. Ties go to the
            lower loss, so that of two epochs with equal scores the surer one is kept.
        patience: epochs without a better figure before training ends; 0 for never.
    """

    def __init__(self, watch: str, patience: int, evaluations: Iterable[dict[str, Any]] = ()) -> None:
        self.watch = watch
        self.patience = patience
        self.evaluations = list(evaluations)

    def add(self, evaluation: dict[str, Any]) -> bool:
        """Remember an evaluation; True when it is the best so far."""
        self.evaluations.append(evaluation)
        return self.best() is evaluation

    def best(self) -> dict[str, Any] | None:
        """The first of the best evaluations."""
        return max(self.evaluations, key=self.merit, default=None)

    def exhausted(self) -> bool:
        """Has patience run out?"""
        best = self.best()
        if best is None or not self.patience:
            return False
        return self.evaluations[-1]["epoch"] - best["epoch"] >= self.patience

    def merit(self, evaluation: dict[str, Any]) -> tuple[float, float]:
        """What makes one evaluation better than another."""
        loss = -evaluation["loss"]
        return (loss, loss) if self.watch == "loss" else (evaluation[self.watch], loss)
