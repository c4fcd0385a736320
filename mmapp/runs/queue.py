"""Who runs next: starts, watches and stops the workers. One worker a machine; the others wait.

A worker is a child process in a session of its own, so that it outlives the server; its output goes
to the run's log, never to a pipe. The next worker is started ahead of need and waits with its
libraries loaded, so that a run begins at once. Imports no torch.
"""

from __future__ import annotations

import logging
import os
import secrets
import subprocess
import sys
import threading
import time
from pathlib import Path
from typing import Any

from mmapp.errors import MmappError, RunError
from mmapp.runs.child import WORKER, ask_to_stop, spawn
from mmapp.runs.run import AT_WORK, RESUMABLE, Order, Run, list_runs

log = logging.getLogger(__name__)

TICK_SECONDS = 0.3
ORPHANED = "The server stopped while this run was at work. Resume goes on from its last snapshot."
WORDLESS = "The worker ended without a word (status {code}). Resume goes on from its last snapshot."


class RunQueue:
    """The runs below one folder, and the one worker that does them in order.

    Args:
        folder: holds one folder a run; created when missing.
    """

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        folder.mkdir(parents=True, exist_ok=True)
        self._lock = threading.Lock()
        self._warm: subprocess.Popen[bytes] | None = None
        self._child: subprocess.Popen[bytes] | None = None
        self._run: Run | None = None
        self._queued_at = 0.0
        self._many = len(_gpus()) > 1
        self._closing = threading.Event()
        self._thread = threading.Thread(target=self._watch, name="run queue", daemon=True)

    def open(self) -> RunQueue:
        """Mark orphans of an earlier server, take up waiting runs, and begin to watch."""
        for run in list_runs(self.folder):
            state = run.state()
            if state["status"] == "interrupted" and not state.get("message"):
                run.write_state(status="interrupted", message=ORPHANED, owner=None)
        self._thread.start()
        return self

    def close(self) -> None:
        """Stop watching and dismiss the waiting worker; a run at work goes on."""
        self._closing.set()
        self._thread.join()
        if self._warm is not None:
            self._warm.kill()
            self._warm.communicate()

    def submit(self, order: Order) -> Run:
        """Put a new run at the end of the queue."""
        return Run.create(self.folder / new_name(), order)

    def find(self, identity: str) -> Run | None:
        """The run of that name, or None; what is not a plain name finds nothing."""
        if not identity or identity == ".." or Path(identity).name != identity:
            return None
        folder = self.folder / identity
        try:
            return Run(folder) if (folder / "settings.json").is_file() else None
        except (OSError, ValueError):  # not a possible file name
            return None

    def resume(self, run: Run) -> None:
        """Queue a run again that ended early. Raises RunError when it did not."""
        if run.status not in RESUMABLE:
            raise RunError(f"This run is {run.status}; only a run that ended early can be resumed.")
        run.write_state(status="queued", created=time.time(), message=None)

    def stop(self, run: Run) -> None:
        """A queued run is cancelled; one at work stops after its step and saves."""
        with self._lock:
            if run.status == "queued":
                run.write_state(status="stopped", ended=time.time())
                return
        ask_to_stop(run)

    def waiting(self) -> list[Run]:
        """Queued runs, the next one first."""
        return _queued(self._states())

    def _states(self) -> list[tuple[dict[str, Any], Run]]:
        return [(run.state(), run) for run in list_runs(self.folder)]

    def place(self, run: Run) -> int:
        """How many runs come before this one; 0 when it is next."""
        order = [other.id for other in self.waiting()]
        return order.index(run.id) if run.id in order else 0

    def _watch(self) -> None:
        while not self._closing.wait(TICK_SECONDS):
            try:
                self._tick()
            except Exception:
                log.exception("The run queue stumbled; it goes on.")

    def _tick(self) -> None:
        if self._child is not None:
            if self._child.poll() is None:
                return
            self._bury(self._child.returncode)
        if not self._many and (self._warm is None or self._warm.poll() is not None):
            self._warm = spawn([sys.executable, "-m", WORKER])
        with self._lock:
            states = self._states()
            if any(state["status"] in AT_WORK for state, _ in states):
                return  # a worker of an earlier server is still busy
            for run in _queued(states)[:1]:
                self._start(run)

    def _start(self, run: Run) -> None:
        """Hand the run to the waiting worker, or to one process a device where there are many.

        A search does no training itself and is one process everywhere.
        """
        folder = str(run.folder.resolve())
        # By this a run that was queued again since then is told from one nobody began.
        self._queued_at = run.state()["created"]
        if self._many:
            launcher = [] if _is_search(run) else ["-m", "accelerate.commands.launch"]
            command = [sys.executable, *launcher, "-m", WORKER, folder]
            self._child, self._run = spawn(command), run
        elif self._warm is not None and self._warm.stdin is not None:
            self._warm.stdin.write(f"{folder}\n".encode())
            self._warm.stdin.close()
            self._child, self._warm, self._run = self._warm, None, run

    def _bury(self, code: int) -> None:
        """A worker has ended; if it could not say how, say it for it."""
        run, self._child, self._run = self._run, None, None
        if run is None:
            return
        state = run.state()
        never_claimed = state["status"] == "queued" and state["created"] == self._queued_at
        if state["status"] == "interrupted" or never_claimed:
            message = WORDLESS.format(code=code)
            run.write_state(status="interrupted", message=message, ended=time.time(), owner=None)


def new_name() -> str:
    """A folder's name that sorts by time and that nobody can guess."""
    return f"{time.strftime('%Y%m%d-%H%M%S')}-{secrets.token_hex(4)}"


def _queued(states: list[tuple[dict[str, Any], Run]]) -> list[Run]:
    """Of these runs the queued ones, the next one first."""
    queued = [(state, run) for state, run in states if state["status"] == "queued"]
    return [run for _, run in sorted(queued, key=lambda pair: pair[0]["created"])]


def _is_search(run: Run) -> bool:
    """Orders that cannot be read are the worker's to complain about."""
    try:
        return run.order().search is not None
    except MmappError:
        return False


def _gpus() -> list[str]:
    """The GPUs this process may use, found without torch."""
    visible = os.environ.get("CUDA_VISIBLE_DEVICES")
    if visible is not None:
        return [name for name in visible.split(",") if name.strip()]
    return [path.name for path in Path("/proc/driver/nvidia/gpus").glob("*")]
