"""Every field of a settings class is an option, and only what was written is handed on."""

from __future__ import annotations

from typing import Any

import pytest
import typer
from typer.testing import CliRunner

from mmapp.__main__ import app
from mmapp.knobs import Settings, setting
from mmapp.options import settings_options
from mmapp.settings import DataSettings, SearchSettings, TrainSettings

# A value of the command line for every field, and what the command receives. A new field wants a row.
WRITTEN: dict[str, tuple[str, Any]] = {
    "image_column": ("picture", "picture"),
    "text_column": ("words", "words"),
    "label_column": ("kind", "kind"),
    "split_column": ("side", "side"),
    "incomplete": ("keep", "keep"),
    "validation_fraction": ("0.2", 0.2),
    "test_fraction": ("0.25", 0.25),
    "seed": ("7", 7),
    "task": ("match", "match"),
    "text_encoder": ("bert-base-uncased", "bert-base-uncased"),
    "image_encoder": ("torchvision:resnet50", "torchvision:resnet50"),
    "fusion": ("concat", "concat"),
    "width": ("64", 64),
    "dropout": ("0", 0.0),
    "max_length": ("16", 16),
    "image_size": ("48", 48),
    "start_from": ("digits", "digits"),
    "shots": ("5", 5),
    "tuning": ("head", "head"),
    "epochs": ("3", 3),
    "batch_size": ("2", 2),
    "learning_rate": ("1e-4", 1e-4),
    "encoder_learning_rate": ("2e-5", 2e-5),
    "top_layers": ("3", 3),
    "lora_rank": ("4", 4),
    "layer_decay": ("0.9", 0.9),
    "optimizer": ("sgd", "sgd"),
    "accumulation": ("2", 2),
    "loss": ("focal", "focal"),
    "label_smoothing": ("0.1", 0.1),
    "class_weights": ("balanced", "balanced"),
    "focal_gamma": ("1.5", 1.5),
    "alignment": ("0.5", 0.5),
    "weight_decay": ("0.5", 0.5),
    "schedule": ("linear", "linear"),
    "warmup": ("0.3", 0.3),
    "clip": ("0", 0.0),
    "modality_dropout": ("0.4", 0.4),
    "watch": ("loss", "loss"),
    "patience": ("0", 0),
    "precision": ("fp32", "fp32"),
    "tracker": ("trackio", "trackio"),
}


@pytest.fixture
def received(monkeypatch: pytest.MonkeyPatch) -> list[dict[str, Any]]:
    """What `train` hands on, instead of training."""
    calls: list[dict[str, Any]] = []
    monkeypatch.setattr(
        "mmapp.console.run_training", lambda *given, **_: calls.append(given[-1]) or 0
    )
    return calls


@pytest.mark.parametrize("field", TrainSettings.model_fields)
def test_every_field_is_an_option_of_train(field: str, received: list[dict[str, Any]]) -> None:
    written, value = WRITTEN[field]
    option = f"--{field.replace('_', '-')}"
    result = CliRunner().invoke(app, ["train", "data", "--output", "run", option, written])
    assert result.exit_code == 0, result.output
    assert received == [{field: value}]
    assert type(received[0][field]) is type(value)
    assert getattr(TrainSettings(**received[0]), field) == value


def test_a_search_has_its_own_options_beside_those_of_train(received: list[dict[str, Any]]) -> None:
    written = ["--minutes", "2.5", "--trials", "3", "--fusions", "concat", "--epochs", "1"]
    result = CliRunner().invoke(app, ["search", "data", "--output", "run", *written])
    assert result.exit_code == 0, result.output
    assert received == [{"minutes": 2.5, "trials": 3, "fusions": "concat", "epochs": 1}]
    names = {p.name for p in typer.main.get_command(app).commands["search"].params}
    assert names >= {*SearchSettings.model_fields, *TrainSettings.model_fields}


def test_what_was_not_written_is_not_handed_on(received: list[dict[str, Any]]) -> None:
    CliRunner().invoke(app, ["train", "data", "--output", "run"])
    assert received == [{}]


@pytest.mark.parametrize("verb", ["evaluate", "predict", "check"])
def test_the_other_verbs_have_the_options_of_data_and_no_more(verb: str) -> None:
    command = typer.main.get_command(app).commands[verb]
    names = {parameter.name for parameter in command.params}
    assert names >= set(DataSettings.model_fields)
    assert not names & (set(TrainSettings.model_fields) - set(DataSettings.model_fields))


class Knobs(Settings):
    """Of each kind of field one."""

    length: int = setting(4, "How long.", unit="pages", low=2, high=1000)
    rate: float | None = setting(None, "How fast.", low=0.0, high=1.5)
    name: str = setting("x", "What.")


def test_the_help_ends_with_default_unit_and_bounds() -> None:
    knobs = typer.Typer()

    @knobs.command()
    @settings_options(Knobs)
    def turn(place: str, *, given: dict[str, Any]) -> None:
        print(place, given)

    command = typer.main.get_command(knobs)
    helps = {parameter.name: getattr(parameter, "help", None) for parameter in command.params}
    assert helps["length"] == "How long. (default 4 pages; 2 to 1000)"
    assert helps["rate"] == "How fast. (0 to 1.5)"
    assert helps["name"] == "What. (default x)"
    result = CliRunner().invoke(knobs, ["here", "--rate", "0.5"])
    assert result.output == "here {'rate': 0.5}\n"
