"""What a folder of files means: a metadata table, one table per split, or folders named by class.

Gives a RawTable: cells as they stand, with the folder their image names start from. Decides
nothing about columns or good rows.
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass, field
from pathlib import Path

import pandas as pd

from mmapp.data.columns import SPLIT_WORDS
from mmapp.data.images import SUFFIXES
from mmapp.data.pairs import Finding
from mmapp.data.tables import ROW, TABLES, read_table
from mmapp.errors import DataError

FOLDER = "#folder"  # where relative image names of this row start
FOLDER_SPLIT = "#split"  # the split a folder or file name gives this row, or None
OURS = (ROW, FOLDER, FOLDER_SPLIT)


@dataclass(frozen=True)
class RawTable:
    """Cells before anything is believed.

    Attributes:
        frame: every column of the source as text (None where empty), plus OURS.
        root: the folder whose image files belong to the data.
        confined: no image outside `root` may be named (true for uploads).
        findings: what reading itself noticed.
    """

    frame: pd.DataFrame
    root: Path
    confined: bool = False
    findings: list[Finding] = field(default_factory=list)

    def cells(self) -> pd.DataFrame:
        return self.frame.drop(columns=list(OURS))


def read_folder(root: Path, confined: bool = False, name: str = "") -> RawTable:
    """Find out how the folder is laid out and read it.

    Args:
        root: the folder.
        confined: see RawTable.
        name: what the user calls it, where that is not the folder's own name.

    Raises:
        DataError: neither a table nor a picture is in it, or several tables compete.
    """
    files = sorted(path for path in root.rglob("*") if path.is_file() and not _hidden(path, root))
    tables = [path for path in files if path.suffix.lower() in TABLES]
    # Folders often hold a settings file in JSON; it counts as a table only where there is no other.
    tables = [path for path in tables if path.suffix.lower() != ".json"] or tables
    chosen, findings = _choose_tables(tables)
    if chosen:
        return read_tables(chosen, root, confined, findings)
    pictures = [path for path in files if path.suffix.lower() in SUFFIXES]
    if pictures:
        return RawTable(_read_class_folders(pictures, root), root, confined, findings)
    raise DataError(
        f"No table and no picture was found in {name or root.name}. Expected metadata.csv (or .tsv, "
        ".jsonl, .parquet) beside the images, or one folder of images per class."
    )


def read_tables(
    paths: list[Path], root: Path, confined: bool = False, findings: list[Finding] | None = None
) -> RawTable:
    """Read tables one below the other; rows are numbered on through all of them."""
    findings = list(findings or [])
    frames: list[pd.DataFrame] = []
    count = 0
    for path in paths:
        frame, found = read_table(path)
        frame[ROW] += count
        for finding in found:
            row = finding.row and finding.row + count
            findings.append(Finding(finding.kind, finding.severity, finding.message, row))
        rows = [*frame[ROW], *(f.row for f in findings if f.row)]
        count = max(rows, default=count)
        frame[FOLDER] = str(path.parent)
        relative = path.relative_to(root) if path.is_relative_to(root) else Path(path.name)
        frame[FOLDER_SPLIT] = _split_of((*relative.parts[:-1], path.stem))
        frames.append(frame)
    merged = pd.concat(frames, ignore_index=True)
    return RawTable(merged.astype(object).where(merged.notna(), None), root, confined, findings)


def _hidden(path: Path, root: Path) -> bool:
    parts = path.relative_to(root).parts
    return any(part.startswith(".") or part == "__MACOSX" for part in parts)


def _choose_tables(tables: list[Path]) -> tuple[list[Path], list[Finding]]:
    """Tables called metadata first, one per folder; else one per split; else the only one."""
    named = [path for path in tables if path.stem.lower() == "metadata"]
    if named:
        first = {path.parent: path for path in sorted(named, key=_preference, reverse=True)}
        return sorted(first.values()), _about_unused(tables, list(first.values()))
    by_split = [path for path in tables if path.stem.lower() in SPLIT_WORDS]
    if by_split:
        return by_split, _about_unused(tables, by_split)
    if len(tables) > 1:
        names = ", ".join(path.name for path in tables[:6])
        raise DataError(
            f"Found {len(tables)} tables ({names}) and cannot tell which one holds the pairs. "
            "Name it metadata.csv, or name them train.csv, validation.csv and test.csv."
        )
    return tables, []


def _preference(path: Path) -> int:
    return list(TABLES).index(path.suffix.lower())


def _about_unused(tables: list[Path], used: list[Path]) -> list[Finding]:
    unused = [path.name for path in tables if path not in used]
    if not unused:
        return []
    return [Finding("ignored tables", "note", f"Tables not read: {', '.join(unused[:8])}.")]


def _split_of(names: Iterable[str]) -> str | None:
    """The split that the first telling name of a folder or table stands for."""
    known = (SPLIT_WORDS.get(name.casefold()) for name in names)
    return next(filter(None, known), None)


def _read_class_folders(pictures: list[Path], root: Path) -> pd.DataFrame:
    """cat/1.jpg with cat/1.txt beside it: the folder is the label, the .txt the text."""
    records = []
    for number, picture in enumerate(pictures, start=1):
        folders = picture.relative_to(root).parts[:-1]
        named = [folder for folder in folders if folder.casefold() not in SPLIT_WORDS]
        beside = picture.with_suffix(".txt")
        text = beside.read_text("utf-8", errors="replace").strip() if beside.is_file() else ""
        records.append(
            {
                ROW: number,
                FOLDER: str(picture.parent),
                FOLDER_SPLIT: _split_of(folders),
                "file_name": picture.name,
                "text": text or None,
                "label": named[-1] if named else None,
            }
        )
    frame = pd.DataFrame(records, dtype=object)
    if frame["label"].nunique() < 2:  # one folder around everything names no class
        frame = frame.drop(columns="label")
    return frame if frame["text"].notna().any() else frame.drop(columns="text")
