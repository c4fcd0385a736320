"""An upload is kept out of the public folder, and can reach no file but its own."""

from __future__ import annotations

import csv
import os
import zipfile
from collections.abc import Callable
from pathlib import Path

import pytest
from PIL import Image

from mmapp.data.ingest import load_pairs, uploads
from mmapp.errors import ArchiveError, DataError
from mmapp.ui.uploads import keep_upload


@pytest.fixture(autouse=True)
def home(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.setenv("MMAPP_HOME", str(tmp_path / "home"))
    return tmp_path / "home"


@pytest.fixture
def public(tmp_path: Path) -> Path:
    """Where Gradio puts what is sent to it."""
    (tmp_path / "gradio").mkdir()
    return tmp_path / "gradio"


def picture(path: Path) -> Path:
    Image.new("RGB", (8, 8), (200, 40, 40)).save(path)
    return path


def table(path: Path, *names: str) -> Path:
    with path.open("w", newline="", encoding="utf-8") as out:
        writer = csv.writer(out)
        writer.writerow(["file_name", "text", "label"])
        writer.writerows([name, f"text {i}", "ab"[i % 2]] for i, name in enumerate(names))
    return path


def zipped(path: Path, *files: Path) -> Path:
    with zipfile.ZipFile(path, "w") as archive:
        for file in files:
            archive.write(file, file.name)
    return path


@pytest.mark.parametrize("name", ["pairs.csv", "pairs.zip", "PAIRS.ZIP"])
def test_one_file_is_copied_and_keeps_its_name(name: str, public: Path) -> None:
    (public / name).write_bytes(b"content")
    place, title = keep_upload([public / name])
    (public / name).unlink()
    assert (place.name, title) == (name, name)
    assert place.read_bytes() == b"content"
    assert place.is_relative_to(uploads())
    assert not place.is_relative_to(public)


def test_two_uploads_of_one_name_do_not_meet(public: Path) -> None:
    (public / "a.csv").write_text("one")
    first, _ = keep_upload([public / "a.csv"])
    (public / "a.csv").write_text("two")
    second, _ = keep_upload([public / "a.csv"])
    assert (first.read_text(), second.read_text()) == ("one", "two")


@pytest.mark.parametrize("packed", [False, True])
def test_a_table_finds_its_pictures_loose_or_zipped(packed: bool, public: Path) -> None:
    pictures = [picture(public / "a.png"), picture(public / "b.png")]
    metadata = table(public / "metadata.csv", "a.png", "b.png", "a.png", "b.png")
    beside = [zipped(public / "images.zip", *pictures)] if packed else pictures
    place, title = keep_upload([metadata, *beside])
    assert title == f"{1 + len(beside)} files"
    read = load_pairs(place)
    assert len(read) == 4
    assert all(Path(image).is_relative_to(place) for image in read.frame["image"])


def test_several_zips_are_refused_and_leave_nothing(public: Path) -> None:
    archives = [zipped(public / name) for name in ("a.zip", "b.ZIP")]
    with pytest.raises(DataError) as refused:
        keep_upload(archives)
    assert str(refused.value) == (
        "Several zips were given. Put everything into one zip, or give one at a time."
    )
    assert not uploads().exists()


def test_two_files_of_one_name_are_refused_rather_than_one_lost(public: Path) -> None:
    for folder in ("1", "2"):
        (public / folder).mkdir()
        picture(public / folder / "a.png")
    with pytest.raises(DataError, match=r"^Several files are called a\.png\."):
        keep_upload([public / "1" / "a.png", public / "2" / "a.png"])


def test_a_zip_that_is_none_is_refused(public: Path) -> None:
    (public / "a.zip").write_bytes(b"no zip")
    with pytest.raises(ArchiveError, match=r"a\.zip is not a zip this app can open"):
        keep_upload([public / "a.zip", table(public / "metadata.csv", "a.png")])


# Names in a hostile table, each of which means somebody else's picture.
HOSTILE: dict[str, Callable[[Path, Path], str]] = {
    "absolute": lambda secret, place: str(secret),
    "upwards": lambda secret, place: os.path.relpath(secret, place),
    "upwards and down again": lambda secret, place: f"a/../../{secret.parent.name}/{secret.name}",
    "backslashes": lambda secret, place: os.path.relpath(secret, place).replace("/", "\\"),
    "by its bare name": lambda secret, place: secret.name,
}


@pytest.mark.parametrize("loose", [False, True], ids=["table alone", "table and picture"])
@pytest.mark.parametrize("name", HOSTILE)
def test_an_uploaded_table_reaches_no_picture_outside_its_folder(
    name: str, loose: bool, public: Path
) -> None:
    """The secret lies in another visitor's upload, right beside."""
    other, _ = keep_upload([picture(public / "secret.png")])
    files = [table(public / "metadata.csv", "x")]
    if loose:
        files.append(picture(public / "own.png"))
    place, _ = keep_upload(files)
    folder = place if loose else place.parent
    table(folder / "metadata.csv", HOSTILE[name](other, folder), "own.png" if loose else "")

    read = load_pairs(place, need_labels=False)

    assert str(other) not in read.frame["image"].tolist()
    assert [finding.row for finding in read.set_aside()] == [1]
    assert read.frame["row"].tolist() == [2]


def test_the_same_table_outside_the_uploads_may_name_any_picture(public: Path, tmp_path: Path) -> None:
    """So it is the confinement that refuses above, and nothing else about these names."""
    (tmp_path / "elsewhere").mkdir()
    secret = picture(tmp_path / "elsewhere" / "secret.png")
    read = load_pairs(table(public / "metadata.csv", str(secret)), need_labels=False)
    assert read.frame["image"].tolist() == [str(secret)]
