"""Pictures of every mode, and files that only claim to be pictures: expected pixels, exact words."""

from __future__ import annotations

import hashlib
import io
import struct
import zlib
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from mmapp.data import images
from mmapp.data.images import look_at, look_at_all, open_image
from mmapp.errors import DataError

RED, GREEN, BLUE, WHITE, BLACK = (255, 0, 0), (0, 255, 0), (0, 0, 255), (255,) * 3, (0,) * 3


def pixels(path: Path) -> list[list[tuple[int, ...]]]:
    picture = open_image(path)
    assert picture.mode == "RGB"
    return [[tuple(map(int, value)) for value in line] for line in np.asarray(picture)]


def of_values(mode: str, values: list[object]) -> Image.Image:
    """A picture one pixel high."""
    picture = Image.new(mode, (len(values), 1))
    for x, value in enumerate(values):
        picture.putpixel((x, 0), value)  # type: ignore[arg-type]
    return picture


def palette(colours: list[tuple[int, ...]]) -> Image.Image:
    picture = of_values("P", list(range(len(colours))))
    picture.putpalette([part for colour in colours for part in colour])
    return picture


MODES: dict[str, tuple[Image.Image, str, dict[str, object], list[tuple[int, ...]]]] = {
    "colours": (of_values("RGB", [RED, (1, 2, 3)]), "png", {}, [RED, (1, 2, 3)]),
    "grey": (of_values("L", [0, 77, 255]), "png", {}, [BLACK, (77, 77, 77), WHITE]),
    "black and white": (of_values("1", [0, 1]), "png", {}, [BLACK, WHITE]),
    "palette": (palette([GREEN, RED, BLUE]), "png", {}, [GREEN, RED, BLUE]),
    "palette with a see-through colour": (
        palette([GREEN, RED, BLUE]),
        "png",
        {"transparency": 1},
        [GREEN, WHITE, BLUE],
    ),
    "colours with a see-through colour": (
        of_values("RGB", [RED, BLUE]),
        "png",
        {"transparency": RED},
        [WHITE, BLUE],
    ),
    # Black that covers a fifth leaves four fifths of the white below: 0.8 * 255 = 204.
    "alpha": (
        of_values("RGBA", [(*RED, 255), (*RED, 0), (0, 0, 0, 51)]),
        "png",
        {},
        [RED, WHITE, (204, 204, 204)],
    ),
    "grey with alpha": (of_values("LA", [(0, 255), (0, 0)]), "png", {}, [BLACK, WHITE]),
    "cmyk": (
        of_values("CMYK", [(0, 255, 255, 0), (0, 0, 0, 255), (0, 0, 0, 0)]),
        "tiff",
        {},
        [RED, BLACK, WHITE],
    ),
    # 65535 / 257 = 255 and 32768 / 257 = 127.5, cut to a whole number.
    "16 bits": (
        Image.fromarray(np.array([[0, 32768, 65535]], np.uint16)),
        "png",
        {},
        [BLACK, (127,) * 3, WHITE],
    ),
    "floats between 0 and 1": (
        Image.fromarray(np.array([[0.0, 0.25, 1.0]], np.float32)),
        "tiff",
        {},
        [BLACK, (63,) * 3, WHITE],
    ),
    "floats between 0 and 255": (
        Image.fromarray(np.array([[-5.0, 99.0, 255.0]], np.float32)),
        "tiff",
        {},
        [BLACK, (99,) * 3, WHITE],
    ),
    "whole numbers of 32 bits": (
        Image.fromarray(np.array([[0, 99, 255]], np.int32)),
        "tiff",
        {},
        [BLACK, (99,) * 3, WHITE],
    ),
}


@pytest.mark.parametrize("name", MODES)
def test_every_mode_becomes_the_colours_it_shows(name: str, tmp_path: Path) -> None:
    picture, suffix, options, expected = MODES[name]
    path = tmp_path / f"a.{suffix}"
    picture.save(path, **options)
    assert pixels(path) == [expected]
    assert look_at(path).problem is None


def test_of_an_animation_the_first_frame_is_taken(tmp_path: Path) -> None:
    frames = [palette([colour] * 2) for colour in (RED, GREEN, BLUE)]
    frames[0].save(tmp_path / "a.gif", save_all=True, append_images=frames[1:], duration=50)
    with Image.open(tmp_path / "a.gif") as animation:
        assert animation.n_frames == 3
    assert pixels(tmp_path / "a.gif") == [[RED, RED]]


@pytest.mark.parametrize(
    ("orientation", "expected"),
    [
        (1, [[RED, BLUE]]),
        (2, [[BLUE, RED]]),  # mirrored
        (3, [[BLUE, RED]]),  # upside down
        (6, [[RED], [BLUE]]),  # to be turned clockwise: left becomes top
        (8, [[BLUE], [RED]]),  # to be turned the other way
    ],
)
def test_the_camera_s_orientation_is_applied(
    orientation: int, expected: list[list[tuple[int, ...]]], tmp_path: Path
) -> None:
    tags = Image.Exif()
    tags[0x0112] = orientation
    of_values("RGB", [RED, BLUE]).save(tmp_path / "a.png", exif=tags)
    assert pixels(tmp_path / "a.png") == expected


def test_broken_exif_does_not_cost_the_picture(tmp_path: Path) -> None:
    Image.new("RGB", (4, 4), RED).save(tmp_path / "a.jpg", exif=b"Exif\0\0no tags at all")
    assert look_at(tmp_path / "a.jpg").problem is None


def saved(picture: Image.Image, kind: str, **options: object) -> bytes:
    out = io.BytesIO()
    picture.save(out, kind, **options)
    return out.getvalue()


def png_that_claims(width: int, height: int) -> bytes:
    """A PNG of a few bytes whose header promises a picture of any size."""

    def chunk(kind: bytes, content: bytes) -> bytes:
        checksum = zlib.crc32(kind + content)
        return struct.pack(">I", len(content)) + kind + content + struct.pack(">I", checksum)

    header = struct.pack(">IIBBBBB", width, height, 8, 2, 0, 0, 0)
    start = b"\x89PNG\r\n\x1a\n" + chunk(b"IHDR", header)
    return start + chunk(b"IDAT", zlib.compress(bytes(10))) + chunk(b"IEND", b"")


NOISE = Image.fromarray(np.random.default_rng(0).integers(0, 256, (40, 40, 3)).astype(np.uint8))
TOO_LARGE = "the picture has more than 80 megapixels"
PROBLEMS: list[tuple[str, bytes | None, str]] = [
    ("missing", None, "the file does not exist"),
    ("empty", b"", "the file is empty"),
    ("a letter", b"Dear Sir", "the file is not a picture in a format that is known here"),
    ("a page", b"<svg onload=alert(1)>", "the file is not a picture in a format that is known"),
    ("half a PNG", saved(NOISE, "PNG")[:2000], "the picture is damaged ("),
    ("half a JPEG", saved(NOISE, "JPEG")[:700], "the picture is damaged ("),
    ("a GIF cut off", saved(NOISE.convert("P"), "GIF")[:900], "the picture is damaged ("),
    ("a TIFF cut off", saved(NOISE, "TIFF")[:900], "the picture is damaged ("),
    ("80 megapixels and some", png_that_claims(10_000, 8_001), TOO_LARGE),
    ("what Pillow warns of", png_that_claims(12_000, 10_000), TOO_LARGE),
    ("what Pillow refuses", png_that_claims(60_000, 60_000), TOO_LARGE),
]


@pytest.mark.parametrize(
    ("content", "start"), [pytest.param(*rest, id=name) for name, *rest in PROBLEMS]
)
def test_what_cannot_be_decoded_is_told_in_words(
    content: bytes | None, start: str, tmp_path: Path
) -> None:
    path = tmp_path / "a.png"
    if content is not None:
        path.write_bytes(content)
    facts = look_at(path)
    assert facts.problem is not None
    assert facts.problem.startswith(start)
    assert facts.content_hash is None
    with pytest.raises(DataError) as refused:
        open_image(path)
    assert str(refused.value) == facts.problem


def test_a_picture_of_exactly_the_limit_is_opened(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    monkeypatch.setattr(images, "MAX_PIXELS", 12)
    Image.new("RGB", (4, 3), RED).save(tmp_path / "a.png")
    Image.new("RGB", (13, 1), RED).save(tmp_path / "b.png")
    assert look_at(tmp_path / "a.png").problem is None
    assert look_at(tmp_path / "b.png").problem is not None


def test_a_file_larger_than_allowed_is_not_read(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    monkeypatch.setattr(images, "MAX_BYTES", 2**20)
    (tmp_path / "a.png").write_bytes(bytes(2**20 + 1))
    assert look_at(tmp_path / "a.png").problem == "the file is larger than 1 MB"


def test_a_folder_called_like_a_picture_is_told_in_words(tmp_path: Path) -> None:
    (tmp_path / "a.png").mkdir()
    assert look_at(tmp_path / "a.png").problem == "the file cannot be read (Is a directory)"


def test_the_suffix_does_not_matter(tmp_path: Path) -> None:
    (tmp_path / "a.jpg").write_bytes(saved(of_values("RGB", [RED]), "PNG"))
    assert pixels(tmp_path / "a.jpg") == [[RED]]


def test_facts_are_the_hash_of_the_bytes_and_the_size_in_pixels(
    tmp_path: Path, png: Callable[..., bytes]
) -> None:
    (tmp_path / "a.png").write_bytes(png(9, (7, 5)))
    facts = look_at(tmp_path / "a.png")
    assert facts.content_hash == hashlib.blake2b(png(9, (7, 5)), digest_size=16).hexdigest()
    assert (facts.width, facts.height) == (7, 5)


def test_a_file_named_twice_is_opened_once(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    opened: list[str] = []

    def remember(path: Path) -> images.ImageFacts:
        opened.append(path.name)
        return images.ImageFacts(content_hash=path.name)

    monkeypatch.setattr(images, "look_at", remember)
    a, b = tmp_path / "a", tmp_path / "b"
    facts = look_at_all([a, b, a, a])
    assert sorted(opened) == ["a", "b"]
    assert {path: fact.content_hash for path, fact in facts.items()} == {a: "a", b: "b"}


def test_a_jpeg_that_will_be_shrunk_is_decoded_small_but_not_too_small(tmp_path: Path) -> None:
    Image.new("RGB", (800, 640), (200, 100, 50)).save(tmp_path / "a.jpg")
    small = open_image(tmp_path / "a.jpg", at_least=96)
    assert small.size == (200, 160)  # a quarter; an eighth would be 80 pixels high
    middle = small.getpixel((50, 50))
    assert isinstance(middle, tuple)
    assert np.abs(np.subtract(middle, (200, 100, 50))).max() <= 3
