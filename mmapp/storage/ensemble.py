"""An ensemble's folder: its members' checkpoints whole, and how their answers become one.

    config.json          model_type mmapp_ensemble, strategy, weights, names of the members' folders
    member-1/ ...        checkpoints as in checkpoint.py
    metrics.json         the report on the test split, where data was given
"""

from __future__ import annotations

import json
import shutil
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from mmapp.errors import CheckpointError
from mmapp.models.ensemble import STRATEGIES
from mmapp.storage.checkpoint import put_in_place
from mmapp.storage.folder import ENSEMBLE, find_checkpoint, read_json

FORMAT_VERSION = 1
MOST = 64  # members one folder may name


@dataclass(frozen=True)
class Ensemble:
    """What config.json of an ensemble says.

    Attributes:
        strategy: a key of STRATEGIES.
        weights: one a member.
        members: the members' folders.
    """

    strategy: str
    weights: tuple[float, ...]
    members: tuple[Path, ...]


def save_ensemble(
    folder: Path, members: Sequence[Path], strategy: str, weights: Sequence[float], report: Any
) -> None:
    """Copy the members' checkpoints into a folder beside its place and rename it."""
    beside = folder.with_name(f".{folder.name}.writing")
    shutil.rmtree(beside, ignore_errors=True)
    beside.mkdir(parents=True)
    names = [f"member-{number}" for number in range(1, len(members) + 1)]
    for name, member in zip(names, members, strict=True):
        shutil.copytree(member, beside / name)
    config = {
        "model_type": ENSEMBLE,
        "format_version": FORMAT_VERSION,
        "strategy": strategy,
        "weights": [float(weight) for weight in weights],
        "members": names,
    }
    for name, values in (("config.json", config), ("metrics.json", report)):
        if values is not None:
            (beside / name).write_text(json.dumps(values, indent=2) + "\n", encoding="utf-8")
    put_in_place(beside, folder)


def read_ensemble(name: str | Path) -> Ensemble:
    """What stands there: an ensemble, or a single checkpoint as an ensemble of one.

    Raises:
        CheckpointError: nothing usable there. The members themselves are not opened yet.
    """
    folder = find_checkpoint(name)
    values = read_json(folder / "config.json")
    if values.get("model_type") != ENSEMBLE:
        return Ensemble("mean", (1.0,), (folder,))
    try:
        if values["format_version"] > FORMAT_VERSION:
            raise CheckpointError(f"{folder} is of a newer format. Update the app.")
        names = [str(name) for name in values["members"]][:MOST]
        weights = tuple(float(weight) for weight in values["weights"])
        strategy = values["strategy"]
    except (KeyError, TypeError, ValueError) as error:
        raise CheckpointError(f"{folder}/config.json is no ensemble's: {error}.") from error
    sound = len(names) == len(weights) > 0 and sum(weights) > 0 and min(weights) >= 0
    # A member is a folder of the ensemble's own; a name may lead nowhere else.
    own = all(Path(name).name == name and name not in ("", ".", "..") for name in names)
    if not (sound and own) or strategy not in STRATEGIES:
        raise CheckpointError(f"{folder}/config.json contradicts itself or names foreign folders.")
    return Ensemble(strategy, weights, tuple(folder / name for name in names))
