"""Kept arrays come back whole or not at all: after kills, damage, deletion, full disks, and races."""

from __future__ import annotations

import errno
import os
import shutil
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from types import SimpleNamespace

import numpy as np
import pytest

from mmapp.training.kept_arrays import KeptArrays

ARRAY = np.arange(250, dtype=np.float32).reshape(50, 5)
BYTES = 1000 + 128 + 16  # numbers, NumPy's header, checksum


def put(folder: Path, *names: str, most: int = 10**6) -> KeptArrays:
    kept = KeptArrays(folder, most)
    for name in names:
        kept.write(name, ARRAY)
    return kept


def age(folder: Path, *names: str) -> None:
    """Last used long ago, the first named the longest."""
    for hour, name in enumerate(names, start=1):
        os.utime(folder / f"{name}.npy", (3600 * hour, 3600 * hour))


def names(folder: Path) -> set[str]:
    return {path.stem for path in folder.iterdir()}


def test_an_array_comes_back_to_the_bit_in_another_run(tmp_path: Path) -> None:
    put(tmp_path, "a").write("half", ARRAY.astype(np.float16))

    again = KeptArrays(tmp_path)

    np.testing.assert_array_equal(again.read("a"), ARRAY, strict=True)
    np.testing.assert_array_equal(again.read("half"), ARRAY.astype(np.float16), strict=True)
    assert again.read("b") is None
    assert (tmp_path / "a.npy").stat().st_size == BYTES


@pytest.mark.parametrize(
    "content",
    [
        lambda whole: b"",
        lambda whole: whole[:700],
        lambda whole: whole[:700] + bytes([whole[700] ^ 1]) + whole[701:],
        lambda whole: whole + b"\0",
        lambda whole: b"no array at all, and of some length",
    ],
    ids=["empty", "cut off", "one bit", "one byte more", "other"],
)
def test_a_damaged_file_is_as_good_as_none_and_is_replaced(
    tmp_path: Path, content: Callable[[bytes], bytes]
) -> None:
    kept = put(tmp_path, "a")
    path = tmp_path / "a.npy"
    path.write_bytes(content(path.read_bytes()))

    assert kept.read("a") is None

    kept.write("a", ARRAY)
    np.testing.assert_array_equal(kept.read("a"), ARRAY)


def test_a_writer_killed_before_the_end_leaves_no_file_of_that_name(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def killed(*_: object) -> None:
        raise KeyboardInterrupt

    monkeypatch.setattr(os, "replace", killed)
    with pytest.raises(KeyboardInterrupt):
        put(tmp_path, "a")

    assert KeptArrays(tmp_path).read("a") is None
    assert len(list(tmp_path.iterdir())) == 1  # what it left is removed when room is needed
    os.utime(next(tmp_path.iterdir()), (1, 1))
    monkeypatch.undo()
    put(tmp_path, "b", most=BYTES)
    assert names(tmp_path) == {"b"}


def test_what_was_unused_for_longest_makes_room(tmp_path: Path) -> None:
    put(tmp_path, "old", "older", "read", "oldest")
    age(tmp_path, "oldest", "read", "older", "old")
    kept = KeptArrays(tmp_path, most=3 * BYTES)
    assert kept.read("read") is not None  # and so it is of this run

    kept.write("new", ARRAY)

    assert names(tmp_path) == {"read", "old", "new"}


def test_data_larger_than_the_limit_do_not_push_out_their_own_beginning(tmp_path: Path) -> None:
    for _ in range(2):
        kept = put(tmp_path, "a", "b", "c", "d", most=2 * BYTES + 100)
        assert names(tmp_path) == {"a", "b"}
        assert kept.problem is None
        assert kept.read("a") is not None
        age(tmp_path, "b", "a")


def test_no_more_is_kept_than_the_disk_has_left_besides(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    put(tmp_path, "a")
    # Held and free together are 2.5 files, of which half may be taken: one.
    usage = SimpleNamespace(free=int(1.5 * BYTES))
    monkeypatch.setattr(shutil, "disk_usage", lambda _: usage)

    kept = put(tmp_path, "b")

    assert names(tmp_path) == {"b"}
    assert kept.problem is None


def test_a_full_disk_is_told_once_and_stops_the_writing_but_no_reading(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    kept = put(tmp_path, "a")
    tried: list[Path] = []

    def full(path: Path, content: bytes) -> int:
        tried.append(path)
        with path.open("wb") as file:
            file.write(content[:100])
        raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))

    monkeypatch.setattr(Path, "write_bytes", full)
    kept.write("b", ARRAY)
    kept.write("c", ARRAY)

    assert kept.problem == "No space left on device"
    assert len(tried) == 1
    assert names(tmp_path) == {"a"}  # the half file is gone
    assert kept.read("a") is not None


def test_a_place_that_is_no_folder_is_told(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("not a folder")

    kept = put(tmp_path / "file", "a")

    assert kept.problem == "File exists"
    assert kept.read("a") is None


def test_a_folder_that_was_deleted_is_made_anew(tmp_path: Path) -> None:
    kept = put(tmp_path / "kept", "a")
    shutil.rmtree(tmp_path / "kept")

    assert kept.read("a") is None
    kept.write("a", ARRAY)

    assert kept.problem is None
    np.testing.assert_array_equal(kept.read("a"), ARRAY)


def test_processes_that_write_the_same_name_at_once_never_show_half_a_file(tmp_path: Path) -> None:
    code = (
        "import numpy as np; from pathlib import Path; "
        "from mmapp.training.kept_arrays import KeptArrays;"
        f"kept = KeptArrays(Path({str(tmp_path)!r}));"
        "[kept.write('a', np.full(300_000, 7.0)) for _ in range(40)];"
        "raise SystemExit(kept.problem)"
    )
    writers = [subprocess.Popen([sys.executable, "-c", code]) for _ in range(2)]
    kept, seen = KeptArrays(tmp_path), 0
    while any(writer.poll() is None for writer in writers):
        if (tmp_path / "a.npy").exists():
            array = kept.read("a")
            assert array is not None
            assert array.shape == (300_000,)
            seen += 1

    assert [writer.wait() for writer in writers] == [0, 0]
    assert seen > 10
    assert names(tmp_path) == {"a"}
