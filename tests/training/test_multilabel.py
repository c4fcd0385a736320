"""Rows with several labels, end to end: the word tells one, the picture the other."""

from __future__ import annotations

import csv
import random
from pathlib import Path

import pytest
import torch
from PIL import Image

from mmapp import Predictor, TrainSettings, evaluate
from mmapp.data.ingest import load_pairs
from mmapp.errors import SettingsError
from mmapp.runs.run import Order, Run
from mmapp.runs.worker import work
from mmapp.training.objectives import LOSSES_OF_SEVERAL, SeveralObjective

SETTINGS = {"epochs": 12, "batch_size": 32, "image_size": 32, "width": 32, "learning_rate": 2e-3}


def write_pairs(folder: Path, count: int = 240) -> Path:
    """`loud` is in the text, `red` in the picture; a row has none, one or both."""
    draw = random.Random(0)
    rows = [["file_name", "text", "label"]]
    for number in range(count):
        loud, red = draw.random() < 0.5, draw.random() < 0.5
        colour = (200 + draw.randrange(55), 30, 30) if red else (30, 30, 200 + draw.randrange(55))
        Image.new("RGB", (32, 32), colour).save(folder / f"{number}.png")
        names = [name for name, has in (("loud", loud), ("red", red)) if has]
        text = f"a {'loud' if loud else 'quiet'} noise number {number}"
        rows.append([f"{number}.png", text, "|".join(names) or "[]"])
    with (folder / "metadata.csv").open("w", newline="", encoding="utf-8") as out:
        csv.writer(out).writerows(rows)
    return folder


@pytest.fixture(scope="module")
def trained(tmp_path_factory: pytest.TempPathFactory) -> Run:
    data = write_pairs(tmp_path_factory.mktemp("several"))
    folder = tmp_path_factory.mktemp("run") / "run"
    run = Run.create(folder, Order(str(data), TrainSettings(**SETTINGS), "several"))
    assert work(run, lambda: False) == "done"
    return run


def test_both_labels_are_learnt_each_from_its_own_half(trained: Run) -> None:
    report = trained.report()
    assert report is not None
    assert report["macro_f1"] > 0.95
    assert report["majority"]["accuracy"] < 0.6


def test_the_checkpoint_answers_with_none_one_or_both(trained: Run) -> None:
    predictor = Predictor(trained.checkpoint)
    red, blue = Image.new("RGB", (32, 32), (230, 30, 30)), Image.new("RGB", (32, 32), (30, 30, 230))
    asked = [("a loud noise", red), ("a loud noise", blue), ("a quiet noise", red)]
    found = [predictor.predict(text, image).label for text, image in asked]
    assert found == ["loud|red", "loud", "red"]
    nothing = predictor.predict("a quiet noise", blue)
    assert nothing.label == ""
    assert nothing.confidence > 0.5


def test_evaluating_again_gives_the_reports_figures(trained: Run) -> None:
    report = trained.report()
    again = evaluate(trained.folder, trained.order().data)
    assert report is not None
    assert again["accuracy"] == report["accuracy"]
    assert again["log_loss"] == pytest.approx(report["log_loss"], rel=1e-5)


def test_labels_are_counted_one_by_one_in_the_findings(trained: Run) -> None:
    described = load_pairs(trained.order().data).describe()
    assert set(described["classes"]) == {"loud", "red"}


@pytest.mark.parametrize("loss", LOSSES_OF_SEVERAL)
def test_every_loss_of_several_falls_towards_the_right_answers(loss: str) -> None:
    objective = SeveralObjective(TrainSettings(loss=loss), [1, 1], 2, torch.device("cpu"))
    labels = torch.tensor([[1.0, 0.0]])
    ladder = [objective(torch.tensor([[x, -x]]), labels).item() for x in (-2.0, 0.0, 2.0)]
    assert ladder == sorted(ladder, reverse=True)


def test_balanced_weights_make_a_rare_yes_count_as_much_as_all_the_noes() -> None:
    settings = TrainSettings(class_weights="balanced")
    objective = SeveralObjective(settings, [1], 4, torch.device("cpu"))
    labels = torch.tensor([[1.0], [0.0], [0.0], [0.0]])
    losses = objective(torch.zeros(4, 1), labels)
    assert losses[0].item() == pytest.approx(losses[1:].sum().item())


def test_cross_entropy_is_refused_with_what_would_do() -> None:
    with pytest.raises(SettingsError, match="no loss 'cross-entropy' here.*auto, binary, logistic"):
        SeveralObjective(TrainSettings(loss="cross-entropy"), [1], 2, torch.device("cpu"))
