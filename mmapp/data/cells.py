"""What a label cell may hold: the two words of the task match, a JSON list, or a|b."""

from __future__ import annotations

import json
from collections.abc import Iterable

MATCH, MISMATCH = "match", "mismatch"  # the two labels of the task match


def split_labels(cell: str) -> tuple[str, ...]:
    """The labels of one cell, each once, in the order written; `[]` has none."""
    listed = _json_list(cell)
    parts = listed if listed is not None else cell.split("|")
    return tuple(dict.fromkeys(part.strip() for part in parts if part.strip()))


def several(cells: Iterable[str | None]) -> bool:
    """Does any cell hold a list of labels?"""
    return any("|" in cell or _json_list(cell) is not None for cell in cells if cell)


def count_names(cells: Iterable[str | None]) -> list[str]:
    """Every label as often as rows have it, whether cells hold one or several."""
    present = [cell for cell in cells if cell is not None]
    if not several(present):
        return present
    return [name for cell in present for name in split_labels(cell)]


def _json_list(cell: str) -> list[str] | None:
    if not cell.lstrip().startswith("["):
        return None
    try:
        found = json.loads(cell)
    except ValueError:
        return None
    return [str(part) for part in found] if isinstance(found, list) else None
