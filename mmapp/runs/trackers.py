"""Who looks on while a run goes: TensorBoard's files always, trackio or Weights & Biases when asked.

They are told what events.jsonl is told and never asked anything. One that fails is left out from
then on: it is said once, and the run goes on.
"""

from __future__ import annotations

import os
import secrets
import sys
from collections.abc import Callable
from contextlib import redirect_stdout
from pathlib import Path
from typing import Any

from accelerate.tracking import GeneralTracker, TensorBoardTracker, TrackioTracker, WandBTracker
from accelerate.utils import is_trackio_available, is_wandb_available

from mmapp.errors import SettingsError
from mmapp.runs.run import Run
from mmapp.training.history import Event

PROJECT = "mmapp"
FLUSH_SECONDS = 5
# Values of an "evaluated" event that are no validation figures.
NO_FIGURES = ("step", "epoch", "train_loss", "best")

MISSING = "The tracker {name} is not installed; install it with: python -m pip install {name}"
LOST = "{name} failed ({error}) and gets no more figures; the run and its TensorBoard files go on."
NO_CURVES = "TensorBoard's files cannot be written ({error}); the run goes on without them."


class TensorBoard(TensorBoardTracker):
    """TensorBoard's files below a run's folder; they hold each figure once, however often it resumes.

    Args:
        folder: holds the files.
        begun: an earlier process has written there.
    """

    def __init__(self, folder: Path, begun: bool) -> None:
        # The files are named by the second; two of one second must not replace each other.
        suffix = f".{os.getpid()}.{secrets.token_hex(2)}"
        super().__init__("", folder, flush_secs=FLUSH_SECONDS, filename_suffix=suffix)
        self.begun = begun

    def store_init_configuration(self, values: dict[str, Any]) -> None:
        """Once a run: each time would be a line of its own in TensorBoard's table of them."""
        if not self.begun:
            super().store_init_configuration(values)

    def log(self, values: dict[str, Any], step: int | None = None, **_: Any) -> None:
        # accelerate's own waits for the disk after every step; here the writer's thread does.
        for name, value in values.items():
            self.writer.add_scalar(name, value, step)


def trackio(name: str, folder: Path) -> GeneralTracker:
    """trackio, where its own variables say: on this machine, or on a Space."""
    # Figures of the machine are another matter, and a notebook's frame is not for a worker.
    quiet = {"embed": False, "auto_log_gpu": False, "auto_log_cpu": False}
    return TrackioTracker(PROJECT, name=name, resume="allow", **quiet)


def wandb(name: str, folder: Path) -> GeneralTracker:
    """Weights & Biases, by the login of this machine; its own files stay in the run's folder."""
    return WandBTracker(PROJECT, name=name, id=name, resume="allow", dir=str(folder))


# By the setting's value: how it is made, and whether it is installed.
TRACKERS: dict[str, tuple[Callable[[str, Path], GeneralTracker], Callable[[], bool]]] = {
    "trackio": (trackio, is_trackio_available),
    "wandb": (wandb, is_wandb_available),
}


class Trackers:
    """All onlookers of one run. Nothing is opened before the run has started.

    Args:
        run: its events say what was told already, by this process or an earlier one.
        asked: the setting `tracker`.
        settings: every knob, without the folders of this machine.
        warn: called with a sentence when an onlooker is lost.

    Raises:
        SettingsError: the tracker asked for is not installed.
    """

    def __init__(
        self, run: Run, asked: str, settings: dict[str, Any], warn: Callable[[str], None]
    ) -> None:
        if asked != "none" and not TRACKERS[asked][1]():
            raise SettingsError(MISSING.format(name=asked))
        self.run = run
        self.asked = asked
        self.settings = {name: value for name, value in settings.items() if value is not None}
        self.warn = warn
        self._at_work: list[GeneralTracker] = []
        told = list(run.records())
        self._begun = any(record["event"] == "started" for record in told)
        # What a resumed run does again was shown already, so it is not told twice.
        self._steps = max((r["step"] for r in told if r["event"] == "step"), default=0)
        self._epochs = max((r["epoch"] for r in told if r["event"] == "evaluated"), default=0)

    def tell(self, event: Event) -> None:
        """Pass on what is worth a point in a curve."""
        values = event.values
        if event.kind == "started":
            self._open()
        elif event.kind == "step" and values["step"] > self._steps:
            names = ("loss", "learning_rate", "pairs_per_second")
            self._log({f"train/{name}": values[name] for name in names}, values["step"])
        elif event.kind == "evaluated" and values["epoch"] > self._epochs:
            figures = {k: v for k, v in values.items() if k not in NO_FIGURES}
            shown = {f"validation/{name}": value for name, value in figures.items()}
            self._log({**shown, "train/epoch_loss": values["train_loss"]}, values["step"])

    def tell_result(self, report: dict[str, Any], step: int) -> None:
        """Pass on the figures of the test split, at the end of a run."""
        figures = {f"test/{k}": v for k, v in report.items() if isinstance(v, float)}
        self._log(figures, step)

    def close(self) -> None:
        """Let them finish what they hold."""
        self._each(lambda tracker: tracker.finish())
        self._at_work = []

    def _open(self) -> None:
        self._at_work = [TensorBoard(self.run.folder / "tensorboard", self._begun)]
        if self.asked != "none":
            make, _ = TRACKERS[self.asked]
            self._at_work.append(make(self._name(), self.run.folder))
        self._each(lambda tracker: tracker.start())
        self._each(lambda tracker: tracker.store_init_configuration(self.settings))

    def _name(self) -> str:
        """What the run is called there, now and when it goes on; folders of one name are told apart."""
        name = self.run.state().get("tracked_as") or f"{self.run.id}-{secrets.token_hex(3)}"
        self.run.write_state(tracked_as=name)
        return name

    def _log(self, figures: dict[str, Any], step: int) -> None:
        self._each(lambda tracker: tracker.log(figures, step=step))

    def _each(self, act: Callable[[GeneralTracker], None]) -> None:
        """Do it with every onlooker; one that fails is the last one to end a run."""
        for tracker in list(self._at_work):
            try:
                with redirect_stdout(sys.stderr):  # stdout is for results
                    act(tracker)
            except Exception as error:
                # Its own words may hold an address or a token.
                self._at_work.remove(tracker)
                sentence = NO_CURVES if tracker.name == "tensorboard" else LOST
                self.warn(sentence.format(name=tracker.name, error=type(error).__name__))
