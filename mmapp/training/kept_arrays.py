"""Arrays kept in a folder between runs, each under a name that says all it was computed from.

One name can only ever stand for one content. So whoever finds a file may take it, and it does not
matter who wrote it, or whether two did at once. Knows no encoder and imports no torch.
"""

from __future__ import annotations

import hashlib
import io
import os
import shutil
import time
from collections.abc import Iterator
from pathlib import Path

import numpy as np

# Room for what MobileNetV2 says of 30,000 pictures (125 kB each) or a ViT-base of 13,000 (300 kB).
MOST_BYTES = 4 * 2**30

CHECKSUM = 16  # bytes at the end of a file


class KeptArrays:
    """Array files in a folder that may be written by many, deleted, or damaged at any time.

    Args:
        folder: made when the first array is kept.
        most: bytes kept at most, and never more than the disk has left; what was unused for longest
            makes room. What this process has read or written stays: data larger than this would
            otherwise push out its own beginning, and the next run would find nothing.

    Attributes:
        problem: why nothing more is kept, in the system's words; None while all is well.
    """

    def __init__(self, folder: Path, most: int = MOST_BYTES) -> None:
        self.folder = folder
        self.most = most
        self.problem: str | None = None
        self._begun = time.time()
        self._room = 0  # bytes that may be written before the folder is looked through again
        self._full = False

    def read(self, name: str) -> np.ndarray | None:
        """The array of that name; None when it is not there or is damaged."""
        path = self._path(name)
        try:
            content = path.read_bytes()
            os.utime(path)  # the time of its last use
        except OSError:
            return None
        body, checksum = content[:-CHECKSUM], content[-CHECKSUM:]
        whole = _checksum(body) == checksum
        return np.load(io.BytesIO(body), allow_pickle=False) if whole else None

    def write(self, name: str, array: np.ndarray) -> None:
        """Keep the array as long as there is room. A file takes its name only once it is whole."""
        if self._full or self.problem:
            return
        body = io.BytesIO()
        np.save(body, array, allow_pickle=False)
        content = body.getvalue()
        beside = self.folder / f".{name}-{os.getpid()}"
        try:
            self.folder.mkdir(parents=True, exist_ok=True)
            if self._has_room(len(content) + CHECKSUM):
                beside.write_bytes(content + _checksum(content))
                os.replace(beside, self._path(name))
        except OSError as error:
            self.problem = error.strerror or str(error)
            if os.path.lexists(beside):
                beside.unlink()

    def _path(self, name: str) -> Path:
        return self.folder / f"{name}.npy"

    def _has_room(self, size: int) -> bool:
        if size > self._room:
            self._room = self._make_room(size)
        self._full = size > self._room
        self._room -= size
        return not self._full

    def _make_room(self, wanted: int) -> int:
        """Remove what was unused for longest, what killed writers left too; gives the bytes free."""
        files = sorted(_files(self.folder))
        held = sum(size for _, size, _ in files)
        most = min(self.most, (held + shutil.disk_usage(self.folder).free) // 2)
        wanted = max(wanted, most // 10)  # some more, so that this is seldom asked
        for used, size, path in files:
            if most - held >= wanted or used >= self._begun:
                break
            Path(path).unlink(missing_ok=True)
            held -= size
        return most - held


def _files(folder: Path) -> Iterator[tuple[float, int, str]]:
    """Last use, bytes and path of every file."""
    for entry in os.scandir(folder):
        try:
            facts = entry.stat()
        except FileNotFoundError:  # another process made room
            continue
        yield facts.st_mtime, facts.st_size, entry.path


def _checksum(content: bytes) -> bytes:
    return hashlib.blake2b(content, digest_size=CHECKSUM).digest()
