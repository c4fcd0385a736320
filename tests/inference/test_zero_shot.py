"""An aligned model finds the other half of new pairs, and answers by names that were no labels."""

from __future__ import annotations

import csv
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image

from mmapp.data.ingest import load_pairs
from mmapp.data.pairs import LabelSet
from mmapp.errors import CheckpointError, DataError, SettingsError
from mmapp.evaluation.outputs import collect
from mmapp.evaluation.retrieval import retrieval_report
from mmapp.inference.predictor import Predictor
from mmapp.inference.scoring import BY_NAME, evaluate
from mmapp.inference.zero_shot import compare
from mmapp.runs.run import Order, Run
from mmapp.runs.worker import work
from mmapp.settings import TrainSettings
from mmapp.training.prepare import prepare

COLOURS = {
    "red": (220, 30, 30),
    "green": (30, 200, 30),
    "blue": (30, 30, 220),
    "yellow": (220, 220, 30),
    "white": (240, 240, 240),
    "black": (15, 15, 15),
}
TEXTS = ("a {} thing", "{} all over", "it looks {} to me", "nothing but {}", "very {} indeed", "so {}")
WHEN = ("ever", "today")
PER_COLOUR = {"train": 10, "validation": 2, "test": 2}
SETTINGS: dict[str, Any] = {
    "text_encoder": "scratch:textcnn",
    "fusion": "concat",
    "alignment": 1.0,
    "width": 32,
    "image_size": 32,
    "batch_size": 16,
    "epochs": 12,
    "watch": "loss",
    "learning_rate": 0.002,
    "precision": "fp32",
    "patience": 0,
    "dropout": 0.0,
}


@pytest.fixture(scope="module")
def data(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Coloured pictures with texts that name the colour, and a label that has nothing to do with it.
    Each colour keeps one text of its own for the test pairs, so that no test text was ever read."""
    folder = tmp_path_factory.mktemp("colours")
    rng = np.random.default_rng(5)
    rows = [["file_name", "text", "label", "split"]]
    for number, (colour, pixels) in enumerate(COLOURS.items()):
        kept = [text for n, text in enumerate(TEXTS) if n != number]
        for split, count in PER_COLOUR.items():
            for i in range(count):
                name = f"{colour}-{split}-{i}.png"
                noisy = rng.normal(pixels, 20, (32, 32, 3)).clip(0, 255).astype(np.uint8)
                Image.fromarray(noisy).save(folder / name)
                today = i % 2 if split != "test" else 0
                text = TEXTS[number] if split == "test" else kept[i % len(kept)] + " today" * today
                rows.append([name, text.format(colour), WHEN[today], split])
    with (folder / "metadata.csv").open("w", newline="", encoding="utf-8") as out:
        csv.writer(out).writerows(rows)
    return folder


@pytest.fixture(scope="module")
def by_colour(data: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The test pictures without their texts, labelled by colour."""
    path = tmp_path_factory.mktemp("by_colour") / "table.csv"
    lines = [f"{data}/{c}-test-{i}.png,{c}" for c in COLOURS for i in range(PER_COLOUR["test"])]
    path.write_text("\n".join(["file_name,label", *lines]) + "\n", encoding="utf-8")
    return path


@pytest.fixture(scope="module")
def aligned(data: Path, tmp_path_factory: pytest.TempPathFactory) -> Run:
    folder = tmp_path_factory.mktemp("aligned") / "run"
    run = Run.create(folder, Order(str(data), TrainSettings(**SETTINGS)))
    assert work(run, lambda: False) == "done"
    return run


@pytest.fixture(scope="module")
def asked(aligned: Run) -> Predictor:
    return Predictor(aligned.folder)


def test_the_other_half_of_new_pairs_is_found(aligned: Run, data: Path) -> None:
    """Far above chance once trained, and about as often as by chance before."""
    report = aligned.report()
    assert report is not None
    untrained = prepare(load_pairs(data), TrainSettings(**SETTINGS))
    test = untrained.loaders.test
    outputs = collect(untrained.model, test, device=untrained.model.device)
    before = retrieval_report(outputs, test.dataset.halves, "classify")["retrieval"]

    found = report["retrieval"]
    assert (found["pairs"], found["text_to_image"]["candidates"]) == (12, 12)
    for direction in ("text_to_image", "image_to_text"):
        assert found[direction]["chance@1"] == pytest.approx(1 / 6)
        assert found[direction]["recall@1"] > 0.8
        assert before[direction]["recall@1"] < 0.5


def test_evaluating_again_finds_as_many(aligned: Run, asked: Predictor, data: Path) -> None:
    report = aligned.report()
    assert report is not None
    assert evaluate(asked, data)["retrieval"] == report["retrieval"]


def test_pictures_are_told_by_names_that_were_no_labels(asked: Predictor, by_colour: Path) -> None:
    report = evaluate(asked, by_colour, zero_shot=True)
    assert set(asked.labels.names) == set(WHEN)
    assert report["n"] == 12
    assert report["accuracy"] > 0.8  # a sixth by chance
    assert report["confusion"]["labels"] == sorted(COLOURS)
    assert report["notes"][-1] == BY_NAME


def test_a_table_is_answered_as_its_pairs_are(asked: Predictor, data: Path) -> None:
    names = LabelSet(tuple(COLOURS))
    pairs = load_pairs(data).part("test")
    colours = pairs.frame["file_name"].str.partition("-")[0]
    rows = replace(pairs, frame=pairs.frame.assign(label=colours))

    table = asked.zero_shot_outputs(rows, names, "very {}").probabilities()

    for row, pair in zip(table, rows, strict=True):
        alone = asked.zero_shot(names.names, pair.text, pair.image, "very {}")
        assert alone.probabilities == pytest.approx(dict(zip(names.names, row, strict=True)), abs=1e-5)


def test_the_temperature_of_the_learnt_labels_does_not_reach_answers_by_name(
    asked: Predictor, monkeypatch: pytest.MonkeyPatch
) -> None:
    text = "nothing but blue"
    before, learnt = asked.zero_shot(["blue", "red"], text), asked.predict(text)
    monkeypatch.setattr(asked.model.config, "temperature", 3.0)
    assert asked.zero_shot(["blue", "red"], text) == before
    assert asked.predict(text).probabilities != pytest.approx(learnt.probabilities)


def test_a_text_alone_a_picture_alone_or_both_are_answered(asked: Predictor, data: Path) -> None:
    red, blue = data / "red-test-0.png", data / "blue-test-0.png"
    assert asked.zero_shot(["blue", " red ", "red"], image=red).label == "red"
    assert asked.zero_shot(["blue", "red"], text="nothing but blue").label == "blue"
    both = asked.zero_shot(["blue", "red", "white"], text="nothing but blue", image=blue)
    assert both.label == "blue"
    assert list(both.probabilities)[0] == "blue"
    assert sum(both.probabilities.values()) == pytest.approx(1)
    torn = asked.zero_shot(["red", "blue"], text="nothing but blue", image=red)
    assert torn.confidence < both.confidence


def test_the_template_is_what_is_read(asked: Predictor, data: Path) -> None:
    red = data / "red-test-0.png"
    written = asked.zero_shot(["very red indeed", "very blue indeed"], image=red)
    put_in = asked.zero_shot(["red", "blue"], image=red, template="very {} indeed")
    assert list(put_in.probabilities.values()) == pytest.approx(list(written.probabilities.values()))


def test_names_are_compared_with_the_mean_of_what_is_there() -> None:
    names = np.eye(2)
    pairs = np.array([[[1.0, 0.0], [0.0, 1.0]], [[0.6, 0.8], [0.0, 0.0]]])
    assert compare(pairs, names, 10.0).tolist() == [[5.0, 5.0], [6.0, 8.0]]


@pytest.mark.parametrize(
    ("labels", "template", "sentence"),
    [
        (["red"], "{}", "Two labels at least are needed to choose from; only 'red' was given."),
        ([" ", ""], "{}", "Two labels at least are needed to choose from; none was given."),
        (["a", "b"], "a photo", "The template 'a photo' has no {} for the name of a label."),
    ],
)
def test_names_that_leave_no_choice_are_refused(
    asked: Predictor, labels: list[str], template: str, sentence: str
) -> None:
    with pytest.raises(SettingsError) as refused:
        asked.zero_shot(labels, "a text", template=template)
    assert str(refused.value) == sentence


def test_a_model_that_was_not_aligned_says_how_one_is(predictor: Predictor) -> None:
    with pytest.raises(CheckpointError) as refused:
        predictor.zero_shot(["red", "blue"], "a text")
    assert str(refused.value) == (
        "This checkpoint cannot answer by label names: its texts and images were not aligned. Train "
        "one with alignment 1; it may start from this one."
    )


def test_an_ensemble_is_refused(asked: Predictor) -> None:
    both = Predictor.together([asked, asked], [1.0, 1.0], "mean")
    with pytest.raises(CheckpointError, match="An ensemble cannot answer by label names.*Ask one of"):
        both.zero_shot(["red", "blue"], "a text")


def test_labels_that_name_nothing_to_see_are_refused(asked: Predictor, tmp_path: Path) -> None:
    (tmp_path / "t.csv").write_text("text,label\nso red,match\nso blue,mismatch\n", encoding="utf-8")
    with pytest.raises(DataError, match="does not give each pair one label.*found match, mismatch"):
        evaluate(asked, tmp_path / "t.csv", zero_shot=True)
