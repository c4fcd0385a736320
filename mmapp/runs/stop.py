"""StopSignal: how a worker is asked to stop, by Ctrl-C or by the system. Imports nothing heavy."""

from __future__ import annotations

import signal
import sys


class StopSignal:
    """True once SIGTERM or Ctrl-C has come; a second one ends the process at once."""

    def __init__(self) -> None:
        self.received: int | None = None

    def __call__(self) -> bool:
        return self.received is not None

    def __enter__(self) -> StopSignal:
        self._before = {n: signal.getsignal(n) for n in (signal.SIGTERM, signal.SIGINT)}
        for number in self._before:
            signal.signal(number, self._handle)
        return self

    def __exit__(self, *_: object) -> None:
        for number, handler in self._before.items():
            signal.signal(number, handler)

    def _handle(self, number: int, frame: object) -> None:
        if self.received is not None:
            sys.exit(128 + number)
        self.received = number
