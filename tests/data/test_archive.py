"""Zips whose author meant harm, or whose disk did: what comes out, what stays, what is refused."""

from __future__ import annotations

import random
import stat
import zipfile
from collections.abc import Callable
from pathlib import Path

import pytest

from mmapp.data.archive import Limits, unpack
from mmapp.errors import ArchiveError

PutZip = Callable[..., Path]


def names_below(folder: Path) -> list[str]:
    """Files of an unpacked folder, without the marker that makes it count."""
    files = [path for path in folder.rglob("*") if path.is_file() and path.name != ".unpacked"]
    return sorted(str(path.relative_to(folder)) for path in files)


def everything_below(folder: Path) -> list[Path]:
    return sorted(folder.rglob("*"))


def overwrite(archive: Path, old: bytes, new: bytes) -> None:
    """Change bytes of the archive without moving any."""
    assert len(old) == len(new)
    content = archive.read_bytes()
    assert old in content
    archive.write_bytes(content.replace(old, new))


def test_pictures_tables_and_texts_come_out_with_their_bytes(tmp_path: Path, put_zip: PutZip) -> None:
    contents = {"metadata.csv": b"a,b\n", "deep/er/cat.PNG": b"\x89PNG", "notes.txt": b"hello"}
    folder, findings = unpack(put_zip(tmp_path / "a.zip", contents), tmp_path / "work")
    assert {name: (folder / name).read_bytes() for name in names_below(folder)} == contents
    assert findings == []


@pytest.mark.parametrize(
    "name",
    [
        "../evil.png",
        "images/../../evil.png",
        "/evil.png",
        "..\\..\\evil.png",
        "C:\\evil.png",
        "C:/evil.png",
    ],
)
def test_an_entry_that_points_outside_is_left_out_and_named(
    name: str, tmp_path: Path, put_zip: PutZip
) -> None:
    archive = put_zip(tmp_path / "a.zip", {name: b"evil", "good.png": b"good"})
    before = everything_below(tmp_path)
    folder, findings = unpack(archive, tmp_path / "work")
    assert names_below(folder) == ["good.png"]
    written = [path for path in everything_below(tmp_path) if path not in before]
    assert all(path == tmp_path / "work" or tmp_path / "work" in path.parents for path in written)
    assert not any("evil" in path.name for path in everything_below(tmp_path))
    shown = name.replace("\\", "/")
    assert [(f.kind, f.severity, f.message, f.file) for f in findings] == [
        (
            "unsafe entry",
            "warning",
            f"{shown}: left out, because it points outside the archive.",
            shown,
        )
    ]


def test_a_link_is_left_out_so_that_nothing_can_be_read_through_it(tmp_path: Path) -> None:
    link = zipfile.ZipInfo("passwords.txt")
    link.create_system = 3  # Unix: the upper half of external_attr is then the file's mode
    link.external_attr = (stat.S_IFLNK | 0o777) << 16
    with zipfile.ZipFile(tmp_path / "a.zip", "w") as archive:
        archive.writestr(link, "/etc/passwd")
        archive.writestr("good.png", b"good")
    folder, findings = unpack(tmp_path / "a.zip", tmp_path / "work")
    assert names_below(folder) == ["good.png"]
    assert [f.message for f in findings] == [
        "passwords.txt: left out, because it is a link and not a file."
    ]


def test_an_encrypted_archive_is_refused_in_words(tmp_path: Path, put_zip: PutZip) -> None:
    archive = put_zip(tmp_path / "a.zip", {"good.png": b"good"})
    # Bit 0 of the flags, which follow signature, two versions in the directory's entry.
    overwrite(archive, b"PK\x01\x02\x14\x03\x14\x00\x00", b"PK\x01\x02\x14\x03\x14\x00\x01")
    with pytest.raises(ArchiveError) as refused:
        unpack(archive, tmp_path / "work")
    assert str(refused.value) == ("The archive is encrypted. Zip the folder again without a password.")


@pytest.mark.parametrize(
    ("limits", "sentence"),
    [
        (
            Limits(files=2),
            "The archive holds 3 files; 2 are allowed. Split it into several archives.",
        ),
        (
            Limits(total_bytes=2**29),
            "The archive would unpack to 0.6 GB; 0.5 GB are allowed.",
        ),
    ],
)
def test_an_archive_beyond_the_limits_is_refused_and_leaves_nothing(
    limits: Limits, sentence: str, tmp_path: Path, put_zip: PutZip
) -> None:
    archive = put_zip(tmp_path / "a.zip", {f"{i}.txt": b"0123456789" for i in range(3)})
    # The directory (its fields are sizes of 4 bytes) declares 200 MiB for every entry.
    overwrite(archive, b"\x0a\0\0\0\x0a\0\0\0", b"\x0a\0\0\0" + (200 * 2**20).to_bytes(4, "little"))
    with pytest.raises(ArchiveError) as refused:
        unpack(archive, tmp_path / "work", Limits(**{**vars(limits), "ratio": 10**9}))
    assert str(refused.value) == sentence
    assert not (tmp_path / "work").exists()


def test_a_bomb_is_refused_before_a_byte_is_written(tmp_path: Path) -> None:
    with zipfile.ZipFile(tmp_path / "a.zip", "w", zipfile.ZIP_DEFLATED) as archive:
        archive.writestr("bomb.txt", bytes(11 * 2**20))
    with pytest.raises(ArchiveError, match=r"^bomb\.txt would grow 1,0\d\d times when unpacked"):
        unpack(tmp_path / "a.zip", tmp_path / "work")
    assert not (tmp_path / "work").exists()


def test_a_single_file_above_its_limit_is_left_out_and_the_others_stay(
    tmp_path: Path, put_zip: PutZip
) -> None:
    archive = put_zip(tmp_path / "a.zip", {"long.txt": bytes(101), "short.txt": bytes(100)})
    folder, findings = unpack(archive, tmp_path / "work", Limits(file_bytes=100))
    assert names_below(folder) == ["short.txt"]
    assert findings[0].message == "long.txt: left out, because it is larger than 0.0 GB."


def test_an_entry_longer_than_it_declares_is_damaged(tmp_path: Path, put_zip: PutZip) -> None:
    archive = put_zip(tmp_path / "a.zip", {"lie.txt": bytes(5000), "good.txt": b"good"})
    size = (5000).to_bytes(4, "little")
    overwrite(archive, size + size, size + (50).to_bytes(4, "little"))
    folder, findings = unpack(archive, tmp_path / "work")
    assert names_below(folder) == ["good.txt"]
    assert [f.file for f in findings] == ["lie.txt"]


def test_what_is_no_zip_is_refused_in_words(tmp_path: Path) -> None:
    (tmp_path / "a.zip").write_text("I am a letter")
    with pytest.raises(ArchiveError) as refused:
        unpack(tmp_path / "a.zip", tmp_path / "work")
    assert str(refused.value) == (
        "a.zip is not a zip this app can open (File is not a zip file). Zip the folder again."
    )


def test_a_name_that_is_not_the_utf8_it_claims_to_be_is_refused_in_words(
    tmp_path: Path, put_zip: PutZip
) -> None:
    archive = put_zip(tmp_path / "a.zip", {"é.png": b"good"})
    overwrite(archive, "é".encode(), b"\xff\xfe")
    with pytest.raises(ArchiveError, match=r"^a\.zip is not a zip this app can open \('utf-8'"):
        unpack(archive, tmp_path / "work")


@pytest.mark.parametrize("kind", [zipfile.ZIP_DEFLATED, zipfile.ZIP_BZIP2, zipfile.ZIP_LZMA])
def test_a_damaged_entry_is_named_and_the_others_come_out(
    kind: int, tmp_path: Path, put_zip: PutZip
) -> None:
    noise = random.Random(0).randbytes(3000)
    archive = put_zip(tmp_path / "a.zip", {"first.txt": noise, "second.txt": b"good"}, kind)
    content = bytearray(archive.read_bytes())
    content[200:230] = b"\xff" * 30  # inside the packed bytes of the first entry
    archive.write_bytes(content)
    for _ in range(2):  # the folder that the second call finds still knows what is missing in it
        folder, findings = unpack(archive, tmp_path / "work")
        assert names_below(folder) == ["second.txt"]
        assert [(f.kind, f.message) for f in findings] == [
            ("damaged entry", "first.txt: left out, because the archive is damaged there.")
        ]


def test_an_entry_whose_own_header_is_damaged_does_not_stop_the_others(
    tmp_path: Path, put_zip: PutZip
) -> None:
    archive = put_zip(tmp_path / "a.zip", {"first.txt": b"1", "second.txt": b"2"})
    content = bytearray(archive.read_bytes())
    content[:4] = b"XXXX"
    archive.write_bytes(content)
    folder, findings = unpack(archive, tmp_path / "work")
    assert names_below(folder) == ["second.txt"]
    assert [f.file for f in findings] == ["first.txt"]


def test_bytes_changed_at_random_never_escape_as_another_error(tmp_path: Path, put_zip: PutZip) -> None:
    chance = random.Random(1)
    kinds = [zipfile.ZIP_STORED, zipfile.ZIP_DEFLATED, zipfile.ZIP_BZIP2, zipfile.ZIP_LZMA]
    work = tmp_path / "work" / "unpacked"
    opened = refused = 0
    for _ in range(300):
        contents = {"é/a.txt": b"hello " * 40, "b.png": bytes(range(99))}
        archive = put_zip(tmp_path / "a.zip", contents, chance.choice(kinds))
        content = bytearray(archive.read_bytes())
        for _ in range(chance.choice([1, 2, 4])):
            content[chance.randrange(len(content))] = chance.randrange(256)
        archive.write_bytes(content)
        try:
            unpack(archive, work)
            opened += 1
        except ArchiveError:
            refused += 1
    assert opened > 50
    assert refused > 50
    assert [path.name for path in tmp_path.iterdir() if path.name not in ("a.zip", "work")] == []
    assert [path.name for path in (tmp_path / "work").iterdir()] == ["unpacked"]


def test_one_name_for_a_file_and_a_folder_costs_only_the_second(
    tmp_path: Path, put_zip: PutZip
) -> None:
    contents = {"a.png": b"file", "a.png/b.png": b"below a file", "c/d.png": b"1", "c.txt": b"2"}
    folder, findings = unpack(put_zip(tmp_path / "a.zip", contents), tmp_path / "work")
    assert names_below(folder) == ["a.png", "c.txt", "c/d.png"]
    assert [f.file for f in findings] == ["a.png/b.png"]


def test_a_name_of_two_files_gives_the_first_and_says_so(tmp_path: Path) -> None:
    with (
        zipfile.ZipFile(tmp_path / "a.zip", "w") as archive,
        pytest.warns(UserWarning, match="Duplicate name"),
    ):
        archive.writestr("a.txt", "first")
        archive.writestr("a.txt", "second")
    folder, findings = unpack(tmp_path / "a.zip", tmp_path / "work")
    assert (folder / "a.txt").read_text() == "first"
    assert [f.message for f in findings] == [
        "a.txt: the archive holds two files of this name; the first is used."
    ]


@pytest.mark.parametrize("length", [255, 256])
def test_a_name_longer_than_a_disk_allows_is_left_out(
    length: int, tmp_path: Path, put_zip: PutZip
) -> None:
    name = "猫" * 83 + "x" * (length - 253) + ".png"  # 83 characters of 3 bytes, and 4 for .png
    folder, findings = unpack(put_zip(tmp_path / "a.zip", {name: b"1"}), tmp_path / "work")
    assert (names_below(folder) == [name]) == (length == 255)
    assert [f.message for f in findings] == (
        [] if length == 255 else [f"{name}: left out, because its name is longer than 255 bytes."]
    )


def test_litter_of_systems_stays_packed_without_a_word(tmp_path: Path, put_zip: PutZip) -> None:
    names = ["__MACOSX/._a.png", ".hidden.png", "x/.DS_Store", "Thumbs.db", "a.png"]
    archive = put_zip(tmp_path / "a.zip", dict.fromkeys(names, b"1"))
    folder, findings = unpack(archive, tmp_path / "work")
    assert names_below(folder) == ["a.png"]
    assert findings == []


def test_other_files_stay_packed_and_programs_are_called_suspicious(
    tmp_path: Path, put_zip: PutZip
) -> None:
    names = ["run.exe", "setup.PY", "a.pdf", "b.pdf", "README", "a.png"]
    archive = put_zip(tmp_path / "a.zip", dict.fromkeys(names, b"1"))
    folder, findings = unpack(archive, tmp_path / "work")
    assert names_below(folder) == ["a.png"]
    assert [(f.kind, f.severity, f.message) for f in findings] == [
        (
            "ignored files",
            "note",
            "5 files are neither pictures nor tables and stay packed: "
            ".pdf × 2, .exe × 1, .py × 1, no suffix × 1.",
        ),
        (
            "suspicious files",
            "warning",
            "The archive holds files that programs are made of (.exe, .py).",
        ),
    ]


def test_names_in_utf8_without_the_flag_that_says_so_are_read_as_utf8(
    tmp_path: Path, put_zip: PutZip
) -> None:
    archive = put_zip(tmp_path / "a.zip", {"XXX.png": b"1"})
    overwrite(archive, b"XXX.png", "猫.png".encode())
    assert names_below(unpack(archive, tmp_path / "work")[0]) == ["猫.png"]


def test_decomposed_letters_are_composed(tmp_path: Path, put_zip: PutZip) -> None:
    archive = put_zip(tmp_path / "a.zip", {"e\u0301te\u0301.png": b"1"})
    assert names_below(unpack(archive, tmp_path / "work")[0]) == ["été.png"]


def test_a_second_call_reuses_the_folder(tmp_path: Path, put_zip: PutZip) -> None:
    archive = put_zip(tmp_path / "a.zip", {"a.txt": b"first"})
    folder, _ = unpack(archive, tmp_path / "work")
    (folder / "a.txt").write_text("written between the calls")
    renamed = archive.rename(tmp_path / "same content.zip")
    again, _ = unpack(renamed, tmp_path / "work")
    assert again == folder
    assert (folder / "a.txt").read_text() == "written between the calls"


def test_a_folder_that_was_never_finished_is_written_anew(tmp_path: Path, put_zip: PutZip) -> None:
    archive = put_zip(tmp_path / "a.zip", {"a.txt": b"first"})
    folder, _ = unpack(archive, tmp_path / "work")
    (folder / ".unpacked").unlink()
    (folder / "a.txt").write_text("half of")
    (folder / "junk.txt").write_text("junk")
    unpack(archive, tmp_path / "work")
    assert names_below(folder) == ["a.txt"]
    assert (folder / "a.txt").read_text() == "first"


def test_another_content_is_another_folder(tmp_path: Path, put_zip: PutZip) -> None:
    first, _ = unpack(put_zip(tmp_path / "a.zip", {"a.txt": b"1"}), tmp_path / "work")
    second, _ = unpack(put_zip(tmp_path / "a.zip", {"a.txt": b"2"}), tmp_path / "work")
    assert first != second
    assert (first / "a.txt").read_bytes() == b"1"
