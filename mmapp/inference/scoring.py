"""evaluate(...): a checkpoint against labelled data, on the split it may be judged by."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

from mmapp.data.cells import split_labels
from mmapp.data.ingest import load_pairs
from mmapp.data.labels import with_task
from mmapp.data.pairs import SPLITS, LabelSet, PairTable
from mmapp.errors import DataError, SettingsError
from mmapp.evaluation.report import make_report
from mmapp.evaluation.retrieval import retrieval_report
from mmapp.inference.predictor import Predictor
from mmapp.inference.zero_shot import names_in
from mmapp.settings import DataSettings

BY_NAME = "Answered by the labels' names alone: no label was learnt from."


def evaluate(
    checkpoint: str | Path | Predictor,
    data: str | Path | PairTable,
    split: str = "test",
    *,
    zero_shot: bool = False,
    template: str = "{}",
    overrides: dict[str, Any] | None = None,
    progress: Callable[[int], None] | None = None,
) -> dict[str, Any]:
    """Score a checkpoint on labelled pairs.

    The data's own split is used where it has one. Data that the checkpoint was trained on is dealt
    again as training dealt it. Any other data without a split is used whole, for none of it was
    learnt from; `notes` says so.

    Args:
        checkpoint: a checkpoint, or a Predictor that has it open.
        data: anything `load_pairs` reads, or a table it gave.
        split: train, validation, test, or all.
        zero_shot: let it answer by the names of the data's own labels, see `Predictor.zero_shot`.
        template: with zero_shot, what is read of each label.
        overrides: DataSettings that differ from the training's, such as a column name.
        progress: called with the number of rows done.

    Returns:
        What `make_report` gives, with `notes`: sentences about what the figures rest on.

    Raises:
        SettingsError: no such split, or a template without a place for the name.
        CheckpointError: nothing usable there, or it cannot answer by label names.
        DataError: no pair can be scored.
    """
    if split not in (*SPLITS, "all"):
        raise SettingsError(f"There is no split {split!r}. Expected one of {', '.join(SPLITS)}, all.")
    predictor = checkpoint if isinstance(checkpoint, Predictor) else Predictor(checkpoint)
    if zero_shot:  # the checkpoint's own task says nothing of what labels mean here
        overrides = {"task": "auto", **(overrides or {})}
    table = data if isinstance(data, PairTable) else load_unlearnt(predictor, data, overrides)
    part, notes = _rows(predictor, table, split)
    if zero_shot:
        names = names_in(table)
        outputs = predictor.zero_shot_outputs(part, names, template, progress)
        return {**make_report(outputs, list(names.names), split), "notes": [*notes, BY_NAME]}
    scored, more = _known_labels(with_task(part, predictor.task), predictor.labels)
    outputs = predictor.outputs(scored, predictor.labels, progress)
    report = make_report(outputs, list(predictor.labels.names), split)
    report |= retrieval_report(outputs, scored.halves(), predictor.task)
    return {**report, "notes": [*notes, *more]}


def load_unlearnt(
    predictor: Predictor, data: str | Path, overrides: dict[str, Any] | None = None
) -> PairTable:
    """Pairs on the sides training dealt them to; of an ensemble, on those that its members agree on.

    A test pair of one member that another learnt from would flatter the whole, so a pair that was
    dealt to different sides has none.

    Raises:
        DataError: nothing usable there, or the members share no test pair.
    """
    table = predictor.load_pairs(data, overrides)
    sides, identity = table.frame["split"], table.fingerprint()
    deals: list[dict[str, Any]] = [predictor.model.config.data_settings or {}]
    for config in (member.model.config for member in predictor.members):
        settings = config.data_settings or {}
        if config.data_fingerprint == identity and settings not in deals:
            deals.append(settings)
            other = load_pairs(data, DataSettings(**{**settings, **(overrides or {})}))
            sides = sides.where(sides == other.frame["split"], "")
    if (table.frame["split"] == "test").any() and not (sides == "test").any():
        raise DataError(
            f"The members dealt {table.source} in different ways (seed or fractions), and no pair is "
            "a test pair to all of them. Join runs of one seed, or give the data a split column."
        )
    return replace(table, frame=table.frame.assign(split=sides))


def _rows(predictor: Predictor, table: PairTable, split: str) -> tuple[PairTable, list[str]]:
    """The rows to score, and a note when they are not simply the split that was asked for."""
    learnt_from = {member.model.config.data_fingerprint for member in predictor.members}
    same = table.fingerprint() in learnt_from
    if split == "all" or table.own_split or same:
        part = table.part(split)
        if not len(part):
            raise DataError(f"No row of {table.source} is in the {split} split. Try --split all.")
        return part, []
    note = (
        f"{table.source} brings no split and is not the data this checkpoint was trained on, so "
        f"all its {len(table)} pairs are scored. Were some of them trained on, the score flatters."
    )
    return table, [note]


def _known_labels(table: PairTable, labels: LabelSet) -> tuple[PairTable, list[str]]:
    """Rows whose label the model can give; the others cannot be scored, and are counted aloud."""
    cells = table.frame["label"]
    lists = labels.several or labels.of_words
    held = cells.map(split_labels) if lists else cells.map(lambda cell: (cell,))
    known = held.map(lambda names: set(names) <= set(labels.names))
    if known.all():
        return table, []
    unknown = Counter(name for names in held[~known] for name in set(names) - set(labels.names))
    named = ", ".join(f"{label!r} × {count}" for label, count in unknown.most_common(8))
    if not known.any():
        raise DataError(
            f"None of the labels is one this checkpoint gives. Found: {named}. "
            f"It gives: {', '.join(labels.names[:20])}."
        )
    note = f"{int((~known).sum())} rows have labels this checkpoint does not give: {named}. Left out."
    return replace(table, frame=table.frame[known].reset_index(drop=True)), [note]
