"""A search tries what it may in the time it has, and takes what the validation pairs say is best."""

from __future__ import annotations

import json
import re
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from mmapp.errors import SettingsError, TrainingError
from mmapp.models.tuning import usual_rates
from mmapp.runs import child
from mmapp.runs import search as searches
from mmapp.runs.proposals import Proposer, possible
from mmapp.runs.run import Order, Run
from mmapp.runs.search import NO_EPOCH
from mmapp.runs.trials import as_text_table, best_of, in_a_line, trials_of
from mmapp.runs.worker import work
from mmapp.settings import SearchSettings, TrainSettings
from mmapp.training.history import Event

# Stands for the worker of a trial. What it does is told by the trial's number in a file beside the
# search: [validation figure, test figure], "fails", "dies", "waits" (no epoch) or "learns" (one epoch,
# then waits). It imports no torch.
STAND_IN = """
import json, os, pathlib, sys, time
from mmapp.runs.run import Run
from mmapp.runs.stop import StopSignal

run = Run.open(pathlib.Path(sys.argv[1]))
above = run.folder.parents[2]
does = json.loads((above / "does.json").read_text())[int(run.id) - 1]
with (above / "visits.txt").open("a") as out:
    out.write(run.id + "\\n")

def evaluated(score):
    run.append({"event": "evaluated", "epoch": 1, "step": 1, "macro_f1": score, "loss": 1 - score})

def result(score):
    run.checkpoint.mkdir(exist_ok=True)
    (run.checkpoint / "config.json").write_text(json.dumps(run.id))
    run.write_report({"n": 6, "accuracy": score, "trial": run.id})

with run.claim(), StopSignal() as stop:
    run.write_state(status="running", owner=run.owner())
    run.pairs.touch()
    if does == "fails":
        run.write_state(status="failed", message="no luck", owner=None)
        sys.exit(1)
    if does == "dies":
        os._exit(9)
    if isinstance(does, list):
        evaluated(does[0])
        result(does[1])
    if does == "learns":
        time.sleep(0.3)
        evaluated(0.5)
    while does in ("waits", "learns") and not stop():
        time.sleep(0.01)
    if does == "learns":
        result(0.5)
    run.write_state(status="stopped" if stop() else "done", owner=None)
"""


@pytest.fixture
def begin(
    order: Callable[..., Order], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> Callable[..., Run]:
    """begin(does, **search settings): a search, queued, whose n-th trial does the n-th thing."""
    (tmp_path / "stand_in_trial.py").write_text(STAND_IN)
    monkeypatch.setenv("PYTHONPATH", str(tmp_path))
    monkeypatch.setattr(child, "WORKER", "stand_in_trial")
    monkeypatch.setattr(child, "TICK_SECONDS", 0.01)

    def make(does: list[Any], **wanted: Any) -> Run:
        (tmp_path / "does.json").write_text(json.dumps(does))
        search = SearchSettings(**{"trials": len(does), **wanted})
        return Run.create(tmp_path / "run", replace(order(watch="macro_f1"), search=search))

    return make


def never() -> bool:
    return False


def visits(run: Run) -> list[str]:
    return (run.folder.parent / "visits.txt").read_text().split()


def test_the_best_by_validation_is_taken_even_when_another_is_better_on_the_test_pairs(
    begin: Callable[..., Run],
) -> None:
    run = begin([[0.6, 0.7], [0.9, 0.5], "fails", [0.8, 0.99]])
    assert work(run, never) == "done"

    report = run.report()
    assert report is not None
    assert (report["trial"], report["accuracy"], report["reason"]) == ("002", 0.5, "done")
    assert json.loads((run.checkpoint / "config.json").read_text()) == "002"
    found = report["search"]
    assert [t["number"] for t in found["trials"]] == [2, 4, 1, 3]
    assert [t["score"] for t in found["trials"]] == [0.9, 0.8, 0.6, None]
    assert found["trials"][-1]["message"] == "no luck"
    assert "Trial 3: no luck" in run.log.read_text()
    chosen = Run.open(run.folder / "trials" / "002").order()
    assert (found["best"], found["settings"]) == (2, chosen.settings.model_dump())
    assert found["command"] == chosen.command("RUN")
    assert [e["number"] for e in run.events() if e.get("best") is True] == [1, 2]
    assert run.events()[-1] | {"time": 0} == {
        "event": "finished", "time": 0, "reason": "done", "best": 2, "best_epoch": 1,
    }  # fmt: skip
    assert {path.name for path in run.folder.iterdir()} == {
        "checkpoint", "events.jsonl", "lock", "log.txt", "pairs.parquet", "report.json",
        "settings.json", "state.json", "trials",
    }  # fmt: skip


def test_when_the_time_is_over_the_trial_at_work_ends_with_its_best_epoch(
    begin: Callable[..., Run],
) -> None:
    """The first may finish its first epoch, though the time is over by then."""
    run = begin(["learns", [0.9, 0.9]], minutes=0.01)
    assert work(run, never) == "done"
    [trial] = trials_of(run.events())
    assert (trial["number"], trial["score"]) == (1, 0.5)
    assert Run.open(run.folder / "trials" / "001").status == "stopped"
    assert run.has_checkpoint()
    assert run.state()["reason"] == "time"
    assert run.state()["spent"] >= 0.6


def test_a_later_trial_that_had_no_time_for_an_epoch_has_no_result(begin: Callable[..., Run]) -> None:
    run = begin([[0.6, 0.7], "waits", [0.9, 0.9]], minutes=0.02)
    assert work(run, never) == "done"
    assert [(t["number"], t["score"]) for t in trials_of(run.events())] == [(1, 0.6), (2, None)]
    assert trials_of(run.events())[1]["message"] == NO_EPOCH
    report = run.report()
    assert report is not None
    assert report["trial"] == "001"


def test_a_stopped_search_goes_on_with_the_trial_it_was_at_and_repeats_none(
    begin: Callable[..., Run],
) -> None:
    run = begin([[0.6, 0.7], "waits", [0.9, 0.8]])
    second = Run(run.folder / "trials" / "002")

    asked: list[bool] = []

    def at_the_second() -> bool:
        if (second.folder / "settings.json").exists() and second.status == "running":
            asked.append(True)
        return bool(asked)

    assert work(run, at_the_second) == "stopped"
    assert (run.status, second.status) == ("stopped", "stopped")
    assert [t["number"] for t in trials_of(run.events())] == [1]
    report = run.report()
    assert report is not None
    assert (report["trial"], report["reason"]) == ("001", "stopped")
    assert run.has_checkpoint()
    settings, spent = second.order(), run.state()["spent"]

    (run.folder.parent / "does.json").write_text(json.dumps([None, [0.7, 0.7], [0.9, 0.8]]))
    run.write_state(status="queued")
    assert work(run, never) == "done"
    assert visits(run) == ["001", "002", "002", "003"]
    assert second.order() == settings
    assert [t["number"] for t in trials_of(run.events())] == [3, 2, 1]
    report = run.report()
    assert report is not None
    assert report["trial"] == "003"
    assert run.state()["spent"] > spent
    assert not run.resume.exists()


def test_a_killed_search_does_not_get_its_time_back(
    begin: Callable[..., Run], monkeypatch: pytest.MonkeyPatch
) -> None:
    run = begin(["waits"])
    monkeypatch.setattr(searches, "KEEP_SECONDS", 0.0)

    def killed() -> bool:
        if run.state().get("spent", 0.0) > 0.1:
            raise SystemExit
        return False

    with pytest.raises(SystemExit):
        work(run, killed)
    assert run.status == "interrupted"
    assert run.state()["spent"] > 0.1


def test_a_search_stopped_before_any_result_leaves_none(begin: Callable[..., Run]) -> None:
    run = begin(["waits"])
    assert work(run, lambda: True) == "stopped"
    assert (run.has_checkpoint(), run.report()) == (False, None)


def test_a_search_of_failures_gives_up_and_says_why(begin: Callable[..., Run]) -> None:
    run = begin(["dies", "fails", "fails", [0.9, 0.9]])
    with pytest.raises(TrainingError) as failed:
        work(run, never)
    assert str(failed.value) == "No trial came to a result. The last one: no luck"
    assert run.state()["message"] == str(failed.value)
    assert visits(run) == ["001", "002", "003"]
    messages = [trial["message"] for trial in trials_of(run.events())]
    assert messages[0] == "Its worker ended without a word; its log may say why."


def test_a_search_that_failed_is_not_overwritten(begin: Callable[..., Run]) -> None:
    run = begin(["fails"])
    with pytest.raises(TrainingError):
        work(run, never)
    with pytest.raises(Exception, match="exists already"):
        Run.create(run.folder, run.order())


def test_every_trial_sees_the_rows_that_the_first_one_saw(begin: Callable[..., Run]) -> None:
    run = begin([[0.6, 0.7], [0.9, 0.5]])

    def tell(event: Event) -> None:
        if event.kind == "trial":
            run.pairs.write_text("the first trial's rows")

    work(run, never, tell)
    assert Run(run.folder / "trials" / "002").pairs.read_text() == "the first trial's rows"


def proposals(folder: Path, count: int, reopen: bool, settings: TrainSettings) -> list[TrainSettings]:
    """The first proposals; what each came to is told by the step size alone."""
    wanted = SearchSettings(fusions="concat,bilinear,early", tunings="full,head")
    found = []
    proposer = Proposer(folder, wanted, settings)
    for _ in range(count):
        if reopen:
            proposer.next()  # begun, and then the process was killed
            proposer = Proposer(folder, wanted, settings)
        number, proposal = proposer.next()
        proposer.learn(number, usual_rates(proposal)[0])
        found.append(proposal)
    return found


def test_an_interrupted_search_proposes_what_it_would_have_proposed(tmp_path: Path) -> None:
    settings = TrainSettings(fusion="bilinear", seed=3)
    whole = proposals(tmp_path / "whole", 9, False, settings)
    assert proposals(tmp_path / "cut", 9, True, settings) == whole
    assert proposals(tmp_path / "other", 9, False, settings.replace(seed=4)) != [
        proposal.replace(seed=4) for proposal in whole
    ]
    assert whole[0] == settings
    assert len({proposal.learning_rate for proposal in whole}) == 9
    pairs = {(proposal.fusion, proposal.tuning) for proposal in whole}
    assert len(pairs) > 2
    assert ("early", "head") not in pairs


def test_step_sizes_stay_within_a_decade_around_the_usual_ones(tmp_path: Path) -> None:
    """Of a pretrained encoder's full tuning the head's is 0.001 and the encoder's 0.00003."""
    settings = TrainSettings(text_encoder="bert-base-uncased", fusion="concat")
    proposer = Proposer(tmp_path, SearchSettings(fusions="concat"), settings)
    assert proposer.next()[1] == settings
    proposer.learn(1, 0.5)
    for number in range(2, 12):
        proposal = proposer.next()[1]
        proposer.learn(number, 0.5)
        assert 0.00031 < proposal.learning_rate < 0.00317
        assert proposal.encoder_learning_rate == pytest.approx(0.03 * proposal.learning_rate, rel=0.01)


@pytest.mark.parametrize(
    ("wanted", "pairs"),
    [
        ({}, ["concat full", "attention full", "bilinear full"]),
        ({"fusions": ""}, ["concat full"]),
        ({"fusions": "gated, early", "tunings": "head,full"},
         ["gated full", "early full", "gated head"]),
    ],
)  # fmt: skip
def test_what_may_be_tried_begins_with_the_settings_as_they_stand(
    wanted: dict[str, Any], pairs: list[str]
) -> None:
    assert possible(SearchSettings(**wanted), TrainSettings(fusion="concat")) == pairs


def test_names_that_exclude_each_other_or_are_unknown_are_refused(begin: Callable[..., Run]) -> None:
    run = begin([], trials=1, fusions="early", tunings="head")
    with pytest.raises(SettingsError, match="^Fusion early and tuning head exclude each other"):
        work(run, never)
    assert run.status == "failed"
    with pytest.raises(SettingsError) as refused:
        SearchSettings(fusions="concat,magic")
    assert str(refused.value).startswith("There is no fusion 'magic'. Expected concat, sum, ")
    with pytest.raises(SettingsError, match="There is no tuning 'magic'"):
        SearchSettings(tunings="magic")


TRIALS = [
    {"number": n, "fusion": fusion, "tuning": "full", "learning_rate": 0.001, "watch": "loss",
     "score": score, "loss": score, "epoch": 2, "seconds": 1.5}
    for n, fusion, score in ((1, "concat", 0.9), (2, "bilinear", 0.2), (3, "gated", 0.4))
]  # fmt: skip


def test_trials_are_ranked_by_what_is_watched_and_counted_once() -> None:
    """A kill between two writes tells a trial twice."""
    events = [{"event": "trial", "time": 1.0, **trial} for trial in [*TRIALS, TRIALS[1]]]
    ranked = trials_of(events)
    assert [trial["number"] for trial in ranked] == [2, 3, 1]
    assert best_of(ranked) == TRIALS[1]
    assert best_of(trials_of([])) is None
    assert best_of([{**TRIALS[0], "score": None}]) is None


def test_of_equal_scores_the_surer_one_is_best() -> None:
    same = [{**t, "event": "trial", "watch": "accuracy", "score": 1.0} for t in TRIALS]
    assert [trial["number"] for trial in trials_of(same)] == [2, 3, 1]


def test_trials_are_told_in_a_table_and_in_lines() -> None:
    failed = {**TRIALS[0], "score": None, "epoch": None, "message": "no luck"}
    assert as_text_table([TRIALS[1], failed]).splitlines() == [
        "trial  fusion      tuning  rate          loss  epoch  seconds",
        "    2  bilinear    full    0.001        0.200      2      1.5",
        "    1  concat      full    0.001       failed      -      1.5",
    ]
    assert in_a_line({**TRIALS[1], "best": True}) == (
        "trial 2: bilinear, full, 0.001: validation loss 0.200, best so far"
    )
    assert in_a_line(failed) == "trial 1: concat, full, 0.001: no luck"
    begun = {k: v for k, v in failed.items() if k in ("number", "fusion", "tuning", "learning_rate")}
    assert re.fullmatch("trial 1: concat, full, 0.001 …", in_a_line(begun))
