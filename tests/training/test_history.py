"""Events and what they add up to, on evaluations written out by hand."""

from __future__ import annotations

from typing import Any

import pytest

from mmapp.training.history import Event, History


def evaluation(epoch: int, loss: float, macro_f1: float = 0.0, accuracy: float = 0.0) -> dict:
    return {"epoch": epoch, "loss": loss, "macro_f1": macro_f1, "accuracy": accuracy}


THREE = [
    evaluation(1, loss=0.9, macro_f1=0.5, accuracy=0.8),
    evaluation(2, loss=0.4, macro_f1=0.6, accuracy=0.7),
    evaluation(3, loss=0.6, macro_f1=0.7, accuracy=0.6),
]


@pytest.mark.parametrize(("watch", "best"), [("loss", 2), ("macro_f1", 3), ("accuracy", 1)])
def test_the_best_epoch_depends_on_the_figure_that_is_watched(watch: str, best: int) -> None:
    assert History(watch, 0, THREE).best() == THREE[best - 1]


@pytest.mark.parametrize(
    ("evaluations", "best"),
    [
        ([evaluation(1, 0.5, 0.7), evaluation(2, 0.4, 0.7)], 2),
        ([evaluation(1, 0.4, 0.7), evaluation(2, 0.5, 0.7)], 1),
        ([evaluation(1, 0.4, 0.7), evaluation(2, 0.4, 0.7)], 1),
        ([evaluation(1, 0.1, 0.6), evaluation(2, 0.9, 0.7)], 2),
    ],
    ids=["surer later", "surer earlier", "equal", "the loss only breaks ties"],
)
def test_ties_go_to_the_lower_loss_and_then_to_the_earlier_epoch(
    evaluations: list[dict[str, Any]], best: int
) -> None:
    assert History("macro_f1", 0, evaluations).best()["epoch"] == best


def test_adding_an_evaluation_says_whether_it_is_the_best_so_far() -> None:
    history = History("macro_f1", 0)

    assert [history.add(dict(e)) for e in (*THREE, THREE[0])] == [True, True, True, False]
    assert history.best()["epoch"] == 3


def test_without_evaluations_there_is_no_best_and_patience_is_not_exhausted() -> None:
    history = History("loss", 1)

    assert history.best() is None
    assert not history.exhausted()


@pytest.mark.parametrize(
    ("patience", "exhausted_after"), [(1, [3]), (2, [4]), (3, [5]), (0, []), (9, [])]
)
def test_patience_counts_epochs_since_the_best(patience: int, exhausted_after: list[int]) -> None:
    history = History("loss", patience)
    exhausted = []
    for epoch, loss in enumerate([0.9, 0.5, 0.6, 0.7, 0.55], start=1):
        history.add(evaluation(epoch, loss))
        if history.exhausted():
            exhausted.append(epoch)
            break

    assert exhausted == exhausted_after


def test_a_history_goes_on_from_earlier_evaluations_without_changing_their_list() -> None:
    before = list(THREE)
    history = History("loss", 2, before)

    assert not history.add(evaluation(4, loss=0.7))

    assert history.exhausted()
    assert before == THREE


def test_an_event_is_one_flat_record_and_comes_back_from_it() -> None:
    event = Event("step", {"step": 3, "loss": 0.5}, time=12.3456)

    record = event.record()

    assert record == {"event": "step", "time": 12.346, "step": 3, "loss": 0.5}
    assert Event.of_record(record) == Event("step", {"step": 3, "loss": 0.5}, time=12.346)
    assert record["event"] == "step"  # reading did not take the record apart
