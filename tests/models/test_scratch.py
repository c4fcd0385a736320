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
