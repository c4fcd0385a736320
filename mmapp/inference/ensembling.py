"""Checkpoints -> an ensemble: weights chosen on validation pairs, reported on test pairs."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

import numpy as np

from mmapp.data.labels import with_task
from mmapp.data.pairs import PairTable
from mmapp.errors import CheckpointError, SettingsError
from mmapp.evaluation.metrics import metrics_for
from mmapp.inference.predictor import Predictor
from mmapp.inference.scoring import evaluate, load_unlearnt
from mmapp.models.ensemble import STRATEGIES, greedy_weights
from mmapp.storage.ensemble import save_ensemble
from mmapp.storage.folder import find_checkpoint

NEED_DATA = ("weighted", "greedy")


def make_ensemble(
    checkpoints: Sequence[str | Path],
    output: Path,
    strategy: str = "mean",
    data: str | Path | None = None,
) -> Path:
    """Write an ensemble of checkpoints that know the same labels.

    Args:
        checkpoints: two or more, no ensembles themselves.
        output: the ensemble's folder; must not exist.
        strategy: mean; weighted, by accuracy on validation pairs; vote; greedy selection.
        data: labelled pairs; needed for weighted and greedy, and for a report.

    Returns:
        The folder.

    Raises:
        SettingsError: no such strategy, or data is missing for it.
        CheckpointError: fewer than two, a folder that is taken, or members of different labels.
        DataError: nothing usable there, or the members share no test pair.
    """
    if strategy not in STRATEGIES:
        raise SettingsError(f"There is no strategy {strategy!r}. Expected {', '.join(STRATEGIES)}.")
    if strategy in NEED_DATA and data is None:
        raise SettingsError(f"Strategy {strategy} chooses weights on validation pairs: give --data.")
    if len(checkpoints) < 2:
        raise CheckpointError("An ensemble wants at least two checkpoints.")
    if output.exists():
        raise CheckpointError(f"{output} exists already and is not overwritten. Name another folder.")
    members = [Predictor(checkpoint) for checkpoint in checkpoints]
    _require_alike(members, checkpoints)
    weights, report = [1.0] * len(members), None
    if data is not None:
        table = load_unlearnt(Predictor.together(members, weights, strategy), data)
        if strategy in NEED_DATA:
            weights = _weights(members, table.part("validation"), strategy).tolist()
        report = evaluate(Predictor.together(members, weights, strategy), table)
    folders = [find_checkpoint(checkpoint) for checkpoint in checkpoints]
    save_ensemble(output, folders, strategy, weights, report)
    return output


def _require_alike(members: Sequence[Predictor], names: Sequence[str | Path]) -> None:
    first = members[0]
    for member, name in zip(members, names, strict=True):
        if len(member.members) > 1:
            raise CheckpointError(f"{name} is an ensemble itself; name its members instead.")
        if set(member.labels.names) != set(first.labels.names) or member.task != first.task:
            raise CheckpointError(
                f"{name} answers with {', '.join(member.labels.names[:8])}; the first checkpoint "
                f"answers with {', '.join(first.labels.names[:8])}. Members must know the same labels."
            )


def _weights(members: Sequence[Predictor], rows: PairTable, strategy: str) -> np.ndarray:
    """Weights [M] chosen on validation rows. Raises SettingsError when there are none."""
    if not len(rows):
        raise SettingsError(f"{rows.source} has no validation pairs to choose weights on.")
    labels = members[0].labels
    rows = with_task(rows, members[0].task)
    outputs = [member.outputs(rows, labels) for member in members]
    truth = outputs[0].truth()
    metrics = metrics_for(truth)
    said = np.stack([output.probabilities() for output in outputs])
    if strategy == "weighted":
        return np.array([metrics["accuracy"](truth, probabilities) for probabilities in said])
    return greedy_weights(said, lambda together: -metrics["log_loss"](truth, together))
