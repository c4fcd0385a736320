"""A vocabulary learnt from the user's own texts."""

from __future__ import annotations

from mmapp.data.vocabulary import learn_wordpiece

TEXTS = ["a red kite", "a blue kite", "the red boat", "Zweifelsfall"]


def test_words_that_repeat_are_whole_pieces_and_rare_ones_are_spelt() -> None:
    tokenizer = learn_wordpiece(TEXTS, max_length=16)
    assert tokenizer.tokenize("red kite") == ["red", "kite"]
    rare = tokenizer.tokenize("zweifelsfall")
    assert len(rare) > 1
    assert "".join(piece.removeprefix("##") for piece in rare) == "zweifelsfall"


def test_case_does_not_matter() -> None:
    tokenizer = learn_wordpiece(TEXTS, max_length=16)
    assert tokenizer("RED Kite")["input_ids"] == tokenizer("red kite")["input_ids"]


def test_letters_never_seen_are_unknown_and_known_texts_are_not() -> None:
    tokenizer = learn_wordpiece(TEXTS, max_length=16)
    assert tokenizer.tokenize("猫") == ["[UNK]"]
    assert all("[UNK]" not in tokenizer.tokenize(text) for text in TEXTS)


def test_the_same_texts_give_the_same_vocabulary() -> None:
    # Many letters, so that an order left to chance would hardly come out the same three times.
    texts = [*TEXTS, "the quick brown fox jumps over the lazy dog", "abab baba abba"]
    first, *others = (learn_wordpiece(texts, max_length=16).get_vocab() for _ in range(3))
    assert others == [first, first]
    assert learn_wordpiece(TEXTS, max_length=16).get_vocab() != first


def test_the_padding_piece_is_number_0_and_texts_are_framed() -> None:
    tokenizer = learn_wordpiece(TEXTS, max_length=16)
    assert tokenizer.pad_token_id == 0
    pieces = tokenizer.convert_ids_to_tokens(tokenizer("red kite")["input_ids"])
    assert pieces == ["[CLS]", "red", "kite", "[SEP]"]
    assert tokenizer.model_max_length == 16


def test_every_character_is_covered_however_many_there_are() -> None:
    texts = [chr(0x4E00 + i) for i in range(1500)]
    tokenizer = learn_wordpiece(texts, max_length=16)
    assert [tokenizer.tokenize(text) for text in texts] == [[text] for text in texts]


def test_texts_may_come_as_a_stream_or_not_at_all() -> None:
    assert learn_wordpiece(iter(TEXTS), 16).get_vocab() == learn_wordpiece(TEXTS, 16).get_vocab()
    assert learn_wordpiece([], max_length=16).tokenize("red") == ["[UNK]"]
