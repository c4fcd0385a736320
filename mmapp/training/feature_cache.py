"""Frozen encoders' outputs, computed once and memory-mapped, served as batches like any other.

A text or picture that occurs in many pairs is encoded once. Features are kept as the encoder gives
them, before the projections, which still learn.

Shapes: U distinct texts or pictures, T word pieces, P image positions, D an encoder's own width.
"""

from __future__ import annotations

import tempfile
import time
from collections.abc import Callable, Generator, Iterator, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import nn
from torch.utils.data import Dataset

from mmapp.data.loading import Batch, PairDataset, PairLoader
from mmapp.device import autocast
from mmapp.models.encoders import Encoding
from mmapp.models.model import FusionModel
from mmapp.models.tuning import encoders
from mmapp.training.history import Event

AT_ONCE = 32  # texts or pictures encoded together
REPORT_SECONDS = 0.5


class FeatureStore:
    """Features of one modality: pooled [U,D], and tokens laid end to end with their offsets.

    Tokens are kept in half precision: they are most of the bytes, and a layer norm reads them first.
    """

    def __init__(self, lengths: Sequence[int], width: int, tokens: bool, folder: Path | None) -> None:
        """Room for features whose texts or pictures have `lengths` tokens."""
        self.offsets = np.concatenate([[0], np.cumsum(lengths, dtype=np.int64)])
        self.width = width
        self.pooled = _array(folder, (len(lengths), width), np.float32)
        self.tokens = _array(folder, (int(self.offsets[-1]), width), np.float16) if tokens else None

    def put(self, rows: Sequence[int], encoding: Encoding) -> None:
        """Keep the encoding of the texts or pictures numbered `rows`."""
        self.pooled[rows] = encoding.pooled.float().cpu().numpy()
        if self.tokens is not None:
            values = encoding.tokens.half().cpu().numpy()
            for row, kept, mask in zip(rows, values, encoding.mask.cpu().numpy(), strict=True):
                self.tokens[self.offsets[row] : self.offsets[row + 1]] = kept[mask]

    def get(self, rows: np.ndarray) -> Encoding:
        """The encodings of `rows`, padded to the longest; row -1 is an absent half, all zeros."""
        pooled = np.zeros((len(rows), self.width), np.float32)
        there = rows >= 0
        pooled[there] = self.pooled[rows[there]]
        whole = torch.from_numpy(pooled)
        if self.tokens is None:
            # Fusions that look only at `pooled` still get the shape they were promised.
            return Encoding(whole, whole.unsqueeze(1), torch.ones(len(rows), 1, dtype=torch.bool))
        lengths = np.where(there, self.offsets[rows + 1] - self.offsets[rows], 1)
        tokens = np.zeros((len(rows), lengths.max(), self.width), np.float32)
        mask = np.arange(lengths.max()) < lengths[:, None]
        for i in np.flatnonzero(there):
            tokens[i, : lengths[i]] = self.tokens[self.offsets[rows[i]] : self.offsets[rows[i] + 1]]
        return Encoding(whole, torch.from_numpy(tokens), torch.from_numpy(mask))


def _array(folder: Path | None, shape: tuple[int, ...], dtype: Any) -> np.ndarray:
    if 0 in shape:
        return np.zeros(shape, dtype)
    with tempfile.TemporaryFile(dir=folder) as file:
        return np.memmap(file, dtype, mode="w+", shape=shape)


class FeatureDataset(Dataset):
    """Stands in for a PairDataset: same rows, same order of batches, features instead of inputs."""

    def __init__(self, pairs: PairDataset, stores: dict[str, tuple[FeatureStore, np.ndarray]]) -> None:
        self.ids = pairs.ids
        self.labels = None if pairs.labels is None else torch.tensor(pairs.labels)
        self.present = torch.tensor(
            [[t is not None, i is not None] for t, i in zip(pairs.texts, pairs.images, strict=True)]
        )
        self.stores = stores

    def __len__(self) -> int:
        return len(self.ids)

    def __getitem__(self, i: int) -> int:
        return i

    def collate(self, rows: list[int]) -> Batch:
        """Row numbers -> encodings, present [B,2] unless every half is there, labels [B], index [B]."""
        batch: Batch = {
            "index": torch.tensor(rows),
            "encodings": {
                modality: store.get(position[rows])
                for modality, (store, position) in self.stores.items()
            },
        }
        if not self.present[rows].all():
            batch["present"] = self.present[rows]
        if self.labels is not None:
            batch["labels"] = self.labels[rows]
        return batch


class _Inputs:
    """Distinct texts or pictures of several datasets: their numbers, lengths and batches."""

    def __init__(self, number: dict[Any, int], lengths: list[int], batch: Callable) -> None:
        self.number = number
        self.lengths = lengths
        self.batch = batch  # row numbers -> the encoder's inputs


def _text_inputs(datasets: Sequence[PairDataset]) -> _Inputs:
    processor = datasets[0].processor
    ids = {t: i for d in datasets for t, i in zip(d.texts, d.ids, strict=True) if t is not None}
    rows = list(ids.values())
    return _Inputs(
        {text: i for i, text in enumerate(ids)},
        [len(row) for row in rows],
        lambda some: tuple(processor.pad([rows[i] for i in some]).values()),
    )


def _image_inputs(datasets: Sequence[PairDataset]) -> _Inputs:
    store_of = {path: d.store for d in datasets for path in d.images if path}
    paths = list(store_of)
    processor = datasets[0].processor

    def batch(some: Sequence[int]) -> tuple[torch.Tensor]:
        pixels = np.stack([store_of[paths[i]][paths[i]] for i in some])
        return (processor.normalise(torch.from_numpy(pixels)),)

    # How many positions an image has is known only once one has been encoded.
    return _Inputs({path: i for i, path in enumerate(paths)}, [], batch)


class FeatureCache:
    """Computes the features of loaders' pairs and puts them in the place of their datasets.

    Args:
        model: its encoders are frozen; already on `device`.
        device: where the encoders run.
        precision: "fp32", "bf16" or "fp16" while they do.
        folder: where features are kept; the system's temporary folder when None.
        should_stop: asked before every batch.
    """

    def __init__(
        self,
        model: FusionModel,
        *,
        device: torch.device,
        precision: str = "fp32",
        folder: Path | None = None,
        should_stop: Callable[[], bool] = lambda: False,
    ) -> None:
        self.model = model
        self.device = device
        self.precision = precision
        self.folder = folder
        self.should_stop = should_stop

    def fill(self, loaders: Sequence[PairLoader]) -> Iterator[Event]:
        """Yields "encoded" events; when stopped it ends early and changes nothing."""
        datasets = [loader.dataset for loader in loaders]
        stores: dict[str, tuple[FeatureStore, dict[Any, int]]] = {}
        for modality, encoder in encoders(self.model).items():
            inputs = _text_inputs(datasets) if modality == "text" else _image_inputs(datasets)
            store = yield from self._encode(modality, encoder.eval(), inputs)
            if store is None:
                return
            stores[modality] = (store, inputs.number)
        for loader, dataset in zip(loaders, datasets, strict=True):
            loader.dataset = FeatureDataset(dataset, _positions(dataset, stores))

    @torch.inference_mode()
    def _encode(
        self, modality: str, encoder: nn.Module, inputs: _Inputs
    ) -> Generator[Event, None, FeatureStore | None]:
        """Encode every text or picture once; gives None when stopped."""
        total = len(inputs.number)
        width = getattr(self.model.config, f"{modality}_width")
        tokens = self.model.fusion.needs_tokens
        store = None if total else FeatureStore([], width, tokens, self.folder)
        order = np.argsort(inputs.lengths, kind="stable") if inputs.lengths else np.arange(total)
        begun = told = time.monotonic()
        for start in range(0, total, AT_ONCE):
            if self.should_stop():
                return None
            rows = [int(i) for i in order[start : start + AT_ONCE]]
            with autocast(self.device, self.precision):
                encoding = encoder(*(value.to(self.device) for value in inputs.batch(rows)))
            if store is None:
                lengths = inputs.lengths or [encoding.tokens.shape[1]] * total
                store = FeatureStore(lengths, width, tokens, self.folder)
            store.put(rows, encoding)
            done, now = start + len(rows), time.monotonic()
            if now - told >= REPORT_SECONDS or done == total:
                told = now
                values = {"modality": modality, "done": done, "total": total}
                yield Event("encoded", {**values, "per_second": round(done / (now - begun), 1)})
        return store


def _positions(
    dataset: PairDataset, stores: dict[str, tuple[FeatureStore, dict[Any, int]]]
) -> dict[str, tuple[FeatureStore, np.ndarray]]:
    """For every row of the dataset, where its features stand; -1 for an absent half."""
    keys = {"text": dataset.texts, "image": dataset.images}
    return {
        modality: (store, np.array([-1 if k is None else number[k] for k in keys[modality]]))
        for modality, (store, number) in stores.items()
    }
