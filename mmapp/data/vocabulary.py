"""Learns a WordPiece vocabulary from the user's own texts, for encoders that start from nothing."""

from __future__ import annotations

from collections.abc import Iterable

from tokenizers import BertWordPieceTokenizer
from transformers import BertTokenizer, PreTrainedTokenizerBase

MAX_PIECES = 8000


def learn_wordpiece(texts: Iterable[str], max_length: int) -> PreTrainedTokenizerBase:
    """A lower-casing BERT tokenizer whose pieces come from `texts` alone.

    Words seen once are still covered, by their letters. Deterministic: the same texts in the same
    order give the same vocabulary.
    """
    learner = BertWordPieceTokenizer(lowercase=True)
    learner.train_from_iterator(
        texts, vocab_size=MAX_PIECES, min_frequency=2, show_progress=False, wordpieces_prefix="##"
    )
    vocabulary = learner.get_vocab(with_added_tokens=True)
    return BertTokenizer(vocab=vocabulary, do_lower_case=True, model_max_length=max_length)
