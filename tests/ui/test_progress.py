"""A run's state and events as one line that says how far it is and how long it will take."""

from __future__ import annotations

import re
from pathlib import Path
from typing import Any

import pytest

from mmapp.runs.run import Order, Run
from mmapp.settings import SearchSettings, TrainSettings
from mmapp.ui import progress, words
from mmapp.ui.progress import duration

STEP = {"event": "step", "step": 30, "steps": 40, "epoch": 1.5, "loss": 0.5, "seconds_left": 200.0}


@pytest.fixture
def run(tmp_path: Path) -> Run:
    order = Order("/private/data", TrainSettings(), "<b>my</b> data")
    return Run.create(tmp_path / "run", order)


def share(markup: str) -> str:
    (value,) = re.findall(r'aria-valuenow="(\d+)"', markup)
    assert f"width:{value}.0%" in markup
    return value


@pytest.mark.parametrize(
    ("seconds", "told"),
    [
        (0, "1 s"),
        (0.4, "1 s"),
        (40.4, "40 s"),
        (89.4, "89 s"),
        (90, "2 min"),
        (170, "3 min"),
        (89 * 60, "89 min"),
        (90 * 60, "1 h 30 min"),
        (7800, "2 h 10 min"),
        (100 * 3600, "100 h 0 min"),
    ],
)
def test_a_duration_is_as_exact_as_it_is_useful(seconds: float, told: str) -> None:
    assert duration(seconds) == told


@pytest.mark.parametrize("place", [0, 3])
def test_a_waiting_run_says_how_many_come_before_it(place: int, run: Run) -> None:
    markup = progress.status(run, [], place)
    assert (words.QUEUED_BEHIND.format(count=3) in markup) == (place == 3)
    assert words.STATUS["queued"] in markup
    assert share(markup) == "0"


def test_a_run_at_work_says_its_step_and_the_time_left(run: Run) -> None:
    run.write_state(status="running")
    with run.claim():
        markup = progress.status(run, [STEP], 0)
    assert "step 30 of 40" in markup
    assert "3 min" in markup
    assert share(markup) == "75"
    assert "mm-error" not in markup


def test_features_being_computed_are_counted(run: Run) -> None:
    run.write_state(status="running")
    with run.claim():
        markup = progress.status(
            run, [{"event": "encoded", "modality": "image", "done": 64, "total": 5748}], 0
        )
    assert "image" in markup
    assert "64 of 5748" in markup
    assert share(markup) == "0"


def test_a_finished_run_is_full_and_names_its_best_epoch(run: Run) -> None:
    run.write_state(status="done")
    markup = progress.status(run, [STEP, {"event": "finished", "best_epoch": 7}], 0)
    assert words.BEST.format(epoch=7) in markup
    assert share(markup) == "100"


@pytest.mark.parametrize("status", ["failed", "interrupted"])
def test_a_run_that_ended_badly_says_why_in_escaped_words(status: str, run: Run) -> None:
    run.write_state(status=status, message="No column <script>.")
    markup = progress.status(run, [], 0)
    assert 'role="alert">No column &lt;script&gt;.</div>' in markup


def test_the_title_is_shown_escaped_and_the_place_of_the_data_is_not(run: Run) -> None:
    markup = progress.status(run, [], 0)
    assert "&lt;b&gt;my&lt;/b&gt; data" in markup
    assert "/private" not in markup


@pytest.mark.parametrize(
    ("events", "drawn"), [([], False), ([{"event": "started"}], False), ([STEP], True)]
)
def test_there_is_a_picture_once_there_is_a_step(events: list[dict[str, Any]], drawn: bool) -> None:
    assert ("<svg" in progress.picture(events)) == drawn


PROPOSED = {"number": 1, "fusion": "gated", "tuning": "full", "learning_rate": 0.00071}
TRIAL = {
    "event": "trial", **PROPOSED, "watch": "macro_f1", "score": 0.93, "loss": 0.2, "epoch": 7,
    "best": True, "seconds": 100.0,
}  # fmt: skip
FAILED = {**TRIAL, "number": 2, "fusion": "sum", "score": None, "epoch": None, "message": "<b>no"}
SEARCHED = [{"event": "proposed", **PROPOSED}, TRIAL]


@pytest.fixture
def searching(tmp_path: Path) -> Run:
    search = SearchSettings(minutes=2, trials=8, fusions="gated,sum")
    return Run.create(tmp_path / "search", Order("data", TrainSettings(), "pairs", search=search))


@pytest.mark.parametrize(
    ("events", "told"),
    [
        ([], words.PREPARING),
        (SEARCHED[:1], "trial 1<"),
        ([*SEARCHED, {"event": "proposed", "number": 2}], "trial 2, best so far 0.930<"),
    ],
)
def test_a_search_at_work_says_its_trial_and_the_best_so_far(
    events: list[dict[str, Any]], told: str, searching: Run
) -> None:
    searching.write_state(status="running")
    with searching.claim():
        markup = progress.status(searching, events, 0)
    assert told in markup
    assert ">search<" in markup
    assert ">gated,sum<" in markup


@pytest.mark.parametrize(("spent", "percent"), [(0.0, "12"), (60.0, "50"), (500.0, "100")])
def test_a_search_ends_with_its_time_or_its_trials(
    spent: float, percent: str, searching: Run
) -> None:
    """One trial of eight, so many seconds of 120."""
    searching.write_state(status="stopped", spent=spent)
    markup = progress.status(searching, SEARCHED, 0)
    assert f'aria-valuenow="{percent}"' in markup
    assert "best of 1 trials: number 1, gated, full, 0.00071" in markup


def test_the_picture_of_a_search_is_a_table_of_its_trials() -> None:
    markup = progress.picture([*SEARCHED, FAILED])
    cells = re.findall(r"<td[^>]*>([^<]*)</td>", markup)
    assert cells == [
        *("gated", "full", "1", "0.00071", "0.930", "7", "2 min"),
        *("sum", "full", "2", "0.00071", "&lt;b&gt;no", "–", "2 min"),
    ]
    assert "<svg" not in markup
