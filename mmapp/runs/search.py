"""A search for good settings: a run whose steps are trials, each an ordinary run in its folder trials/.

Optuna proposes, the validation pairs choose. Of a trial's test figures nothing is read before the
best one's report becomes the search's own.
"""

from __future__ import annotations

import logging
import shutil
import time
from collections.abc import Callable
from dataclasses import replace

from mmapp.errors import TrainingError
from mmapp.models.tuning import usual_rates
from mmapp.runs.child import bring_to_end
from mmapp.runs.run import Run
from mmapp.runs.trials import Trial, best_of, merit, trials_of
from mmapp.settings import SearchSettings, TrainSettings
from mmapp.storage.checkpoint import put_in_place
from mmapp.training.history import Event, History

log = logging.getLogger("mmapp")

# So many failures and no result: the next one would fail as well.
GIVE_UP = 3
KEEP_SECONDS = 1.0

NO_EPOCH = "It ended before its first epoch did."
WORDLESS = "Its worker ended without a word; its log may say why."
NO_RESULT = "No trial came to a result. The last one: {message}"


def search(run: Run, should_stop: Callable[[], bool], tell: Callable[[Event], None]) -> str:
    """Do what a search was ordered to do, from where it stood.

    Args:
        run: its order says what to search; claimed by the caller.
        should_stop: asked all the time; the trial at work is stopped and goes on with the search.
        tell: called with every event, after it was written down.

    Returns:
        The run's last status: "done" or "stopped".

    Raises:
        SettingsError: no fusion goes with any tuning.
        TrainingError: no trial came to a result.
    """
    return _Search(run, should_stop, tell).work()


class _Search:
    """One pass over a search."""

    def __init__(
        self, run: Run, should_stop: Callable[[], bool], tell: Callable[[Event], None]
    ) -> None:
        # Optuna's import takes time that no other run is to wait for.
        from mmapp.runs.proposals import Proposer  # noqa: PLC0415

        order = run.order()
        self.run = run
        self.should_stop = should_stop
        self.tell = tell
        self.wanted = order.search or SearchSettings()
        self.base = replace(order, search=None)
        self.proposer = Proposer(run.resume, self.wanted, order.settings)
        self._failures = 0
        self._before: float = run.state().get("spent", 0.0)
        self._begun = time.monotonic()
        self._told = self._begun

    def work(self) -> str:
        self.run.write_state(
            status="running", started=time.time(), ended=None, owner=self.run.owner()
        )
        reason = self._try_all()
        best = best_of(self.trials())
        if best is not None:
            self._publish(best, reason)
        elif reason != "stopped":
            raise TrainingError(NO_RESULT.format(message=self.trials()[-1]["message"]))
        of_best = {"best": best["number"], "best_epoch": best["epoch"]} if best else {}
        self._record(Event("finished", {"reason": reason, "best_epoch": None, **of_best}))
        status = "stopped" if reason == "stopped" else "done"
        ending = {"status": status, "reason": reason, "ended": time.time(), "owner": None}
        self.run.write_state(**ending, spent=self._spent())
        return status

    def trials(self) -> list[Trial]:
        return trials_of(self.run.events())

    def _try_all(self) -> str:
        """Trial after trial; gives why there are no more."""
        while True:
            ended = self.trials()
            best = best_of(ended)
            if self.should_stop():
                return "stopped"
            if len(ended) >= self.wanted.trials or (not best and self._failures >= GIVE_UP):
                return "done"
            if best and self._time_is_over():
                return "time"
            trial = self._try(*self.proposer.next())
            if trial is None:
                return "stopped"
            if trial["score"] is None:
                self._failures += 1
                log.warning("Trial %s: %s", trial["number"], trial["message"])
            elif best is None or merit(trial) > merit(best):
                trial["best"] = True
            self._record(Event("trial", trial))
            self.proposer.learn(trial["number"], trial["score"])

    def _try(self, number: int, settings: TrainSettings) -> Trial | None:
        """Bring one trial to its end; None when the search itself was stopped."""
        rate, _ = usual_rates(settings)
        told = {
            "number": number,
            "fusion": settings.fusion,
            "tuning": settings.tuning,
            "learning_rate": rate,
        }
        self._record(Event("proposed", told))
        begun = time.monotonic()
        run = self._folder(number, settings)
        bring_to_end(run, lambda: self._interrupts(run))
        _share_pairs(run, self.run)
        if self.should_stop() and run.status not in ("done", "failed"):
            return None
        return told | self._judged(run) | {"seconds": round(time.monotonic() - begun, 1)}

    def _folder(self, number: int, settings: TrainSettings) -> Run:
        """The trial's own run, over the very rows that the search first saw."""
        place = self.run.folder / "trials" / f"{number:03}"
        if (place / "settings.json").is_file():
            return Run.open(place)
        run = Run.create(place, replace(self.base, settings=settings))
        _share_pairs(self.run, run)
        return run

    def _judged(self, run: Run) -> Trial:
        """What the validation pairs say of a trial's best epoch."""
        watch = self.base.settings.watch
        evaluations = [event for event in run.events() if event["event"] == "evaluated"]
        best = History(watch, 0, evaluations).best()
        # A trial that broke after a good epoch has no checkpoint to give.
        if best is None or run.status in ("failed", "interrupted") or not run.has_checkpoint():
            words = WORDLESS if run.status == "interrupted" else NO_EPOCH
            message = run.state().get("message") or words
            return {"watch": watch, "score": None, "loss": None, "epoch": None, "message": message}
        return {"watch": watch, "score": best[watch], "loss": best["loss"], "epoch": best["epoch"]}

    def _interrupts(self, run: Run) -> bool:
        """Is the trial at work to stop? The first one may finish its first epoch in any case."""
        self._keep_time()
        if self.should_stop():
            self.run.write_state(status="stopping")
            return True
        if not self._time_is_over():
            return False
        found = best_of(self.trials()) is not None
        return found or any(event["event"] == "evaluated" for event in run.events())

    def _spent(self) -> float:
        """Seconds, those of an earlier process included."""
        return self._before + time.monotonic() - self._begun

    def _time_is_over(self) -> bool:
        return self._spent() >= 60 * self.wanted.minutes

    def _keep_time(self) -> None:
        """Now and then the time spent is written down, so that a kill does not give it back."""
        if time.monotonic() - self._told > KEEP_SECONDS:
            self._told = time.monotonic()
            self.run.write_state(spent=self._spent())

    def _publish(self, best: Trial, reason: str) -> None:
        """The best trial's checkpoint and report become the search's own."""
        trial = Run.open(self.run.folder / "trials" / f"{best['number']:03}")
        written = self.run.checkpoint.with_name(".checkpoint.writing")
        shutil.rmtree(written, ignore_errors=True)
        shutil.copytree(trial.checkpoint, written)
        put_in_place(written, self.run.checkpoint)
        order = trial.order()
        found = {
            "trials": self.trials(),
            "best": best["number"],
            "settings": order.settings.model_dump(),
            "command": order.command("RUN"),
            "seconds": round(self._spent(), 1),
        }
        self.run.write_report({**(trial.report() or {}), "reason": reason, "search": found})
        if reason != "stopped":
            shutil.rmtree(self.run.resume, ignore_errors=True)

    def _record(self, event: Event) -> None:
        self.run.append(event.record())
        self.tell(event)


def _share_pairs(one: Run, other: Run) -> None:
    """The rows of one run become those of another that has none yet."""
    if one.pairs.exists() and not other.pairs.exists():
        beside = other.pairs.with_name(".pairs.parquet")
        shutil.copyfile(one.pairs, beside)
        beside.replace(other.pairs)
