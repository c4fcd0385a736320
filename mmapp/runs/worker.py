"""The worker: orders -> pairs -> model -> loop -> report -> checkpoint. The only writer of a run.

Where the orders call for a search, `search` does the work instead.

`python -m mmapp.runs.worker` is the queue's child process; the command line's `train` does the same
work in its own process. Stopping is a signal (SIGTERM or Ctrl-C) and takes effect at the
next step boundary.
"""

from __future__ import annotations

import errno
import logging
import os
import platform
import shutil
import sys
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import replace
from pathlib import Path
from typing import Any

import torch
from accelerate import PartialState

from mmapp.data.ingest import load_pairs
from mmapp.data.pairs import PairTable
from mmapp.device import cores
from mmapp.errors import MmappError
from mmapp.evaluation.calibration import fit_temperature
from mmapp.evaluation.outputs import collect
from mmapp.evaluation.report import make_report
from mmapp.evaluation.retrieval import retrieval_report
from mmapp.quiet import quiet_libraries
from mmapp.runs.change import change, notes
from mmapp.runs.run import Order, Run
from mmapp.runs.search import search
from mmapp.runs.snapshot import load_processor, load_snapshot, save_processor, save_snapshot
from mmapp.runs.stop import StopSignal
from mmapp.runs.trackers import Trackers
from mmapp.sources import public_name
from mmapp.storage.checkpoint import Facts, save_checkpoint
from mmapp.training.continuing import ENCODERS
from mmapp.training.history import Event
from mmapp.training.loop import train
from mmapp.training.prepare import Prepared, prepare
from mmapp.training.state import TrainingState

log = logging.getLogger("mmapp")

# A snapshot every so often, and never more than a twentieth of the time spent on snapshots.
SNAPSHOT_SECONDS = 15.0
SNAPSHOT_SHARE = 0.05

Tell = Callable[[Event], None]


def work(run: Run, should_stop: Callable[[], bool], tell: Tell = lambda event: None) -> str:
    """Do what the run was ordered to do, from its last snapshot if there is one.

    Args:
        run: created, and not being worked on.
        should_stop: asked at every step boundary.
        tell: called with every event, after it was written down.

    Returns:
        The run's last status: "done" or "stopped".

    Raises:
        MmappError: the run failed for a reason the user can act on; its state says so too.
        RunError: another process works on the run.
    """
    if not PartialState().is_main_process:
        return _Worker(run, should_stop, tell, writes=False).work()
    with run.claim(), _logging_to(run.log):
        if run.status != "queued":
            return run.status  # cancelled while it waited
        try:
            if run.order().search is not None:
                return search(run, should_stop, tell)
            return _Worker(run, should_stop, tell).work()
        except Exception as error:
            message = sentence(error)
            log.exception("The run failed.")
            run.append(Event("failed", {"message": message}).record())
            run.write_state(status="failed", message=message, ended=time.time(), owner=None)
            raise


class _Worker:
    """One pass over a run. `writes` is False in all but the main process of many."""

    def __init__(
        self, run: Run, should_stop: Callable[[], bool], tell: Tell, writes: bool = True
    ) -> None:
        self.run = run
        self.should_stop = should_stop
        self.tell = tell
        self.writes = writes
        self.order = run.order()
        asked, shown = self.order.settings.tracker, public_settings(self.order)
        self.trackers = Trackers(run, asked, shown, self._warn)
        self.begun = time.monotonic()
        self._told_state = 0.0
        self._saved = time.monotonic()
        self._interval = SNAPSHOT_SECONDS

    def work(self) -> str:
        self._state(status="running", started=time.time(), ended=None, owner=self.run.owner())
        try:
            reason = self._work()
        finally:
            self.trackers.close()
        status = "stopped" if reason == "stopped" else "done"
        self._state(status=status, reason=reason, ended=time.time(), owner=None)
        return status

    def _work(self) -> str:
        """Train, report, lay down the checkpoint; gives why training ended."""
        with PartialState().main_process_first():
            table = self._pairs()
            prepared = self._prepare(table)
        state = load_snapshot(self.run.resume)
        start = self.order.settings.start_from
        if start and not state.step:
            for message in notes(start, prepared.anew, table):
                self._warn(message)
        if self.should_stop():
            return "stopped"
        finished = self._train(prepared, state)
        if self.writes:
            self._finish(prepared, table, state, finished)
        return finished["reason"]

    def _pairs(self) -> PairTable:
        """The rows as the run first saw them; a later change of the data does not reach it."""
        if self.run.pairs.exists():
            return PairTable.load(self.run.pairs)
        table = load_pairs(self.order.data, self.order.settings)
        if self.writes:
            beside = self.run.folder / ".pairs.parquet"
            table.save(beside)
            os.replace(beside, self.run.pairs)
        for finding in table.set_aside():
            log.warning("Row %s set aside: %s", finding.row, finding.message)
        return table

    def _prepare(self, table: PairTable) -> Prepared:
        kept = self.run.resume / "processor"
        prepared = prepare(table, self.order.settings, processor=load_processor(kept))
        if self.writes and not kept.exists():
            save_processor(kept, prepared.processor)
        return prepared

    def _warn(self, message: str) -> None:
        log.warning(message)
        self._record(Event("warning", {"message": message}))

    def _train(self, prepared: Prepared, state: TrainingState) -> dict[str, Any]:
        """Drain the loop; every event is pinned down, and now and then everything is saved.

        Gives the values of the "finished" event.
        """
        finished: dict[str, Any] = {}
        stream = train(
            prepared.model, prepared.loaders, self.order.settings, self.should_stop, state=state
        )
        for event in stream:
            self._record(event)
            if event.kind == "finished":
                finished = event.values
            due = time.monotonic() - self._saved > self._interval
            stopped = finished.get("reason") == "stopped"
            if stopped or (event.kind == "step" and due):
                self._snapshot(state)
        return finished

    def _snapshot(self, state: TrainingState) -> None:
        if not self.writes:
            return
        before = time.monotonic()
        save_snapshot(self.run.resume, state)
        self._saved = time.monotonic()
        self._interval = max(SNAPSHOT_SECONDS, (self._saved - before) / SNAPSHOT_SHARE)
        self._record(Event("saved", {"step": state.step}))

    def _finish(
        self,
        prepared: Prepared,
        table: PairTable,
        state: TrainingState,
        finished: dict[str, Any],
    ) -> None:
        """Calibrate on the validation split, report on the test split, lay down the checkpoint."""
        model = prepared.model
        device = next(model.parameters()).device
        test = prepared.loaders.test
        known = collect(model, prepared.loaders.validation, device=device)
        temperature = fit_temperature(known.logits, known.truth())
        model.config.temperature = temperature
        outputs = replace(collect(model, test, device=device), temperature=temperature)
        report = make_report(outputs, list(model.config.label_names), "test")
        report |= retrieval_report(outputs, test.dataset.halves, model.config.task)
        report["best_epoch"] = finished["best_epoch"]
        if self.order.settings.start_from:
            report |= change(self.order.settings.start_from, model, table.part("test"), outputs)
        seconds = round(time.monotonic() - self.begun, 1)
        timing = {"seconds": seconds, "device": str(device), "processor": processor_name(device)}
        facts = Facts(
            report=report,
            history=state.evaluations,
            settings=public_settings(self.order),
            command=public_order(self.order).command("RUN"),
            data={k: v for k, v in table.describe().items() if k != "findings"},
            timing=timing,
        )
        save_checkpoint(self.run.checkpoint, model, prepared.processor, facts)
        self.run.write_report({**report, "reason": finished["reason"], "timing": timing})
        if finished["reason"] != "stopped":
            self.trackers.tell_result(report, finished["step"])
            shutil.rmtree(self.run.resume, ignore_errors=True)

    def _record(self, event: Event) -> None:
        if self.writes:
            self.run.append(event.record())
            self._progress(event)
            self.trackers.tell(event)
            self.tell(event)

    def _progress(self, event: Event) -> None:
        """state.json follows the steps, once a second at most."""
        if self.should_stop():
            self._state(status="stopping")
        now = time.monotonic()
        if event.kind in ("started", "finished") or now - self._told_state > 1.0:
            self._told_state = now
            wanted = ("step", "steps", "epoch", "epochs", "seconds_left")
            self._state(**{k: event.values[k] for k in wanted if k in event.values})

    def _state(self, **changes: Any) -> None:
        if self.writes:
            self.run.write_state(**changes)


def public_order(order: Order) -> Order:
    """The order without the folders of this machine."""
    settings = order.settings
    names: dict[str, str] = {name: public_name(getattr(settings, name)) for name in ENCODERS}
    if settings.start_from:
        names["start_from"] = Path(settings.start_from).name
    data = order.title or (order.data if ":" in order.data else Path(order.data).name)
    return Order(data, settings.replace(**names), order.title)


def public_settings(order: Order) -> dict[str, Any]:
    return public_order(order).settings.model_dump()


def processor_name(device: torch.device) -> str:
    """What computed, for a card: "2 cores, x86_64" or the GPU's name."""
    if device.type == "cuda":
        return torch.cuda.get_device_name(device)
    return f"{cores()} cores, {platform.machine()}"


def sentence(error: Exception) -> str:
    """What went wrong, in words for the person who started the run."""
    if isinstance(error, MmappError):
        return str(error)
    if isinstance(error, OSError) and error.errno == errno.ENOSPC:
        return "The disk is full. Free some space and resume the run."
    if isinstance(error, (MemoryError, torch.OutOfMemoryError)):
        return "The memory did not suffice. Choose a smaller batch size or image size and start again."
    return f"An unexpected error ended the run ({type(error).__name__}); its log holds the details."


@contextmanager
def _logging_to(path: Path) -> Iterator[None]:
    """Everything logged or warned about also goes to this file, as long as the block lasts."""
    handler = logging.FileHandler(path, encoding="utf-8")
    handler.setFormatter(logging.Formatter("%(asctime)s %(levelname)s %(message)s"))
    logging.getLogger().addHandler(handler)
    logging.captureWarnings(True)
    try:
        yield
    finally:
        logging.captureWarnings(False)
        logging.getLogger().removeHandler(handler)
        handler.close()


def main(arguments: list[str]) -> int:
    """The queue's child: the run's folder is an argument, or a line on standard input once there is
    a run to do; the libraries are loaded by then."""
    quiet_libraries()
    os.nice(5)  # the page answers first
    folder = arguments[0] if arguments else sys.stdin.readline().strip()
    if not folder:
        return 0
    run = Run.open(Path(folder))
    output = os.open(run.log, os.O_WRONLY | os.O_CREAT | os.O_APPEND)
    os.dup2(output, sys.stdout.fileno())
    os.dup2(output, sys.stderr.fileno())
    with StopSignal() as stop:
        try:
            work(run, stop)
        except MmappError:
            return 1
    return 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
