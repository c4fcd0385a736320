"""train(...): one run as a stream of events. Knows no file, no thread and no page.

Whoever drains the stream decides what becomes of an event; between two events the run stands
still at a step boundary, and its TrainingState may be captured and later restored.
"""

from __future__ import annotations

import math
import time
from collections.abc import Callable, Iterator
from itertools import islice
from pathlib import Path
from typing import Any

import torch
from accelerate import Accelerator
from torch.nn.modules.batchnorm import _BatchNorm

from mmapp.data.loading import Shard
from mmapp.device import choose_precision, make_accelerator
from mmapp.evaluation.outputs import collect, forward_inputs, to_device
from mmapp.evaluation.report import score
from mmapp.models.encoders import Encoding
from mmapp.models.model import MODALITIES, FusionModel
from mmapp.models.tuning import apply_tuning, encoders
from mmapp.settings import TrainSettings
from mmapp.training.contrastive import make_contrastive_term
from mmapp.training.feature_cache import FeatureCache
from mmapp.training.history import Event, History
from mmapp.training.objectives import make_objective
from mmapp.training.optimizer import learning_rate, make_optimizer, make_schedule
from mmapp.training.prepare import Loaders
from mmapp.training.state import TrainingState
from mmapp.training.step import Stepper

# A curve of more points than this says no more; a longer run tells of every n-th step.
STEP_EVENTS = 2000

# Pairs on which the spread of the encoders' outputs is measured.
MEASURED = 256


def train(
    model: FusionModel,
    loaders: Loaders,
    settings: TrainSettings,
    should_stop: Callable[[], bool] = lambda: False,
    *,
    state: TrainingState | None = None,
    folder: Path | None = None,
) -> Iterator[Event]:
    """Fine-tune the model in place; at the end it holds the best epoch's weights.

    Args:
        model: from `prepare`.
        loaders: from `prepare`.
        settings: the same as given to `prepare`.
        should_stop: asked after every step; True ends the run at this step boundary.
        state: filled with everything needed to go on; one that was restored is gone on from.
        folder: where frozen encoders' features are kept between runs; below `home()` when None.

    Yields:
        Events as listed in `history`; the last is "finished" and says why.

    Raises:
        TrainingError: the loss is no longer a number.
        SettingsError: an unknown tuning, or a precision this machine does not have.
    """
    apply_tuning(model, settings)
    precision = choose_precision(settings.precision, sum(p.numel() for p in model.parameters()))
    accelerator = make_accelerator(precision)
    model.to(accelerator.device)
    run = _Run(model, loaders, settings, accelerator, precision, should_stop)
    run.attach(state or TrainingState())
    yield run.started()
    if settings.tuning == "head":
        cache = FeatureCache(
            model,
            device=accelerator.device,
            precision=precision,
            folder=folder,
            shard=run.shard,
            should_stop=should_stop,
        )
        # Where pairs are dealt by seed, another seed's test pairs are among this one's others.
        dealt = [] if loaders.test.dataset.own_split else [loaders.test]
        yield from cache.fill([loaders.train, loaders.validation], beside=dealt)
    run.standardise()
    yield from run.epochs()
    run.state.load_best(model)
    # accelerate wraps the model's forward for mixed precision; the caller gets it back unwrapped.
    accelerator.unwrap_model(run.model, keep_fp32_wrapper=False)


class _Run:
    """The moving parts of one call of `train`."""

    def __init__(
        self,
        model: FusionModel,
        loaders: Loaders,
        settings: TrainSettings,
        accelerator: Accelerator,
        precision: str,
        should_stop: Callable[[], bool],
    ) -> None:
        self.bare = model
        self.loaders = loaders
        self.settings = settings
        self.accelerator = accelerator
        self.precision = precision
        self.should_stop = should_stop
        self.shard = Shard(accelerator.process_index, accelerator.num_processes)
        self.steps = settings.epochs * len(loaders.train)
        optimizer = make_optimizer(model, settings)
        self.model, self.optimizer = accelerator.prepare(model, optimizer)
        self.schedule = make_schedule(optimizer, settings, self.steps)
        self.stepper = Stepper(
            self.model,
            self.optimizer,
            self.schedule,
            objective=make_objective(
                settings,
                loaders.train.dataset.labels,
                model.head,
                accelerator.device,
            ),
            contrast=make_contrastive_term(
                settings, loaders.train.dataset, model.config.task, accelerator.device
            ),
            accelerator=accelerator,
            shard=self.shard,
            clip=settings.clip,
            parts=settings.accumulation,
        )
        self.pace = _Pace(max(1, math.ceil(self.steps / STEP_EVENTS)))

    def attach(self, state: TrainingState) -> None:
        """Go on from a restored state, or begin with a fresh one."""
        self.state = state
        self.history = History(self.settings.watch, self.settings.patience, state.evaluations)
        state.evaluations = self.history.evaluations
        state.bind(self.bare, self.optimizer, self.schedule)

    def started(self) -> Event:
        counts = [(p.numel(), p.requires_grad) for p in self.bare.parameters()]
        return Event(
            "started",
            {
                "steps": self.steps,
                "step": self.state.step,
                "epochs": self.settings.epochs,
                "pairs": len(self.loaders.train.dataset),
                "parameters": sum(n for n, _ in counts),
                "learning": sum(n for n, learns in counts if learns),
                "device": str(self.accelerator.device),
                "processes": self.accelerator.num_processes,
                "precision": self.precision,
            },
        )

    @torch.no_grad()
    def standardise(self) -> None:
        """Before the first step, measure how the encoders' outputs are spread over some pairs.

        Statistics that came with the model stay: a fusion taken over knows its inputs by them.
        """
        fresh = {name for name in encoders(self.bare) if not self.bare.projection(name).measured}
        if self.state.step or not fresh:
            return
        self._as_in_the_first_step()
        found: dict[str, list[Encoding]] = {}
        for batch in islice(self.loaders.train.batches(), max(1, MEASURED // self.settings.batch_size)):
            moved = to_device(batch, self.accelerator.device)
            inputs = forward_inputs(moved)
            inputs.pop("word_starts", None)  # no encoder asks where words begin
            present = inputs.get("present")
            encodings = inputs.get("encodings") or self.bare.encode(**inputs)
            for modality, encoding in encodings.items():
                rows = slice(None) if present is None else present[:, MODALITIES.index(modality)]
                found.setdefault(modality, []).append(Encoding(*(field[rows] for field in encoding)))
        for modality in fresh:
            self.bare.projection(modality).fit(found[modality])

    def _as_in_the_first_step(self) -> None:
        """Everything as in evaluation, but batch norms that learn see the batch, as they will when
        training begins: their running statistics hold nothing yet."""
        self.bare.train()
        learning = [m for m in self.bare.modules() if isinstance(m, _BatchNorm) and m.training]
        self.bare.eval()
        for norm in learning:
            norm.train()

    def epochs(self) -> Iterator[Event]:
        """All epochs that are left, each followed by a look at the validation pairs."""
        reason = "done"
        while self.state.epoch < self.settings.epochs:
            if self.history.exhausted():
                reason = "patience"
                break
            yield from self._steps_of_epoch()
            if self._stopping():
                reason = "stopped"
                break
            evaluated = self._evaluated()
            self.state.next_epoch()
            yield evaluated
        best = self.history.best()
        yield Event(
            "finished",
            {
                "reason": reason,
                "step": self.state.step,
                "epoch": self.state.epoch,
                "best_epoch": best["epoch"] if best else None,
            },
        )

    def _steps_of_epoch(self) -> Iterator[Event]:
        state = self.state
        self.model.train()
        batches = self.loaders.train.batches(state.epoch, state.step_in_epoch, self.shard)
        self.pace.begin()
        for batch in batches:
            if self._stopping():
                return
            loss = self.stepper.take(batch)
            state.advance(loss, batch["size"])
            yield from self._warned()
            self.pace.count(loss, batch["size"])
            if state.step % self.pace.every == 0:
                yield self._stepped()

    def _warned(self) -> Iterator[Event]:
        while self.stepper.warnings:
            yield Event("warning", {"message": self.stepper.warnings.pop(0)})

    def _stepped(self) -> Event:
        loss, rate = self.pace.read()
        left = (self.steps - self.state.step) * self.settings.batch_size
        return Event(
            "step",
            {
                "step": self.state.step,
                "steps": self.steps,
                "epoch": round(self.state.step / len(self.loaders.train), 4),
                "loss": loss,
                "learning_rate": learning_rate(self.optimizer),
                "pairs_per_second": round(rate, 1),
                "seconds_left": round(left / rate, 1) if rate else None,
            },
        )

    def _evaluated(self) -> Event:
        """Score the validation pairs; the best epoch's weights are kept."""
        outputs = collect(
            self.bare,
            self.loaders.validation,
            device=self.accelerator.device,
            precision=self.precision,
            shard=self.shard,
        )
        scores = score(outputs, self.bare.config.label_names)
        values: dict[str, Any] = {
            "step": self.state.step,
            "epoch": self.state.epoch + 1,
            "train_loss": self.state.mean_loss(),
            "loss": scores.pop("log_loss"),
            **scores,
        }
        if self.history.add(values):
            self.state.keep_best(self.bare)
            values["best"] = True
        return Event("evaluated", dict(values))

    def _stopping(self) -> bool:
        """Every process must leave at the same step, so they agree."""
        stop = self.should_stop()
        if self.shard.world == 1:
            return stop
        flag = torch.tensor(int(stop), device=self.accelerator.device)
        return bool(self.accelerator.reduce(flag, "sum").item())


class _Pace:
    """Mean loss and pairs a second since they were last read."""

    def __init__(self, every: int) -> None:
        self.every = every
        self.begin()

    def begin(self) -> None:
        self._since = time.monotonic()
        self._loss = self._pairs = 0.0

    def count(self, loss: float, pairs: int) -> None:
        self._loss += loss * pairs
        self._pairs += pairs

    def read(self) -> tuple[float, float]:
        loss = self._loss / max(self._pairs, 1)
        rate = self._pairs / max(time.monotonic() - self._since, 1e-9)
        self.begin()
        return loss, rate

