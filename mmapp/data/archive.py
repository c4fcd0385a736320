"""Unpacks an uploaded zip as if its author meant harm. Knows nothing of pairs.

Only pictures, tables and texts come out, only below the target folder, only up to the limits.
An entry that breaks a rule is left out and named; an archive that looks like a bomb is refused.
"""

from __future__ import annotations

import contextlib
import errno
import hashlib
import lzma
import shutil
import stat
import unicodedata
import zipfile
import zlib
from collections import Counter
from dataclasses import dataclass
from pathlib import Path, PurePosixPath
from typing import IO

from mmapp.data.images import SUFFIXES as IMAGE_SUFFIXES
from mmapp.data.pairs import Finding
from mmapp.errors import ArchiveError

KEPT_SUFFIXES = IMAGE_SUFFIXES | {".csv", ".tsv", ".jsonl", ".json", ".parquet", ".txt"}
RUNNABLE_SUFFIXES = frozenset(".exe .dll .so .sh .bat .cmd .ps1 .py .js .jar .com .scr .vbs".split())
COMPLETE = ".unpacked"

# What zipfile and its decompressors raise where an entry is damaged.
DAMAGE = (zipfile.BadZipFile, zlib.error, lzma.LZMAError, EOFError, ValueError)

# Errors of the system that one entry alone is to blame for: a name that is too long, or that is
# used for a file and for a folder. None is how bz2 reports damage.
OF_ONE_ENTRY = (errno.EEXIST, errno.ENOTDIR, errno.EISDIR, errno.ENAMETOOLONG, None)


@dataclass(frozen=True)
class Limits:
    """What one archive may ask of the disk."""

    files: int = 300_000
    total_bytes: int = 20 * 2**30
    file_bytes: int = 2 * 2**30
    ratio: int = 300  # unpacked size over packed size, of one entry above 10 MB


def unpack(archive: Path, workspace: Path, limits: Limits | None = None) -> tuple[Path, list[Finding]]:
    """Unpack into a folder of `workspace` named by the archive's content; a second call reuses it.

    Returns:
        The folder, and a finding for everything that was left out.

    Raises:
        ArchiveError: not a zip, damaged, encrypted, or beyond the limits. Nothing is left behind.
    """
    limits = limits or Limits()
    try:
        with zipfile.ZipFile(archive) as opened:
            chosen, findings = _choose(opened.infolist(), limits)
            target = workspace / _digest(archive)
            if not (target / COMPLETE).exists():
                _extract(opened, chosen, target, limits)
            damaged = (target / COMPLETE).read_text(encoding="utf-8").splitlines()
    except (*DAMAGE, zipfile.LargeZipFile, NotImplementedError) as error:
        raise ArchiveError(
            f"{archive.name} is not a zip this app can open ({error}). Zip the folder again."
        ) from None
    except OSError as error:
        raise ArchiveError(f"{archive.name} could not be unpacked: {error}.") from None
    left_out = "left out, because the archive is damaged there"
    findings += [
        Finding("damaged entry", "warning", f"{name}: {left_out}.", file=name) for name in damaged
    ]
    return target, findings


def _choose(
    entries: list[zipfile.ZipInfo], limits: Limits
) -> tuple[dict[str, zipfile.ZipInfo], list[Finding]]:
    """Which entries come out, under which names; and a finding for each kind left out."""
    if len(entries) > limits.files:
        raise ArchiveError(
            f"The archive holds {len(entries):,} files; {limits.files:,} are allowed. "
            "Split it into several archives."
        )
    chosen: dict[str, zipfile.ZipInfo] = {}
    findings: list[Finding] = []
    ignored: Counter[str] = Counter()
    for entry in entries:
        name = _name(entry)
        path = PurePosixPath(name)
        if entry.is_dir() or _is_litter(path):
            continue
        problem = _problem(entry, name, limits)
        if problem is None and name in chosen:
            problem = "the archive holds two files of this name; the first is used"
        if problem:
            findings.append(Finding("unsafe entry", "warning", f"{name}: {problem}.", file=name))
        elif path.suffix.lower() not in KEPT_SUFFIXES:
            ignored[path.suffix.lower() or "no suffix"] += 1
        else:
            chosen[name] = entry
    total = sum(entry.file_size for entry in chosen.values())
    if total > limits.total_bytes:
        raise ArchiveError(
            f"The archive would unpack to {total / 2**30:.1f} GB; "
            f"{limits.total_bytes / 2**30:.1f} GB are allowed."
        )
    return chosen, findings + _about_ignored(ignored)


def _name(entry: zipfile.ZipInfo) -> str:
    """The entry's name with "/" between folders, in composed Unicode.

    Names without the UTF-8 flag were decoded as code page 437; many of them are UTF-8 all the same.
    """
    name = entry.filename
    if not entry.flag_bits & 0x800:
        try:
            name = name.encode("cp437").decode("utf-8")
        except UnicodeError:
            name = entry.filename
    return unicodedata.normalize("NFC", name.replace("\\", "/"))


def _is_litter(path: PurePosixPath) -> bool:
    """Files that systems leave behind and nobody means to upload."""
    return (
        "__MACOSX" in path.parts or path.name.startswith(".") or path.name.lower() == "thumbs.db"
    )


def _problem(entry: zipfile.ZipInfo, name: str, limits: Limits) -> str | None:
    path = PurePosixPath(name)
    drive = ":" in path.parts[0] if path.parts else False
    if name.startswith("/") or drive or ".." in path.parts or "\0" in name:
        return "left out, because it points outside the archive"
    if stat.S_ISLNK(entry.external_attr >> 16):
        return "left out, because it is a link and not a file"
    if entry.flag_bits & 0x1:
        raise ArchiveError("The archive is encrypted. Zip the folder again without a password.")
    if entry.file_size > limits.file_bytes:
        return f"left out, because it is larger than {limits.file_bytes / 2**30:.1f} GB"
    packed = max(entry.compress_size, 1)
    if entry.file_size > 10 * 2**20 and entry.file_size / packed > limits.ratio:
        raise ArchiveError(
            f"{name} would grow {entry.file_size // packed:,} times when unpacked, "
            "as archives do that are made to fill a disk. It was refused."
        )
    if any(len(part.encode()) > 255 for part in path.parts):
        return "left out, because its name is longer than 255 bytes"
    return None


def _about_ignored(ignored: Counter[str]) -> list[Finding]:
    if not ignored:
        return []
    listed = ", ".join(f"{suffix} × {count}" for suffix, count in ignored.most_common(8))
    findings = [
        Finding(
            "ignored files",
            "note",
            f"{sum(ignored.values())} files are neither pictures nor tables and stay packed: {listed}.",
        )
    ]
    runnable = sorted(RUNNABLE_SUFFIXES & set(ignored))
    if runnable:
        message = f"The archive holds files that programs are made of ({', '.join(runnable)})."
        findings.append(Finding("suspicious files", "warning", message))
    return findings


def _digest(archive: Path) -> str:
    with archive.open("rb") as stream:
        return hashlib.file_digest(stream, "sha256").hexdigest()[:24]


def _extract(
    opened: zipfile.ZipFile, chosen: dict[str, zipfile.ZipInfo], target: Path, limits: Limits
) -> None:
    """Write the chosen entries. The marker that makes the folder count is written last; it lists
    the entries that were too damaged to come out."""
    shutil.rmtree(target, ignore_errors=True)
    budget = limits.total_bytes
    damaged = []
    try:
        target.mkdir(parents=True)
        for name, entry in chosen.items():
            path = target / name
            try:
                path.parent.mkdir(parents=True, exist_ok=True)
                with opened.open(entry) as source, path.open("wb") as out:
                    # Sizes in the directory can lie, so the bytes are counted as they come.
                    budget -= _copy(source, out, min(budget, entry.file_size))
            except (*DAMAGE, OSError) as error:
                if isinstance(error, OSError) and error.errno not in OF_ONE_ENTRY:
                    raise
                damaged.append(name)
                with contextlib.suppress(OSError):
                    path.unlink()
        (target / COMPLETE).write_text("\n".join(damaged), encoding="utf-8")
    except BaseException:
        shutil.rmtree(target, ignore_errors=True)
        raise


def _copy(source: IO[bytes], out: IO[bytes], allowed: int) -> int:
    written = 0
    while chunk := source.read(2**20):
        written += len(chunk)
        if written > allowed:
            raise ArchiveError("The archive unpacks to more than it declares. It was refused.")
        out.write(chunk)
    return written
