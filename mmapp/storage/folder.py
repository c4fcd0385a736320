"""Where a checkpoint's name leads, and its JSON read without trust. Imports no torch."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

from mmapp.errors import CheckpointError
from mmapp.sources import first_line
from mmapp.storage import SHIPPED

MAX_CONFIG_BYTES = 4 * 2**20
ENSEMBLE = "mmapp_ensemble"  # the model_type of several checkpoints in one folder
RESULT = "checkpoint"  # what the folder of its result is called in a run's


def find_checkpoint(name: str | Path) -> Path:
    """The folder a user means: a run folder, a checkpoint folder, or the name of a shipped one.

    Raises:
        CheckpointError: there is nothing of that name, or it holds no checkpoint.
    """
    given = Path(name)
    for folder in (given / RESULT, given, SHIPPED / given):
        if (folder / "config.json").is_file():
            return folder
    shipped = sorted(path.name for path in SHIPPED.glob("*") if (path / "config.json").is_file())
    known = f" Shipped ones: {', '.join(shipped)}." if shipped else ""
    if given.is_dir():
        raise CheckpointError(
            f"{name} holds no checkpoint. Expected config.json in it or in its folder checkpoint; "
            f"a run has one once it has finished or was stopped.{known}"
        )
    raise CheckpointError(f"There is no checkpoint {name}. Expected a folder or a shipped name.{known}")


def lasting_name(name: str | Path) -> str:
    """The name of a checkpoint as it stays true when the working directory changes: a shipped one's
    own, of a run the run's folder. Raises CheckpointError."""
    folder = find_checkpoint(name).resolve()
    if folder.parent == SHIPPED:
        return folder.name
    return str(folder.parent if folder.name == RESULT else folder)


def read_json(path: Path) -> dict[str, Any]:
    """A JSON object from a file of unknown manners. Raises CheckpointError."""
    try:
        if path.stat().st_size > MAX_CONFIG_BYTES:
            raise CheckpointError(f"{path} is larger than {MAX_CONFIG_BYTES // 2**20} MB.")
        values = json.loads(path.read_text(encoding="utf-8"))
    except (OSError, ValueError) as error:
        raise CheckpointError(f"{path} cannot be read as JSON: {first_line(error)}") from error
    if not isinstance(values, dict):
        raise CheckpointError(f"{path} does not hold a JSON object.")
    return values
