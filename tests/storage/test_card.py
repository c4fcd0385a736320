"""The model card says what the report says, and shows somebody's labels as words only."""

from __future__ import annotations

import html
import re
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import yaml
from markdown_it import MarkdownIt

from mmapp.storage.card import write_card
from mmapp.storage.checkpoint import Facts
from mmapp.training.prepare import Prepared

SHIPPED = Path(__file__).parents[2] / "checkpoints" / "digits"

HOSTILE = {
    "a picture": "![here](http://evil.example/a.png)",
    "a link": "[click](javascript:alert(1))",
    "a tag": "<img src=x onerror=alert(1)>",
    "a comment": "<!-- the rest is hidden",
    "a cell": "one | two",
    "a heading": "one\n# two\n\n---\n",
    "code": "`one` and ``two",
    "emphasis": "*one* __two__ ~~three~~",
    "a fence": "```\nrm -rf /\n```",
    "an escape": "one \\| two \\",
    "braces": "{labels} {0}",
}


@pytest.fixture
def card(prepared: Prepared, facts: Facts) -> str:
    return write_card(prepared.model.config, prepared.processor, facts)


def header(card: str) -> dict[str, Any]:
    return yaml.safe_load(card.split("---\n")[1])


def body(card: str) -> str:
    return card.split("---\n", 2)[2]


def rows(card: str) -> dict[str, list[str]]:
    """Every row of every table: its first cell, and the others."""
    found = [line.strip("| ").split(" | ") for line in card.splitlines() if line.startswith("| ")]
    return {cells[0]: [cell.strip(" |") for cell in cells[1:]] for cells in found}


def test_every_figure_of_the_tables_is_the_reports(card: str, facts: Facts) -> None:
    report, told = facts.report, rows(card)
    for name, title in (("accuracy", "Accuracy"), ("macro_f1", "Macro F1")):
        low, high = report["intervals"][name]
        assert told[title] == [f"{report[name]:.3f}", f"{low:.3f} – {high:.3f}"]
    assert told["Log loss"] == [f"{report['log_loss']:.3f}"]
    for row in report["per_class"]:
        shares = [f"{row[key]:.3f}" for key in ("precision", "recall", "f1")]
        assert told[row["label"]] == [*shares, str(row["support"])]


def test_a_model_that_began_with_anothers_weights_says_so(prepared: Prepared, facts: Facts) -> None:
    change = {"before": {"accuracy": 0.5}, "change": {"accuracy": 0.25, "interval": [0.125, 0.375]}}
    begun = replace(facts, settings={**facts.settings, "start_from": "first`run"})
    measured = replace(begun, report={**facts.report, **change})

    alone, both = (write_card(prepared.model.config, prepared.processor, f) for f in (begun, measured))
    assert "\nIt began with the weights of `first'run`.\n" in alone
    assert (
        "\nIt began with the weights of `first'run`; on the same pairs, before: accuracy 0.500; change "
        "+0.250 (+0.125 – +0.375).\n"
    ) in both


def test_a_calibrated_model_says_what_that_did(prepared: Prepared, facts: Facts) -> None:
    told = {"temperature": 1.42, "ece": 0.0312, "ece_before": 0.0584}
    calibrated = replace(facts, report={**facts.report, "calibration": told})
    assert (
        "\nProbabilities were calibrated on validation pairs: expected calibration error 0.031, 0.058 "
        "before (temperature 1.42).\n"
    ) in write_card(prepared.model.config, prepared.processor, calibrated)
    assert "alibrat" not in write_card(prepared.model.config, prepared.processor, facts)


def test_an_aligned_model_says_how_often_halves_are_found(prepared: Prepared, facts: Facts) -> None:
    found = {"candidates": 6, "recall@1": 0.5, "interval": [0.25, 0.75], "chance@1": 0.1667}
    retrieval = {"pairs": 6, "text_to_image": found, "image_to_text": {**found, "recall@1": 1.0}}
    aligned = replace(facts, report={**facts.report, "retrieval": retrieval})
    assert (
        "Text and image are aligned: a text finds its image first among 6 in 0.500 (0.250 – 0.750; by "
        "chance 0.167), an image its text first among 6 in 1.000 (0.250 – 0.750; by chance 0.167). "
    ) in write_card(prepared.model.config, prepared.processor, aligned)


def test_every_number_of_the_sentences_is_measured(card: str, facts: Facts) -> None:
    """Tables and code blocks are taken out; each number that is left must be known."""
    prose = re.sub(r"(?m)^\|.*$", "", re.sub(r"(?s)```.*?```", "", body(card)))
    known = {
        "57": "test pairs",
        "95": "the interval's coverage",
        "3": "labels",
        f"{facts.report['majority']['accuracy']:.3f}": "of the majority class",
        "40": "pairs",
        "26": "to train on",
        "8": "to choose by",
        "6": "to test on",
        "0": "set aside",
        "84": "seconds",
        "2": "cores",
        "86": "of x86_64",
        "64": "of x86_64",
        "32": "word pieces, and pixels",
    }
    assert set(re.findall(r"\d+(?:\.\d+)?", prose)) <= known.keys()
    assert "On 57 test pairs" in prose
    assert "40 pairs (train 26, validation 8, test 6); 0 rows were set aside" in prose
    assert "Training took 84 s on cpu (2 cores, x86_64)." in prose


def test_the_header_is_yaml_with_the_same_figures(card: str, facts: Facts) -> None:
    told = header(card)
    metrics = told["model-index"][0]["results"][0]["metrics"]
    assert {m["type"]: m["value"] for m in metrics} == {
        name: facts.report[name] for name in ("accuracy", "macro_f1", "log_loss")
    }
    assert told["library_name"] == "mmapp"
    assert told["tags"] == ["multimodal", "image-text", "fusion-attention", "classify"]


def test_the_shipped_card_says_what_its_metrics_say() -> None:
    told = header((SHIPPED / "README.md").read_text(encoding="utf-8"))
    metrics = yaml.safe_load((SHIPPED / "metrics.json").read_text(encoding="utf-8"))
    written = {m["type"]: m["value"] for m in told["model-index"][0]["results"][0]["metrics"]}
    assert written == {name: metrics[name] for name in written}
    assert set(written) == {"accuracy", "macro_f1", "log_loss"}


def test_a_half_that_the_fusion_does_not_look_at_is_named(prepared: Prepared, facts: Facts) -> None:
    config = prepared.model.config
    told = rows(write_card(config, prepared.processor, facts))
    assert told["text encoder"] == [f"`{config.text_encoder}`"]
    blind = type(config).from_dict({**config.to_dict(), "image_config": None})
    assert rows(write_card(blind, prepared.processor, facts))["image encoder"] == [
        "none: this fusion does not look"
    ]


@pytest.mark.parametrize("kind", HOSTILE)
def test_a_label_is_shown_and_never_rendered(kind: str, prepared: Prepared, facts: Facts) -> None:
    label = HOSTILE[kind]
    names = [label, "green", "red"]
    config = type(prepared.model.config).from_dict(
        {
            **prepared.model.config.to_dict(),
            "id2label": dict(enumerate(names)),
            "label2id": {name: i for i, name in enumerate(names)},
        }
    )
    per_class = [{**row, "label": n} for row, n in zip(facts.report["per_class"], names, strict=True)]
    majority = {**facts.report["majority"], "label": label}
    report = {**facts.report, "per_class": per_class, "majority": majority}
    data = {**facts.data, "source": f"/somewhere/{label}"}
    hostile = replace(facts, report=report, data=data)

    card = write_card(config, prepared.processor, hostile)
    parser = MarkdownIt("commonmark", {"html": True}).enable(["table", "strikethrough"])
    shown, plain = (parser.render(body(c)) for c in (card, write_card_of(prepared, facts)))

    assert tags(shown) == tags(plain)
    assert " ".join(label.split()) in html.unescape(re.sub(r"<[^>]*>", "", shown))
    assert yaml.safe_load(card.split("---\n")[1])["library_name"] == "mmapp"


def write_card_of(prepared: Prepared, facts: Facts) -> str:
    return write_card(prepared.model.config, prepared.processor, facts)


def tags(rendered: str) -> list[str]:
    """Every tag with its attributes, in order."""
    return re.findall(r"<[^>]*>", rendered)
