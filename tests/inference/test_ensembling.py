"""An ensemble is a checkpoint like any other: its answers are its members', put together."""

from __future__ import annotations

import json
import shutil
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

from mmapp.data.ingest import load_pairs
from mmapp.data.pairs import PairTable
from mmapp.errors import CheckpointError, DataError, SettingsError
from mmapp.inference.ensembling import make_ensemble
from mmapp.inference.predictor import Predictor
from mmapp.inference.scoring import evaluate
from mmapp.runs.run import Order, Run
from mmapp.runs.worker import work


@pytest.fixture(scope="module")
def other(trained: Run, tmp_path_factory: pytest.TempPathFactory) -> Run:
    """The same pairs, another seed of the weights, another fusion, another picture size."""
    order = trained.order()
    settings = order.settings.replace(fusion="concat", image_size=48, epochs=2)
    run = Run.create(tmp_path_factory.mktemp("other") / "run", Order(order.data, settings))
    assert work(run, lambda: False) == "done"
    return run


@pytest.fixture(scope="module")
def mean(trained: Run, other: Run, tmp_path_factory: pytest.TempPathFactory) -> Path:
    place = tmp_path_factory.mktemp("ensemble") / "mean"
    return make_ensemble([trained.folder, other.folder], place, "mean", trained.order().data)


def said(predictor: Predictor, table: PairTable) -> np.ndarray:
    rows = predictor.predict_table(table)
    return np.array([[row.probabilities[name] for name in predictor.labels.names] for row in rows])


def test_the_mean_is_what_averaging_by_hand_gives(
    mean: Path, trained: Run, other: Run, small_pairs: PairTable
) -> None:
    by_hand = (
        said(Predictor(trained.folder), small_pairs) + said(Predictor(other.folder), small_pairs)
    ) / 2
    assert said(Predictor(mean), small_pairs) == pytest.approx(by_hand, abs=1e-6)


def test_one_pair_is_answered_as_in_a_table(mean: Path, small_pairs: PairTable) -> None:
    predictor, pair = Predictor(mean), next(iter(small_pairs))
    [alone] = predictor.predict_many([pair.text], [pair.image])
    table = predictor.predict_table(small_pairs)
    assert alone.probabilities == pytest.approx(table[0].probabilities, abs=1e-5)


def test_its_report_is_what_evaluating_it_gives(mean: Path, trained: Run) -> None:
    told = json.loads((mean / "metrics.json").read_text())
    assert evaluate(mean, trained.order().data)["accuracy"] == told["accuracy"]
    assert told["n"] == (trained.report() or {})["n"]


@pytest.mark.parametrize("strategy", ["weighted", "vote", "greedy"])
def test_every_strategy_makes_a_checkpoint_that_answers(
    strategy: str, trained: Run, other: Run, tmp_path: Path
) -> None:
    members = [trained.folder, other.folder]
    folder = make_ensemble(members, tmp_path / strategy, strategy, trained.order().data)
    answer = Predictor(folder).predict(text="a word")
    assert sum(answer.probabilities.values()) == pytest.approx(1.0)
    config = json.loads((folder / "config.json").read_text())
    assert config["strategy"] == strategy
    assert sum(config["weights"]) > 0


@pytest.mark.parametrize("strategy", ["weighted", "greedy"])
def test_strategies_that_choose_weights_want_data(
    strategy: str, trained: Run, other: Run, tmp_path: Path
) -> None:
    with pytest.raises(SettingsError, match="chooses weights on validation pairs: give --data"):
        make_ensemble([trained.folder, other.folder], tmp_path / "e", strategy)


def test_members_must_know_the_same_labels(trained: Run, tmp_path: Path) -> None:
    with pytest.raises(CheckpointError, match="Members must know the same labels"):
        make_ensemble([trained.folder, "digits"], tmp_path / "e")


def test_an_ensemble_is_no_member_and_one_is_no_ensemble(
    mean: Path, trained: Run, tmp_path: Path
) -> None:
    with pytest.raises(CheckpointError, match="is an ensemble itself"):
        make_ensemble([trained.folder, mean], tmp_path / "e")
    with pytest.raises(CheckpointError, match="at least two"):
        make_ensemble([trained.folder], tmp_path / "e")
    with pytest.raises(CheckpointError, match="not overwritten"):
        make_ensemble([trained.folder, trained.folder], mean)


@pytest.mark.parametrize(
    "change",
    [
        {"members": ["member-1", "../member-2"]},
        {"members": ["member-1", "/etc"]},
        {"members": ["member-1", ".."]},
        {"members": ["member-1"]},
        {"weights": [0.0, 0.0]},
        {"weights": [1.0, -1.0]},
        {"weights": ["much", "little"]},
        {"strategy": "median"},
        {"format_version": 99},
    ],
)
def test_a_config_that_contradicts_itself_or_leads_elsewhere_is_refused(
    change: dict[str, object], mean: Path, tmp_path: Path
) -> None:
    folder = Path(shutil.copytree(mean, tmp_path / "copy"))
    config = json.loads((folder / "config.json").read_text())
    (folder / "config.json").write_text(json.dumps({**config, **change}))
    with pytest.raises(CheckpointError):
        Predictor(folder)


@pytest.fixture(scope="module")
def dealt_anew(trained: Run, tmp_path_factory: pytest.TempPathFactory) -> Run:
    """The same pairs, dealt by another seed: what `trained` is judged by it may have learnt from."""
    order = trained.order()
    settings = order.settings.replace(seed=4)
    run = Run.create(tmp_path_factory.mktemp("anew") / "run", Order(order.data, settings))
    assert work(run, lambda: False) == "done"
    return run


@pytest.mark.parametrize("swapped", [False, True])
def test_only_pairs_that_no_member_learnt_from_are_reported_on(
    swapped: bool, trained: Run, dealt_anew: Run, tmp_path: Path
) -> None:
    """By hand: the rows that both runs' own tables have in the test split."""
    tables = [PairTable.load(run.pairs).frame for run in (trained, dealt_anew)]
    tests = [set(t.loc[t["split"] == "test", "row"]) for t in tables]
    learnt = [set(t.loc[t["split"] == "train", "row"]) for t in tables]
    assert tests[0] & learnt[1]  # else nothing is shown
    runs = [dealt_anew, trained] if swapped else [trained, dealt_anew]
    data = trained.order().data
    folder = make_ensemble([run.folder for run in runs], tmp_path / "e", "mean", data)
    report = json.loads((folder / "metrics.json").read_text())
    assert report["n"] == len(tests[0] & tests[1]) > 0
    assert evaluate(folder, data)["accuracy"] == report["accuracy"]


def test_members_without_a_common_test_pair_are_not_judged(
    trained: Run, dealt_anew: Run, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def none_in_common(table: PairTable, other: PairTable) -> PairTable:
        taken = table.frame["split"] == "test"
        return replace(other, frame=other.frame.assign(split=np.where(taken, "train", "test")))

    first = Predictor(trained.folder).load_pairs(trained.order().data)
    monkeypatch.setattr(
        "mmapp.inference.scoring.load_pairs",
        lambda *given: none_in_common(first, load_pairs(*given)),
    )
    members = [trained.folder, dealt_anew.folder]
    with pytest.raises(DataError, match="no pair is a test pair to all of them"):
        make_ensemble(members, tmp_path / "e", "mean", trained.order().data)
    assert not (tmp_path / "e").exists()
