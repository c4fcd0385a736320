"""Fusion early: the text encoder reads the image after the words, whatever encoder it is."""

from __future__ import annotations

import pytest
import torch
from transformers import (
    BertConfig,
    CLIPTextConfig,
    DebertaV2Config,
    DistilBertConfig,
    ElectraConfig,
    ModernBertConfig,
    PreTrainedConfig,
    RobertaConfig,
)

from mmapp.errors import EncoderError, SettingsError
from mmapp.models.configuration import FusionConfig
from mmapp.models.encoders import Encoding, TextEncoder
from mmapp.models.model import FusionModel
from mmapp.models.scratch import SmallCnnConfig
from mmapp.models.scratch_text import RecurrentConfig, TextCnnConfig, TransformerConfig

SIZES = {
    "vocab_size": 20,
    "hidden_size": 16,
    "num_hidden_layers": 1,
    "num_attention_heads": 2,
    "intermediate_size": 32,
    "max_position_embeddings": 20,
    "initializer_range": 0.5,
}
ENCODERS: dict[str, PreTrainedConfig] = {
    "bert": BertConfig(**SIZES),
    "roberta": RobertaConfig(**SIZES),
    "electra": ElectraConfig(**SIZES, embedding_size=12),
    "distilbert": DistilBertConfig(
        vocab_size=20, dim=16, n_layers=1, n_heads=2, hidden_dim=32, max_position_embeddings=20
    ),
    "deberta": DebertaV2Config(**SIZES),
    "modernbert": ModernBertConfig(**SIZES, pad_token_id=0),
    "textcnn": TextCnnConfig(vocab_size=20, hidden_size=16),
    "gru": RecurrentConfig(vocab_size=20, hidden_size=16, cell="gru"),
    "transformer": TransformerConfig(vocab_size=20, hidden_size=16),
}
IDS = torch.tensor([[2, 5, 6, 7, 3], [2, 8, 3, 0, 0]])
MASK = torch.tensor([[1, 1, 1, 1, 1], [1, 1, 1, 0, 0]])


def encoder_of(name: str) -> TextEncoder:
    torch.manual_seed(4)
    return TextEncoder(ENCODERS[name]).eval()


def beside(encoder: TextEncoder, real: bool) -> Encoding:
    """Three further tokens for each of two rows."""
    tokens = torch.randn(2, 3, encoder.word_width)
    return Encoding(tokens[:, 0], tokens, torch.full((2, 3), real))


def cut(encoding: Encoding, row: int, length: int) -> Encoding:
    """One row with no more than `length` tokens."""
    some = slice(row, row + 1)
    return Encoding(
        encoding.pooled[some], encoding.tokens[some, :length], encoding.mask[some, :length]
    )


@torch.no_grad()
@pytest.mark.parametrize("name", ENCODERS)
def test_with_nothing_real_beside_them_words_are_read_as_ever(name: str) -> None:
    encoder = encoder_of(name)

    usual = encoder(IDS, MASK)
    read = encoder.read(encoder.words(IDS, MASK), beside(encoder, real=False))

    torch.testing.assert_close(read.pooled, usual.pooled)
    torch.testing.assert_close(read.tokens[MASK.bool()], usual.tokens[MASK.bool()])
    assert torch.equal(read.mask, usual.mask)


@torch.no_grad()
@pytest.mark.parametrize("name", ENCODERS)
def test_what_is_read_beside_the_words_follows_the_last_of_them(name: str) -> None:
    encoder = encoder_of(name)
    words, others = encoder.words(IDS, MASK), beside(encoder, real=True)
    read = encoder.read(words, others)

    # The second text has three words; by hand, and without any padding:
    sequence = torch.cat([words.tokens[1:, :3], others.tokens[1:]], dim=1)
    output = encoder.backbone(inputs_embeds=sequence, attention_mask=torch.ones(1, 6).long())

    torch.testing.assert_close(read.tokens[1, :3], output.last_hidden_state[0, :3])
    whole = output.last_hidden_state.mean(dim=1)
    if name == "textcnn":
        whole = output.pooler_output
    torch.testing.assert_close(read.pooled[1:], whole)
    assert read.tokens.shape[1] == 5
    assert torch.equal(read.mask, MASK.bool())


@torch.no_grad()
@pytest.mark.parametrize("name", ENCODERS)
def test_padding_of_the_words_changes_nothing(name: str) -> None:
    encoder = encoder_of(name)
    words, others = encoder.words(IDS, MASK), beside(encoder, real=True)
    words.tokens[1, 3:] = 99.0

    together = encoder.read(words, others)
    alone = encoder.read(cut(words, 1, length=3), cut(others, 1, length=3))

    torch.testing.assert_close(alone.pooled, together.pooled[1:])
    torch.testing.assert_close(alone.tokens, together.tokens[1:, :3])


@torch.no_grad()
@pytest.mark.parametrize("name", ENCODERS)
def test_every_word_is_read_anew_with_another_image(name: str) -> None:
    encoder = encoder_of(name)
    words = encoder.words(IDS, MASK)

    one, other = (encoder.read(words, beside(encoder, real=True)) for _ in range(2))

    assert (one.pooled != other.pooled).any(dim=1).all()
    # A window of five words does not reach from the first word to beyond the last.
    reached = 1 if name == "textcnn" else 3
    assert (one.tokens != other.tokens)[1, :3].any(dim=1).sum() >= reached


def test_e_is_the_width_of_the_embeddings_and_not_of_the_states() -> None:
    assert {name: encoder_of(name).word_width for name in ("bert", "electra")} == {
        "bert": 16,
        "electra": 12,
    }


def early(text: PreTrainedConfig) -> FusionModel:
    torch.manual_seed(3)
    config = FusionConfig(
        text_config=text,
        image_config=SmallCnnConfig(channels=(8, 16)),
        fusion="early",
        text_width=16,
        image_width=16,
        width=8,
        num_labels=3,
    )
    model = FusionModel(config).eval()
    torch.nn.init.normal_(model.head.out.weight)
    return model


@pytest.fixture
def inputs() -> dict[str, torch.Tensor]:
    return {"input_ids": IDS, "attention_mask": MASK, "pixel_values": torch.randn(2, 3, 32, 32)}


@torch.no_grad()
@pytest.mark.parametrize("name", ENCODERS)
def test_the_image_reaches_the_logits_also_where_the_text_is_absent(
    name: str, inputs: dict[str, torch.Tensor]
) -> None:
    model = early(ENCODERS[name])
    other = {**inputs, "pixel_values": inputs["pixel_values"].flip(0)}

    for present in (torch.tensor([[True, True]] * 2), torch.tensor([[False, True]] * 2)):
        seen, seen_other = (model(**some, present=present).logits for some in (inputs, other))
        assert (seen != seen_other).any(dim=1).all()


@torch.no_grad()
@pytest.mark.parametrize("name", ENCODERS)
@pytest.mark.parametrize("absent", [0, 1])
def test_what_is_absent_never_leaks_and_a_vector_stands_for_it(
    name: str, absent: int, inputs: dict[str, torch.Tensor]
) -> None:
    model = early(ENCODERS[name])
    present = torch.ones(2, 2, dtype=torch.bool)
    present[1, absent] = False
    other = {name: value.clone() for name, value in inputs.items()}
    other["input_ids"][1] = 9
    other["attention_mask"][1] = 1
    other["pixel_values"][1] += 3
    hidden = "pixel_values" if absent else "input_ids"
    shown = {hidden, "attention_mask"} if hidden == "input_ids" else {hidden}
    altered = {key: (other if key in shown else inputs)[key] for key in inputs}

    before = model(**inputs, present=present).logits
    assert torch.equal(model(**altered, present=present).logits, before)
    assert not torch.equal(model(**altered).logits[1], model(**inputs).logits[1])

    model.absent["image" if absent else "text"].normal_()
    after = model(**inputs, present=present).logits
    assert torch.equal(after[0], before[0])
    assert not torch.equal(after[1], before[1])


def test_every_weight_learns_but_those_that_no_encoder_uses(inputs: dict[str, torch.Tensor]) -> None:
    model = early(ENCODERS["bert"])
    present = torch.tensor([[False, True], [True, False]])

    model(**inputs, present=present, labels=torch.tensor([0, 1])).loss.backward()

    without = {name for name, p in model.named_parameters() if p.grad is None}
    assert without == {f"text_encoder.backbone.pooler.dense.{part}" for part in ("weight", "bias")}
    assert all(vector.grad.abs().sum() > 0 for vector in model.absent.values())
    assert model.fusion.as_words.places.grad.abs().sum() > 0


def test_an_encoder_that_reads_only_word_pieces_is_refused_with_its_name() -> None:
    text = CLIPTextConfig(**SIZES, bos_token_id=1, eos_token_id=2)

    with pytest.raises(EncoderError, match="CLIPTextModel reads only word pieces, so fusion early"):
        early(text)


def test_features_computed_before_are_refused(inputs: dict[str, torch.Tensor]) -> None:
    """They were computed without, or with another, image."""
    model = early(ENCODERS["bert"])

    with pytest.raises(SettingsError, match="early cannot use features computed before"):
        model(encodings=model.encode(**inputs))
