"""Gives each pair a side, once: seeded, stratified, twins together. Knows no file."""

from __future__ import annotations

from collections import Counter
from dataclasses import replace
from itertools import chain

import numpy as np
import pandas as pd

from mmapp.data.cells import label_names
from mmapp.data.findings import is_shared_text
from mmapp.data.pairs import Finding, PairTable
from mmapp.settings import DataSettings

# A group of twins larger than this share of the table would unbalance the splits; then only rows
# equal in both halves are kept together.
LARGEST_GROUP = 0.05


def deal(table: PairTable, settings: DataSettings) -> PairTable:
    """Fill in the splits the data does not bring.

    The user's own sides are never changed. Rows without one are dealt to train, validation and
    test; when the user has sides but one of them is empty, it is dealt out of train.
    """
    frame = table.frame
    own = frame["split"]
    wanted = {
        "validation": settings.validation_fraction,
        "test": settings.test_fraction,
    }
    missing = {side: share for side, share in wanted.items() if not (own == side).any()}
    if not table.own_split:
        open_rows, shares = own == "", wanted
    else:
        own = own.replace("", "train")
        open_rows, shares = own == "train", missing
    if not shares:
        return replace(table, frame=frame.assign(split=own))
    dealt = own.copy()
    dealt[open_rows] = stratify(frame[open_rows], shares, settings.seed)
    notes = [
        Finding("split made", "note", f"No {side} rows were marked; {share:.0%} of train was taken.")
        for side, share in missing.items()
        if table.own_split
    ]
    return replace(table, frame=frame.assign(split=dealt)).with_findings(notes)


def stratify(frame: pd.DataFrame, shares: dict[str, float], seed: int) -> pd.Series:
    """A side for every row: `shares` of the rows for the named sides, the rest for train.

    Groups of twins are visited in random order, the large ones first; each goes to the side with
    the most places still open for its labels, ties to the side that is emptiest overall. The deal
    follows from what the rows say, not from their order: the same data, shuffled, is dealt the same.

    Of a cell with several labels each counts. Sechidis et al., "On the Stratification of Multi-label
    Data", ECML PKDD 2011.
    """
    rows = frame.index
    frame = frame.sort_values(["image_hash", "text", "label"], na_position="first")
    rng = np.random.default_rng(seed)
    labels = label_names(frame["label"].fillna(""))
    members = _members(twins(frame))
    order = sorted(rng.permutation(len(members)), key=lambda g: -len(members[g]))
    sides = {"train": 1 - sum(shares.values()), **shares}
    counts = Counter(chain.from_iterable(labels))
    places = {(side, label): sides[side] * n for side in sides for label, n in counts.items()}
    taken = Counter(dict.fromkeys(sides, 0))

    def need(side: str, wanted: Counter[str]) -> tuple[float, float]:
        open_places = sum(n * places[side, label] for label, n in wanted.items())
        return round(open_places, 6), -taken[side] / sides[side]

    chosen = np.empty(len(frame), dtype=object)
    for group in order:
        wanted = Counter(chain.from_iterable(labels[row] for row in members[group]))
        side = max(sides, key=lambda s: need(s, wanted))
        chosen[members[group]] = side
        taken[side] += len(members[group])
        for label, count in wanted.items():
            places[side, label] -= count
    return pd.Series(chosen, index=frame.index).reindex(rows)


def few_shots(table: PairTable, shots: int, seed: int) -> PairTable:
    """The table with at most `shots` training pairs of each label; no other row is touched.

    Which of them stay follows from the seed and from what the rows say, not from their order. Where a
    cell holds several labels, rows with the same cell are of one kind.
    """
    train = table.frame[table.frame["split"] == "train"]
    train = train.sort_values(["image_hash", "text", "label"], na_position="first")
    drawn = train.sample(frac=1, random_state=seed)
    left_out = drawn.index[drawn.groupby("label", dropna=False).cumcount() >= shots]
    return replace(table, frame=table.frame.drop(left_out).reset_index(drop=True))


def _members(groups: np.ndarray) -> list[np.ndarray]:
    """Row positions of each group."""
    order = np.argsort(groups, kind="stable")
    return np.split(order, np.flatnonzero(np.diff(groups[order])) + 1)


def twins(frame: pd.DataFrame) -> np.ndarray:
    """Group number of every row: rows that share an image, or a text of their own, stay together."""
    image = frame["image_hash"].to_numpy(dtype=object)
    text = frame["text"].to_numpy(dtype=object)
    by_either = [image] if is_shared_text(frame["text"]) else [image, text]
    groups = _connect(by_either, len(frame))
    if len(frame) and np.bincount(groups).max() > max(LARGEST_GROUP * len(frame), 2):
        both = np.array([f"{i}\0{t}" for i, t in zip(image, text, strict=True)], dtype=object)
        groups = _connect([both], len(frame))
    return groups


def _connect(keys: list[np.ndarray], n: int) -> np.ndarray:
    """Connected components of rows that share a key in any column (union-find)."""
    parent = list(range(n))

    def root(i: int) -> int:
        while parent[i] != i:
            parent[i] = parent[parent[i]]
            i = parent[i]
        return i

    for column in keys:
        first: dict[str, int] = {}
        for i, key in enumerate(column):
            if key is not None:
                parent[root(i)] = root(first.setdefault(key, i))
    return np.unique([root(i) for i in range(n)], return_inverse=True)[1]
