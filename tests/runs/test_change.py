"""A run that starts from another reports what it changed, and goes on after a stop as any other."""

from __future__ import annotations

import json
import shutil
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from mmapp.data.pairs import LabelSet, PairTable
from mmapp.errors import CheckpointError
from mmapp.evaluation.calibration import fit_temperature
from mmapp.evaluation.metrics import log_loss
from mmapp.evaluation.outputs import Outputs
from mmapp.inference.predictor import Predictor
from mmapp.inference.scoring import evaluate
from mmapp.runs.change import change, learnt_before
from mmapp.runs.run import Order, Run
from mmapp.runs.worker import work
from mmapp.storage.checkpoint import load_checkpoint
from mmapp.training.continuing import continued
from mmapp.training.prepare import prepare

WEIGHTS = "model.safetensors"


def never() -> bool:
    return False


def order_from(start: Path, data: str, **given: Any) -> Order:
    settings = {"epochs": 1, "batch_size": 8, "precision": "fp32", "modality_dropout": 0.3, **given}
    return Order(data, continued(start, **settings), "small pairs")


@pytest.fixture(scope="module")
def second(whole: Run, small_pairs: PairTable, tmp_path_factory: pytest.TempPathFactory) -> Run:
    """A run that starts from `whole`; for reading only."""
    order = order_from(whole.folder, small_pairs.source)
    run = Run.create(tmp_path_factory.mktemp("second") / "run", order)
    assert work(run, never) == "done"
    return run


def test_before_is_what_the_checkpoint_scores(
    second: Run, whole: Run, small_pairs: PairTable
) -> None:
    report, before = second.report(), evaluate(whole.folder, small_pairs)

    assert report is not None
    assert report["before"] == pytest.approx(
        {name: before[name] for name in ("n", "accuracy", "macro_f1", "log_loss")}
    )
    assert report["change"]["accuracy"] == pytest.approx(report["accuracy"] - before["accuracy"])
    low, high = report["change"]["interval"]
    assert low <= report["change"]["accuracy"] <= high
    metrics = json.loads((second.checkpoint / "metrics.json").read_text())
    assert metrics["change"] == report["change"]


def test_a_label_the_checkpoint_does_not_know_is_wrong_before(
    whole: Run, small_pairs: PairTable
) -> None:
    """Green pairs are called teal now; the model after says the right label of every row."""
    labels = small_pairs.frame["label"].replace({"green": "teal"})
    table = replace(small_pairs, frame=small_pairs.frame.assign(label=labels))
    model = prepare(table, continued(whole.folder)).model
    rows = table.part("test")
    names = model.config.label_names
    truth = np.array([names.index(label) for label in rows.frame["label"]])
    after = Outputs(9.0 * np.eye(len(names), dtype=np.float32)[truth], truth)

    report = change(str(whole.folder), model, rows, after)

    before = evaluate(whole.folder, small_pairs.part("test"), "all")
    share = {row["label"]: row["recall"] for row in before["per_class"]}
    right = (share["blue"] * 2 + share["red"] * 2) / 6  # of each label two test pairs
    assert names == ("blue", "green", "red", "teal")
    assert report["before"]["accuracy"] == pytest.approx(right)
    assert report["change"]["accuracy"] == pytest.approx(1 - right)


def test_with_no_label_in_common_there_is_nothing_to_compare(
    whole: Run, small_pairs: PairTable
) -> None:
    others = {"red": "x", "green": "y", "blue": "z"}
    labels = small_pairs.frame["label"].replace(others)
    table = replace(small_pairs, frame=small_pairs.frame.assign(label=labels))
    model = prepare(table, continued(whole.folder)).model
    after = Outputs(np.zeros((6, 3), np.float32), np.zeros(6, np.int64))

    assert change(str(whole.folder), model, table.part("test"), after) == {}


def test_each_run_fits_the_temperature_of_its_own_weights_on_validation_pairs(
    second: Run, whole: Run, small_pairs: PairTable
) -> None:
    """Found anew from the checkpoint and the validation pairs alone; test pairs give another."""
    labels = LabelSet(Predictor(whole.folder).labels.names)
    fitted = {}
    for run in (whole, second):
        [member] = Predictor(run.folder).members
        parts = (small_pairs.part(side) for side in ("validation", "test"))
        known, tested = (member.of_table(part, labels, None) for part in parts)
        fitted[run] = fit_temperature(known.logits, known.truth())
        assert member.model.config.temperature == pytest.approx(fitted[run], rel=1e-3)
        assert fit_temperature(tested.logits, tested.truth()) != pytest.approx(fitted[run], rel=1e-3)
        epochs = {e["epoch"]: e["loss"] for e in run.events() if e["event"] == "evaluated"}
        best = epochs[(run.report() or {})["best_epoch"]]
        assert log_loss(known.truth(), known.probabilities()) == pytest.approx(best, rel=1e-4)
    assert fitted[whole] != pytest.approx(fitted[second], rel=1e-3)
    assert prepare(small_pairs, second.order().settings).model.config.temperature == 1.0


def test_it_goes_on_after_a_stop_to_the_same_weights(
    second: Run, whole: Run, tmp_path: Path
) -> None:
    run = Run.create(tmp_path / "run", second.order())
    reached: list[Any] = []
    assert work(run, lambda: 2 in reached, lambda e: reached.append(e.values.get("step"))) == "stopped"
    run.write_state(status="queued")

    assert work(run, never) == "done"

    assert [e["step"] for e in run.events() if e["event"] == "started"] == [0, 2]
    assert (run.checkpoint / WEIGHTS).read_bytes() == (second.checkpoint / WEIGHTS).read_bytes()
    assert run.report()["change"] == second.report()["change"]  # type: ignore[index]


def test_a_start_that_has_gone_is_missed_in_words_and_costs_no_finished_training(
    whole: Run, small_pairs: PairTable, tmp_path: Path
) -> None:
    start = Path(shutil.copytree(whole.checkpoint, tmp_path / "start"))
    run = Run.create(tmp_path / "run", order_from(start, small_pairs.source))

    def lose(event: Any) -> None:
        if event.kind == "evaluated":
            start.rename(tmp_path / "elsewhere")

    assert work(run, never, lose) == "done"
    assert "before" not in (run.report() or {})
    assert "There is no before to report: There is no checkpoint" in run.log.read_text()

    again = Run.create(tmp_path / "again", run.order())
    with pytest.raises(CheckpointError, match="starts from is needed, also to resume it. There is no"):
        work(again, never)


def test_pairs_that_were_learnt_from_before_are_counted_and_warned_of(
    whole: Run, small_pairs: PairTable, tmp_path: Path
) -> None:
    """A third of the training pairs become test pairs."""
    frame = small_pairs.frame.copy()
    moved = frame.index[frame["split"] == "train"][::3]
    frame.loc[moved, "split"] = "test"
    table = replace(small_pairs, frame=frame)
    assert learnt_before(str(whole.folder), table) == len(moved)
    assert learnt_before(str(whole.folder), small_pairs) == 0
    assert learnt_before("digits", table) == 0

    run = Run.create(tmp_path / "run", order_from(whole.folder, small_pairs.source, fusion="late"))
    table.save(run.pairs)
    work(run, never)

    warned = [e["message"] for e in run.events() if e["event"] == "warning"]
    assert warned == [
        "Not taken over from run, so these begin anew: fusion, head.",
        f"{len(moved)} validation and test pairs were among the training pairs of run; what is "
        "reported about them flatters.",
    ]
    assert all(message in run.log.read_text() for message in warned)


def test_the_checkpoint_names_its_start_without_its_place(second: Run, whole: Run) -> None:
    contents = {path.name: path.read_bytes() for path in second.checkpoint.iterdir()}
    place = str(whole.folder.parent).encode()
    assert [name for name, held in contents.items() if place in held] == []
    assert json.loads(contents["settings.json"])["settings"]["start_from"] == "run"
    assert load_checkpoint(second.folder)[0].config.label_names == ("blue", "green", "red")
