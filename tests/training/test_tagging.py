"""A label for each word, end to end: the picture decides which words of a sentence are meant."""

from __future__ import annotations

import csv
import json
import random
from pathlib import Path

import pytest
import torch
from PIL import Image

from mmapp import Predictor, TrainSettings, evaluate
from mmapp.errors import DataError
from mmapp.inference.answers import answer_table
from mmapp.runs.run import Order, Run
from mmapp.runs.worker import work

COLOURS = {"red": (220, 40, 40), "green": (40, 200, 40), "blue": (40, 40, 220)}
SETTINGS = {
    "fusion": "bilinear", "epochs": 12, "batch_size": 16, "image_size": 32, "width": 32,
    "learning_rate": 3e-3, "patience": 0, "modality_dropout": 0.0,
}  # fmt: skip


def row(first: str, second: str, shown: str) -> tuple[list[str], list[str]]:
    """The words that name the colour shown are marked, all of them."""
    words, tags = [], []
    for colour in (first, second):
        words += ["the", "dark", colour, "one"]
        begun = ["O", "B-SHOWN", "I-SHOWN", "O"]
        tags += begun if colour == shown else ["O"] * 4
    return words, tags


def write_pairs(folder: Path, count: int = 160) -> Path:
    draw = random.Random(0)
    rows = [["file_name", "tokens", "tags"]]
    for number in range(count):
        first, second = draw.sample(list(COLOURS), 2)
        shown = draw.choice([first, second])
        pixels = tuple(value + draw.randrange(-30, 30) for value in COLOURS[shown])
        Image.new("RGB", (32, 32), pixels).save(folder / f"{number}.png")
        words, tags = row(first, second, shown)
        rows.append([f"{number}.png", json.dumps(words), json.dumps(tags)])
    rows.append(["0.png", json.dumps(["the", "red"]), json.dumps(["O"])])  # a tag too few
    with (folder / "metadata.csv").open("w", newline="", encoding="utf-8") as out:
        csv.writer(out).writerows(rows)
    return folder


def train(data: Path, folder: Path, **changes: object) -> Run:
    order = Order(str(data), TrainSettings(**{**SETTINGS, **changes}), "colours")
    run = Run.create(folder, order)
    assert work(run, lambda: False) == "done"
    return run


@pytest.fixture(scope="module")
def data(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return write_pairs(tmp_path_factory.mktemp("tagged"))


@pytest.fixture(scope="module")
def trained(data: Path, tmp_path_factory: pytest.TempPathFactory) -> Run:
    return train(data, tmp_path_factory.mktemp("run") / "run")


def test_the_picture_decides_which_words_are_marked(trained: Run) -> None:
    predictor = Predictor(trained.checkpoint)
    assert predictor.task == "tag"
    for shown in ("red", "blue"):
        words, tags = row("red", "blue", shown)
        answer = predictor.predict(json.dumps(words), Image.new("RGB", (32, 32), COLOURS[shown]))
        assert [(word, tag) for word, tag, _ in answer.words] == list(zip(words, tags, strict=True))
        assert json.loads(answer.label) == tags
    plain = predictor.predict("the dark red one, the dark blue one", Image.new("RGB", (32, 32), "red"))
    assert [word for word, *_ in plain.words][3:5] == ["one", ","]


def test_the_report_counts_whole_entities_and_a_bad_row_is_set_aside(trained: Run) -> None:
    report = trained.report()
    assert report is not None
    assert report["entity_f1"] > 0.9
    assert report["words"] == 8 * report["n"] == 8 * 16
    assert report["majority"] == {"label": "O", "accuracy": 0.75, "entity_f1": 0.0, "macro_f1": 0.0}
    [kind] = report["per_class"]
    assert (kind["label"], kind["support"]) == ("SHOWN", report["n"])
    assert "Row 161 set aside: 2 words and 1 tags" in trained.log.read_text()


def test_without_the_picture_nobody_can_tell(data: Path, tmp_path: Path) -> None:
    report = train(data, tmp_path / "run", fusion="text-only", epochs=4).report()
    assert report is not None
    assert report["entity_f1"] < 0.75  # one of two


def test_the_picture_alone_gives_every_word_the_same_tag(data: Path, tmp_path: Path) -> None:
    run = train(data, tmp_path / "run", fusion="image-only", epochs=1)
    answer = Predictor(run.checkpoint).predict("the dark red one", Image.new("RGB", (32, 32), "red"))
    assert len({tag for _, tag, _ in answer.words}) == 1
    assert len(answer.words) == 4


@pytest.mark.parametrize("fusion", ["attention", "concat"])
def test_frozen_features_and_batches_in_parts_serve_words_too(
    fusion: str, data: Path, tmp_path: Path
) -> None:
    run = train(data, tmp_path / "run", fusion=fusion, tuning="head", epochs=2, accumulation=3)
    losses = [e["train_loss"] for e in run.events() if e["event"] == "evaluated"]
    assert losses[1] < losses[0]


def test_evaluate_says_what_the_report_said(trained: Run, data: Path) -> None:
    report, found = trained.report(), evaluate(trained.folder, data)
    assert report is not None
    for name in ("n", "words", "accuracy", "entity_f1", "macro_f1"):
        assert found[name] == pytest.approx(report[name])
    assert found["log_loss"] == pytest.approx(report["log_loss"], rel=1e-4)


def test_a_table_is_answered_row_for_row(trained: Run, tmp_path: Path) -> None:
    Image.new("RGB", (32, 32), COLOURS["red"]).save(tmp_path / "red.png")
    with (tmp_path / "asked.csv").open("w", newline="", encoding="utf-8") as out:
        table = csv.writer(out)
        table.writerow(["file_name", "text"])
        table.writerows([["red.png", "the dark red one"], ["red.png", ""], ["", "the dark blue one"]])
    output = tmp_path / "answers.csv"
    assert answer_table(Predictor(trained.checkpoint), tmp_path / "asked.csv", output) == (2, 3)
    with output.open(encoding="utf-8", newline="") as answers:
        rows = list(csv.DictReader(answers))
    assert json.loads(rows[0]["label"]) == ["O", "B-SHOWN", "I-SHOWN", "O"]
    assert "no word to tag" in rows[1]["error"]
    assert len(json.loads(rows[2]["label"])) == 4


def test_words_beyond_the_models_reach_count_as_outside(trained: Run) -> None:
    predictor = Predictor(trained.checkpoint)
    predictor.members[0].processor.max_length = 6  # with the marks at both ends, four words
    words, _ = row("red", "blue", "blue")
    answer = predictor.predict(json.dumps(words), Image.new("RGB", (32, 32), COLOURS["blue"]))
    assert [tag for _, tag, _ in answer.words][4:] == ["O"] * 4
    assert all(sure > 0.99 for *_, sure in answer.words[4:])


def test_a_text_is_needed(trained: Run) -> None:
    with pytest.raises(DataError, match="tags the words of a text, and there is none"):
        Predictor(trained.checkpoint).predict(None, Image.new("RGB", (32, 32)))


def test_one_pair_and_many_are_answered_alike(trained: Run) -> None:
    """Of a batch, padding to the longest text reaches no word of another."""
    predictor = Predictor(trained.checkpoint)
    texts = ["the dark red one", "the dark blue one and then the dark green one", "red"]
    pictures = [Image.new("RGB", (32, 32), colour) for colour in COLOURS.values()]
    together = predictor.predict_many(texts, pictures)
    for text, picture, answer in zip(texts, pictures, together, strict=True):
        alone = predictor.predict(text, picture)
        assert [word[:2] for word in alone.words] == [word[:2] for word in answer.words]
        sure = torch.tensor([[a[2], b[2]] for a, b in zip(alone.words, answer.words, strict=True)])
        torch.testing.assert_close(sure[:, 0], sure[:, 1], rtol=1e-4, atol=1e-5)
