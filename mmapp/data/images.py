"""One file of unknown manners -> one RGB picture, or a sentence why not. Imports no torch.

Every kind of picture becomes RGB on purpose: EXIF orientation is applied, transparency is laid on
white, CMYK and palettes are converted, 16-bit greys are scaled, and of an animation the first
frame is taken.
"""

from __future__ import annotations

import hashlib
import io
import os
from collections.abc import Iterable
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from PIL import Image, ImageOps, UnidentifiedImageError

from mmapp.errors import DataError

SUFFIXES = frozenset(
    ".jpg .jpeg .jpe .jfif .png .gif .bmp .webp .tif .tiff .ppm .pgm .pbm .avif".split()
)

# What a decoder can be asked to do at most: a picture of 80 megapixels needs 240 MB once decoded.
MAX_PIXELS = 80_000_000
MAX_BYTES = 200 * 2**20


@dataclass(frozen=True)
class ImageFacts:
    """What looking at a file once tells: its content's hash and size in pixels, or what is wrong."""

    content_hash: str | None = None
    width: int = 0
    height: int = 0
    problem: str | None = None


def open_image(path: Path, at_least: int | None = None) -> Image.Image:
    """The file as an RGB picture.

    Args:
        path: image file of any kind Pillow reads.
        at_least: side in pixels below which the picture will not be used; JPEG files are then
            decoded at a smaller scale, which is several times faster.

    Raises:
        DataError: the file is missing, not a picture, damaged, or too large to decode safely.
    """
    return _decode(_read(path), at_least)


def look_at(path: Path) -> ImageFacts:
    """Decode the file once and say what it is. Never raises for what the file contains."""
    try:
        content = _read(path)
        image = _opened(content)
        width, height = image.size
        _decode(content, at_least=64)
    except DataError as error:
        return ImageFacts(problem=str(error))
    return ImageFacts(_digest(content), width, height)


def content_hash(path: Path) -> str:
    """Hash of the file's bytes, as `look_at` tells it. Raises DataError when it cannot be read."""
    return _digest(_read(path))


def look_at_all(paths: Iterable[Path]) -> dict[Path, ImageFacts]:
    """`look_at` for many files, on every core; a file named twice is opened once."""
    unique = list(dict.fromkeys(paths))
    # Pillow releases the interpreter lock while it decodes.
    with ThreadPoolExecutor(os.cpu_count() or 1) as pool:
        return dict(zip(unique, pool.map(look_at, unique), strict=True))


def _read(path: Path) -> bytes:
    try:
        if path.stat().st_size > MAX_BYTES:
            raise DataError(f"the file is larger than {MAX_BYTES // 2**20} MB")
        return path.read_bytes()
    except FileNotFoundError:
        raise DataError("the file does not exist") from None
    except OSError as error:
        raise DataError(f"the file cannot be read ({error.strerror or error})") from None


def _digest(content: bytes) -> str:
    return hashlib.blake2b(content, digest_size=16).hexdigest()


def _opened(content: bytes) -> Image.Image:
    too_large = f"the picture has more than {MAX_PIXELS // 10**6} megapixels"
    try:
        image = Image.open(io.BytesIO(content))
    except UnidentifiedImageError:
        what = "empty" if not content else "not a picture in a format that is known here"
        raise DataError(f"the file is {what}") from None
    except (Image.DecompressionBombError, Image.DecompressionBombWarning):
        raise DataError(too_large) from None
    except Exception as error:  # on hostile bytes Pillow's parsers raise nearly anything
        raise DataError(f"the picture is damaged ({error})") from None
    if image.width * image.height > MAX_PIXELS:
        raise DataError(too_large)
    return image


def _decode(content: bytes, at_least: int | None) -> Image.Image:
    image = _opened(content)
    try:
        if at_least:
            image.draft("RGB", (at_least, at_least))
        image.load()
        return to_rgb(ImageOps.exif_transpose(image))
    except Exception as error:  # on hostile bytes Pillow's decoders raise nearly anything
        raise DataError(f"the picture is damaged ({error})") from None


def to_rgb(image: Image.Image) -> Image.Image:
    """Any Pillow mode -> RGB: transparency on white, 16-bit and float greys scaled to 8 bits."""
    if image.mode == "RGB" and "transparency" not in image.info:
        return image
    if image.mode in ("I", "F") or image.mode.startswith("I;16"):
        values = np.asarray(image, dtype=np.float32)
        # Floats are mostly written between 0 and 1; a file's mode does not tell.
        tops = (1.0, 255.0) if image.mode == "F" else (255.0,)
        top = next((top for top in tops if values.max(initial=0) <= top), 65535.0)
        grey = (values.clip(0, top) * (255.0 / top)).astype(np.uint8)
        return Image.fromarray(grey).convert("RGB")
    if image.mode in ("RGBA", "LA", "PA", "La", "RGBa") or "transparency" in image.info:
        layered = image.convert("RGBA")
        paper = Image.new("RGBA", layered.size, "white")
        return Image.alpha_composite(paper, layered).convert("RGB")
    return image.convert("RGB")
