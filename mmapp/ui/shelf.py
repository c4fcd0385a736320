"""The checkpoints a visitor can choose from, and the few that are open. Imports torch when asked."""

from __future__ import annotations

import json
import threading
import time
from collections import OrderedDict
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

from mmapp.errors import CheckpointError, MmappError
from mmapp.runs.queue import RunQueue, new_name
from mmapp.runs.run import Run, list_runs
from mmapp.storage import SHIPPED as BUNDLED
from mmapp.storage.folder import read_json
from mmapp.ui import words

if TYPE_CHECKING:
    from mmapp.inference.predictor import Predictor

OPEN_AT_ONCE = 3
ENSEMBLE = "ensemble-"  # how the names of their folders begin


class Shelf:
    """Checkpoints of finished runs, ensembles of them, and the bundled ones.

    Each is known by a short key: its folder's own name, or its run's.
    """

    def __init__(self, queue: RunQueue) -> None:
        self.queue = queue
        self._made = queue.folder.parent / "checkpoints"
        self._open: OrderedDict[Path, tuple[float, Predictor]] = OrderedDict()
        self._lock = threading.Lock()

    def choices(self) -> list[tuple[str, str]]:
        """(what the visitor reads, key): runs, the newest first, then ensembles, then bundled ones."""
        return [
            *((run_title(run), run.id) for run in self.runs()),
            *((self.ensemble_title(name), name) for name in self.ensembles()),
            *((words.BUNDLED.format(name=name), name) for name in _bundled()),
        ]

    def runs(self) -> list[Run]:
        """The runs that left a checkpoint, the newest first."""
        return [run for run in list_runs(self.queue.folder) if run.has_checkpoint()]

    def ensembles(self) -> list[str]:
        """Keys of the ensembles made here, the newest first."""
        return [name for name in reversed(_names(self._made)) if name.startswith(ENSEMBLE)]

    def report(self, key: str) -> dict[str, Any] | None:
        """What a checkpoint's own report says; None when it has none. Raises CheckpointError."""
        path = self.folder(key) / "metrics.json"
        return json.loads(path.read_text(encoding="utf-8")) if path.exists() else None

    def join(self, keys: Sequence[str], strategy: str) -> str:
        """Make an ensemble of runs and judge it on the test pairs of the first; gives its key.

        Raises:
            CheckpointError: a key is no run's on the shelf, or the runs cannot be joined.
            SettingsError: there is no such strategy.
            DataError: the data is gone, or nothing in it can be judged.
        """
        runs = [self.queue.find(key) for key in keys]
        members = [run for run in runs if run is not None and run.has_checkpoint()]
        if len(members) < len(keys):
            raise CheckpointError(words.NO_MODEL)
        _require_one_data(members)
        with self._lock:  # see open()
            from mmapp.inference.ensembling import make_ensemble
            from mmapp.quiet import quiet_libraries
        quiet_libraries()
        data = members[0].order().data if members else None
        place = self._made / f"{ENSEMBLE}{new_name()}"
        return make_ensemble([run.folder for run in members], place, strategy, data).name

    def ensemble_title(self, key: str) -> str:
        """How an ensemble is named in lists: how many, how joined, when."""
        config = self.folder(key) / "config.json"
        try:
            told = json.loads(config.read_text(encoding="utf-8"))
            count, strategy = len(told["members"]), str(told["strategy"])
        except (OSError, ValueError, KeyError, TypeError):  # damaged: its name is all there is
            return key
        when = _when(config.stat().st_mtime)
        return words.ENSEMBLE_TITLE.format(count=count, strategy=strategy, when=when)

    def first(self) -> str | None:
        """The key of the bundled checkpoint."""
        return next(iter(_bundled()), None)

    def folder(self, key: str | None) -> Path:
        """The checkpoint's folder. Raises CheckpointError for a key that is not on the shelf."""
        run = self.queue.find(key or "")
        if run is not None and run.has_checkpoint():
            return run.checkpoint
        for place, names in ((self._made, self.ensembles()), (BUNDLED, _bundled())):
            if key in names:
                return place / str(key)
        raise CheckpointError(words.NO_MODEL)

    def aligned(self, key: str | None) -> bool:
        """Can a checkpoint answer by label names alone? Raises CheckpointError."""
        return key is not None and bool(read_json(self.folder(key) / "config.json").get("alignment"))

    def open(self, key: str | None) -> Predictor:
        """The checkpoint, opened; the last few stay open.

        Raises:
            CheckpointError: the key is not on the shelf, or nothing usable stands there.
        """
        folder = self.folder(key)
        written = (folder / "config.json").stat().st_mtime
        # The imports too are under the lock: two threads that import transformers at the same time
        # can see each other's half-made modules.
        with self._lock:
            from mmapp.inference.predictor import Predictor
            from mmapp.quiet import quiet_libraries

            quiet_libraries()
            held = self._open.pop(folder, None)
            if held is None or held[0] != written:
                held = (written, Predictor(folder))
            self._open[folder] = held
            while len(self._open) > OPEN_AT_ONCE:
                self._open.popitem(last=False)
            return held[1]


def _require_one_data(runs: Sequence[Run]) -> None:
    """Members are judged on the same pairs. Raises CheckpointError."""
    prints = [_fingerprint(run) for run in runs]
    for run, fingerprint in zip(runs, prints, strict=True):
        if fingerprint != prints[0]:
            titles = {"one": run_title(run), "other": run_title(runs[0])}
            raise CheckpointError(words.OTHER_DATA.format(**titles))


def _fingerprint(run: Run) -> str:
    """Of the data that the run's checkpoint learnt from."""
    config = json.loads((run.checkpoint / "config.json").read_text(encoding="utf-8"))
    return str(config.get("data_fingerprint", ""))


def _bundled() -> list[str]:
    """Names of the checkpoints that come with the app."""
    return [name for name in _names(BUNDLED) if not name.startswith(ENSEMBLE)]


def _names(place: Path) -> list[str]:
    """Names of the checkpoints in a folder; what is still being written begins with a dot."""
    found = (path.parent.name for path in place.glob("*/config.json"))
    return sorted(name for name in found if not name.startswith("."))


def _when(seconds: float) -> str:
    return time.strftime("%d %b %H:%M", time.localtime(seconds))


def run_title(run: Run) -> str:
    """How a run is named in lists: data, fusion, tuning, when."""
    try:
        order = run.order()
    except MmappError:  # of another version of the app, or damaged: its name is all there is
        return run.id
    seed = [f"seed {order.settings.seed}"] if order.group else []  # else its siblings look the same
    title = order.title or order.data
    return " · ".join([title, *order.how, *seed, _when(run.state()["created"])])
