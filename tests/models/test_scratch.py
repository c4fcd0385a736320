"""Encoders that start from nothing: built by AutoModel, and able to do what they are for."""

from __future__ import annotations

import pytest
import torch
from torch import nn
from transformers import AutoConfig, AutoModel

from mmapp.models.encoders import ImageEncoder, TextEncoder
from mmapp.models.scratch import IMAGE, TEXT, SmallCnn, SmallCnnConfig


@torch.no_grad()
@pytest.mark.parametrize("name", TEXT)
def test_a_scratch_text_encoder_reads_every_piece_up_to_its_longest_text(name: str) -> None:
    encoder = TextEncoder(TEXT[name](30, 12)).eval()
    ids = torch.arange(12).repeat(2, 1) + torch.tensor([[0], [18]])  # pieces 0..11 and 18..29

    encoding = encoder(ids, torch.ones_like(ids))

    assert encoding.tokens.shape[:2] == (2, 12)
    assert encoding.tokens.isfinite().all()
    assert not torch.equal(encoding.pooled[0], encoding.pooled[1])


@torch.no_grad()
@pytest.mark.parametrize("name", TEXT)
def test_a_scratch_text_encoder_does_not_read_padding(name: str) -> None:
    encoder = TextEncoder(TEXT[name](30, 12)).eval()
    ids, mask = torch.tensor([[3, 4, 5, 6]]), torch.tensor([[1, 1, 0, 0]])
    other = torch.tensor([[3, 4, 9, 10]])

    torch.testing.assert_close(encoder(ids, mask).pooled, encoder(other, mask).pooled)


@torch.no_grad()
@pytest.mark.parametrize("name", IMAGE)
def test_a_scratch_image_encoder_tells_where_something_is(name: str) -> None:
    encoder = ImageEncoder(IMAGE[name]()).eval()
    plain = torch.zeros(1, 3, 96, 96)
    spot = plain.clone()
    spot[:, :, :8, :8] = 3.0  # a spot in the upper left corner

    change = (encoder(spot).tokens - encoder(plain).tokens).norm(dim=-1)[0]

    assert encoder(plain).tokens.shape[1] >= 9
    assert int(change.argmax()) == 0
    assert float(change[-1]) < 0.1 * float(change[0])


def test_the_small_cnn_halves_the_side_in_every_block() -> None:
    model = SmallCnn(SmallCnnConfig(channels=(8, 16, 24)))

    states = model(torch.zeros(2, 3, 64, 32)).last_hidden_state

    assert states.shape == (2, 24, 8, 4)


@torch.no_grad()
def test_the_small_cnn_computes_the_same_alone_and_in_a_batch_while_training_too() -> None:
    model, pixels = SmallCnn(SmallCnnConfig()), torch.randn(4, 3, 32, 32)

    alone = model.eval()(pixels[:1]).last_hidden_state
    together = model.train()(pixels).last_hidden_state[:1]

    torch.testing.assert_close(alone, together)


def test_the_small_cnn_is_built_by_transformers_from_its_saved_config(tmp_path) -> None:
    SmallCnnConfig(channels=(8, 16)).save_pretrained(tmp_path)

    model = AutoModel.from_config(AutoConfig.from_pretrained(tmp_path))

    assert isinstance(model, SmallCnn)
    assert [m.out_channels for m in model.modules() if isinstance(m, nn.Conv2d)] == [8, 16]


def order_task(count: int, seed: int) -> tuple[torch.Tensor, torch.Tensor]:
    """Eight words each; the label says whether word 5 stands before word 6. Every text comes twice,
    the second time with the two exchanged, so that the words alone tell nothing."""
    draw = torch.Generator().manual_seed(seed)
    ids = torch.randint(7, 20, (count, 8), generator=draw)
    places = torch.rand(count, 8, generator=draw).argsort(dim=1)[:, :2].sort(dim=1).values
    rows = torch.arange(count)
    ids[rows, places[:, 0]], ids[rows, places[:, 1]] = 5, 6
    exchanged = ids.clone()
    exchanged[rows, places[:, 0]], exchanged[rows, places[:, 1]] = 6, 5
    labels = torch.cat([torch.ones(count), torch.zeros(count)]).long()
    return torch.cat([ids, exchanged]), labels


class BagOfWords(nn.Module):
    """The mean of its words' embeddings, whatever their order."""

    def __init__(self) -> None:
        super().__init__()
        self.words = nn.Embedding(20, 128)

    def forward(self, ids: torch.Tensor, mask: torch.Tensor) -> torch.Tensor:
        return self.words(ids).mean(dim=1)


def order_accuracy(encoder: nn.Module, steps: int = 150) -> float:
    """Accuracy on unseen texts after some steps of training."""
    head = nn.Linear(128, 2)
    rate = 2e-3 if isinstance(encoder, BagOfWords) else 1e-3
    optimizer = torch.optim.Adam([*encoder.parameters(), *head.parameters()], lr=rate)
    ids, labels = order_task(2000, seed=1)
    draw = torch.Generator().manual_seed(2)

    def logits(some: torch.Tensor) -> torch.Tensor:
        out = encoder(some, torch.ones_like(some))
        return head(out if isinstance(out, torch.Tensor) else out.pooled)

    for _ in range(steps):
        rows = torch.randint(len(ids), (64,), generator=draw)
        optimizer.zero_grad()
        nn.functional.cross_entropy(logits(ids[rows]), labels[rows]).backward()
        optimizer.step()
    encoder.eval()
    unseen, truth = order_task(200, seed=3)
    with torch.no_grad():
        return float((logits(unseen).argmax(dim=1) == truth).float().mean())


@pytest.mark.parametrize("name", ["rnn", "lstm", "gru", "transformer", "bert"])
def test_an_encoder_that_reads_in_order_learns_what_a_bag_of_words_cannot(name: str) -> None:
    torch.manual_seed(0)
    assert order_accuracy(TextEncoder(TEXT[name](20, 8))) > 0.9


def test_a_bag_of_words_stays_at_chance_on_word_order() -> None:
    torch.manual_seed(0)
    assert order_accuracy(BagOfWords()) == pytest.approx(0.5, abs=0.02)


@torch.no_grad()
def test_textcnn_keeps_the_strongest_answer_of_each_filter_over_real_words() -> None:
    encoder = TextEncoder(TEXT["textcnn"](30, 12)).eval()
    ids, mask = torch.tensor([[3, 4, 5, 6]]), torch.tensor([[1, 1, 1, 0]])

    encoding = encoder(ids, mask)

    assert torch.equal(encoding.pooled, encoding.tokens[:, :3].amax(dim=1))


@torch.no_grad()
@pytest.mark.parametrize("name", TEXT)
def test_a_text_encodes_the_same_alone_and_beside_a_longer_one(name: str) -> None:
    encoder = TextEncoder(TEXT[name](30, 12)).eval()
    short = torch.tensor([[3, 4, 5]])
    both = torch.tensor([[3, 4, 5, 0, 0], [7, 8, 9, 10, 11]])
    mask = torch.tensor([[1, 1, 1, 0, 0], [1, 1, 1, 1, 1]])

    alone, beside = encoder(short, torch.ones_like(short)), encoder(both, mask)

    torch.testing.assert_close(beside.pooled[:1], alone.pooled)
    torch.testing.assert_close(beside.tokens[:1, :3], alone.tokens)


@torch.no_grad()
@pytest.mark.parametrize("name", TEXT)
def test_embeddings_can_be_given_in_place_of_words(name: str) -> None:
    """What the early fusion needs: the image's positions stand among the words' embeddings."""
    model = AutoModel.from_config(TEXT[name](30, 12)).eval()
    ids = torch.tensor([[3, 4, 5]])

    by_ids = model(input_ids=ids, attention_mask=torch.ones_like(ids)).last_hidden_state
    embedded = model.get_input_embeddings()(ids)
    by_embeddings = model(inputs_embeds=embedded, attention_mask=torch.ones_like(ids))

    torch.testing.assert_close(by_embeddings.last_hidden_state, by_ids)
