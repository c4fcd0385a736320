"""Small uploads made on the spot: pictures, folders with a metadata table, zips, good rows."""

from __future__ import annotations

import csv
import io
import zipfile
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any

import pandas as pd
import pytest
from PIL import Image

from mmapp.data.pairs import PairTable, plain

Cells = Sequence[Sequence[str]]


def _png(grey: int = 0, size: tuple[int, int] = (8, 6)) -> bytes:
    out = io.BytesIO()
    Image.new("RGB", size, (grey, grey, grey)).save(out, "PNG")
    return out.getvalue()


def _csv(rows: Cells, header: Sequence[str] = ("file_name", "text", "label")) -> str:
    out = io.StringIO(newline="")
    csv.writer(out).writerows([header, *rows])
    return out.getvalue()


def _files(root: Path, contents: Mapping[str, str | bytes]) -> Path:
    for name, content in contents.items():
        path = root / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(content.encode() if isinstance(content, str) else content)
    return root


def _zip(path: Path, contents: Mapping[str, str | bytes], kind: int = zipfile.ZIP_STORED) -> Path:
    with zipfile.ZipFile(path, "w", kind) as archive:
        for name, content in contents.items():
            archive.writestr(name, content)
    return path


def _table(rows: Sequence[Mapping[str, Any]], **beside: Any) -> PairTable:
    """`image` alone is enough to name a picture: it then serves as its hash as well."""
    records = [
        {"row": i, "label": "x", "split": "", "image_hash": row.get("image"), **row}
        for i, row in enumerate(rows, start=1)
    ]
    return PairTable(plain(pd.DataFrame(records)), "made here", **beside)


@pytest.fixture
def png() -> Callable[..., bytes]:
    """png(grey, size): the bytes of a one-coloured picture; another grey is another picture."""
    return _png


@pytest.fixture
def csv_text() -> Callable[..., str]:
    """csv_text(rows, header): a metadata table as text."""
    return _csv


@pytest.fixture
def put_files() -> Callable[..., Path]:
    """put_files(root, {name: content}): write files and the folders they need."""
    return _files


@pytest.fixture
def put_zip() -> Callable[..., Path]:
    """put_zip(path, {name: content}): write a zip whose names are taken as they are."""
    return _zip


@pytest.fixture
def good_rows() -> Callable[..., PairTable]:
    """good_rows([{"image": ..., "text": ...}, ...]): a PairTable without reading any file."""
    return _table
