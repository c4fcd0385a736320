"""Pairs, findings and reports as HTML: everything from outside is shown as text."""

from __future__ import annotations

import base64
import io
import json
import re
from pathlib import Path
from typing import Any

import pandas as pd
import pytest
from PIL import Image

from mmapp.data.pairs import Finding, PairTable, plain
from mmapp.ui import views, words

SCRIPT = "<script>alert(1)</script>"
SHOWN = "&lt;script&gt;alert(1)&lt;/script&gt;"


def table(*rows: dict[str, Any]) -> PairTable:
    records = [{"row": i, "split": "", **row} for i, row in enumerate(rows, start=1)]
    return PairTable(plain(pd.DataFrame(records)), "made here")


def test_texts_and_labels_of_a_pair_are_escaped() -> None:
    markup = views.cards(table({"text": SCRIPT, "label": SCRIPT}))
    assert "<script" not in markup
    assert markup.count(SHOWN) == 2


@pytest.mark.parametrize(
    ("text", "shown"),
    [
        ("x" * 140, "x" * 140),
        ("x" * 141, "x" * 140 + " …"),
        ("<" * 141, "&lt;" * 140 + " …"),
    ],
)
def test_a_long_text_is_cut_at_a_letter_and_not_within_an_entity(text: str, shown: str) -> None:
    assert f"<p>{shown}</p>" in views.cards(table({"text": text, "label": "a"}))


def test_labels_take_turns_on_the_cards() -> None:
    rows = [{"text": f"a{i}", "label": "a"} for i in range(20)] + [{"text": "b0", "label": "b"}]
    shown = re.findall(r"<p>(\w+)</p>", views.cards(table(*rows)))
    assert shown == ["a0", "b0", *(f"a{i}" for i in range(1, 11))]


def test_a_picture_is_shown_small_and_from_nowhere_else(tmp_path: Path) -> None:
    Image.new("RGB", (600, 300), (200, 40, 40)).save(tmp_path / "a.png")
    markup = views.cards(table({"image": str(tmp_path / "a.png"), "text": "x", "label": "a"}))
    (code,) = re.findall(r'<img alt="" src="data:image;base64,([^"]+)">', markup)
    assert Image.open(io.BytesIO(base64.b64decode(code))).size == (192, 96)
    assert str(tmp_path) not in markup


def test_findings_are_grouped_the_worst_first_and_escaped() -> None:
    found = [
        Finding("small", "note", "a note"),
        Finding("odd", "warning", "a warning", row=4),
        *(Finding("bad", "set aside", f"{SCRIPT} {i}", row=i) for i in range(1, 8)),
    ]
    markup = views.findings(found)
    assert re.findall(r"<b class=\"\w+\">([^<]*)</b>", markup) == ["bad × 7", "odd × 1", "small × 1"]
    assert "<script" not in markup
    assert markup.count(SHOWN) == 5
    assert words.MORE_FINDINGS.format(count=2) in markup
    assert "<b>#4</b> a warning" in markup


def test_no_finding_is_said() -> None:
    assert words.NO_FINDINGS in views.findings([])


def test_a_summary_counts_pairs_labels_and_splits() -> None:
    markup = views.summary(
        {
            "used": 1234,
            "set_aside": 2,
            "classes": {SCRIPT: 1000, "b": 234},
            "splits": {"train": 1000, "test": 234},
        }
    )
    assert re.findall(r"<b>([\d,]+)</b>", markup) == ["1,234", "2", "2", "1,000", "0", "234"]
    assert "<script" not in markup


def test_a_report_shows_its_figures_and_escapes_the_majority() -> None:
    markup = views.report(
        {
            "n": 1720,
            "accuracy": 0.97361,
            "log_loss": 0.0978,
            "intervals": {"accuracy": [0.9611, 0.98472]},
            "majority": {"label": SCRIPT, "accuracy": 0.5},
        }
    )
    assert re.findall(r"<b>([^<]*)</b><span>([^<]*)</span>", markup) == [
        ("0.974", "Accuracy (0.961 – 0.985)"),
        ("0.098", "Log loss"),
        ("1,720", words.TEST_PAIRS),
    ]
    assert SHOWN in markup
    assert "<script" not in markup


def test_a_continued_report_says_what_was_before() -> None:
    values = {
        "n": 8,
        "majority": {"label": "a", "accuracy": 0.5},
        "before": {"accuracy": 0.75},
        "change": {"accuracy": -0.125, "interval": [-0.25, 0.0]},
    }
    told = "Before: accuracy 0.750; change -0.125 (-0.250 – +0.000)<br>Always answering a"
    assert told in views.report(values)


def test_a_calibrated_models_report_says_what_that_did() -> None:
    told = {"temperature": 1.42, "ece": 0.0312, "ece_before": 0.0584}
    report = {"n": 8, "majority": {"label": "a", "accuracy": 0.5}}
    assert (
        "<br>Calibrated on validation pairs: expected calibration error 0.031, 0.058 before "
        "(temperature 1.42)</p>"
    ) in views.report({**report, "calibration": told})
    assert "alibrat" not in views.report({**report, "calibration": {**told, "temperature": 1.0}})


def test_an_aligned_models_report_says_how_often_halves_are_found() -> None:
    found = {"candidates": 12, "recall@1": 0.75, "interval": [0.5, 0.875], "chance@1": 0.0833}
    report = {"n": 12, "majority": {"label": "a", "accuracy": 0.5}}
    markup = views.report({**report, "retrieval": {"pairs": 12, "text_to_image": found}})
    assert (
        "A text finds its image first among 12: 0.750 (0.500 – 0.875), by chance 0.083</p>" in markup
    )
    assert "finds" not in views.report({**report, "retrieval": {"pairs": 0}})


def test_labels_are_listed_one_by_one() -> None:
    row = {"label": SCRIPT, "precision": 0.5, "recall": 0.25, "f1": 0.333333, "support": 4}
    markup = views.per_class({"per_class": [row]})
    assert re.findall(r"<td[^>]*>([^<]*)</td>", markup) == [SHOWN, "0.500", "0.250", "0.333", "4"]


def test_of_a_tagged_text_the_words_are_marked_and_escaped() -> None:
    pair = {"text": '["see", "<b>it</b>"]', "label": '["O", "B-\\"X"]'}
    markup = views.cards(table(pair))
    assert '<p>see <mark title="B-&quot;X">&lt;b&gt;it&lt;/b&gt;</mark></p>' in markup
    assert 'class="mm-chip label"' not in markup
    words_told = [str(n) for n in range(40)]
    long = {"text": json.dumps(words_told), "label": json.dumps(["O"] * 40)}
    assert "29 …</p>" in views.cards(table(long))
