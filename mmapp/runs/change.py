"""What a run changed about the checkpoint it started from: both scored on the same test pairs."""

from __future__ import annotations

import logging
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np

from mmapp.data.pairs import PairTable
from mmapp.errors import CheckpointError
from mmapp.evaluation.metrics import metrics_for, paired_difference
from mmapp.evaluation.outputs import Outputs
from mmapp.evaluation.report import score
from mmapp.evaluation.tagging import words_right
from mmapp.inference.predictor import Predictor
from mmapp.models.model import FusionModel

log = logging.getLogger("mmapp")

FIGURES = ("accuracy", "macro_f1", "log_loss")


def change(start: str, model: FusionModel, rows: PairTable, after: Outputs) -> dict[str, Any]:
    """Before and after, as part of a report.

    A label that the checkpoint does not know has the probability zero there, so a row that has it
    counts as wrong before.

    Args:
        start: the checkpoint's name; it is opened for this and put away again.
        model: what it has become.
        rows: the test pairs.
        after: what the model says of them, with their labels.

    Returns:
        `before`: accuracy, macro_f1, log_loss and n. `change`: of the accuracy, with the 95 % interval
        of the paired difference. Empty where the tasks differ or no label is common to both, and where
        the checkpoint has gone since: that costs the comparison and not the run.
    """
    try:
        predictor = Predictor(start, model.device)
    except CheckpointError as error:
        log.warning("There is no before to report: %s", error)
        return {}
    names, own = model.config.label_names, predictor.labels.names
    if predictor.task != model.config.task or not set(names) & set(own):
        return {}
    said = _under(names, own, predictor.outputs(rows, None).probabilities())
    before = replace(after, logits=np.log(said.clip(1e-12, 1.0)), temperature=1.0)
    if after.several:
        before = replace(before, logits=before.logits - np.log((1 - said).clip(1e-12, 1.0)))
    by, low, high = _gain(before, after)
    figures = score(before, names)
    return {
        "before": {"n": len(rows), **{name: figures[name] for name in FIGURES}},
        "change": {"accuracy": by, "interval": [low, high]},
    }


def _gain(before: Outputs, after: Outputs) -> tuple[float, float, float]:
    """Accuracy now minus accuracy before, with its interval; the words of a row are drawn together."""
    if after.words is not None:
        right, now = words_right(before), words_right(after)
        return paired_difference(after.words, right, now, lambda words, told: told.sum() / words.sum())
    accuracy = metrics_for(after.truth())["accuracy"]
    return paired_difference(after.truth(), before.probabilities(), after.probabilities(), accuracy)


def _under(names: Sequence[str], own: Sequence[str], probabilities: np.ndarray) -> np.ndarray:
    """Probabilities of the labels `own` [N,C] as those of the labels `names`; zero for unknown ones."""
    spread = np.zeros((len(probabilities), len(names)), probabilities.dtype)
    for column, name in enumerate(names):
        if name in own:
            spread[:, column] = probabilities[:, own.index(name)]
    return spread


def notes(start: str, anew: Sequence[str], table: PairTable) -> list[str]:
    """What somebody should know before such a run begins.

    Args:
        start: the checkpoint's name.
        anew: the parts that could not be taken over.
        table: the pairs of the new run.
    """
    name, told = Path(start).name, []
    if anew:
        told.append(f"Not taken over from {name}, so these begin anew: {', '.join(anew)}.")
    learnt = learnt_before(start, table)
    if learnt:
        told.append(
            f"{learnt} validation and test pairs were among the training pairs of {name}; what is "
            "reported about them flatters."
        )
    return told


def learnt_before(start: str, table: PairTable) -> int:
    """How many validation and test pairs were among the training pairs of the run started from.

    Zero where `start` is no run's folder: a checkpoint alone does not hold its pairs.
    """
    kept = Path(start) / "pairs.parquet"
    if not kept.is_file():
        return 0
    learnt = _contents(PairTable.load(kept).part("train"))
    now = _contents(table.part("validation")) + _contents(table.part("test"))
    known = set(learnt)
    return sum(pair in known for pair in now)


def _contents(table: PairTable) -> list[tuple[str | None, str | None]]:
    """What each pair shows and says: the picture's hash and the text."""
    return list(zip(table.frame["image_hash"], table.frame["text"], strict=True))
