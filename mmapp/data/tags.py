"""Rows of the task tag: a text as words, and a tag for each word. Pure: a table in, a table out."""

from __future__ import annotations

from dataclasses import replace

from mmapp.data.cells import json_list, words_of
from mmapp.data.pairs import Finding, PairTable, as_cell

# From this share of the rows on, lists as long as their texts are tags and no labels of the whole.
MOSTLY = 0.9


def looks_tagged(table: PairTable) -> bool:
    """Do label cells hold a JSON list with an entry for each word?"""
    labelled = [pair for pair in table if pair.label is not None]
    fitting = sum(_words(pair.text or "", json_list(pair.label or "")) is not None for pair in labelled)
    return bool(labelled) and fitting >= MOSTLY * len(labelled)


def with_tags(table: PairTable) -> PairTable:
    """The table with every text as a JSON list of words; rows whose tags do not fit are set aside."""
    texts, kept, findings = [], [], []
    for pair in table:
        tags = json_list(pair.label) if pair.label is not None else None
        words = _words(pair.text or "", tags)
        kept.append(words is not None)
        if words is None:
            message = _problem(pair.text, tags)
            findings.append(Finding("no tags", "set aside", message, pair.row, pair.file_name))
        else:
            texts.append(as_cell(words))
    frame = table.frame[kept].reset_index(drop=True)
    return replace(table, frame=frame.assign(text=texts)).with_findings(findings)


def with_words(table: PairTable) -> PairTable:
    """Rows to be tagged: those without a word are set aside."""
    kept = [bool(words_of(pair.text or "")) for pair in table]
    without = [pair for pair, keep in zip(table, kept, strict=True) if not keep]
    message = "There is no word to tag; this task wants a text in every row."
    findings = [Finding("empty text", "set aside", message, p.row, p.file_name) for p in without]
    return replace(table, frame=table.frame[kept].reset_index(drop=True)).with_findings(findings)


def _words(text: str, tags: list[str] | None) -> list[str] | None:
    """The words that go with these tags; a plain text is split at blanks, or at marks as well."""
    if not tags:
        return None
    for words in ([*words_of(text)], text.split()):
        if len(words) == len(tags) and all(words):
            return words
    return None


def _problem(text: str | None, tags: list[str] | None) -> str:
    if tags is None:
        return 'The tags are no JSON list, such as ["B-PLACE", "O"].'
    if not text:
        return "There is no text, so no word to tag."
    return f"{len(words_of(text))} words and {len(tags)} tags; there must be one tag for each word."
