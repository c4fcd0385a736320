"""From a cell to the image file it means: spellings that are understood, ways out that are not."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import pandas as pd
import pytest

from mmapp.data.finder import ImageFinder
from mmapp.data.layouts import FOLDER, FOLDER_SPLIT, RawTable
from mmapp.data.tables import ROW

Find = Callable[..., tuple[str | None, str | None]]


@pytest.fixture
def find(tmp_path: Path, put_files: Callable[..., Path]) -> Find:
    """find(cell, confined): the file found, as a path below the root, and the reason if none."""
    names = ["sub/a.png", "sub/B.PNG", "sub/é.jpg", "x/same.png", "y/same.png", "c.tar.png"]
    root = put_files(tmp_path / "root", dict.fromkeys(names, b""))
    put_files(tmp_path, {"outside.png": b"", "root/notes.txt": b""})

    def look_for(cell: str, confined: bool = False) -> tuple[str | None, str | None]:
        frame = pd.DataFrame({ROW: [1], FOLDER: [str(root)], FOLDER_SPLIT: [None]})
        path, reason = ImageFinder(RawTable(frame, root, confined)).find(cell, root)
        return (str(path.relative_to(root.parent)) if path else None), reason

    return look_for


@pytest.mark.parametrize(
    ("cell", "found"),
    [
        ("sub/a.png", "root/sub/a.png"),
        ("a.png", "root/sub/a.png"),  # by its bare name
        ("a", "root/sub/a.png"),  # without a suffix
        ("A.Png", "root/sub/a.png"),
        ("b.png", "root/sub/B.PNG"),
        ("sub\\b.PNG", "root/sub/B.PNG"),
        ("C:\\photos\\a.png", "root/sub/a.png"),  # as it was called on another machine
        ("./x/../x/same.png", "root/x/same.png"),
        ("Y/Same.png", "root/y/same.png"),
        ("e\u0301.jpg", "root/sub/é.jpg"),  # the accent as a letter of its own
        ("c.tar", "root/c.tar.png"),
    ],
)
@pytest.mark.parametrize("confined", [False, True])
def test_an_image_is_found_however_its_name_is_spelt(
    cell: str, found: str, confined: bool, find: Find
) -> None:
    assert find(cell, confined) == (found, None)


@pytest.mark.parametrize(
    ("cell", "reason"),
    [
        ("same.png", "fits 2 files; name its folder as well"),
        ("gone.png", "does not exist"),
        ("a\0b.png", "does not exist"),
        ("https://example.org/a.png", "is a web address; download the images and name their files"),
    ],
)
def test_an_image_that_is_not_found_is_told_why(cell: str, reason: str, find: Find) -> None:
    assert find(cell) == (None, reason)


def test_a_cell_too_long_for_a_file_name_leads_nowhere(
    find: Find,
) -> None:
    # Which of the two depends on what Python's pathlib makes of the system's refusal.
    path, reason = find("x" * 5000 + ".png")
    assert path is None
    assert reason in ("is not a possible file name", "does not exist")


@pytest.mark.parametrize("cell", ["../outside.png", "sub/../../outside.png", "/etc/hostname"])
def test_uploads_cannot_name_files_outside_of_themselves(cell: str, find: Find) -> None:
    assert find(cell, True) == (None, "points outside the uploaded data")


def test_the_owner_of_a_folder_may_name_files_beside_it(
    find: Find,
) -> None:
    assert find("../outside.png", False) == ("outside.png", None)
