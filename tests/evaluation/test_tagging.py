"""Entities as conlleval sees them, and scores that a hand can count."""

from __future__ import annotations

import numpy as np
import pytest

from mmapp.evaluation.outputs import Outputs
from mmapp.evaluation.tagging import count, make_tag_report, spans

NAMES = ("B-X", "B-Y", "I-X", "I-Y", "O")


@pytest.mark.parametrize(
    ("tags", "found"),
    [
        ("O O", []),
        ("B-X I-X O", [(0, 2, "X")]),
        ("B-X B-X", [(0, 1, "X"), (1, 2, "X")]),
        ("B-X I-Y", [(0, 1, "X"), (1, 2, "Y")]),  # what goes on with another kind begins
        ("O I-X I-X", [(1, 3, "X")]),  # nothing was begun
        ("B-X O I-X", [(0, 1, "X"), (2, 3, "X")]),
        ("B-X I-X E-X I-X", [(0, 3, "X"), (3, 4, "X")]),
        ("S-X U-Y B-X L-X", [(0, 1, "X"), (1, 2, "Y"), (2, 4, "X")]),
        ("NOUN NOUN O", [(0, 1, "NOUN"), (1, 2, "NOUN")]),
        ("B-e-mail I-e-mail", [(0, 2, "e-mail")]),
        ("x-ray", [(0, 1, "x-ray")]),
        ("", []),
    ],
)
def test_entities_are_spans_of_one_kind(tags: str, found: list[tuple[int, int, str]]) -> None:
    assert spans(tags.split()) == found


def test_an_entity_counts_only_whole() -> None:
    """Row 1: one of two spans is exact. Row 2: the kind is wrong. Row 3: nothing to find, one told."""
    tags = ["B-X I-X O B-Y", "B-X", "O O"]
    said = ["B-X I-X O O", "B-Y", "B-X O"]
    counts = count([row.split() for row in tags], [row.split() for row in said])
    found = {name: float(values[0]) for name, values in counts.scores(np.ones((1, 3))).items()}
    assert found["accuracy"] == pytest.approx(4 / 7)
    assert found["entity_precision"] == pytest.approx(1 / 3)
    assert found["entity_recall"] == pytest.approx(1 / 3)
    assert found["entity_f1"] == pytest.approx(1 / 3)
    assert found["macro_f1"] == pytest.approx((0.5 + 0) / 2)  # X: 2·1/(2+2); Y: 0


def answers(rows: list[str], said: list[str]) -> Outputs:
    flat = " ".join(said).split()
    logits = np.eye(len(NAMES), dtype=np.float32)[[NAMES.index(tag) for tag in flat]] * 5
    labels = np.array([NAMES.index(tag) for tag in " ".join(rows).split()])
    return Outputs(logits, labels, words=np.array([len(row.split()) for row in rows]))


def test_the_report_has_every_kind_and_the_most_frequent_tag_beside_it() -> None:
    rows = ["B-X I-X O", "O B-Y", "O O O"]
    report = make_tag_report(answers(rows, ["B-X I-X O", "O O", "O O O"]), NAMES, "test")
    assert (report["n"], report["words"], report["accuracy"]) == (3, 8, 7 / 8)
    assert report["majority"]["label"] == "O"
    assert report["majority"]["accuracy"] == 5 / 8
    kinds = {kind["label"]: kind for kind in report["per_class"]}
    assert (kinds["X"]["f1"], kinds["X"]["support"]) == (1.0, 1)
    assert (kinds["Y"]["recall"], kinds["Y"]["support"]) == (0.0, 1)
    assert report["entity_f1"] == pytest.approx(2 / 3)


def test_intervals_are_over_rows_and_not_over_words() -> None:
    """Twenty rows told right or wrong as a whole: the interval is that of twenty coins, not of 200."""
    rows = ["O O O O O O O O O B-X"] * 20
    said = [row if n % 2 else "B-X " * 9 + "O" for n, row in enumerate(rows)]
    low, high = make_tag_report(answers(rows, said), NAMES, "test")["intervals"]["accuracy"]
    assert 0.25 <= low <= 0.35
    assert 0.65 <= high <= 0.75
