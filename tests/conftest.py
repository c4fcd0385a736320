"""What all tests stand on: no network, fixed seeds, tiny encoders and pairs made on the spot."""

from __future__ import annotations

import csv
import os
import random
import sys
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np
import pytest
from PIL import Image

if TYPE_CHECKING:
    from mmapp.data.pairs import PairTable
    from mmapp.settings import TrainSettings

# huggingface_hub reads the first of these once, when it is imported; nothing above imports it.
os.environ["HF_HUB_OFFLINE"] = "1"
# What is promised bit for bit is promised for a CPU. Set it to a number to try the GPU instead.
os.environ.setdefault("CUDA_VISIBLE_DEVICES", "")
# Tiny tensors gain nothing from threads, and threads that wait for each other lose a lot on a
# machine that has other things to do.
os.environ.setdefault("OMP_NUM_THREADS", "1")

COLOURS = {"red": (200, 40, 40), "green": (40, 180, 60), "blue": (40, 60, 220)}
# Two to seven words, so that batches need padding. "{}" becomes the colour.
TEXTS = ("{} thing", "a {} square", "the square is {} and small", "one small {} thing on a table")
SPECIAL = ("[PAD]", "[UNK]", "[CLS]", "[SEP]", "[MASK]")
# split: pairs. 26 is no multiple of the batch size, so the last batch of an epoch is a small one.
SPLIT_SIZES = {"train": 26, "validation": 8, "test": 6}


@pytest.fixture(autouse=True)
def seeds() -> None:
    """Every test draws the same random numbers, whichever ran before it."""
    random.seed(0)
    np.random.seed(0)
    if "torch" in sys.modules:
        sys.modules["torch"].manual_seed(0)


@pytest.fixture(autouse=True)
def own_accelerator() -> Iterator[None]:
    """accelerate keeps one precision a process; each test may choose its own."""
    yield
    if "accelerate" in sys.modules:
        sys.modules["accelerate"].state.AcceleratorState._reset_state(reset_partial_state=True)


@pytest.fixture(scope="session", autouse=True)
def mmapp_home(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Path]:
    """MMAPP_HOME of the whole session, so that samples are written once, and not in the real one."""
    with pytest.MonkeyPatch.context() as patch:
        folder = tmp_path_factory.mktemp("mmapp_home")
        patch.setenv("MMAPP_HOME", str(folder))
        yield folder


@pytest.fixture(scope="session")
def tiny_bert(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder as `save_pretrained` writes it: a BERT of two layers, 16 wide, and its tokenizer."""
    import torch
    from transformers import BertConfig, BertModel, BertTokenizer

    folder = tmp_path_factory.mktemp("encoders") / "tiny-bert"
    words = {word for text in TEXTS for word in text.split() if word != "{}"}
    pieces = [*SPECIAL, *COLOURS, *sorted(words)]
    tokenizer = BertTokenizer(
        vocab={piece: i for i, piece in enumerate(pieces)}, model_max_length=32
    )
    torch.manual_seed(1)
    config = BertConfig(
        vocab_size=len(pieces),
        hidden_size=16,
        num_hidden_layers=2,
        num_attention_heads=2,
        intermediate_size=32,
        max_position_embeddings=32,
        initializer_range=0.5,  # of weights as large as trained ones the outputs differ visibly
    )
    BertModel(config).save_pretrained(folder)
    tokenizer.save_pretrained(folder)
    return folder


@pytest.fixture(scope="session")
def tiny_vit(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder with a ViT of two layers for 32 pixels in patches of 8, and its image processor."""
    import torch
    from transformers import ViTConfig, ViTImageProcessor, ViTModel

    folder = tmp_path_factory.mktemp("encoders") / "tiny-vit"
    torch.manual_seed(2)
    config = ViTConfig(
        hidden_size=16,
        num_hidden_layers=2,
        num_attention_heads=2,
        intermediate_size=32,
        image_size=32,
        patch_size=8,
        initializer_range=0.5,
    )
    ViTModel(config).save_pretrained(folder)
    ViTImageProcessor(size={"height": 32, "width": 32}).save_pretrained(folder)
    return folder


@pytest.fixture(scope="session")
def tiny_resnet(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder with a ResNet of two blocks (batch norm) and an image processor for 32 pixels."""
    import torch
    from transformers import ResNetConfig, ResNetModel, ViTImageProcessor

    folder = tmp_path_factory.mktemp("encoders") / "tiny-resnet"
    torch.manual_seed(3)
    config = ResNetConfig(embedding_size=8, hidden_sizes=[8, 16], depths=[1, 1], layer_type="basic")
    ResNetModel(config).save_pretrained(folder)
    ViTImageProcessor(size={"height": 32, "width": 32}).save_pretrained(folder)
    return folder


@pytest.fixture
def put_torchvision_weights(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> Callable[[str, object], Path]:
    """Save something under the file name that torchvision's weights of a classifier ask for.

    torchvision compares a file with the hash in its name only when it downloads it; what lies in
    TORCH_HOME is taken as it is, so random weights may stand there under the real name.
    """
    import torch
    import torchvision

    folder = tmp_path / "torch_home" / "hub" / "checkpoints"
    folder.mkdir(parents=True)
    monkeypatch.setenv("TORCH_HOME", str(tmp_path / "torch_home"))

    def put(name: str, state: object) -> Path:
        url = torchvision.models.get_model_weights(name).DEFAULT.url
        path = folder / url.rpartition("/")[2]
        torch.save(state, path)
        return path

    return put


@pytest.fixture
def torch_home(put_torchvision_weights: Callable[[str, object], Path], tmp_path: Path) -> Path:
    """A TORCH_HOME that holds weights (random ones) of mobilenet_v3_small."""
    import torch
    import torchvision

    torch.manual_seed(4)
    state = torchvision.models.mobilenet_v3_small(weights=None).state_dict()
    put_torchvision_weights("mobilenet_v3_small", state)
    return tmp_path / "torch_home"


@pytest.fixture(scope="session")
def small_pairs(tmp_path_factory: pytest.TempPathFactory) -> PairTable:
    """40 pairs with their own splits: pictures of three colours, texts that name it, as labels too.

    Some pictures and most texts stand in several pairs.
    """
    from mmapp.data.ingest import load_pairs

    return load_pairs(_write_pairs(tmp_path_factory.mktemp("pairs"), absent=False))


@pytest.fixture(scope="session")
def gappy_pairs(tmp_path_factory: pytest.TempPathFactory) -> PairTable:
    """The same with every fifth text and every fifth picture absent, never both."""
    from mmapp.data.ingest import load_pairs

    return load_pairs(_write_pairs(tmp_path_factory.mktemp("gappy"), absent=True))


def _write_pairs(folder: Path, absent: bool) -> Path:
    rng = np.random.default_rng(7)
    splits = [split for split, count in SPLIT_SIZES.items() for _ in range(count)]
    with (folder / "metadata.csv").open("w", newline="", encoding="utf-8") as out:
        table = csv.writer(out)
        table.writerow(["file_name", "text", "label", "split"])
        for i, split in enumerate(splits):
            colour = list(COLOURS)[i % 3]
            name = f"{i:02}.png"
            if split == "train" and i % 6 == 5:
                name = f"{i - 3:02}.png"  # the picture of three pairs earlier, of the same colour
            else:
                pixels = rng.normal(COLOURS[colour], 30, (32, 32, 3)).clip(0, 255)
                Image.fromarray(pixels.astype(np.uint8)).save(folder / name)
            text = TEXTS[(i // 3) % len(TEXTS)].format(colour)
            if absent and i % 5 == 0:
                text = ""
            if absent and i % 5 == 1:
                name = ""
            table.writerow([name, text, colour, split])
    return folder


@pytest.fixture
def quick(tiny_bert: Path) -> TrainSettings:
    """Settings of a run that takes a second; tests replace what they are about."""
    from mmapp.settings import TrainSettings

    return TrainSettings(
        text_encoder=str(tiny_bert),
        image_encoder="scratch:cnn",
        fusion="concat",
        width=8,
        image_size=32,
        batch_size=8,
        epochs=2,
        precision="fp32",
        patience=0,
    )
