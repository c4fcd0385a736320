"""A run's folder: its orders, state and events; reading it, and the worker's side of writing it.

    settings.json    what to do: data, settings, equal command line
    pairs.parquet    the rows used, with split and findings
    state.json       status, times, step, owner
    events.jsonl     one JSON object a line
    log.txt          everything the worker printed
    tensorboard/     the curves, as TensorBoard reads them
    resume/          full state of the last snapshot
    checkpoint/      the result, renamed into place last
    report.json      the evaluation
    trials/          of a search: the runs it has tried
    lock             held by the worker as long as it lives

Imports no torch: the page reads runs, and the page must open fast.
"""

from __future__ import annotations

import json
import os
import shlex
import shutil
import socket
import time
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from filelock import FileLock, Timeout

from mmapp.errors import RunError
from mmapp.settings import SearchSettings, TrainSettings
from mmapp.training.continuing import TAKEN

# queued | running | stopping | done | stopped | failed | interrupted
AT_WORK = ("running", "stopping")
OVER = ("done", "stopped", "failed", "interrupted")
RESUMABLE = ("stopped", "failed", "interrupted")


@dataclass(frozen=True)
class Order:
    """What a run is asked to do: everything needed to do it again.

    Attributes:
        data: what `load_pairs` is given.
        settings: every knob.
        title: how the user knows the data, when `data` is a path of the app's own.
        group: the comparison it belongs to; empty for a run by itself.
        search: what is to be searched, when the settings are only where the search begins.
    """

    data: str
    settings: TrainSettings
    title: str = ""
    group: str = ""
    search: SearchSettings | None = None

    @property
    def how(self) -> tuple[str, str]:
        """Fusion and tuning, for a list of runs; of a search what it tries."""
        if self.search is not None:
            return "search", self.search.fusions
        return self.settings.fusion, self.settings.tuning

    def command(self, output: str) -> str:
        """The command line that does the same."""
        verb = "train" if self.search is None else "search"
        words = ["python", "-m", "mmapp", verb, self.data, "--output", output]
        for chosen in filter(None, (self.search, self.settings)):
            usual = type(chosen)().model_dump()
            if self.settings.start_from:
                usual |= dict.fromkeys(TAKEN)  # left out, they would be those of the checkpoint
            for name, value in chosen.model_dump().items():
                if value is not None and value != usual[name]:
                    words += [f"--{name.replace('_', '-')}", str(value)]
        return shlex.join(words)


class Run:
    """One run folder. Reading never fails half-way through a write: files are replaced whole."""

    def __init__(self, folder: Path) -> None:
        self.folder = Path(folder)
        self.log = self.folder / "log.txt"
        self.pairs = self.folder / "pairs.parquet"
        self.checkpoint = self.folder / "checkpoint"
        self.resume = self.folder / "resume"
        self._events = self.folder / "events.jsonl"

    @property
    def id(self) -> str:
        return self.folder.name

    @classmethod
    def create(cls, folder: Path, order: Order) -> Run:
        """A new run, queued.

        Raises RunError when something is there already; a run that failed before its first step
        left nothing of worth and gives way.
        """
        if _never_began(folder):
            shutil.rmtree(folder)
        if folder.exists() and (not folder.is_dir() or any(folder.iterdir())):
            raise RunError(
                f"{folder} exists already and is not overwritten. Name another folder, or add "
                "--resume to go on with the run in it."
            )
        folder.mkdir(parents=True, exist_ok=True)
        run = cls(folder)
        run.write_state(status="queued", created=time.time())
        orders = {
            "data": order.data,
            "title": order.title,
            "group": order.group,
            "settings": order.settings.model_dump(),
            "command": order.command(str(folder)),
        }
        if order.search is not None:
            orders["search"] = order.search.model_dump()
        # This file makes the folder a run, so it comes last.
        _write_json(folder / "settings.json", orders)
        return run

    @classmethod
    def open(cls, folder: Path) -> Run:
        """An existing run. Raises RunError when the folder holds none."""
        if not (Path(folder) / "settings.json").is_file():
            raise RunError(f"{folder} holds no run: settings.json is missing.")
        return cls(folder)

    def order(self) -> Order:
        """What the run was asked to do. Raises RunError or SettingsError."""
        values = _read_json(self.folder / "settings.json")
        try:
            settings = TrainSettings(**values["settings"])
            told = {name: str(values.get(name, "")) for name in ("title", "group")}
            search = SearchSettings(**values["search"]) if "search" in values else None
            return Order(values["data"], settings, **told, search=search)
        except (KeyError, TypeError) as error:
            raise RunError(f"{self.folder}/settings.json is not one of this app: {error}.") from error

    def state(self) -> dict[str, Any]:
        """state.json, but a run that claims to be at work without a living worker is interrupted.

        A file that cannot be read stands for a failed run: it must not keep the others from theirs.
        """
        try:
            state = _read_json(self.folder / "state.json")
        except RunError as error:
            created = self.folder.stat().st_mtime
            return {"status": "failed", "created": created, "message": str(error)}
        if state["status"] in AT_WORK and not self.alive():
            # Its last act may have come between the two reads.
            state = _read_json(self.folder / "state.json")
            if state["status"] in AT_WORK:
                state["status"] = "interrupted"
        return state

    @property
    def status(self) -> str:
        return self.state()["status"]

    def alive(self) -> bool:
        """Is a worker at work? It holds the lock, and the system frees the lock when it dies."""
        lock = FileLock(self.folder / "lock")
        try:
            lock.acquire(timeout=0)
        except Timeout:
            return True
        lock.release()
        return False

    def claim(self) -> FileLock:
        """The worker's own lock, held until it is released. Raises RunError when another has it."""
        lock = FileLock(self.folder / "lock")
        try:
            lock.acquire(timeout=2)
        except Timeout:
            raise RunError(f"{self.folder} is being worked on by another process.") from None
        return lock

    def write_state(self, **changes: Any) -> None:
        """Merge the changes into state.json."""
        path = self.folder / "state.json"
        state = _read_json(path) if path.exists() else {}
        state |= changes | {"updated": time.time()}
        _write_json(path, state)

    def append(self, record: dict[str, Any]) -> None:
        """Add one event; a reader sees it whole or not at all."""
        line = json.dumps(record, ensure_ascii=False) + "\n"
        with self._events.open("ab+") as out:
            if out.tell():
                out.seek(-1, os.SEEK_END)
                # A line that was torn off must not swallow this one.
                line = line if out.read(1) == b"\n" else f"\n{line}"
            out.write(line.encode("utf-8"))

    def events(self) -> list[dict[str, Any]]:
        """The events that stand: what a resumed run did again counts once."""
        return settled(self.records())

    def records(self) -> Iterator[dict[str, Any]]:
        """All events in the order in which they were written, those done again included."""
        if not self._events.exists():
            return
        # Not splitlines(): it also cuts at U+2028 and its like, which JSON allows inside a text.
        for line in self._events.read_text(encoding="utf-8", errors="replace").split("\n"):
            try:
                yield json.loads(line)
            except ValueError:
                continue  # the torn last line of a killed worker; the step was done again or lost

    def report(self) -> dict[str, Any] | None:
        """report.json, once there is one."""
        path = self.folder / "report.json"
        return _read_json(path) if path.exists() else None

    def write_report(self, report: dict[str, Any]) -> None:
        _write_json(self.folder / "report.json", report)

    def has_checkpoint(self) -> bool:
        return (self.checkpoint / "config.json").is_file()

    def owner(self) -> dict[str, Any]:
        return {"pid": os.getpid(), "host": socket.gethostname()}


def settled(records: Iterator[dict[str, Any]]) -> list[dict[str, Any]]:
    """Events without the steps that a resumed run took again.

    A "started" event names the step it goes on from; steps and evaluations after it were lost with
    the process that took them. The evaluation at that very step may have been lost as well: then it
    comes again, and the later one stands.
    """
    kept: list[dict[str, Any]] = []
    for record in records:
        if record.get("event") == "started":
            begin = record.get("step", 0)
            kept = [r for r in kept if r["event"] not in ("step", "evaluated") or r["step"] <= begin]
        if record.get("event") == "evaluated":
            _forget_evaluation(kept, record["epoch"])
        kept.append(record)
    return kept


def _forget_evaluation(records: list[dict[str, Any]], epoch: int) -> None:
    """Drop the last evaluation if it is of this epoch."""
    last = next((i for i in reversed(range(len(records))) if records[i]["event"] == "evaluated"), None)
    if last is not None and records[last]["epoch"] == epoch:
        del records[last]


def _never_began(folder: Path) -> bool:
    try:
        state = _read_json(folder / "state.json")
    except RunError:
        return False
    began = any(event["event"] in ("started", "proposed") for event in Run(folder).events())
    return state.get("status") == "failed" and not began


def list_runs(folder: Path) -> list[Run]:
    """The runs below a folder, the newest first."""
    found = [Run(path.parent) for path in folder.glob("*/settings.json")]
    return sorted(found, key=lambda run: _created(run), reverse=True)


def _created(run: Run) -> float:
    return (run.folder / "settings.json").stat().st_mtime


def _write_json(path: Path, values: Any) -> None:
    """Replace a file whole."""
    beside = path.with_name(f".{path.name}.{os.getpid()}")
    beside.write_text(json.dumps(values, indent=2, ensure_ascii=False) + "\n", encoding="utf-8")
    os.replace(beside, path)


def _read_json(path: Path) -> dict[str, Any]:
    try:
        return json.loads(path.read_text(encoding="utf-8"))
    except (OSError, ValueError) as error:
        raise RunError(f"{path} cannot be read: {error}.") from error
