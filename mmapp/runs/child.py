"""A worker as a child process: how it is started, asked to stop, and waited for. Imports no torch."""

from __future__ import annotations

import logging
import os
import signal
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path
from typing import IO

from mmapp.runs.run import AT_WORK, Run

log = logging.getLogger(__name__)

WORKER = "mmapp.runs.worker"
TICK_SECONDS = 0.1


def spawn(command: list[str], output: int | IO[bytes] = subprocess.DEVNULL) -> subprocess.Popen[bytes]:
    """A child that finds this package, in a session of its own: a Ctrl-C meant for us is not for it."""
    root = Path(__file__).resolve().parents[2]
    paths = [str(root), *filter(None, [os.environ.get("PYTHONPATH")])]
    return subprocess.Popen(
        command,
        stdin=subprocess.PIPE,
        stdout=output,
        stderr=output,
        start_new_session=True,
        env={**os.environ, "PYTHONPATH": os.pathsep.join(paths)},
    )


def ask_to_stop(run: Run) -> None:
    """Ask the worker of a run, whoever started it, to stop after its step and save."""
    state = run.state()
    owner = state.get("owner") or {}
    if state["status"] in AT_WORK and owner.get("pid"):
        try:
            os.kill(owner["pid"], signal.SIGTERM)
        except ProcessLookupError:
            log.info("Run %s ended before it could be stopped.", run.id)


def bring_to_end(run: Run, should_stop: Callable[[], bool] = lambda: False) -> None:
    """Do what is left of a run in a worker of its own; a run that is done or failed stays as it is.

    Args:
        run: goes on from its last snapshot. A worker that a killed process left with it ends first.
        should_stop: asked all the time; True asks the worker, once, to stop and save.
    """
    ask_to_stop(run)
    while run.alive():
        time.sleep(TICK_SECONDS)
    if run.status in ("done", "failed"):
        return
    run.write_state(status="queued", message=None)
    command = [sys.executable, "-m", WORKER, str(run.folder.resolve())]
    with run.log.open("ab") as output, spawn(command, output) as child:
        try:
            while not should_stop() and child.poll() is None:
                time.sleep(TICK_SECONDS)
        finally:
            child.terminate()  # of one that has ended, nothing is left to hear it
            child.wait()  # on a Ctrl-C, leaving the block would not
