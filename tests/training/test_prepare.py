"""From pairs and settings to a model, a processor and loaders that fit each other."""

from __future__ import annotations

import json
import shutil
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import torch
import torchvision
from transformers import BertModel, MPNetConfig, ResNetModel, RobertaConfig, ViTModel

from mmapp.data.pairs import PairTable
from mmapp.errors import EncoderError, SettingsError, TrainingError
from mmapp.evaluation.outputs import forward_inputs
from mmapp.settings import DataSettings, TrainSettings
from mmapp.training.prepare import _longest, prepare


def equal_weights(one: torch.nn.Module, other: torch.nn.Module) -> bool:
    left, right = one.state_dict(), other.state_dict()
    return left.keys() == right.keys() and all(torch.equal(t, right[k]) for k, t in left.items())


def test_it_unpacks_as_model_processor_and_loaders(
    small_pairs: PairTable, quick: TrainSettings
) -> None:
    model, processor, loaders = prepare(small_pairs, quick)

    sizes = {
        split: len(getattr(loaders, split).dataset) for split in ("train", "validation", "test")
    }
    assert sizes == {"train": 26, "validation": 8, "test": 6}
    batch = next(iter(loaders.train.batches()))
    logits = model(**{k: batch[k] for k in ("input_ids", "attention_mask", "pixel_values")}).logits
    assert logits.shape == (8, 3)
    assert processor.image_size == 32


def test_the_configuration_says_everything_the_model_is_built_from(
    small_pairs: PairTable, quick: TrainSettings, tiny_bert: Path
) -> None:
    settings = quick.replace(fusion="bilinear", dropout=0.3, seed=5, test_fraction=0.2)
    config = prepare(small_pairs, settings).model.config

    assert config.id2label == {0: "blue", 1: "green", 2: "red"}
    assert config.label2id == {"blue": 0, "green": 1, "red": 2}
    assert (config.text_encoder, config.image_encoder) == (str(tiny_bert), "scratch:cnn")
    assert (config.text_config.model_type, config.image_config.model_type) == ("bert", "mmapp_cnn")
    assert (config.text_width, config.image_width, config.width) == (16, 128, 8)
    assert (config.fusion, config.task, config.dropout) == ("bilinear", "classify", 0.3)
    assert config.data_fingerprint == small_pairs.fingerprint()
    # Enough to deal the same data again, whoever holds only the checkpoint.
    dealt = DataSettings(**config.data_settings)
    assert (dealt.seed, dealt.test_fraction) == (5, 0.2)


def test_pretrained_encoders_come_with_their_own_weights(
    small_pairs: PairTable, quick: TrainSettings, tiny_bert: Path, tiny_vit: Path
) -> None:
    """Building the model around them must not draw them anew."""
    model = prepare(small_pairs, quick.replace(image_encoder=str(tiny_vit))).model

    assert equal_weights(model.text_encoder.backbone, BertModel.from_pretrained(tiny_bert))
    assert equal_weights(model.image_encoder.backbone, ViTModel.from_pretrained(tiny_vit))
    assert (model.config.text_width, model.config.image_width) == (16, 16)


def test_a_torchvision_encoder_comes_with_the_weights_of_torch_home(
    small_pairs: PairTable, quick: TrainSettings, torch_home: Path
) -> None:
    settings = quick.replace(image_encoder="torchvision:mobilenet_v3_small", fusion="image-only")
    model = prepare(small_pairs, settings).model

    original = torchvision.models.mobilenet_v3_small(weights="DEFAULT")
    assert equal_weights(model.image_encoder.backbone.trunk.features, original.features)
    assert model.config.image_width == 576


@pytest.mark.parametrize(("encoder", "fixed"), [("tiny_resnet", True), ("scratch:resnet", False)])
def test_only_pretrained_batch_norm_statistics_are_fixed(
    request: pytest.FixtureRequest,
    small_pairs: PairTable,
    quick: TrainSettings,
    encoder: str,
    fixed: bool,
) -> None:
    name = encoder if ":" in encoder else str(request.getfixturevalue(encoder))
    model = prepare(small_pairs, quick.replace(image_encoder=name)).model.train()

    norms = [m for m in model.image_encoder.modules() if isinstance(m, torch.nn.BatchNorm2d)]
    assert norms
    assert {norm.training for norm in norms} == {not fixed}
    assert model.config.fixed_batch_norm is fixed


def test_the_image_processor_of_the_encoder_decides_size_and_normalisation(
    small_pairs: PairTable, quick: TrainSettings, tiny_resnet: Path
) -> None:
    settings = quick.replace(image_encoder=str(tiny_resnet), image_size=None)
    prepared = prepare(small_pairs, settings)

    assert prepared.processor.image_size == 32
    original = ResNetModel.from_pretrained(tiny_resnet)
    assert equal_weights(prepared.model.image_encoder.backbone, original)


def test_the_same_seed_builds_the_same_model_and_another_another(
    small_pairs: PairTable, quick: TrainSettings
) -> None:
    settings = quick.replace(text_encoder="scratch:bert")
    first, again = (prepare(small_pairs, settings).model for _ in range(2))
    other = prepare(small_pairs, settings.replace(seed=1)).model

    assert equal_weights(first, again)
    assert not torch.equal(first.head.out.weight, other.head.out.weight)


def test_texts_are_cut_where_the_encoder_has_no_more_positions(
    small_pairs: PairTable, quick: TrainSettings, tiny_bert: Path, tmp_path: Path
) -> None:
    """The tiny BERT has 32 positions, and here a tokenizer that does not know it."""
    folder = tmp_path / "longer"
    shutil.copytree(tiny_bert, folder)
    about = json.loads((folder / "tokenizer_config.json").read_text())
    (folder / "tokenizer_config.json").write_text(json.dumps({**about, "model_max_length": 512}))
    frame = small_pairs.frame.copy()
    frame.loc[0, "text"] = "square " * 50
    settings = quick.replace(max_length=200, text_encoder=str(folder))
    prepared = prepare(replace(small_pairs, frame=frame), settings)

    longest = max(len(ids) for ids in prepared.loaders.train.dataset.ids)
    assert prepared.processor.max_length == longest == 32
    long_batch = next(b for b in prepared.loaders.train.batches() if 0 in b["index"])
    prepared.model.text_encoder(long_batch["input_ids"], long_batch["attention_mask"])


@pytest.mark.parametrize(("encoder", "kept"), [("tiny", 32 - 9), ("scratch:bert", 40)])
def test_where_the_text_encoder_reads_the_image_too_there_are_positions_for_both(
    small_pairs: PairTable, quick: TrainSettings, tiny_bert: Path, encoder: str, kept: int
) -> None:
    frame = small_pairs.frame.copy()
    frame.loc[0, "text"] = "square " * 50
    named = str(tiny_bert) if encoder == "tiny" else encoder
    settings = quick.replace(fusion="early", max_length=40, text_encoder=named)

    model, processor, loaders = prepare(replace(small_pairs, frame=frame), settings)

    long_batch = next(b for b in loaders.train.batches() if 0 in b["index"])
    assert processor.max_length == long_batch["input_ids"].shape[1] == kept
    model(**forward_inputs(long_batch))


@pytest.mark.parametrize(
    ("config", "longest"),
    [
        (RobertaConfig(max_position_embeddings=514), 512),
        (MPNetConfig(max_position_embeddings=514), 512),
        (object(), 10**6),
    ],
)
def test_some_families_lose_two_positions_to_their_padding(config: object, longest: int) -> None:
    assert _longest(config) == longest


def test_a_scratch_vocabulary_is_learnt_from_the_training_texts_alone(
    small_pairs: PairTable, quick: TrainSettings
) -> None:
    frame = small_pairs.frame.copy()
    frame.loc[frame["split"] == "test", "text"] = "zebra zebra xylophone"
    settings = quick.replace(text_encoder="scratch:bert")
    prepared = prepare(replace(small_pairs, frame=frame), settings)

    pieces = prepared.processor.tokenizer.get_vocab()
    assert "square" in pieces
    assert "z" not in pieces  # no training text has this letter
    assert prepared.model.config.text_config.vocab_size == len(prepared.processor.tokenizer)


def test_a_processor_that_is_given_is_used(small_pairs: PairTable, quick: TrainSettings) -> None:
    """A resumed run must read texts with the vocabulary it began with."""
    settings = quick.replace(text_encoder="scratch:bert")
    own = prepare(small_pairs, settings).processor

    assert prepare(small_pairs, settings, processor=own).processor is own


def test_modality_dropout_is_for_training_only(
    small_pairs: PairTable, quick: TrainSettings
) -> None:
    loaders = prepare(small_pairs, quick.replace(modality_dropout=0.9)).loaders

    assert any("present" in batch for batch in loaders.train.batches())
    assert not any("present" in batch for batch in loaders.validation.batches())
    assert not any("present" in batch for batch in loaders.test.batches())


@pytest.mark.parametrize(
    ("labels", "task", "names"),
    [
        (["match", "mismatch"], "match", ["mismatch", "match"]),
        (["10", "9"], "classify", ["9", "10"]),
    ],
)
def test_the_task_and_the_order_of_labels_are_read_off_the_labels(
    small_pairs: PairTable, quick: TrainSettings, labels: list[str], task: str, names: list[str]
) -> None:
    column = [labels[i % 2] for i in range(len(small_pairs))]
    table = replace(small_pairs, frame=small_pairs.frame.assign(label=column))

    config = prepare(table, quick).model.config

    assert config.task == task
    assert config.id2label == dict(enumerate(names))


def test_pairs_of_one_label_only_cannot_be_learnt(
    small_pairs: PairTable, quick: TrainSettings
) -> None:
    table = replace(small_pairs, frame=small_pairs.frame.assign(label="red"))

    with pytest.raises(TrainingError, match=r"^All 40 pairs have the label 'red'\..*two labels"):
        prepare(table, quick)


@pytest.mark.parametrize("split", ["train", "validation", "test"])
def test_a_split_without_a_pair_is_named(
    small_pairs: PairTable, quick: TrainSettings, split: str
) -> None:
    kept = small_pairs.frame[small_pairs.frame["split"] != split].reset_index(drop=True)

    with pytest.raises(
        TrainingError, match=rf"^No pair is in the {split} split \({len(kept)} pairs"
    ):
        prepare(replace(small_pairs, frame=kept), quick)


@pytest.mark.parametrize(
    ("change", "error", "sentence"),
    [
        ({"task": "guess"}, SettingsError, "no task 'guess'. Expected one of classify, multi"),
        ({"fusion": "glue"}, SettingsError, "no fusion 'glue'. Expected one of concat, sum"),
        ({"text_encoder": "scratch:elmo"}, EncoderError, "no text encoder scratch:elmo"),
        ({"image_encoder": "torchvision:resnet51"}, EncoderError, "no classifier 'resnet51'"),
        ({"image_encoder": "nobody/nothing"}, EncoderError, "HF_HUB_OFFLINE forbids the network"),
    ],
)
def test_what_does_not_exist_is_refused_in_a_sentence(
    small_pairs: PairTable,
    quick: TrainSettings,
    change: dict[str, Any],
    error: type[Exception],
    sentence: str,
) -> None:
    with pytest.raises(error, match=sentence):
        prepare(small_pairs, quick.replace(**change))


def test_a_text_encoder_in_the_images_place_is_refused_in_a_sentence(
    small_pairs: PairTable, quick: TrainSettings, tiny_bert: Path
) -> None:
    with pytest.raises(EncoderError, match="BertModel cannot be used as this kind of encoder"):
        prepare(small_pairs, quick.replace(image_encoder=str(tiny_bert)))
