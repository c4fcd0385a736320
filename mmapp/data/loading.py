"""Pairs -> batches of tensors: length batching, padding, decoded images kept on disk.

The order of an epoch follows from the seed and the epoch's number alone, so that a run that was
cut off can go on in the middle of an epoch. Knows labels as numbers and no model.

Shapes: B pairs of a batch, T word pieces, S pixels.
"""

from __future__ import annotations

import shutil
import tempfile
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch.utils.data import DataLoader, Dataset

from mmapp.data.cells import words_of
from mmapp.data.images import open_image
from mmapp.data.pairs import LabelSet, PairTable
from mmapp.data.processor import UNREAD, FusionProcessor

Batch = dict[str, Any]

NOT_ASKED = -100  # in the place of a word's label; torch's own losses leave it out as well

# Batches sorted by length together: more saves padding, fewer mixes better.
SORTED_TOGETHER = 50


class ImageStore:
    """Pictures at the size the model sees, each decoded once and kept in a file on disk.

    The file is memory-mapped: the system keeps in memory what is used and drops it when memory is
    needed, so a hundred thousand pictures cost no more memory than a thousand. Processes that
    inherit the store share it.
    """

    def __init__(self, paths: Sequence[str], processor: FusionProcessor, folder: Path | None) -> None:
        self.paths = list(dict.fromkeys(paths))
        self.position = {path: i for i, path in enumerate(self.paths)}
        self.processor = processor
        side = processor.image_size
        count = max(len(self.paths), 1)
        self._keep = fits(folder, count * side * side * 3)
        self._pixels = _scratch_array(folder, (count if self._keep else 1, side, side, 3))
        self._ready = _scratch_array(folder, (count,))

    def __getitem__(self, path: str) -> np.ndarray:
        """Bytes [S,S,3]. Raises DataError when the file has gone or changed since it was checked."""
        i = self.position[path]
        if self._ready[i]:
            return self._pixels[i]
        picture = open_image(Path(path), at_least=self.processor.image_size)
        pixels = self.processor.pixels(picture)
        if self._keep:
            self._pixels[i] = pixels
            self._ready[i] = 1
        return pixels


def fits(folder: Path | None, size: int) -> bool:
    """Is there twice the room on disk? Writing to a mapped file on a full disk kills the process."""
    return shutil.disk_usage(folder or tempfile.gettempdir()).free > 2 * size


def _scratch_array(folder: Path | None, shape: tuple[int, ...]) -> np.memmap:
    """Zeros of type uint8 in a file that vanishes with the process."""
    with tempfile.TemporaryFile(dir=folder) as file:
        return np.memmap(file, np.uint8, mode="w+", shape=shape)


@dataclass(frozen=True)
class Asked:
    """What is asked of each of N rows, and the answer where it is known.

    Attributes:
        labels: a class number a row, or a list of ones and zeros, or a class number for each word.
        starts: for the task tag, the first word piece of each word.
    """

    labels: list[Any] | None = None
    starts: list[list[int]] | None = None

    def of(self, rows: Sequence[int]) -> Batch:
        """labels [B], [B,C] or [B,W] as far as they are known, and word_starts [B,W] of a tag task.

        Rows are padded to W words; a word that no row has, or that the model does not see, has the
        start UNREAD, and as its label NOT_ASKED.
        """
        if self.starts is None:
            known = self.labels
            return {} if known is None else {"labels": torch.tensor([known[i] for i in rows])}
        starts = _padded([self.starts[i] for i in rows], UNREAD)
        if self.labels is None:
            return {"word_starts": starts}
        labels = _padded([self.labels[i] for i in rows], NOT_ASKED)
        return {"word_starts": starts, "labels": labels.masked_fill(starts == UNREAD, NOT_ASKED)}


def _padded(rows: Sequence[Sequence[int]], fill: int) -> torch.Tensor:
    longest = max(map(len, rows))
    return torch.tensor([[*row, *[fill] * (longest - len(row))] for row in rows]).long()


class PairDataset(Dataset):
    """Row number -> one example: ids, pixels (bytes), presence and label, not yet padded.

    Args:
        table: good rows.
        processor: makes ids and pixels.
        labels: numbers the labels; None for rows that have none.
        of_words: each word of a text is asked about.
        folder: where decoded images are kept; the system's temporary folder by default.
    """

    def __init__(
        self,
        table: PairTable,
        processor: FusionProcessor,
        labels: LabelSet | None = None,
        folder: Path | None = None,
        *,
        of_words: bool = False,
    ) -> None:
        self.processor = processor
        self.texts = table.frame["text"].tolist()
        starts = None
        if of_words:
            words = [words_of(text or "") for text in self.texts]
            self.texts = [" ".join(some) or None for some in words]
            starts = processor.word_starts(words)
        self.images = table.frame["image"].tolist()
        self.image_hashes = table.frame["image_hash"].tolist()
        self.own_split = table.own_split
        self.halves = table.halves()
        self.ids = _ids(self.texts, processor)
        self.store = ImageStore([path for path in self.images if path], processor, folder)
        self.asked = Asked(None if labels is None else _targets(table, labels), starts)

    @property
    def labels(self) -> list[Any] | None:
        return self.asked.labels

    def __len__(self) -> int:
        return len(self.texts)

    def __getitem__(self, i: int) -> dict[str, Any]:
        path = self.images[i]
        return {
            "index": i,
            "ids": self.ids[i],
            "pixels": self.store[path] if path else self.processor.pixels(None),
            "present": (self.texts[i] is not None, path is not None),
        }

    def collate(self, examples: list[dict[str, Any]]) -> Batch:
        """Examples -> input_ids [B,T], attention_mask [B,T], pixel_values [B,3,S,S], index [B],
        present [B,2] unless every half is there, and what is asked."""
        pixels = np.stack([example["pixels"] for example in examples])
        rows = [example["index"] for example in examples]
        batch: Batch = {
            "index": torch.tensor(rows),
            **self.asked.of(rows),
            **self.processor.pad([example["ids"] for example in examples]),
            "pixel_values": self.processor.normalise(torch.from_numpy(pixels)),
        }
        present = torch.tensor([example["present"] for example in examples])
        if not present.all():
            batch["present"] = present
        return batch


def _targets(table: PairTable, labels: LabelSet) -> list[Any]:
    """What a model is to say of each row."""
    cells = table.frame["label"].tolist()
    known = {cell: labels.target(cell) for cell in dict.fromkeys(cells)}
    return [known[cell] for cell in cells]


def _ids(texts: list[str | None], processor: FusionProcessor) -> list[list[int]]:
    """Ids of every text; equal texts are read once."""
    distinct = list(dict.fromkeys(text or "" for text in texts))
    known = dict(zip(distinct, processor.ids(distinct), strict=True)) if distinct else {}
    return [known[text or ""] for text in texts]


@dataclass(frozen=True)
class Shard:
    """Which part of every batch this process works on: `rank` of `world`."""

    rank: int = 0
    world: int = 1

    def of(self, rows: list[int]) -> list[int]:
        """This process's rows; a batch smaller than the world is worked on whole by everybody."""
        return rows[self.rank :: self.world] if len(rows) >= self.world else rows


class PairLoader:
    """Batches of a dataset, epoch by epoch.

    Args:
        dataset: has `ids` (their lengths order the batches), `__getitem__` and `collate`.
        batch_size: pairs of a batch over all processes together.
        shuffle: train order (seeded, mixed) or table order grouped by length (evaluation).
        seed: start of the order.
        modality_dropout: share of the rows shown with one half hidden, one coin a row, never both.
        workers: processes that prepare batches ahead; 0 prepares them in this one.
    """

    def __init__(
        self,
        dataset: PairDataset,
        batch_size: int,
        *,
        shuffle: bool = False,
        seed: int = 0,
        modality_dropout: float = 0.0,
        workers: int = 0,
    ) -> None:
        self.dataset: Any = dataset  # or what stands in its place, see training/feature_cache.py
        self.batch_size = batch_size
        self.shuffle = shuffle
        self.seed = seed
        self.modality_dropout = modality_dropout
        self.workers = workers

    def __len__(self) -> int:
        """Batches of an epoch."""
        return -(-len(self.dataset) // self.batch_size)

    def batches(self, epoch: int = 0, skip: int = 0, shard: Shard | None = None) -> Iterator[Batch]:
        """The batches of an epoch from batch `skip` on; `size` is the whole batch's pair count."""
        plan = self.plan(epoch)[skip:]
        own = [(shard or Shard()).of(rows) for rows in plan]
        loader = DataLoader(
            self.dataset,
            batch_sampler=own,
            collate_fn=self.dataset.collate,
            num_workers=self.workers,
            # Without its own generator the loader would draw from torch's global one at every epoch,
            # and a resumed run would see other random numbers than an uninterrupted one.
            generator=torch.Generator().manual_seed(self.seed),
        )
        for number, (batch, rows) in enumerate(zip(loader, plan, strict=True), start=skip):
            batch["size"] = len(rows)
            if self.modality_dropout:
                self._hide(batch, epoch, number, (shard or Shard()).rank)
            yield batch

    def plan(self, epoch: int) -> list[list[int]]:
        """Row numbers of every batch of an epoch, rows of similar length together."""
        lengths = np.array([len(ids) for ids in self.dataset.ids])
        if not self.shuffle:
            return _cut(np.argsort(lengths, kind="stable"), self.batch_size)
        rng = np.random.default_rng([self.seed, epoch])
        order = rng.permutation(len(lengths))
        batches = []
        for rows in _cut(order, self.batch_size * SORTED_TOGETHER):
            by_length = np.array(rows)[np.argsort(lengths[rows], kind="stable")]
            batches += _cut(by_length, self.batch_size)
        return [batches[i] for i in rng.permutation(len(batches))]

    def _hide(self, batch: Batch, epoch: int, number: int, rank: int) -> None:
        """Modality dropout: hide one half of some rows; the coins follow from seed and position."""
        count = len(batch["index"])
        rng = np.random.default_rng([self.seed, epoch, number, rank, 1])
        hidden = torch.from_numpy(rng.random(count) < self.modality_dropout)
        half = torch.from_numpy(rng.integers(2, size=count))
        if "word_starts" in batch:
            half = torch.ones_like(half)  # without its text there is nothing to ask about
        present = batch.get("present", torch.ones(count, 2, dtype=torch.bool))
        hidden &= present.all(dim=1)
        if hidden.any():
            present = present.clone()
            present[hidden, half[hidden]] = False
            batch["present"] = present


def _cut(rows: Any, size: int) -> list[list[int]]:
    return [list(map(int, rows[start : start + size])) for start in range(0, len(rows), size)]
