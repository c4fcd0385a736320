"""Encoders from folders in the real formats give what the original model gives, told one way."""

from __future__ import annotations

import shutil
from pathlib import Path
from typing import Any

import pytest
import torch
from transformers import (
    AutoConfig,
    BertModel,
    CLIPConfig,
    CLIPModel,
    ConvNextConfig,
    Dinov2WithRegistersConfig,
    PreTrainedConfig,
    ResNetModel,
    SiglipVisionConfig,
    SwinConfig,
    T5Config,
    T5EncoderModel,
    T5Model,
    ViTModel,
)

from mmapp import sources
from mmapp.errors import EncoderError
from mmapp.models.encoders import (
    ImageEncoder,
    TextEncoder,
    image_config,
    masked_mean,
    pretrained_backbone,
    text_config,
)
from mmapp.sources import Source

IDS = torch.tensor([[2, 5, 8, 9, 3], [2, 6, 3, 0, 0]])
MASK = torch.tensor([[1, 1, 1, 1, 1], [1, 1, 1, 0, 0]])


def load_text(folder: Path) -> TextEncoder:
    source = Source.parse(str(folder))
    config = text_config(source, vocab_size=0, max_length=0)
    return TextEncoder(config, pretrained_backbone(source, config, "text")).eval()


def load_image(folder: Path) -> ImageEncoder:
    source = Source.parse(str(folder))
    config = image_config(source)
    return ImageEncoder(config, True, pretrained_backbone(source, config, "image")).eval()


def test_the_masked_mean_counts_real_tokens_only() -> None:
    tokens = torch.tensor([[[1.0, 2.0], [3.0, 6.0], [90.0, 90.0]], [[5.0, 5.0]] * 3])
    mask = torch.tensor([[True, True, False], [False, False, False]])

    # A row without a single real token gives zeros and not 0/0.
    assert masked_mean(tokens, mask).tolist() == [[2, 4], [0, 0]]


@torch.no_grad()
def test_a_text_encoder_gives_the_original_models_tokens_and_their_mean(tiny_bert: Path) -> None:
    original = BertModel.from_pretrained(tiny_bert).eval()
    states = original(input_ids=IDS, attention_mask=MASK).last_hidden_state

    encoding = load_text(tiny_bert)(IDS, MASK)

    assert torch.equal(encoding.tokens, states)
    assert encoding.mask.tolist() == [[True] * 5, [True] * 3 + [False] * 2]
    torch.testing.assert_close(encoding.pooled[0], states[0].mean(dim=0))
    torch.testing.assert_close(encoding.pooled[1], states[1, :3].mean(dim=0))


@torch.no_grad()
def test_padding_does_not_change_a_texts_encoding(tiny_bert: Path) -> None:
    encoder = load_text(tiny_bert)

    together = encoder(IDS, MASK)
    alone = encoder(IDS[1:, :3], MASK[1:, :3])

    torch.testing.assert_close(alone.pooled[0], together.pooled[1])
    torch.testing.assert_close(alone.tokens[0], together.tokens[1, :3])


@torch.no_grad()
def test_a_vits_class_token_is_the_whole_and_its_patches_are_the_parts(tiny_vit: Path) -> None:
    original = ViTModel.from_pretrained(tiny_vit).eval()
    pixels = torch.randn(2, 3, 32, 32)
    states = original(pixel_values=pixels).last_hidden_state

    encoding = load_image(tiny_vit)(pixels)

    assert torch.equal(encoding.pooled, states[:, 0])
    assert torch.equal(encoding.tokens, states[:, 1:])
    assert encoding.mask.tolist() == [[True] * 16] * 2


@torch.no_grad()
def test_a_vit_reads_pictures_of_another_size_by_interpolating_positions(tiny_vit: Path) -> None:
    original = ViTModel.from_pretrained(tiny_vit).eval()
    pixels = torch.randn(1, 3, 48, 48)
    states = original(pixel_values=pixels, interpolate_pos_encoding=True).last_hidden_state

    encoding = load_image(tiny_vit)(pixels)

    assert torch.equal(encoding.pooled, states[:, 0])
    assert encoding.tokens.shape == (1, 36, 16)


@torch.no_grad()
def test_a_cnns_positions_are_the_parts_row_by_row_and_their_mean_the_whole(
    tiny_resnet: Path,
) -> None:
    original = ResNetModel.from_pretrained(tiny_resnet).eval()
    pixels = torch.randn(2, 3, 64, 32)  # not a square, so that rows and columns cannot be confused
    states = original(pixel_values=pixels).last_hidden_state
    height, width = states.shape[2:]
    assert height != width

    encoding = load_image(tiny_resnet)(pixels)

    assert torch.equal(encoding.tokens[1, 1 * width + 1], states[1, :, 1, 1])
    assert torch.equal(encoding.tokens[0, 2 * width + 0], states[0, :, 2, 0])
    assert encoding.tokens.shape == (2, height * width, states.shape[1])
    torch.testing.assert_close(encoding.pooled, states.mean(dim=(2, 3)))


TINY: dict[str, Any] = {
    "hidden_size": 16,
    "num_hidden_layers": 1,
    "num_attention_heads": 2,
    "image_size": 32,
    "patch_size": 8,
}


@torch.no_grad()
@pytest.mark.parametrize(
    ("config", "whole", "extra"),
    [
        (Dinov2WithRegistersConfig(**TINY, num_register_tokens=4), "first token", 5),
        (SiglipVisionConfig(**TINY, intermediate_size=32), "pooler", 0),
        (
            SwinConfig(image_size=32, embed_dim=8, depths=[1, 1], num_heads=[1, 2], window_size=4),
            "pooler",
            0,
        ),
        (ConvNextConfig(num_stages=2, hidden_sizes=[8, 16], depths=[1, 1]), "mean of the map", 0),
    ],
    ids=lambda value: getattr(value, "model_type", None),
)
def test_what_is_the_whole_and_what_are_parts_fits_the_family(
    config: PreTrainedConfig, whole: str, extra: int
) -> None:
    encoder = ImageEncoder(config).eval()
    pixels = torch.randn(2, 3, 32, 32)
    output = encoder.backbone(pixel_values=pixels)
    states = output.last_hidden_state
    parts = states[:, extra:] if states.ndim == 3 else states.flatten(2).transpose(1, 2)
    wholes = {
        "first token": states[:, 0],
        "pooler": output.pooler_output,
        "mean of the map": parts.mean(dim=1),
    }

    encoding = encoder(pixels)

    assert torch.equal(encoding.tokens, parts)
    assert torch.equal(encoding.pooled, wholes[whole])


@pytest.fixture(scope="module")
def clip(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder with both towers of a tiny CLIP."""
    tower = {"intermediate_size": 32, "num_hidden_layers": 1, "num_attention_heads": 2}
    config = CLIPConfig(
        text_config={"hidden_size": 16, "vocab_size": 40, "eos_token_id": 2, **tower},
        vision_config={"hidden_size": 8, "image_size": 32, "patch_size": 8, **tower},
    )
    folder = tmp_path_factory.mktemp("encoders") / "clip"
    CLIPModel(config).save_pretrained(folder)
    return folder


@torch.no_grad()
def test_of_a_two_tower_model_each_modality_takes_its_own_trained_tower(clip: Path) -> None:
    original = CLIPModel.from_pretrained(clip).eval()
    pixels = torch.randn(1, 3, 32, 32)
    seen = original.vision_model(pixel_values=pixels).last_hidden_state
    read = original.text_model(input_ids=IDS, attention_mask=MASK).last_hidden_state

    assert torch.equal(load_image(clip)(pixels).tokens, seen[:, 1:])
    assert torch.equal(load_text(clip)(IDS, MASK).tokens, read)


@torch.no_grad()
def test_of_an_encoder_decoder_only_the_encoder_is_taken(tmp_path: Path) -> None:
    config = T5Config(vocab_size=40, d_model=16, d_kv=8, d_ff=32, num_layers=1, num_heads=2)
    original = T5Model(config).eval()
    original.save_pretrained(tmp_path)

    encoder = load_text(tmp_path)

    states = original.encoder(input_ids=IDS, attention_mask=MASK).last_hidden_state
    assert isinstance(encoder.backbone, T5EncoderModel)
    assert torch.equal(encoder(IDS, MASK).tokens, states)


@pytest.mark.parametrize(("fixed", "moves"), [(True, False), (False, True)])
def test_batch_norm_statistics_stay_as_pretrained_when_they_are_fixed(
    tiny_resnet: Path, fixed: bool, moves: bool
) -> None:
    encoder = ImageEncoder(AutoConfig.from_pretrained(tiny_resnet), fixed_batch_norm=fixed)
    statistics = {n: t.clone() for n, t in encoder.state_dict().items() if "running" in n}
    assert statistics

    encoder.train()(torch.randn(4, 3, 32, 32) + 5)

    moved = {n for n, t in statistics.items() if not torch.equal(encoder.state_dict()[n], t)}
    assert moved == (set(statistics) if moves else set())
    assert encoder.training


def test_weights_that_are_only_a_pickle_are_refused(tiny_bert: Path, tmp_path: Path) -> None:
    folder = tmp_path / "pickled"
    shutil.copytree(tiny_bert, folder)
    (folder / "model.safetensors").unlink()
    torch.save(BertModel.from_pretrained(tiny_bert).state_dict(), folder / "pytorch_model.bin")

    with pytest.raises(EncoderError, match=f"^{folder} could not be loaded: .*safetensors"):
        load_text(folder)


def test_a_folder_that_holds_no_model_is_named(tmp_path: Path) -> None:
    with pytest.raises(EncoderError, match=f"^{tmp_path} could not be loaded: "):
        image_config(Source.parse(str(tmp_path)))


def test_unknown_scratch_names_are_answered_with_the_choices() -> None:
    with pytest.raises(
        EncoderError, match=r"no text encoder scratch:cnn\. Expected .*scratch:bert"
    ):
        text_config(Source.parse("scratch:cnn"), 10, 10)
    with pytest.raises(
        EncoderError,
        match=r"no image encoder scratch:bert\. Expected .*scratch:cnn, scratch:resnet",
    ):
        image_config(Source.parse("scratch:bert"))


def test_torchvision_is_refused_as_a_text_encoder() -> None:
    with pytest.raises(EncoderError, match="torchvision has no text encoders"):
        text_config(Source.parse("torchvision:resnet18"), 10, 10)


def no_socket(*_: Any) -> None:
    raise AssertionError("the network was asked although it is forbidden")


def test_offline_an_id_that_is_not_cached_gets_a_sentence_at_once(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setenv("HF_HUB_OFFLINE", "1")
    monkeypatch.setattr(sources.socket, "create_connection", no_socket)

    with pytest.raises(
        EncoderError,
        match=r"^nobody/no-such-bert is neither a folder nor in the local cache, and "
        r"HF_HUB_OFFLINE forbids the network\. Connect .* or choose a local folder or a scratch",
    ):
        text_config(Source.parse("nobody/no-such-bert"), 10, 10)


def test_an_encoder_with_an_adapter_beside_it_is_refused(tiny_bert: Path, tmp_path: Path) -> None:
    """transformers would follow it, to a pickle if there is no other file."""
    folder = tmp_path / "with-adapter"
    shutil.copytree(tiny_bert, folder)
    (folder / "adapter_config.json").write_text("{}")
    source = Source.parse(str(folder))

    with pytest.raises(EncoderError, match="brings an adapter. Merge it"):
        pretrained_backbone(source, text_config(source, 0, 0), "text")
