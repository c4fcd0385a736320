"""Learns a WordPiece vocabulary from the user's own texts, for encoders that start from nothing."""

from __future__ import annotations

from collections.abc import Iterable

from tokenizers import BertWordPieceTokenizer
from transformers import BertTokenizer, PreTrainedTokenizerBase

MAX_PIECES = 8000
SPECIAL = ("[PAD]", "[UNK]", "[CLS]", "[SEP]", "[MASK]")


def learn_wordpiece(texts: Iterable[str], max_length: int) -> PreTrainedTokenizerBase:
    """A lower-casing BERT tokenizer whose pieces come from `texts` alone.

    Words seen once are still covered, by their letters. Deterministic: the same texts in the same
    order give the same vocabulary.
    """
    texts = list(texts)
    learner = BertWordPieceTokenizer(lowercase=True)
    learner.train_from_iterator(
        texts,
        vocab_size=MAX_PIECES,
        min_frequency=2,
        limit_alphabet=MAX_PIECES,  # the library's own 1000 would lose rare Chinese characters
        show_progress=False,
        wordpieces_prefix="##",
        # The library numbers inner letters in an order that differs from call to call, and breaks
        # ties between pieces by these numbers. Named beforehand, they have a fixed one.
        special_tokens=[*SPECIAL, *_inner_letters(learner, texts)],
    )
    vocabulary = learner.get_vocab(with_added_tokens=True)
    return BertTokenizer(vocab=vocabulary, do_lower_case=True, model_max_length=max_length)


def _inner_letters(learner: BertWordPieceTokenizer, texts: Iterable[str]) -> list[str]:
    """The pieces "##x" of all letters x that stand anywhere but first in a word."""
    split = learner.pre_tokenizer.pre_tokenize_str
    words = {word for text in texts for word, _ in split(learner.normalize(text))}
    return sorted({f"##{letter}" for word in words for letter in word[1:]})
