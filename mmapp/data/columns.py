"""Which column is the image, the text, the label, the split; and why. Reads cells, opens no file."""

from __future__ import annotations

import difflib
import re
from collections.abc import Callable

import pandas as pd

from mmapp.data.pairs import ColumnChoice
from mmapp.errors import ColumnError
from mmapp.settings import DataSettings

ROLES = ("image", "text", "label", "split")

# Names that say what a column is, best first. Case, blanks, "-" and "_" do not matter.
SYNONYMS = {
    "image": "file_name filename image image_path image_file img img_path picture photo path file",
    "text": "text caption sentence title description question content body review tweet tokens words",
    "label": "label labels class category target answer tag tags ner_tags",
    "split": "split subset partition set fold",
}

SPLIT_WORDS = {
    **dict.fromkeys(["train", "training"], "train"),
    **dict.fromkeys(["validation", "val", "valid", "dev", "development", "eval"], "validation"),
    **dict.fromkeys(["test", "testing"], "test"),
}

SAMPLE = 500  # cells looked at per column
ENOUGH = 0.8  # share of them that must look the part


def choose_columns(
    frame: pd.DataFrame, settings: DataSettings, finds_image: Callable[[str], bool]
) -> dict[str, ColumnChoice]:
    """Give each role a column: the user's choice, else a telling name, else telling content.

    Args:
        frame: cells as text, None where empty.
        settings: `image_column`, `text_column`, `label_column`, `split_column` override the guess.
        finds_image: does this cell lead to an image file?

    Returns:
        A choice for every role; its column is None when the data has none.

    Raises:
        ColumnError: a column the user named does not exist.
    """
    chosen: dict[str, ColumnChoice] = {}
    for role in ROLES:
        name = getattr(settings, f"{role}_column")
        if name is not None:
            chosen[role] = ColumnChoice(role, _existing(frame, role, name), "you chose it")
    guesses = {
        "image": lambda columns: _by_images(columns, finds_image),
        "split": _by_split_words,
        "text": _by_words,
        "label": _by_repetition,
    }
    # Content guesses go from the most to the least distinctive, names of every role before them.
    for guess_by_name in (True, False):
        for role, by_content in guesses.items():
            if role in chosen:
                continue
            taken = {choice.column for choice in chosen.values()}
            columns = {str(c): _sample(frame[c]) for c in frame.columns if c not in taken}
            choice = _by_name(role, columns) if guess_by_name else by_content(columns)
            if choice:
                chosen[role] = choice
    return {role: chosen.get(role) or ColumnChoice(role, None, "none found") for role in ROLES}


def _existing(frame: pd.DataFrame, role: str, name: str) -> str:
    if name in frame.columns:
        return name
    names = [str(column) for column in frame.columns]
    close = difflib.get_close_matches(name, names, n=1)
    hint = f" Did you mean {close[0]!r}?" if close else ""
    raise ColumnError(f"There is no {role} column {name!r}; the table has {', '.join(names)}.{hint}")


def _sample(column: pd.Series) -> pd.Series:
    return column.dropna().head(SAMPLE)


def _by_name(role: str, columns: dict[str, pd.Series]) -> ColumnChoice | None:
    plain = {re.sub(r"[\s_\-]+", "_", name.strip().casefold()): name for name in columns}
    matches = [plain[word] for word in SYNONYMS[role].split() if word in plain]
    if role == "split":
        matches = [name for name in matches if _share(columns[name], _is_split_word) >= ENOUGH]
    if not matches:
        return None
    others = f"; {', '.join(matches[1:])} would also fit" if len(matches) > 1 else ""
    return ColumnChoice(role, matches[0], f"its name says so{others}")


def _by_images(
    columns: dict[str, pd.Series], finds_image: Callable[[str], bool]
) -> ColumnChoice | None:
    shares = {name: _share(cells, finds_image) for name, cells in columns.items()}
    best = max(shares, key=shares.__getitem__, default=None)
    if best is None or shares[best] < ENOUGH:
        return None
    return ColumnChoice("image", best, f"{shares[best]:.0%} of its cells lead to an image file")


def _by_split_words(columns: dict[str, pd.Series]) -> ColumnChoice | None:
    for name, cells in columns.items():
        if _share(cells, _is_split_word) == 1.0 and cells.nunique() > 1:
            return ColumnChoice("split", name, "its cells are names of splits")
    return None


def _by_words(columns: dict[str, pd.Series]) -> ColumnChoice | None:
    words = {name: cells.str.split().str.len().mean() for name, cells in columns.items() if len(cells)}
    best = max(words, key=words.__getitem__, default=None)
    if best is None or words[best] < 2:
        return None
    return ColumnChoice("text", best, f"its cells hold the most words ({words[best]:.0f} on average)")


def _by_repetition(columns: dict[str, pd.Series]) -> ColumnChoice | None:
    distinct = {name: cells.nunique() for name, cells in columns.items()}
    repeated = [name for name, n in distinct.items() if 2 <= n <= len(columns[name]) / 2]
    if not repeated:
        return None
    best = min(repeated, key=distinct.__getitem__)
    return ColumnChoice("label", best, f"it repeats {distinct[best]} different values")


def _is_split_word(cell: str) -> bool:
    return cell.strip().casefold() in SPLIT_WORDS


def _share(cells: pd.Series, test: Callable[[str], bool]) -> float:
    return sum(map(test, cells)) / len(cells) if len(cells) else 0.0
