"""Scores of tagged words, by entity: what counts is the whole span and its kind. Plain arrays.

Shapes: N rows, W words of all rows together, C tags, K kinds of entity.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from mmapp.data.cells import OUTSIDE
from mmapp.evaluation import metrics
from mmapp.evaluation.outputs import Outputs

Span = tuple[int, int, str]  # first word, one past the last, kind

BEGINS, GOES_ON = "BSU", "IEL"  # of the schemes BIO, BIOES and BILOU

WITH_INTERVAL = ("accuracy", "entity_f1", "macro_f1")


def spans(tags: Sequence[str]) -> list[Span]:
    """The entities that tags mark, in order.

    A tag that goes on where nothing of its kind stands before it begins an entity, as conlleval has it
    (Tjong Kim Sang & Buchholz, CoNLL 2000). A tag without a prefix marks its word alone.
    """
    found: list[Span] = []
    for place, tag in enumerate(tags):
        prefix, dash, kind = tag.partition("-")
        last = found[-1] if found else (0, -1, "")
        if tag == OUTSIDE:
            continue
        if not dash or prefix not in (*BEGINS, *GOES_ON):
            found.append((place, place + 1, tag))
        elif prefix in GOES_ON and last[1:] == (place, kind) and tags[place - 1] != f"E-{kind}":
            found[-1] = (last[0], place + 1, kind)
        else:
            found.append((place, place + 1, kind))
    return found


@dataclass(frozen=True)
class Counts:
    """What a model said, counted row by row; sums of these give every score.

    Attributes:
        kinds: of entities, K.
        right: words told right, [N].
        words: all words, [N].
        hits: entities told right, [N,K].
        said: entities told, [N,K].
        given: entities there are, [N,K].
    """

    kinds: tuple[str, ...]
    right: np.ndarray
    words: np.ndarray
    hits: np.ndarray
    said: np.ndarray
    given: np.ndarray

    def scores(self, weights: np.ndarray) -> dict[str, np.ndarray]:
        """accuracy, entity_precision, entity_recall, entity_f1, macro_f1, each [S], of S draws of the
        rows: weights [S,N] say how often each row was drawn."""
        hits, said, given = weights @ self.hits, weights @ self.said, weights @ self.given
        counted = (said + given) > 0
        each = _share(2 * hits, said + given)
        return {
            "accuracy": _share(weights @ self.right, weights @ self.words),
            "entity_precision": _share(hits.sum(axis=1), said.sum(axis=1)),
            "entity_recall": _share(hits.sum(axis=1), given.sum(axis=1)),
            "entity_f1": _share(2 * hits.sum(axis=1), (said + given).sum(axis=1)),
            "macro_f1": _share((each * counted).sum(axis=1), counted.sum(axis=1)),
        }


def count(tags: Sequence[Sequence[str]], answers: Sequence[Sequence[str]]) -> Counts:
    """Compare the tags of N rows with what was answered, word for word and entity for entity."""
    given = [spans(row) for row in tags]
    said = [spans(row) for row in answers]
    kinds = tuple(sorted({kind for row in (*given, *said) for *_, kind in row}))
    hits = [list(set(g) & set(s)) for g, s in zip(given, said, strict=True)]
    pairs = zip(tags, answers, strict=True)
    return Counts(
        kinds=kinds,
        right=np.array([sum(a == b for a, b in zip(*pair, strict=True)) for pair in pairs]),
        words=np.array([len(row) for row in tags]),
        hits=_by_kind(hits, kinds),
        said=_by_kind(said, kinds),
        given=_by_kind(given, kinds),
    )


def words_right(outputs: Outputs) -> np.ndarray:
    """How many words of each row were told right, [N]."""
    right = outputs.by_row(outputs.logits.argmax(axis=1) == outputs.truth())
    return np.array([row.sum() for row in right])


def score(outputs: Outputs, names: Sequence[str]) -> dict[str, float]:
    """Every score over all rows, and the log-loss of a word."""
    counts = _counts(outputs, names)
    found = counts.scores(np.ones((1, len(counts.words))))
    return {
        **{name: float(values[0]) for name, values in found.items()},
        "log_loss": metrics.log_loss(outputs.truth(), outputs.probabilities()),
    }


def make_tag_report(outputs: Outputs, names: Sequence[str], split: str) -> dict[str, Any]:
    """The report of a model that tags: scores with intervals over rows, entities kind by kind, and the
    most frequent tag, given to every word, as the first baseline."""
    counts = _counts(outputs, names)
    return {
        "n": len(counts.words),
        "words": int(counts.words.sum()),
        "split": split,
        **score(outputs, names),
        "intervals": _intervals(counts),
        "majority": _majority(outputs, names),
        "per_class": _per_kind(counts),
    }


def _counts(outputs: Outputs, names: Sequence[str]) -> Counts:
    named = np.array(names, dtype=object)
    given = outputs.by_row(named[outputs.truth()])
    said = outputs.by_row(named[outputs.logits.argmax(axis=1)])
    return count([list(row) for row in given], [list(row) for row in said])


def _intervals(counts: Counts, samples: int = 1000, seed: int = 0) -> dict[str, list[float]]:
    """95 % bootstrap intervals over rows; the words of a row are drawn together."""
    rows = len(counts.words)
    drawn = np.random.default_rng(seed).multinomial(rows, np.full(rows, 1 / rows), size=samples)
    found = counts.scores(drawn.astype(float))
    return {name: np.percentile(found[name], [2.5, 97.5]).tolist() for name in WITH_INTERVAL}


def _majority(outputs: Outputs, names: Sequence[str]) -> dict[str, Any]:
    """How far the most frequent tag gets, given to every word."""
    most = Counter(outputs.truth().tolist()).most_common(1)[0][0]
    given = [list(row) for row in outputs.by_row(np.array(names, dtype=object)[outputs.truth()])]
    counts = count(given, [[names[most]] * len(row) for row in given])
    found = counts.scores(np.ones((1, len(given))))
    return {"label": names[most], **{name: float(found[name][0]) for name in WITH_INTERVAL}}


def _per_kind(counts: Counts) -> list[dict[str, Any]]:
    hits, said, given = (values.sum(axis=0) for values in (counts.hits, counts.said, counts.given))
    precision, recall, f1 = _share(hits, said), _share(hits, given), _share(2 * hits, said + given)
    return [
        {
            "label": kind,
            "precision": float(precision[k]),
            "recall": float(recall[k]),
            "f1": float(f1[k]),
            "support": int(given[k]),
        }
        for k, kind in enumerate(counts.kinds)
    ]


def _by_kind(rows: Sequence[Sequence[Span]], kinds: Sequence[str]) -> np.ndarray:
    """How many entities of each kind each row has, [N,K]."""
    counted = np.zeros((len(rows), len(kinds)), int)
    for n, row in enumerate(rows):
        for *_, kind in row:
            counted[n, kinds.index(kind)] += 1
    return counted


def _share(part: np.ndarray, whole: np.ndarray) -> np.ndarray:
    """part / whole, and 0 where there is nothing."""
    return np.divide(part, whole, out=np.zeros(np.shape(part)), where=np.asarray(whole) > 0)
