"""Texts to numbers, pictures to numbers: by hand, and the same again after a walk over the disk."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image
from tokenizers import Tokenizer
from tokenizers.models import WordLevel
from tokenizers.pre_tokenizers import Whitespace
from transformers import BertTokenizer, PreTrainedTokenizerFast

from mmapp.data.processor import FusionProcessor, build_processor
from mmapp.errors import CheckpointError, EncoderError
from mmapp.settings import ModelSettings

PAD, UNK, CLS, SEP, RED, KITE, BOAT = range(7)
IMAGENET = ((0.485, 0.456, 0.406), (0.229, 0.224, 0.225))
HALF = (0.5, 0.5, 0.5)


def tokenizer() -> BertTokenizer:
    pieces = ["[PAD]", "[UNK]", "[CLS]", "[SEP]", "red", "kite", "boat"]
    return BertTokenizer(vocab={piece: i for i, piece in enumerate(pieces)}, model_max_length=64)


def processor(side: int = 2, max_length: int = 8) -> FusionProcessor:
    return FusionProcessor(tokenizer(), side, max_length=max_length)


def picture(*lines: list[tuple[int, int, int]]) -> Image.Image:
    return Image.fromarray(np.array(lines, dtype=np.uint8))


def test_texts_are_padded_to_the_longest_and_masked() -> None:
    batch = processor()(["red kite", "boat", "red red kite"], [None] * 3)
    assert batch["input_ids"].tolist() == [
        [CLS, RED, KITE, SEP, PAD],
        [CLS, BOAT, SEP, PAD, PAD],
        [CLS, RED, RED, KITE, SEP],
    ]
    assert batch["attention_mask"].tolist() == [
        [1, 1, 1, 1, 0],
        [1, 1, 1, 0, 0],
        [1, 1, 1, 1, 1],
    ]


def test_long_texts_are_cut_and_still_end_as_a_text_does() -> None:
    ids = processor(max_length=4).ids(["red kite boat red kite", "red"])
    assert ids == [[CLS, RED, KITE, SEP], [CLS, RED, SEP]]


def test_absent_halves_are_an_empty_text_and_a_black_picture_and_are_marked() -> None:
    white = Image.new("RGB", (2, 2), "white")
    batch = processor()([None, "red", None, ""], [white, None, None, white])
    assert batch["present"].tolist() == [
        [False, True],
        [True, False],
        [False, False],
        [True, True],
    ]
    assert batch["input_ids"].tolist()[0] == [CLS, SEP, PAD]
    assert batch["pixel_values"][:, 0, 0, 0].tolist() == [1.0, -1.0, -1.0, 1.0]


def test_pixels_are_normalised_by_hand() -> None:
    made = FusionProcessor(tokenizer(), 2, image_mean=(0.5, 0.25, 0.0), image_std=(0.5, 0.25, 1.0))
    shown = picture([(0, 0, 0), (255, 255, 255)], [(51, 102, 153), (255, 0, 0)])
    values = made(["red"], [shown])["pixel_values"]
    assert values.dtype == torch.float32
    assert values.shape == (1, 3, 2, 2)
    # (value / 255 - mean) / std, channel by channel; 51, 102, 153 are 0.2, 0.4, 0.6 of 255.
    expected = torch.tensor(
        [
            [
                [[-1.0, 1.0], [-0.6, 1.0]],
                [[-1.0, 3.0], [0.6, -1.0]],
                [[0.0, 1.0], [0.6, 0.0]],
            ]
        ]
    )
    torch.testing.assert_close(values, expected)


def test_pictures_lie_in_memory_with_their_channels_last() -> None:
    values = processor(4)(["red"] * 2, [Image.new("RGB", (4, 4))] * 2)["pixel_values"]
    assert values.is_contiguous(memory_format=torch.channels_last)


def test_the_whole_picture_is_kept_whatever_its_proportions() -> None:
    red, blue = (255, 0, 0), (0, 0, 255)
    wide = picture(*[[red] * 20 + [blue] * 20] * 4)
    pixels = processor(4).pixels(wide)
    assert pixels.shape == (4, 4, 3)
    assert pixels.dtype == np.uint8
    assert pixels[:, 0].tolist() == [list(red)] * 4
    assert pixels[:, 3].tolist() == [list(blue)] * 4


def test_pictures_of_other_modes_are_brought_to_rgb_first() -> None:
    see_through = Image.new("RGBA", (2, 2), (255, 0, 0, 0))
    assert processor().pixels(see_through).tolist() == [[[255, 255, 255]] * 2] * 2


def test_as_many_texts_as_pictures_are_needed() -> None:
    with pytest.raises(ValueError, match="shorter"):
        processor()(["red", "kite"], [None])


def test_saved_and_read_back_it_gives_the_same_tensors(tmp_path: Path) -> None:
    made = FusionProcessor(tokenizer(), 5, (0.1, 0.2, 0.3), (0.4, 0.5, 0.6), max_length=4)
    made.save_pretrained(tmp_path)
    again = FusionProcessor.from_pretrained(tmp_path)
    noise = np.random.default_rng(0).integers(0, 256, (2, 9, 7, 3)).astype(np.uint8)
    texts = ["red kite boat", None, "Boat unheard"]
    pictures = [Image.fromarray(noise[0]), Image.fromarray(noise[1]), None]
    before, after = made(texts, pictures), again(texts, pictures)
    assert before.keys() == after.keys()
    assert all(torch.equal(before[name], after[name]) for name in before)
    assert json.loads((tmp_path / "preprocessor_config.json").read_text()) == {
        "processor_class": "FusionProcessor",
        "image_size": 5,
        "image_mean": [0.1, 0.2, 0.3],
        "image_std": [0.4, 0.5, 0.6],
        "max_length": 4,
    }


def test_a_learnt_vocabulary_survives_the_disk_as_well(tmp_path: Path) -> None:
    made = build_processor(ModelSettings(), ["a red kite", "a blue kite", "Öl"], 32)
    made.save_pretrained(tmp_path)
    texts = ["a red kite", "A BLUE BIKE", "öl", "猫", None]
    assert FusionProcessor.from_pretrained(tmp_path).ids(texts) == made.ids(texts)


@pytest.mark.parametrize(
    "config",
    [
        None,
        "{",
        '"a word"',
        "[]",
        '{"image_size": 8}',
        '{"processor_class": "FusionProcessor", "crop_size": 8}',
    ],
)
def test_a_folder_without_our_processor_is_refused(config: str | None, tmp_path: Path) -> None:
    tokenizer().save_pretrained(tmp_path)
    if config is not None:
        (tmp_path / "preprocessor_config.json").write_text(config)
    with pytest.raises(CheckpointError, match=f"^{tmp_path} holds no processor of this app: "):
        FusionProcessor.from_pretrained(tmp_path)


@pytest.mark.parametrize(
    ("usual_side", "side"), [(8, 32), (32, 32), (41, 48), (64, 64), (97, 96), (4000, 96)]
)
def test_encoders_from_scratch_see_pictures_near_their_own_size(usual_side: int, side: int) -> None:
    made = build_processor(ModelSettings(), ["red kite"], usual_side)
    assert (made.image_size, made.image_mean, made.image_std) == (side, HALF, HALF)


def test_the_users_image_size_and_length_win() -> None:
    settings = ModelSettings(image_size=40, max_length=6)
    made = build_processor(settings, ["red kite"], 300)
    assert (made.image_size, made.max_length) == (40, 6)


def test_torchvision_encoders_bring_imagenets_numbers() -> None:
    settings = ModelSettings(image_encoder="torchvision:resnet50")
    made = build_processor(settings, ["red kite"], 32)
    assert (made.image_size, made.image_mean, made.image_std) == (224, *IMAGENET)


@pytest.mark.parametrize(
    ("recipe", "expected"),
    [
        (
            {
                "image_processor_type": "ViTImageProcessor",
                "size": {"height": 48, "width": 48},
                "image_mean": [0.1, 0.2, 0.3],
                "image_std": [0.4, 0.5, 0.6],
            },
            (48, (0.1, 0.2, 0.3), (0.4, 0.5, 0.6)),
        ),
        (
            {
                "image_processor_type": "CLIPImageProcessor",
                "size": {"shortest_edge": 40},
                "do_center_crop": True,
                "crop_size": {"height": 36, "width": 36},
                "image_mean": [0.1, 0.2, 0.3],
                "image_std": [0.4, 0.5, 0.6],
            },
            (36, (0.1, 0.2, 0.3), (0.4, 0.5, 0.6)),
        ),
        (
            {
                "image_processor_type": "ViTImageProcessor",
                "size": {"height": 48, "width": 48},
                "do_normalize": False,
            },
            (48, (0.0, 0.0, 0.0), (1.0, 1.0, 1.0)),
        ),
        (None, (224, *IMAGENET)),
    ],
)
def test_pretrained_image_encoders_bring_their_own_recipe(
    recipe: dict[str, object] | None, expected: tuple[object, ...], tmp_path: Path
) -> None:
    if recipe is not None:
        (tmp_path / "preprocessor_config.json").write_text(json.dumps(recipe))
    settings = ModelSettings(image_encoder=str(tmp_path))
    made = build_processor(settings, ["red kite"], 32)
    assert (made.image_size, made.image_mean, made.image_std) == expected


def test_a_pretrained_text_encoder_brings_its_tokenizer_and_its_longest_text(
    tmp_path: Path,
) -> None:
    tokenizer().save_pretrained(tmp_path)
    made = build_processor(ModelSettings(text_encoder=str(tmp_path)), ["unheard words"], 32)
    assert made.ids(["Red kite"]) == [[CLS, RED, KITE, SEP]]
    assert made.max_length == 64  # what the tokenizer allows, though the setting allows 128


@pytest.mark.parametrize("end", ["<end>", None])
def test_a_tokenizer_without_padding_pads_with_its_end_or_is_refused(
    end: str | None, tmp_path: Path
) -> None:
    words = Tokenizer(WordLevel({"<end>": 0, "red": 1, "kite": 2}, unk_token="<end>"))
    words.pre_tokenizer = Whitespace()
    PreTrainedTokenizerFast(tokenizer_object=words, eos_token=end).save_pretrained(tmp_path)
    settings = ModelSettings(text_encoder=str(tmp_path))
    if end is None:
        with pytest.raises(EncoderError) as refused:
            build_processor(settings, [], 32)
        assert str(refused.value) == f"The tokenizer of {tmp_path} has no padding token."
    else:
        batch = build_processor(settings, [], 32)(["red kite", "red"], [None, None])
        assert batch["input_ids"].tolist() == [[1, 2], [1, 0]]
        assert batch["attention_mask"].tolist() == [[1, 1], [1, 0]]
