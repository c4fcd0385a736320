"""Mismatched pairs for data that holds only matching ones. Pure: a table in, a table out."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pandas as pd

from mmapp.data.cells import MATCH, MISMATCH
from mmapp.data.pairs import Finding, PairTable, plain
from mmapp.errors import DataError

TRIES = 50  # other texts tried for an image before it goes without a mismatched pair


def needs_negatives(table: PairTable) -> bool:
    """Does every row say match?"""
    return len(table) > 0 and set(table.frame["label"]) == {MATCH}


def with_negatives(table: PairTable, seed: int) -> PairTable:
    """Add to every pair one with the same image and another text of the same split.

    Never a true pair: neither the image nor a twin of it occurs with that text anywhere in the
    table. Within a split every text is given away at most as often as it occurs, so that the texts
    alone tell nothing. A pair for which no text is left stays without a counterpart.

    Args:
        table: rows of the task match, all of them matching, dealt to splits.
        seed: of the draw; the same table and seed give the same pairs, whatever the rows' order.

    Raises:
        DataError: not one mismatched pair can be made.
    """
    frame = table.frame
    whole = frame[frame["image"].notna() & frame["text"].notna()]
    true_of = whole.groupby("image_hash")["text"].agg(set).to_dict()
    drawn = [
        _draw(part.sort_values(["image_hash", "text"]), true_of, np.random.default_rng([seed, n]))
        for n, (_, part) in enumerate(whole.groupby("split"))
    ]
    negatives = pd.concat(drawn) if drawn else whole.iloc[:0]
    if negatives.empty:
        raise DataError(
            "Every pair is labelled match, and no mismatched pair can be made of them: every text "
            "is true of every image. Add pairs with other texts, or rows labelled mismatch."
        )
    both = plain(pd.concat([frame, negatives], ignore_index=True))
    note = f"All rows say match; {len(negatives)} mismatched pairs were drawn from the same images."
    return replace(table, frame=both).with_findings([Finding("negatives drawn", "note", note)])


def _draw(
    part: pd.DataFrame, true_of: dict[str, set[str]], rng: np.random.Generator
) -> pd.DataFrame:
    """The rows of one split, each with a text of another row, exchanged until none is true."""
    hashes, texts = part["image_hash"].to_numpy(), part["text"].to_numpy()[rng.permutation(len(part))]

    def fits(row: int, text: str) -> bool:
        return text not in true_of[hashes[row]]

    for row in range(len(part)):
        if fits(row, texts[row]):
            continue
        for other in rng.integers(len(part), size=TRIES):
            if fits(row, texts[other]) and fits(other, texts[row]):
                texts[row], texts[other] = texts[other], texts[row]
                break
    kept = [row for row in range(len(part)) if fits(row, texts[row])]
    return part.assign(text=texts, label=MISMATCH).iloc[kept]
