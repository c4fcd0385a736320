"""Leads a cell of a table to the image file it means. Opens no file."""

from __future__ import annotations

import os
import unicodedata
from pathlib import Path

from mmapp.data.images import SUFFIXES
from mmapp.data.layouts import FOLDER, RawTable


class ImageFinder:
    """Finds the file a cell names: as a path, else by its bare name anywhere below the root.

    Names match whatever their case, slashes or Unicode composition, with or without a suffix,
    as long as only one file fits.
    """

    def __init__(self, raw: RawTable) -> None:
        self.root = raw.root
        self.confined = raw.confined
        self._default_folders = [Path(folder) for folder in raw.frame[FOLDER].unique()]
        self._by_path: dict[str, Path] | None = None
        self._by_name: dict[str, list[Path]] = {}

    def knows(self, cell: str) -> bool:
        """Does the cell look like, or lead to, an image file?"""
        if Path(cell).suffix.lower() in SUFFIXES:
            return True
        return any(self.find(cell, folder)[0] is not None for folder in self._default_folders[:3])

    def find(self, cell: str, folder: Path) -> tuple[Path | None, str | None]:
        """The file, or None and the reason in words."""
        if "://" in cell[:12]:
            return None, "is a web address; download the images and name their files"
        direct = Path(os.path.normpath(folder / cell.replace("\\", "/")))
        if self.confined and not direct.is_relative_to(self.root):
            return None, "points outside the uploaded data"
        try:
            if direct.is_file():
                return direct, None
        except (OSError, ValueError):
            return None, "is not a possible file name"
        return self._search(direct, cell)

    def _search(self, direct: Path, cell: str) -> tuple[Path | None, str | None]:
        if self._by_path is None:
            self._index()
        if direct.is_relative_to(self.root):
            known = (self._by_path or {}).get(_key(str(direct.relative_to(self.root))))
            if known:
                return known, None
        matches = self._by_name.get(_key(Path(cell.replace("\\", "/")).name), [])
        if len(matches) == 1:
            return matches[0], None
        if matches:
            return None, f"fits {len(matches)} files; name its folder as well"
        return None, "does not exist"

    def _index(self) -> None:
        self._by_path = {}
        for path in sorted(self.root.rglob("*")):
            if path.suffix.lower() in SUFFIXES and path.is_file():
                self._by_path[_key(str(path.relative_to(self.root)))] = path
                for name in {_key(path.name), _key(path.stem)}:
                    self._by_name.setdefault(name, []).append(path)


def _key(name: str) -> str:
    return unicodedata.normalize("NFC", name).casefold()
