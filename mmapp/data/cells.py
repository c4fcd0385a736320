"""What a cell may hold: one label, a|b, a JSON list of labels or of words and their tags."""

from __future__ import annotations

import json
import re
from collections.abc import Iterable

MATCH, MISMATCH = "match", "mismatch"  # the two labels of the task match
OUTSIDE = "O"  # of the task tag: the tag of a word that belongs to nothing

# A word with what holds it together (don't, 3.5, e-mail), a Chinese character, or any other mark.
_WORD = re.compile(r"[\u3400-\u9fff]|[^\W\u3400-\u9fff]+(?:[-'’.][^\W\u3400-\u9fff]+)*|[^\w\s]")


def split_labels(cell: str) -> tuple[str, ...]:
    """The labels of one cell, each once, in the order written; `[]` has none."""
    listed = json_list(cell)
    parts = listed if listed is not None else cell.split("|")
    return tuple(dict.fromkeys(part.strip() for part in parts if part.strip()))


def words_of(text: str) -> tuple[str, ...]:
    """The words of a text: of a JSON list its entries, else words and marks one by one."""
    listed = json_list(text)
    return tuple(listed) if listed is not None else tuple(_WORD.findall(text))


def several(cells: Iterable[str | None]) -> bool:
    """Does any cell hold a list of labels?"""
    return any("|" in cell or json_list(cell) is not None for cell in cells if cell)


def count_names(cells: Iterable[str | None]) -> list[str]:
    """Every label as often as rows have it, whether cells hold one or several."""
    named = label_names([cell for cell in cells if cell is not None])
    return [name for names in named for name in names]


def label_names(cells: Iterable[str]) -> list[tuple[str, ...]]:
    """The labels of each cell: the cell itself, unless any of them holds a list."""
    cells = list(cells)
    return list(map(split_labels, cells)) if several(cells) else [(cell,) for cell in cells]


def json_list(cell: str) -> list[str] | None:
    """The entries of a JSON list, as text; None where the cell holds none."""
    if not cell.lstrip().startswith("["):
        return None
    try:
        found = json.loads(cell)
    except ValueError:
        return None
    return [str(part) for part in found] if isinstance(found, list) else None
