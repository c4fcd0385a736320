"""What frozen encoders are to read: each distinct text or picture once, in batches that recur.

Knows no encoder. A text is told from all others by its ids, a picture by the bytes of its file.
"""

from __future__ import annotations

import hashlib
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch

from mmapp.data.images import content_hash
from mmapp.data.loading import ImageStore, PairDataset
from mmapp.errors import DataError

AT_ONCE = 64  # most texts or pictures of a batch
USUAL = 32  # and how many there usually are, or a little less

Key = bytes


@dataclass(frozen=True)
class Inputs:
    """The distinct texts, or the distinct pictures, of several datasets.

    Attributes:
        keys: [U] what tells each from all others.
        lengths: [U] tokens of each; empty where only the encoder knows how many it makes.
        recipe: how they are prepared, as far as the keys do not say.
        batch: numbers of some -> the encoder's inputs.
        side: of a picture, in pixels.
    """

    keys: list[Key]
    lengths: list[int]
    recipe: dict[str, Any]
    batch: Callable[[Sequence[int]], tuple[torch.Tensor, ...]]
    side: int = 1

    def batches(self) -> Iterator[list[int]]:
        """Numbers of all inputs, those of like length together.

        Where a batch ends is for its last member to say (content-defined chunks: Muthitacharoen et
        al., "A Low-Bandwidth Network File System", SOSP 2001). So a new input changes the
        one batch it falls into, and all others are met again in the next run.
        """
        lengths = self.lengths or [0] * len(self.keys)
        batch: list[int] = []
        for i in sorted(range(len(self.keys)), key=lambda i: (lengths[i], self.keys[i])):
            batch.append(i)
            if len(batch) == AT_ONCE or self.keys[i][-1] % USUAL == 0:
                yield batch
                batch = []
        if batch:
            yield batch


def text_inputs(datasets: Sequence[PairDataset]) -> Inputs:
    """The texts of datasets that share one processor."""
    ids_of = {
        key: ids
        for dataset in datasets
        for key, ids in zip(text_keys(dataset), dataset.ids, strict=True)
        if key is not None
    }
    rows, processor = list(ids_of.values()), datasets[0].processor
    return Inputs(
        keys=list(ids_of),
        lengths=[len(ids) for ids in rows],
        recipe={"fill": processor.tokenizer.pad_token_id},
        batch=lambda some: tuple(processor.pad([rows[i] for i in some]).values()),
    )


def image_inputs(datasets: Sequence[PairDataset]) -> Inputs:
    """The pictures of datasets that share one processor."""
    source_of = {
        key: (key, dataset.store, path)
        for dataset in datasets
        for key, path in zip(image_keys(dataset), dataset.images, strict=True)
        if key is not None
    }
    sources, processor = list(source_of.values()), datasets[0].processor

    def batch(some: Sequence[int]) -> tuple[torch.Tensor]:
        pixels = np.stack([_unchanged(*sources[i]) for i in some])
        return (processor.normalise(torch.from_numpy(pixels)),)

    recipe = {
        "side": processor.image_size, "mean": processor.image_mean, "std": processor.image_std
    }  # fmt: skip
    return Inputs(list(source_of), [], recipe, batch, processor.image_size)


def text_keys(dataset: PairDataset) -> list[Key | None]:
    """Of every row; None for an absent text."""
    return [
        None if text is None else _digest(np.array(ids, np.int64).tobytes())
        for text, ids in zip(dataset.texts, dataset.ids, strict=True)
    ]


def image_keys(dataset: PairDataset) -> list[Key | None]:
    """Of every row; None for an absent picture."""
    return [
        None if path is None else _digest((known or content_hash(Path(path))).encode())
        for path, known in zip(dataset.images, dataset.image_hashes, strict=True)
    ]


def _unchanged(key: Key, store: ImageStore, path: str) -> np.ndarray:
    """The picture's bytes [S,S,3]. Raises DataError when the file is no longer what its key says."""
    if _digest(content_hash(Path(path)).encode()) != key:
        raise DataError(
            f"Image {Path(path).name} has changed since the data was read. Start a new run."
        )
    return store[path]


def _digest(content: bytes) -> Key:
    return hashlib.blake2b(content, digest_size=16).digest()


INPUTS = {"text": text_inputs, "image": image_inputs}
KEYS = {"text": text_keys, "image": image_keys}
