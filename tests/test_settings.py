"""Every knob: its bounds, its sentences, and contradictions that die at construction."""

from __future__ import annotations

import importlib
import json
import subprocess
import sys
from typing import Any

import pytest
from pydantic import ValidationError

from mmapp.errors import MmappError, SettingsError
from mmapp.settings import DataSettings, ModelSettings, TrainSettings

FIELDS = TrainSettings.model_fields
BOUNDED = [
    (name, bound, field.json_schema_extra[bound])  # type: ignore[index]
    for name, field in FIELDS.items()
    for bound in ("low", "high")
    if field.json_schema_extra[bound] is not None  # type: ignore[index]
]


def refusal(kind: type[DataSettings | ModelSettings] = TrainSettings, **values: Any) -> str:
    with pytest.raises(SettingsError) as refused:
        kind(**values)
    return str(refused.value)


@pytest.mark.parametrize(
    ("values", "sentence"),
    [
        ({"epochs": 0}, "epochs: input should be greater than or equal to 1, found 0."),
        (
            {"dropout": 0.95},
            "dropout: input should be less than or equal to 0.9, found 0.95.",
        ),
        ({"epoch": 3}, "epoch: there is no setting of this name."),
        (
            {"schedule": "step"},
            "schedule: input should be 'cosine', 'linear' or 'constant', found 'step'.",
        ),
        ({"fusion": 3}, "fusion: input should be a valid string, found 3."),
        (
            {"batch_size": "many"},
            "batch_size: input should be a valid integer, unable to parse string as an integer, "
            "found 'many'.",
        ),
        (
            {"validation_fraction": 0.41, "test_fraction": 0.4},
            "validation_fraction 0.41 and test_fraction 0.4 leave less than a fifth of the pairs "
            "to learn from.",
        ),
        (
            {"fusion": "early", "tuning": "head"},
            "Fusion early and tuning head exclude each other: the text encoder is to read the image, "
            "so its features cannot be computed beforehand. Choose another of one of them.",
        ),
        (
            {"fusion": "image-only", "alignment": 0.5},
            "Fusion image-only and alignment 0.5 exclude each other: alignment compares a text and an "
            "image encoded apart. Choose another fusion, or alignment 0.",
        ),
    ],
)
def test_a_mistake_is_told_in_a_sentence(values: dict[str, Any], sentence: str) -> None:
    assert refusal(**values) == sentence


def test_all_mistakes_are_told_at_once() -> None:
    assert refusal(width=4, clip=-1, colour="red") == (
        "width: input should be greater than or equal to 8, found 4; "
        "clip: input should be greater than or equal to 0, found -1; "
        "colour: there is no setting of this name."
    )


def test_the_largest_shares_that_leave_a_fifth_are_allowed() -> None:
    kept = TrainSettings(validation_fraction=0.3, test_fraction=0.5)
    assert (kept.validation_fraction, kept.test_fraction) == (0.3, 0.5)


@pytest.mark.parametrize(("name", "bound", "value"), BOUNDED)
def test_a_bound_is_allowed_and_what_lies_beyond_is_not(name: str, bound: str, value: float) -> None:
    kind = int if "int" in str(FIELDS[name].annotation) else float
    beyond = value + (1 if bound == "high" else -1)
    assert getattr(TrainSettings(**{name: kind(value)}), name) == value
    assert refusal(**{name: kind(beyond)}).startswith(f"{name}: input should be ")


@pytest.mark.parametrize("name", ["learning_rate", "dropout", "warmup"])
def test_what_is_not_a_number_is_no_number(name: str) -> None:
    assert refusal(**{name: float("nan")}).endswith(", found nan.")


@pytest.mark.parametrize("name", FIELDS)
def test_every_setting_explains_itself_and_its_default_keeps_its_own_bounds(name: str) -> None:
    field = FIELDS[name]
    assert field.description is not None
    assert field.description.endswith(".")
    assert TrainSettings(**{name: field.default}) == TrainSettings()


@pytest.mark.parametrize(
    "name",
    [name for name, field in FIELDS.items() if field.json_schema_extra["table"]],  # type: ignore
)
def test_a_table_of_choices_exists_and_holds_the_default(name: str) -> None:
    extra: dict[str, Any] = FIELDS[name].json_schema_extra  # type: ignore[assignment]
    module, _, table = extra["table"].partition(":")
    prefix = extra.get("prefix") or ""
    choices = [prefix + choice for choice in getattr(importlib.import_module(module), table)]
    assert FIELDS[name].default in [*choices, "auto"]


def test_settings_are_frozen() -> None:
    settings = TrainSettings()
    with pytest.raises(ValidationError, match="frozen"):
        settings.epochs = 3  # type: ignore[misc]


def test_a_copy_is_checked_and_leaves_the_original_alone() -> None:
    first = TrainSettings(epochs=3, seed=7)
    second = first.replace(epochs=5)
    assert (first.epochs, second.epochs, second.seed) == (3, 5, 7)
    assert type(second) is TrainSettings
    with pytest.raises(SettingsError, match="^epochs: input should be greater"):
        first.replace(epochs=0)
    with pytest.raises(SettingsError, match="^epoch: there is no setting of this name"):
        first.replace(epoch=1)
    with pytest.raises(SettingsError, match="leave less than a fifth"):
        first.replace(validation_fraction=0.5, test_fraction=0.5)


def test_settings_survive_json() -> None:
    settings = TrainSettings(fusion="concat", learning_rate=1e-5, image_size=64, test_fraction=0.2)
    assert TrainSettings(**json.loads(json.dumps(settings.model_dump()))) == settings


def test_the_narrow_views_know_only_their_own_knobs() -> None:
    assert refusal(DataSettings, epochs=3) == "epochs: there is no setting of this name."
    assert refusal(ModelSettings, seed=3) == "seed: there is no setting of this name."
    assert set(DataSettings.model_fields) | set(ModelSettings.model_fields) < set(FIELDS)


def test_one_clause_catches_every_mistake() -> None:
    with pytest.raises(MmappError):
        TrainSettings(epochs=0)


def test_settings_and_reading_data_import_no_torch() -> None:
    modules = ["mmapp.settings", *(f"mmapp.data.{name}" for name in ("ingest", "splits"))]
    code = f"import sys, {', '.join(modules)}; sys.exit('torch' in sys.modules)"
    assert subprocess.run([sys.executable, "-c", code], check=False).returncode == 0
