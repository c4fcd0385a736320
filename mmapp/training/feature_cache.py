"""Frozen encoders' outputs, computed once and memory-mapped, served as batches like any other.

A text or picture that occurs in many pairs is encoded once. Features are kept as the encoder gives
them, before the projections, which still learn. The memory maps are this run's own, and vanish with
it; what was computed is also remembered for later runs, by `remembered`.

Shapes: U distinct texts or pictures, T tokens of one, D an encoder's own width.
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

from mmapp.data.ingest import home
from mmapp.data.loading import Batch, PairDataset, PairLoader, Shard, fits
from mmapp.models.encoders import Encoding
from mmapp.models.model import FusionModel
from mmapp.models.tuning import encoders
from mmapp.training.encoder_inputs import INPUTS, KEYS, Inputs, Key
from mmapp.training.history import Event
from mmapp.training.kept_arrays import KeptArrays
from mmapp.training.remembered import Features, RememberingEncoder

REPORT_SECONDS = 0.5

NOT_KEPT = (
    "The encoders' features could not be kept for later runs ({}). This run goes on with those it has."
)
NO_ROOM = (
    "The disk has no room for the encoders' features, so they are computed anew in every epoch, "
    "which takes longer."
)


class FeatureStore:
    """Features of one modality: pooled [U,D], and tokens laid end to end with their offsets."""

    def __init__(self, lengths: Sequence[int], width: int, tokens: bool, folder: Path | None) -> None:
        """Room for features whose texts or pictures have `lengths` tokens."""
        self.offsets = np.concatenate([[0], np.cumsum(lengths, dtype=np.int64)])
        self.width = width
        self.pooled = _array(folder, (len(lengths), width), np.float32)
        self.tokens = _array(folder, (int(self.offsets[-1]), width), np.float16) if tokens else None

    @staticmethod
    def room(lengths: Sequence[int], width: int, tokens: bool) -> int:
        """Bytes that such a store takes."""
        return 4 * len(lengths) * width + (2 * sum(lengths) * width if tokens else 0)

    def put(self, rows: Sequence[int], features: Features) -> None:
        """Keep the features of the texts or pictures numbered `rows`."""
        self.pooled[rows] = features.pooled
        if self.tokens is None or features.tokens is None:
            return
        end = 0
        for row in rows:
            start, end = end, end + self.offsets[row + 1] - self.offsets[row]
            self.tokens[self.offsets[row] : self.offsets[row + 1]] = features.tokens[start:end]

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
        self.asked = pairs.asked
        self.present = torch.tensor(
            [[t is not None, i is not None] for t, i in zip(pairs.texts, pairs.images, strict=True)]
        )
        self.stores = stores

    @property
    def labels(self) -> list[Any] | None:
        return self.asked.labels

    def __len__(self) -> int:
        return len(self.ids)

    def __getitem__(self, i: int) -> int:
        return i

    def collate(self, rows: list[int]) -> Batch:
        """Row numbers -> encodings, index [B], present [B,2] unless every half is there, and what is
        asked."""
        batch: Batch = {
            "index": torch.tensor(rows),
            **self.asked.of(rows),
            "encodings": {
                modality: store.get(position[rows])
                for modality, (store, position) in self.stores.items()
            },
        }
        if not self.present[rows].all():
            batch["present"] = self.present[rows]
        return batch


class FeatureCache:
    """Gathers the features of loaders' pairs and puts them in the place of their datasets.

    Args:
        model: its encoders are frozen; already on `device`.
        device: where the encoders run.
        precision: "fp32", "bf16" or "fp16" while they do.
        folder: where features are kept for later runs; `features_home()` when None.
        shard: this process among those that do the same at the same time.
        should_stop: asked before every batch.
    """

    def __init__(
        self,
        model: FusionModel,
        *,
        device: torch.device,
        precision: str = "fp32",
        folder: Path | None = None,
        shard: Shard | None = None,
        should_stop: Callable[[], bool] = lambda: False,
    ) -> None:
        self.model = model
        self.device = device
        self.precision = precision
        self.kept = KeptArrays(folder or features_home())
        self.shard = shard or Shard()
        self.should_stop = should_stop
        self.tokens = model.fusion.needs_tokens or model.of_words

    def fill(
        self, loaders: Sequence[PairLoader], beside: Sequence[PairLoader] = ()
    ) -> Iterator[Event]:
        """Yields "encoded" and "warning" events; when stopped, or when the disk has no room for the
        maps, it ends early and changes nothing.

        Args:
            loaders: whose datasets are replaced.
            beside: whose pairs are encoded with theirs. Batches recur in the next run only where
                the same pairs are in them, so pairs that another deal would exchange belong here.
        """
        datasets = [loader.dataset for loader in (*loaders, *beside)]
        stores: dict[str, tuple[FeatureStore, dict[Key, int]]] = {}
        for modality, encoder in encoders(self.model).items():
            inputs = INPUTS[modality](datasets)
            store = yield from self._encode(modality, encoder.eval(), inputs)
            if store is None:
                return
            stores[modality] = (store, {key: i for i, key in enumerate(inputs.keys)})
        if self.kept.problem:
            yield Event("warning", {"message": NOT_KEPT.format(self.kept.problem)})
        for loader in loaders:
            loader.dataset = FeatureDataset(loader.dataset, _positions(loader.dataset, stores))

    def _encode(
        self, modality: str, encoder: nn.Module, inputs: Inputs
    ) -> Generator[Event, None, FeatureStore | None]:
        """Every text or picture once; gives None when stopped or without room."""
        ask = RememberingEncoder(
            encoder,
            inputs,
            self.kept,
            tokens=self.tokens,
            device=self.device,
            precision=self.precision,
        )
        total, done = len(inputs.keys), 0
        store = None if total else self._store(modality, [])
        begun = told = time.monotonic()
        for rows in self._own_first(list(inputs.batches())):
            if self.should_stop():
                return None
            features = ask.features(rows)
            store = store or self._store(modality, inputs.lengths or _even(features, total))
            if store is None:
                yield Event("warning", {"message": NO_ROOM})
                return None
            store.put(rows, features)
            done, now = done + len(rows), time.monotonic()
            if now - told >= REPORT_SECONDS or done == total:
                told = now
                values = {"modality": modality, "done": done, "total": total, "found": ask.found}
                yield Event("encoded", {**values, "per_second": round(done / (now - begun), 1)})
        return store

    def _store(self, modality: str, lengths: Sequence[int]) -> FeatureStore | None:
        """Room for the features; None where the disk has none."""
        width = getattr(self.model.config, f"{modality}_width")
        if not fits(None, FeatureStore.room(lengths, width, self.tokens)):
            return None
        return FeatureStore(lengths, width, self.tokens, None)

    def _own_first(self, batches: list[list[int]]) -> list[list[int]]:
        """Each process begins elsewhere, and comes to find what the others have kept meanwhile."""
        start = len(batches) * self.shard.rank // self.shard.world
        return batches[start:] + batches[:start]


def features_home() -> Path:
    """Where features are kept when nobody names a folder."""
    return home() / "features"


def _even(features: Features, total: int) -> list[int]:
    """Pictures of one size all have as many positions."""
    count = 1 if features.tokens is None else len(features.tokens) // len(features.pooled)
    return [count] * total


def _positions(
    dataset: PairDataset, stores: dict[str, tuple[FeatureStore, dict[Key, int]]]
) -> dict[str, tuple[FeatureStore, np.ndarray]]:
    """For every row of the dataset, where its features stand; -1 for an absent half."""
    return {
        modality: (
            store,
            np.array([-1 if key is None else number[key] for key in KEYS[modality](dataset)]),
        )
        for modality, (store, number) in stores.items()
    }
