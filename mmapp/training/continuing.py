"""Settings of a run that starts from a checkpoint. Reads JSON, opens no weights, imports no torch."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

from mmapp.errors import CheckpointError, SettingsError
from mmapp.settings import DataSettings, TrainSettings
from mmapp.sources import absolute, public_name
from mmapp.storage.folder import ENSEMBLE, find_checkpoint, lasting_name, read_json

ENCODERS = ("text_encoder", "image_encoder")

# What a run takes from the checkpoint it starts from where nobody says otherwise.
TAKEN = (
    *ENCODERS, "fusion", "width", "alignment", "max_length", "image_size", *DataSettings.model_fields
)  # fmt: skip


def settings_for(given: dict[str, Any]) -> TrainSettings:
    """Settings of a new run: what is given, then what the checkpoint in `start_from` says, if one is
    named, then the defaults. Folders get names that stay true when the working directory changes.

    Raises what `continued` raises.
    """
    if given.get("start_from"):
        return continued(given["start_from"], **given)
    settings = TrainSettings(**given)
    return settings.replace(**{name: absolute(getattr(settings, name)) for name in ENCODERS})


def continued(checkpoint: str | Path, **given: Any) -> TrainSettings:
    """Settings of a run that starts from a checkpoint and goes on as it was trained.

    Encoders, fusion, sizes and task are the checkpoint's; the data is read and dealt as its training
    data was, so that of the same data no pair it learnt from lands among the new test pairs.

    Args:
        checkpoint: a run or checkpoint folder, or the name of a shipped one.
        given: settings that differ. The encoders cannot.

    Raises:
        CheckpointError: no checkpoint there, or an ensemble.
        SettingsError: a setting is out of bounds, or names another encoder than the checkpoint's.
    """
    folder = start_folder(checkpoint)
    config = read_json(folder / "config.json")
    sizes = read_json(folder / "preprocessor_config.json")
    try:
        own = {name: config[name] for name in (*ENCODERS, "fusion", "width")}
        own |= {name: sizes[name] for name in ("max_length", "image_size")}
        own["alignment"] = config.get("alignment", 0.0)  # older checkpoints say nothing of it
        dealt = {**(config["data_settings"] or {}), "task": config["task"]}
    except (KeyError, TypeError) as error:
        raise CheckpointError(f"{folder} is no checkpoint of this app: {error}.") from error
    own |= {name: value for name, value in dealt.items() if value is not None}
    require_own_encoders(own, given)
    named = {name: absolute(given[name]) for name in ENCODERS if given.get(name)}
    return TrainSettings(**{**own, **given, **named, "start_from": lasting_name(checkpoint)})


def start_folder(checkpoint: str | Path) -> Path:
    """The folder of a checkpoint that a run can start from.

    Raises CheckpointError for an ensemble: of several models none can go on for the others.
    """
    folder = find_checkpoint(checkpoint)
    if read_json(folder / "config.json").get("model_type") == ENSEMBLE:
        raise CheckpointError(
            f"{Path(checkpoint).name} is an ensemble, and a run starts from one model only. Name one "
            "of its members, such as the folder member-1 in it."
        )
    return folder


def require_own_encoders(own: Mapping[str, Any], wanted: Mapping[str, Any]) -> None:
    """Raises SettingsError where an encoder other than the checkpoint's own is wanted.

    Of an encoder that came from a folder, a checkpoint knows only what the folder is called.
    """
    for name in ENCODERS:
        written = wanted.get(name)
        if written and public_name(written) != own[name]:
            raise SettingsError(
                f"The model to start from was trained with the {name.replace('_', ' ')} {own[name]}, "
                f"and {written} is wanted. A run that goes on from it keeps its encoders: leave {name} "
                "out, or start from nothing."
            )
