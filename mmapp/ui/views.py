"""Pairs and findings -> HTML. Pure but for reading the pictures it shows; every text is escaped."""

from __future__ import annotations

import base64
import html
import io
from collections import defaultdict
from collections.abc import Iterator, Sequence
from itertools import chain, zip_longest
from pathlib import Path
from typing import Any

from mmapp.data.cells import OUTSIDE, json_list, words_of
from mmapp.data.images import open_image
from mmapp.data.pairs import SPLITS, Finding, Pair, PairTable
from mmapp.ui import plots, words

CARDS = 12
THUMBNAIL = 192  # pixels
SHOWN_LETTERS = 140
SHOWN_WORDS = 30
SHOWN_OF_A_KIND = 5


def summary(described: dict[str, Any]) -> str:
    """How many pairs, how they are dealt, and how often each label occurs."""
    tiles = [(f"{described['used']:,}", words.USABLE)]
    if described["set_aside"]:
        tiles.append((f"{described['set_aside']:,}", words.SET_ASIDE))
    tiles.append((f"{len(described['classes']):,}", words.CLASSES))
    tiles += [(f"{described['splits'].get(s, 0):,}", words.SPLITS[s]) for s in SPLITS]
    top = dict(sorted(described["classes"].items(), key=lambda item: -item[1])[:20])
    balance = plots.bars(top, [f"{count:,}" for count in top.values()])
    return f"{plots.figures(tiles)}<br>{balance}"


def cards(table: PairTable) -> str:
    """Some pairs as pictures with text and label, the labels taking turns."""
    by_label: dict[str | None, list[Pair]] = defaultdict(list)
    for pair in table:
        if len(by_label[pair.label]) < CARDS:
            by_label[pair.label].append(pair)
    turns = chain.from_iterable(zip_longest(*by_label.values()))
    shown = [pair for pair in turns if pair is not None][:CARDS]
    return f'<div class="mm mm-cards">{"".join(map(_card, shown))}</div>'


def _card(pair: Pair) -> str:
    tags = json_list(pair.label) if pair.label and json_list(pair.text or "") else None
    told = pair.text or ""
    text = _plain_text(told) if tags is None else _tagged_text(words_of(told), tags)
    label = ""
    if pair.label and tags is None:
        label = f'<span class="mm-chip label">{html.escape(pair.label)}</span>'
    return (
        f'<article class="mm-card">{_thumbnail(pair.image)}<p>{text}</p>'
        f'<footer>{label}<span class="mm-chip">#{pair.row}</span></footer></article>'
    )


def _plain_text(text: str) -> str:
    return html.escape(text if len(text) <= SHOWN_LETTERS else f"{text[:SHOWN_LETTERS]} …")


def _tagged_text(words: Sequence[str], tags: Sequence[str]) -> str:
    """The words of a tagged text; those that are not outside are marked, their tags to hover over."""
    shown = [
        html.escape(word)
        if tag == OUTSIDE
        else f'<mark title="{html.escape(tag, quote=True)}">{html.escape(word)}</mark>'
        for word, tag in zip(words[:SHOWN_WORDS], tags, strict=False)
    ]
    return " ".join([*shown, "…"] if len(words) > SHOWN_WORDS else shown)


def _thumbnail(path: Path | None) -> str:
    if path is None:
        return '<div class="none" role="img" aria-label="no image">–</div>'
    picture = open_image(path, at_least=THUMBNAIL)
    picture.thumbnail((THUMBNAIL, THUMBNAIL))
    held = io.BytesIO()
    picture.save(held, "PNG" if max(picture.size) <= 64 else "JPEG")
    code = base64.b64encode(held.getvalue()).decode()
    return f'<img alt="" src="data:image;base64,{code}">'


def findings(found: list[Finding]) -> str:
    """Every kind of finding with its first rows; bad rows first."""
    if not found:
        return f'<p class="mm quiet">{words.NO_FINDINGS}</p>'
    order = ("set aside", "warning", "note")
    kinds: dict[str, list[Finding]] = defaultdict(list)
    for finding in sorted(found, key=lambda f: order.index(f.severity)):
        kinds[finding.kind].append(finding)
    return f'<div class="mm mm-findings">{"".join(map(_kind, kinds.values()))}</div>'


def _kind(found: list[Finding]) -> str:
    mark = {"set aside": "aside", "warning": "warning", "note": "quiet"}[found[0].severity]
    items = [f"<li>{_where(f)}{html.escape(f.message)}</li>" for f in found[:SHOWN_OF_A_KIND]]
    if len(found) > SHOWN_OF_A_KIND:
        more = words.MORE_FINDINGS.format(count=len(found) - SHOWN_OF_A_KIND)
        items.append(f'<li class="quiet">{more}</li>')
    head = f"{html.escape(found[0].kind)} × {len(found)}"
    return f'<b class="{mark}">{head}</b><ul>{"".join(items)}</ul>'


def _where(finding: Finding) -> str:
    return f"<b>#{finding.row}</b> " if finding.row else ""


def report(values: dict[str, Any]) -> str:
    """Headline figures with their intervals, and the majority class beside them."""
    tiles = []
    for name, title in words.HEADLINES.items():
        if name in values:
            interval = values.get("intervals", {}).get(name)
            bracket = f" ({interval[0]:.3f} – {interval[1]:.3f})" if interval else ""
            tiles.append((f"{values[name]:.3f}", f"{title}{bracket}"))
    tiles.append((f"{values['n']:,}", words.TEST_PAIRS))
    lines = [words.MAJORITY.format(**values["majority"]), *_retrieval(values.get("retrieval", {}))]
    if "before" in values:
        low, high = values["change"]["interval"]
        before, change = values["before"]["accuracy"], values["change"]["accuracy"]
        lines.insert(0, words.BEFORE.format(before=before, change=change, low=low, high=high))
    calibration = values.get("calibration", {})
    if calibration.get("temperature", 1.0) != 1.0:
        lines.append(words.CALIBRATED.format(**calibration))
    told = "<br>".join(map(html.escape, lines))
    return f'{plots.figures(tiles)}<p class="mm quiet">{told}</p>'


def _retrieval(found: dict[str, Any]) -> Iterator[str]:
    """How often an aligned model finds the other half of a pair, a sentence a direction."""
    for direction, sentence in words.RETRIEVAL.items():
        if direction in found:
            told = found[direction]
            low, high = told["interval"]
            share, chance = told["recall@1"], told["chance@1"]
            figures = words.RETRIEVED.format(share=share, low=low, high=high, chance=chance)
            yield sentence.format(candidates=told["candidates"]) + figures


def per_class(values: dict[str, Any]) -> str:
    keys = ("label", "precision", "recall", "f1", "support")
    rows = [[row[key] for key in keys] for row in values["per_class"]]
    return plots.table(words.PER_CLASS_HEADERS, rows)
