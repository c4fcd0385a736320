"""Zip, folder, table or sample -> PairTable. The only door through which data comes in.

Past this door every row is good: its image decodes, its text is there (or absent on purpose).
Whatever is not good is set aside with its row number and a reason. Imports no torch.
"""

from __future__ import annotations

import os
import zipfile
from collections import Counter
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pandas as pd

from mmapp.data import findings as inspect
from mmapp.data.archive import unpack
from mmapp.data.cells import MATCH
from mmapp.data.columns import SPLIT_WORDS, choose_columns
from mmapp.data.finder import ImageFinder
from mmapp.data.images import ImageFacts, look_at_all
from mmapp.data.labels import task_of, with_task
from mmapp.data.layouts import FOLDER, FOLDER_SPLIT, RawTable, read_folder, read_tables
from mmapp.data.negatives import needs_negatives, with_negatives
from mmapp.data.pairs import ColumnChoice, Finding, PairTable, plain
from mmapp.data.samples import SAMPLES, write_sample
from mmapp.data.splits import deal
from mmapp.data.tables import ROW, TABLES
from mmapp.errors import ColumnError, DataError
from mmapp.settings import DataSettings

# With settings.incomplete "auto": from this share of rows on, an absent half is taken as meant.
MEANT_TO_BE_ABSENT = 0.1


def home() -> Path:
    """Where unpacked archives and samples are kept: $MMAPP_HOME, else ~/.cache/mmapp."""
    return Path(os.environ.get("MMAPP_HOME") or Path.home() / ".cache" / "mmapp")


def load_pairs(
    source: str | Path,
    settings: DataSettings | None = None,
    *,
    workspace: Path | None = None,
    need_labels: bool = True,
) -> PairTable:
    """Read data of any accepted kind into good rows, findings and splits.

    Args:
        source: a zip, a folder, a table file, or `sample:NAME`.
        settings: column overrides, what to do with incomplete rows, seed and sizes of the splits.
        workspace: folder that archives are unpacked into; `home()` by default.
        need_labels: set rows without a label aside. False for data to predict on; such data also
            keeps rows with only a text or only an image.

    Raises:
        DataError: the source is missing, of no known kind, unsafe, or without a single good row.
        ColumnError: labels are needed and no column holds them.
    """
    settings = settings or DataSettings()
    if not need_labels:
        settings = settings.replace(incomplete="keep")
    raw = read_source(str(source), workspace or home())
    finder = ImageFinder(raw)
    choices = choose_columns(raw.cells(), settings, finder.knows)
    if need_labels and choices["label"].column is None and settings.task == "match":
        raw.frame["label"] = MATCH
        choices["label"] = ColumnChoice("label", "label", "there is none: every row is a match")
    if need_labels and choices["label"].column is None and len(raw.frame):
        raise ColumnError(
            "No label column was found; the table has "
            f"{', '.join(map(str, raw.cells().columns))}. Name it with --label-column."
        )
    frame, findings = _good_rows(raw, choices, finder, settings, need_labels)
    counted = len(frame) + len({f.row for f in [*raw.findings, *findings] if _is_aside(f)})
    table = PairTable(
        frame=frame,
        source=str(source),
        findings=(*raw.findings, *findings),
        columns=tuple(choices.values()),
        own_split=bool((frame["split"] != "").any()),
        total_rows=counted,
    )
    if frame.empty and need_labels:
        raise DataError(_no_good_row(table))
    if not need_labels:
        return table
    dealt = _dealt(table, settings)
    return dealt.with_findings(inspect.find_all(dealt))


def _dealt(table: PairTable, settings: DataSettings) -> PairTable:
    """Labels in the task's own form, splits, and mismatched pairs where only matches were given."""
    task = task_of(table, settings.task)
    table = with_task(table, task)
    if table.frame.empty:
        raise DataError(_no_good_row(table))
    dealt = deal(table, settings)
    only_matches = task == "match" and needs_negatives(dealt)
    return with_negatives(dealt, settings.seed) if only_matches else dealt


def read_source(source: str, workspace: Path) -> RawTable:
    """Tell the kind of the source and read its cells. Raises DataError."""
    kind = _kind(source)
    return READERS[kind](source, workspace.resolve())


def _read_sample(source: str, workspace: Path) -> RawTable:
    return read_folder(write_sample(source.removeprefix("sample:"), workspace / "samples"))


def _read_zip(source: str, workspace: Path) -> RawTable:
    folder, findings = unpack(Path(source), workspace / "unpacked")
    raw = read_folder(folder, confined=True, name=Path(source).name)
    return RawTable(raw.frame, raw.root, raw.confined, [*findings, *raw.findings])


def _read_folder(source: str, workspace: Path) -> RawTable:
    path = Path(source).resolve()
    return read_folder(path, confined=_is_upload(path))


def _read_table(source: str, workspace: Path) -> RawTable:
    path = Path(source).resolve()
    return read_tables([path], path.parent, confined=_is_upload(path))


def uploads() -> Path:
    """Where the page keeps what visitors gave it. Tables below it may name no file outside."""
    return home().resolve() / "uploads"


def _is_upload(path: Path) -> bool:
    return path.is_relative_to(uploads())


READERS: dict[str, Callable[[str, Path], RawTable]] = {
    "sample": _read_sample,
    "zip": _read_zip,
    "folder": _read_folder,
    "table": _read_table,
}


def _kind(source: str) -> str:
    path = Path(source)
    if source.startswith("sample:"):
        return "sample"
    if path.is_dir():
        return "folder"
    if not path.is_file():
        samples = ", ".join(f"sample:{name}" for name in SAMPLES)
        raise DataError(
            f"There is no {source}. Expected a zip, a folder, a table "
            f"({', '.join(TABLES)}) or one of {samples}."
        )
    if path.suffix.lower() in TABLES:
        return "table"
    if path.suffix.lower() == ".zip" or zipfile.is_zipfile(path):
        return "zip"
    raise DataError(
        f"{path.name} is of a kind that cannot be read here. Expected a zip, a folder or a table "
        f"({', '.join(TABLES)}). Other archives: unpack them and zip the folder."
    )


def _good_rows(
    raw: RawTable,
    choices: dict[str, ColumnChoice],
    finder: ImageFinder,
    settings: DataSettings,
    need_labels: bool,
) -> tuple[pd.DataFrame, list[Finding]]:
    """Believe the cells: open every image, and keep the rows that can be used."""
    candidates, findings = _candidates(raw, choices, finder)
    facts = look_at_all(row["image"] for row in candidates if row["image"])
    kept = _keep_incomplete(candidates, choices, settings)
    good = []
    for row in candidates:
        problem = _problem(row, facts, kept, need_labels)
        if problem:
            kind, message = problem
            findings.append(Finding(kind, "set aside", message, row["row"], row["named"]))
        else:
            good.append(_record(row, facts))
            findings += _about_half(row, choices)
    return plain(pd.DataFrame(good)), findings


def _candidates(
    raw: RawTable, choices: dict[str, ColumnChoice], finder: ImageFinder
) -> tuple[list[dict[str, Any]], list[Finding]]:
    """Every row as a record of what its chosen cells say; unknown split names are reported."""
    findings: list[Finding] = []
    candidates = []
    for cells in raw.frame.to_dict(orient="records"):
        said = {role: cells.get(choice.column) for role, choice in choices.items()}
        path, problem = None, None
        if said["image"]:
            path, problem = finder.find(said["image"], Path(cells[FOLDER]))
        split = SPLIT_WORDS.get((said["split"] or cells[FOLDER_SPLIT] or "").casefold(), "")
        if said["split"] and not split:
            message = f"Split {said['split']!r} is none of train, validation, test; dealt anew."
            findings.append(Finding("unknown split", "warning", message, cells[ROW]))
        candidates.append(
            {
                "row": cells[ROW],
                "image": path,
                "named": said["image"],
                "image_problem": problem,
                "text": said["text"],
                "label": said["label"],
                "split": split,
            }
        )
    return candidates, findings


def _keep_incomplete(
    candidates: list[dict[str, Any]], choices: dict[str, ColumnChoice], settings: DataSettings
) -> dict[str, bool]:
    """For each half: is a row that lacks it still a good row?"""
    kept = {}
    for half, cell in (("image", "named"), ("text", "text")):
        share = sum(not row[cell] for row in candidates) / max(len(candidates), 1)
        meant = share >= MEANT_TO_BE_ABSENT or choices[half].column is None
        kept[half] = settings.incomplete == "keep" or (settings.incomplete == "auto" and meant)
    return kept


def _problem(
    row: dict[str, Any], facts: dict[Path, ImageFacts], kept: dict[str, bool], need_label: bool
) -> tuple[str, str] | None:
    """Why the row cannot be used, as (kind, message), or None when it can."""
    name = row["named"]
    if row["image_problem"]:
        kind = "unsafe path" if "outside" in row["image_problem"] else "missing image"
        return kind, f"Image {name} {row['image_problem']}."
    if row["image"] and facts[row["image"]].problem:
        return "unreadable image", f"Image {name}: {facts[row['image']].problem}."
    if not name and not row["text"]:
        return "empty row", "Neither a text nor an image."
    if not name and not kept["image"]:
        return "no image", "No image is named. (incomplete = keep would train on the text alone.)"
    if not row["text"] and not kept["text"]:
        return "empty text", "The text is empty. (incomplete = keep would train on the image alone.)"
    if need_label and not row["label"]:
        return "no label", "The label is empty."
    return None


def _record(row: dict[str, Any], facts: dict[Path, ImageFacts]) -> dict[str, Any]:
    seen = facts[row["image"]] if row["image"] else ImageFacts()
    return {
        "row": row["row"],
        "image": str(row["image"]) if row["image"] else None,
        "file_name": row["named"],
        "text": row["text"],
        "label": row["label"],
        "split": row["split"],
        "image_hash": seen.content_hash,
        "width": seen.width,
        "height": seen.height,
    }


def _about_half(row: dict[str, Any], choices: dict[str, ColumnChoice]) -> list[Finding]:
    """A kept row that lacks a half is still mentioned, unless the whole table lacks it."""
    if choices["image"].column and not row["named"]:
        return [Finding("no image", "note", "No image; the text stands alone.", row["row"])]
    if choices["text"].column and not row["text"]:
        return [Finding("empty text", "note", "No text; the image stands alone.", row["row"])]
    return []


def _is_aside(finding: Finding) -> bool:
    return finding.severity == "set aside"


def _no_good_row(table: PairTable) -> str:
    kinds = Counter(finding.kind for finding in table.set_aside())
    reasons = ", ".join(f"{kind} × {count}" for kind, count in kinds.most_common())
    first = next(iter(table.set_aside()), None)
    example = f" Row {first.row}: {first.message}" if first else ""
    return f"None of the {table.total_rows} rows can be used ({reasons or 'no rows'}).{example}"
