"""Does an aligned model find a text's image among all others, and an image's text? Plain arrays.

Shapes: N rows, D the width of the joint space, Q what is asked with, C candidates, P distinct pairs.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import Any

import numpy as np

from mmapp.data.labels import belonging
from mmapp.evaluation.metrics import bootstrap
from mmapp.evaluation.outputs import Outputs

DEPTHS = (1, 5)
AT_ONCE = 1024  # rows compared with all candidates


def retrieval_report(outputs: Outputs, halves: np.ndarray, task: str) -> dict[str, Any]:
    """`retrieval`, as part of a report; empty where the model is not aligned or no row has a label.

    Args:
        outputs: what the model said about N rows.
        halves: [N,2] numbers of their distinct texts and pictures, as `PairTable.halves` gives them.
        task: the model's.
    """
    if outputs.joint is None or outputs.labels is None:
        return {}
    return {"retrieval": retrieval(outputs.joint, halves, belonging(outputs.labels, task))}


def retrieval(joint: np.ndarray, halves: np.ndarray, belong: np.ndarray) -> dict[str, Any]:
    """Recall at 1 and at 5, in both directions.

    Each distinct text (or image) asks once, all distinct images (or texts) are candidates, and any that
    stands in a pair with it counts as found; what else may be true of it does not. A candidate as alike
    as a true one comes before it.

    Args:
        joint: [N,2,D] text and image; absent halves are zeros.
        halves: [N,2] numbers of the distinct texts and pictures.
        belong: [N] rows whose text and image belong together; the others do not count.

    Returns:
        Plain values: `pairs`, the number of distinct ones with both halves, and, if there is any, for
        `text_to_image` and `image_to_text` what `recall` gives.
    """
    present = np.asarray(joint.any(axis=-1))
    counted = belong & present.all(axis=1)
    joint, halves = joint[counted], halves[counted]
    (texts, own_text), (images, own_image) = (_numbered(column) for column in halves.T)
    pairs = np.unique(np.stack([own_text, own_image], axis=1), axis=0)
    if not len(pairs):
        return {"pairs": 0}
    of_text, of_image = joint[texts, 0], joint[images, 1]
    return {
        "pairs": len(pairs),
        "text_to_image": recall(of_text, of_image, pairs),
        "image_to_text": recall(of_image, of_text, pairs[:, ::-1]),
    }


def recall(asking: np.ndarray, candidates: np.ndarray, pairs: np.ndarray) -> dict[str, Any]:
    """Share of those asking that find a partner among the first candidates.

    Args:
        asking: [Q,D].
        candidates: [C,D].
        pairs: [P,2] who asking belongs to which candidate; everybody has one at least.

    Returns:
        Plain values: `recall@1` and `recall@5`; `chance@1` and `chance@5`, what candidates in random
        order would reach; `interval`, 95 % of recall@1; the numbers of `asked` and `candidates`.
    """
    before = _before(asking, candidates, pairs)
    partners = np.bincount(pairs[:, 0], minlength=len(asking)).tolist()
    first = before < 1
    interval = bootstrap(first, first, lambda found, _: float(found.mean()))
    return {
        "asked": len(asking),
        "candidates": len(candidates),
        **{f"recall@{depth}": float((before < depth).mean()) for depth in DEPTHS},
        **{f"chance@{depth}": _chance(partners, len(candidates), depth) for depth in DEPTHS},
        "interval": list(interval),
    }


def _numbered(column: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """A row that has each distinct half, and the number of every row's among them."""
    _, rows, own = np.unique(column, return_index=True, return_inverse=True)
    return rows, own


def _before(asking: np.ndarray, candidates: np.ndarray, pairs: np.ndarray) -> np.ndarray:
    """[Q]: how many strangers come before the first partner."""
    counts = []
    for start in range(0, len(asking), AT_ONCE):
        alike = asking[start : start + AT_ONCE] @ candidates.T
        here = pairs[(pairs[:, 0] >= start) & (pairs[:, 0] < start + AT_ONCE)]
        partner = np.zeros(alike.shape, bool)
        partner[here[:, 0] - start, here[:, 1]] = True
        best = np.where(partner, alike, -np.inf).max(axis=1, keepdims=True)
        counts.append(((alike >= best) & ~partner).sum(axis=1))
    return np.concatenate(counts)


def _chance(partners: Sequence[int], candidates: int, depth: int) -> float:
    """Mean probability that of the first `depth` of all candidates in random order one is a partner."""
    drawn = min(depth, candidates)
    missed = [math.comb(candidates - own, drawn) / math.comb(candidates, drawn) for own in partners]
    return 1 - float(np.mean(missed))
