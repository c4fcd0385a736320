"""The predictor answers as the report did, for one pair or many, whole or by half."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image

from mmapp.data.pairs import LabelSet, PairTable
from mmapp.errors import CheckpointError, DataError
from mmapp.inference.predictor import Prediction, Predictor
from mmapp.inference.scoring import evaluate
from mmapp.runs.run import Run


@pytest.fixture
def tested(trained: Run) -> PairTable:
    """The rows the run was reported on."""
    return PairTable.load(trained.pairs).part("test")


def test_its_answers_are_the_reports(predictor: Predictor, tested: PairTable, trained: Run) -> None:
    """Accuracy, log-loss and confusion are computed here anew, from its answers."""
    report = trained.report()
    assert report is not None
    answers = predictor.predict_table(tested)
    labels = tested.labels()
    right = [answer.label == label for answer, label in zip(answers, labels, strict=True)]
    given = [answer.probabilities[label] for answer, label in zip(answers, labels, strict=True)]
    names = report["confusion"]["labels"]
    counts = [
        [
            sum((a.label, b) == (guess, true) for a, b in zip(answers, labels, strict=True))
            for guess in names
        ]
        for true in names
    ]
    assert len(labels) == report["n"] > 6
    assert np.mean(right) == report["accuracy"]
    assert counts == report["confusion"]["counts"]
    assert -np.mean(np.log(given)) == pytest.approx(report["log_loss"], abs=1e-6)


def test_its_probabilities_are_those_of_the_temperature(
    predictor: Predictor, tested: PairTable, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The checkpoint's own, and another that is put in its place; for a table and for one pair."""
    [member], pair = predictor.members, next(iter(tested))
    logits = member.of_table(tested, None, None).logits
    own = predictor.model.config.temperature
    assert own != 1.0
    for temperature in (own, 2.5):
        monkeypatch.setattr(predictor.model.config, "temperature", temperature)
        expected = torch.softmax(torch.tensor(logits) / temperature, dim=1).numpy()
        said = predictor.predict_table(tested)
        found = [[row.probabilities[name] for name in predictor.labels.names] for row in said]
        assert np.array(found) == pytest.approx(expected, abs=1e-6)
        alone = predictor.predict(pair.text, pair.image).probabilities
        assert alone == pytest.approx(said[0].probabilities, abs=1e-5)


def test_evaluate_says_of_the_calibration_what_the_report_said(
    predictor: Predictor, trained: Run
) -> None:
    told, found = (trained.report() or {})["calibration"], evaluate(predictor, trained.order().data)
    figures = ("temperature", "ece", "ece_before", "log_loss", "log_loss_before")
    assert {k: found["calibration"][k] for k in figures} == pytest.approx(
        {k: told[k] for k in figures}, abs=1e-5
    )


def test_one_pair_is_answered_as_it_is_in_a_table(predictor: Predictor, tested: PairTable) -> None:
    """Alone, in a batch of all, and as a row among rows of other lengths."""
    alone = [predictor.predict(pair.text, pair.image) for pair in tested]
    together = predictor.predict_many(
        [pair.text for pair in tested], [Image.open(str(pair.image)) for pair in tested]
    )
    for one, other, row in zip(alone, together, predictor.predict_table(tested), strict=True):
        assert one.label == other.label == row.label
        assert one.probabilities == pytest.approx(other.probabilities, abs=1e-5)
        assert one.probabilities == pytest.approx(row.probabilities, abs=1e-5)


def test_answers_come_in_the_order_of_the_table(predictor: Predictor, tested: PairTable) -> None:
    """The loader sorts by length; nothing of that may be seen."""
    backwards = PairTable(tested.frame[::-1].reset_index(drop=True), "backwards")
    lengths = backwards.frame["text"].str.len().tolist()
    assert lengths != sorted(lengths)
    for one, other in zip(
        predictor.predict_table(backwards), predictor.predict_table(tested)[::-1], strict=True
    ):
        assert one.probabilities == pytest.approx(other.probabilities, abs=1e-5)


def test_progress_counts_rows(predictor: Predictor, tested: PairTable) -> None:
    seen: list[int] = []
    predictor.predict_table(tested, seen.append)
    assert seen[-1] == len(tested)


def test_probabilities_are_ranked_and_sum_to_one(predictor: Predictor) -> None:
    answer = predictor.predict("a red thing")
    values = list(answer.probabilities.values())
    assert set(answer.probabilities) == set(predictor.labels.names) == {"red", "green", "blue"}
    assert values == sorted(values, reverse=True)
    assert sum(values) == pytest.approx(1, abs=1e-6)
    assert (answer.label, answer.confidence) == (list(answer.probabilities)[0], values[0])


def test_of_equal_probabilities_the_first_label_is_the_answer() -> None:
    answer = Prediction.of(np.array([0.25, 0.5, 0.25]), LabelSet(("a", "b", "c")))
    assert answer == Prediction("b", {"b": 0.5, "a": 0.25, "c": 0.25}, 0.5)


def test_either_half_may_be_left_out(predictor: Predictor, tested: PairTable) -> None:
    """A half that is left out is not the same as a blank one: it is a learnt vector."""
    picture = Path(tested.frame["image"][0])
    black = Image.new("RGB", (32, 32))
    text_only = predictor.predict(text="a red thing")
    image_only = predictor.predict(image=picture)
    assert text_only.probabilities != pytest.approx(
        predictor.predict("a red thing", black).probabilities
    )
    assert image_only.probabilities == predictor.predict("  ", picture).probabilities
    both, one = predictor.predict_many(["a red thing"] * 2, [picture, None])
    assert one.probabilities == pytest.approx(text_only.probabilities, abs=1e-5)
    assert both.probabilities != pytest.approx(one.probabilities, abs=1e-5)


@pytest.mark.parametrize("text", [None, "", " \n"])
def test_neither_half_is_refused(text: str | None, predictor: Predictor) -> None:
    with pytest.raises(DataError) as refused:
        predictor.predict(text, None)
    assert str(refused.value) == "Neither a text nor an image was given. Give at least one of them."


@pytest.mark.parametrize(
    ("content", "reason"),
    [
        (None, "the file does not exist"),
        (b"", "the file is empty"),
        (b"no picture", "the file is not a picture in a format that is known here"),
    ],
)
def test_an_image_that_cannot_be_opened_is_told(
    content: bytes | None, reason: str, predictor: Predictor, tmp_path: Path
) -> None:
    path = tmp_path / "a.png"
    if content is not None:
        path.write_bytes(content)
    with pytest.raises(DataError) as refused:
        predictor.predict("a text", path)
    assert str(refused.value) == f"Image {path}: {reason}."


def test_a_picture_of_any_mode_and_size_is_taken(predictor: Predictor, tmp_path: Path) -> None:
    whole = Image.new("RGB", (64, 64), (255, 0, 0))
    whole.save(tmp_path / "a.png")
    expected = predictor.predict(image=tmp_path / "a.png").probabilities
    for mode in ("RGBA", "P"):
        assert predictor.predict(image=whole.convert(mode)).probabilities == expected


def test_data_is_read_with_the_columns_of_training_where_they_are_there(
    predictor: Predictor, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    settings = {**predictor.model.config.data_settings, "text_column": "words"}
    monkeypatch.setattr(predictor.model.config, "data_settings", settings)
    (tmp_path / "a.csv").write_text("text,words\none two three,four five\n")
    (tmp_path / "b.csv").write_text("text,other\none two three,four five\n")
    read = {
        name: predictor.load_pairs(tmp_path / name, need_labels=False) for name in ("a.csv", "b.csv")
    }
    assert read["a.csv"].frame["text"].tolist() == ["four five"]
    assert read["b.csv"].frame["text"].tolist() == ["one two three"]
    own = predictor.load_pairs(tmp_path / "b.csv", {"text_column": "other"}, need_labels=False)
    assert own.frame["text"].tolist() == ["four five"]


def test_a_place_without_a_checkpoint_is_refused(tmp_path: Path) -> None:
    with pytest.raises(CheckpointError, match="holds no checkpoint"):
        Predictor(tmp_path)
