"""What settings promise about learning, kept: halves that may be absent, fusions with tunings."""

from __future__ import annotations

import csv
import math
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
import torch
from PIL import Image

from mmapp.data.ingest import load_pairs
from mmapp.data.pairs import PairTable
from mmapp.evaluation.outputs import forward_inputs
from mmapp.models.fusion import FUSIONS
from mmapp.models.tuning import TUNINGS
from mmapp.settings import TrainSettings
from mmapp.training.loop import train
from mmapp.training.prepare import Prepared, prepare

COLOURS = {"red": (200, 40, 40), "green": (40, 180, 60), "blue": (40, 60, 220)}
TEXTS = ("{} thing", "a {} square", "the square is {} and small", "one small {} thing on a table")


@pytest.fixture(scope="module")
def half_is_plain(tmp_path_factory: pytest.TempPathFactory) -> Callable[[str], PairTable]:
    """Pairs of which each half alone tells the label, one of them more plainly than the other."""

    def write(plain: str) -> PairTable:
        folder = tmp_path_factory.mktemp(plain)
        rng = np.random.default_rng(3)
        rows = [["file_name", "text", "label", "split"]]
        for i in range(36):
            colour = list(COLOURS)[i % 3]
            noise = 5 if plain == "image" else 90
            pixels = rng.normal(COLOURS[colour], noise, (32, 32, 3)).clip(0, 255)
            Image.fromarray(pixels.astype(np.uint8)).save(folder / f"{i}.png")
            text = TEXTS[0 if plain == "text" else i // 3 % 4].format(colour)
            split = "test" if i < 3 else "validation" if i < 6 else "train"
            rows.append([f"{i}.png", text, colour, split])
        with (folder / "metadata.csv").open("w", newline="", encoding="utf-8") as out:
            csv.writer(out).writerows(rows)
        return load_pairs(folder)

    return write


def accuracy(prepared: Prepared, present: tuple[bool, bool]) -> float:
    """Of the training pairs, when only the halves that are `present` (text, image) are shown."""
    right = []
    with torch.no_grad():
        for batch in prepared.loaders.train.batches():
            shown = torch.tensor([present]).expand(len(batch["labels"]), 2)
            inputs = {**forward_inputs(batch), "present": shown}
            right.append(prepared.model.eval()(**inputs).logits.argmax(dim=1) == batch["labels"])
    return float(torch.cat(right).float().mean())


@pytest.mark.parametrize("plain", ["text", "image"])
def test_modality_dropout_makes_a_model_that_answers_when_a_half_is_absent(
    half_is_plain: Callable[[str], PairTable], quick: TrainSettings, plain: str
) -> None:
    """Without it a model leans on the half that tells more plainly and is lost when that is gone."""
    pairs = half_is_plain(plain)
    other_alone = (plain != "text", plain != "image")

    def trained(modality_dropout: float) -> Prepared:
        settings = quick.replace(
            fusion="attention",
            tuning="head",
            width=16,
            batch_size=16,
            epochs=50,
            learning_rate=0.005,
            schedule="constant",
            watch="loss",
            dropout=0.0,
            modality_dropout=modality_dropout,
        )
        prepared = prepare(pairs, settings)
        list(train(prepared.model, prepared.loaders, settings))
        return prepared

    without, with_it = trained(0.0), trained(0.3)

    assert accuracy(without, (True, True)) == accuracy(with_it, (True, True)) == 1.0
    assert accuracy(without, other_alone) < 0.65  # a third by chance
    assert accuracy(with_it, other_alone) > 0.75


def moved_by(tuning: str, name: str) -> bool:
    """May this weight of an encoder (of two layers) move?"""
    last = ".layer.1." in name or ".layers.1." in name
    return {
        "head": False,
        "lora": name.endswith("weight"),
        "bias": name.endswith("bias"),
        "top-k": last or "layernorm" in name or "pooler" in name,
        "full": True,
    }[tuning]


@pytest.mark.parametrize(
    ("fusion", "tuning"),
    [
        *((fusion, "full") for fusion in FUSIONS),
        # a text encoder that reads the image has no features to be computed beforehand
        *((fusion, "head") for fusion in FUSIONS if not FUSIONS[fusion].image_words),
        # the others choose among the encoders' weights and do not know what comes after them
        *((f, t) for f in ("attention", "early") for t in TUNINGS if t not in ("full", "head")),
    ],
)
def test_fusions_learn_with_tunings_and_move_what_those_name(
    few_pairs: PairTable, quick: TrainSettings, tiny_vit: Path, fusion: str, tuning: str
) -> None:
    settings = quick.replace(
        fusion=fusion,
        tuning=tuning,
        image_encoder=str(tiny_vit),
        top_layers=1,
        lora_rank=2,
        epochs=4,
        schedule="constant",
        warmup=0.0,
        learning_rate=0.01,
        encoder_learning_rate=0.001,
        modality_dropout=0.0,
        dropout=0.0,
        watch="loss",
    )
    prepared = prepare(few_pairs, settings)
    before = {name: weight.clone() for name, weight in prepared.model.named_parameters()}

    events = list(train(prepared.model, prepared.loaders, settings))

    after = dict(prepared.model.named_parameters())
    moved = {name for name in before if not torch.equal(before[name], after[name])}
    losses = [e.values["train_loss"] for e in events if e.kind == "evaluated"]
    assert math.isfinite(sum(losses))
    assert losses[-1] < losses[0]
    assert moved - of_encoders(moved), "neither fusion nor head moved"
    assert bool(of_encoders(moved)) == (tuning != "head")
    assert [name for name in of_encoders(moved) if not moved_by(tuning, name)] == []


def of_encoders(names: set[str]) -> set[str]:
    return {name for name in names if name.startswith(("text_encoder.", "image_encoder."))}


@pytest.fixture(scope="module")
def few_pairs(small_pairs: PairTable) -> PairTable:
    """One batch to learn from and one to be judged by."""
    parts = [small_pairs.part("train").frame[:8], small_pairs.part("validation").frame[:4]]
    return replace(small_pairs, frame=pd.concat([*parts, small_pairs.part("test").frame[:2]]))
