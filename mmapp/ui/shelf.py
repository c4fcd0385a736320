"""The checkpoints a visitor can choose from, and the few that are open. Imports torch when asked."""

from __future__ import annotations

import threading
import time
from collections import OrderedDict
from pathlib import Path
from typing import TYPE_CHECKING

from mmapp.errors import CheckpointError, MmappError
from mmapp.runs.queue import RunQueue
from mmapp.runs.run import Run, list_runs
from mmapp.storage import SHIPPED as BUNDLED
from mmapp.ui import words

if TYPE_CHECKING:
    from mmapp.inference.predictor import Predictor

OPEN_AT_ONCE = 3


class Shelf:
    """Bundled checkpoints and those of finished runs, by a short key: a folder's own name."""

    def __init__(self, queue: RunQueue) -> None:
        self.queue = queue
        self._open: OrderedDict[Path, tuple[float, Predictor]] = OrderedDict()
        self._lock = threading.Lock()

    def choices(self) -> list[tuple[str, str]]:
        """(what the visitor reads, key), the newest run first, then the bundled ones."""
        runs = [run for run in list_runs(self.queue.folder) if run.has_checkpoint()]
        return [
            *((run_title(run), run.id) for run in runs),
            *((words.BUNDLED.format(name=name), name) for name in _bundled()),
        ]

    def first(self) -> str | None:
        """The key of the bundled checkpoint."""
        return next(iter(_bundled()), None)

    def folder(self, key: str | None) -> Path:
        """The checkpoint's folder. Raises CheckpointError for a key that is not on the shelf."""
        run = self.queue.find(key or "")
        if run is not None and run.has_checkpoint():
            return run.checkpoint
        if key in _bundled():
            return BUNDLED / str(key)
        raise CheckpointError(words.NO_MODEL)

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


def _bundled() -> list[str]:
    """Names of the checkpoints that come with the app."""
    return sorted(path.parent.name for path in BUNDLED.glob("*/config.json"))


def run_title(run: Run) -> str:
    """How a run is named in lists: data, fusion, tuning, when."""
    try:
        order = run.order()
    except MmappError:  # of another version of the app, or damaged: its name is all there is
        return run.id
    when = time.strftime("%d %b %H:%M", time.localtime(run.state()["created"]))
    return " · ".join([order.title or order.data, *order.how, when])
