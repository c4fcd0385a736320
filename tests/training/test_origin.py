"""A run that starts from a checkpoint begins as that checkpoint ended, wherever the two agree."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

from mmapp.data.pairs import LabelSet, PairTable
from mmapp.errors import CheckpointError, SettingsError
from mmapp.evaluation.outputs import Outputs, collect
from mmapp.models.model import FusionModel
from mmapp.runs.run import Run
from mmapp.settings import TrainSettings
from mmapp.storage.checkpoint import load_checkpoint
from mmapp.training.continuing import continued
from mmapp.training.loop import train
from mmapp.training.origin import Origin
from mmapp.training.prepare import Prepared, build_model, prepare

CPU = torch.device("cpu")
COLOURS = ("blue", "green", "red")  # in the order in which the first run numbers them


def relabelled(table: PairTable, names: dict[str, str]) -> PairTable:
    return replace(table, frame=table.frame.assign(label=table.frame["label"].replace(names)))


def said(prepared: Prepared, model: FusionModel | None = None) -> Outputs:
    """What a model says of the test pairs."""
    return collect(model or prepared.model, prepared.loaders.test, device=CPU)


def begun(run: Run, table: PairTable, **given: Any) -> Prepared:
    return prepare(table, continued(run.folder, **given))


@pytest.fixture(scope="module")
def before(first_run: Run) -> FusionModel:
    return load_checkpoint(first_run.folder)[0]


def test_it_begins_with_the_answers_of_the_checkpoint(
    first_run: Run, small_pairs: PairTable, before: FusionModel
) -> None:
    prepared = begun(first_run, small_pairs)

    assert prepared.anew == ()
    assert np.array_equal(said(prepared).logits, said(prepared, before).logits)


@pytest.mark.parametrize("tuning", ["head", "full"])
def test_where_nothing_is_learnt_the_answers_stay(
    first_run: Run, small_pairs: PairTable, before: FusionModel, tuning: str
) -> None:
    """The loop measures how encoders' outputs are spread, but not anew what the fusion grew up with.

    The labels are half new: of those that stay, the answers are told by name."""
    table = relabelled(small_pairs, {"blue": "azure", "red": "a red"})
    settings = continued(first_run.folder, tuning=tuning, learning_rate=0.0, epochs=1)
    prepared = prepare(table, settings)
    for _ in train(prepared.model, prepared.loaders, settings):
        pass

    names = (*COLOURS, "a red", "azure")
    assert prepared.model.config.label_names == names
    assert prepared.anew == ("head (a red)", "head (azure)")
    old = said(prepared, before).logits
    np.testing.assert_allclose(said(prepared).logits[:, :3], old, atol=1e-5)


def test_rows_of_the_head_follow_the_names(
    first_run: Run, small_pairs: PairTable, before: FusionModel
) -> None:
    """A model whose labels stand in another order than the checkpoint's, and one of which is new."""
    settings = continued(first_run.folder)
    origin = Origin(settings)
    labels = LabelSet(("red", "azure", "blue"))
    model = build_model(settings, "classify", labels, origin.processor(settings), origin)

    assert origin.hand_over(model) == ("head (azure)",)
    prepared = begun(first_run, small_pairs)
    old, new = said(prepared, before).logits, said(prepared, model).logits
    assert np.array_equal(new[:, [2, 0]], old[:, [0, 2]])


def test_disjoint_labels_are_the_datas_own(first_run: Run, small_pairs: PairTable) -> None:
    table = relabelled(small_pairs, dict(zip(COLOURS, ("x", "z", "y"), strict=True)))
    prepared = begun(first_run, table)

    assert prepared.model.config.label_names == ("x", "y", "z")
    assert prepared.anew == ("head (x)", "head (y)", "head (z)")


def test_another_task_has_a_head_of_its_own(first_run: Run, small_pairs: PairTable) -> None:
    prepared = begun(first_run, small_pairs, task="multilabel")

    assert prepared.model.several
    assert prepared.anew == ("head",)


def test_another_fusion_keeps_encoders_and_projections(
    first_run: Run, small_pairs: PairTable, before: FusionModel
) -> None:
    prepared = begun(first_run, small_pairs, fusion="late")

    assert prepared.anew == ("fusion", "head")
    own, old = prepared.model.state_dict(), before.state_dict()
    kept = [name for name in old if name.split(".")[0] not in ("fusion", "head")]
    assert kept
    assert all(torch.equal(own[name], old[name]) for name in kept)
    assert prepared.model.config.label_names == COLOURS


def test_weights_of_another_fusion_are_no_use_even_where_they_would_fit(first_run: Run) -> None:
    settings = continued(first_run.folder)
    origin = Origin(settings)
    processor = origin.processor(settings)
    model = build_model(settings, "classify", LabelSet(COLOURS), processor, origin)
    origin.config.fusion = "one with the same matrices"

    assert origin.hand_over(model) == ("fusion", "head")


def test_another_width_keeps_the_encoders(first_run: Run, small_pairs: PairTable) -> None:
    prepared = begun(first_run, small_pairs, width=16)

    assert prepared.anew == ("projections.text", "projections.image", "absent", "fusion", "head")


def test_an_encoder_that_the_checkpoint_lacks_is_built_by_its_name(
    first_run: Run, small_pairs: PairTable, tmp_path: Path
) -> None:
    blind = begun(first_run, small_pairs, fusion="text-only")
    blind.model.save_pretrained(tmp_path)
    blind.processor.save_pretrained(tmp_path)
    settings = continued(tmp_path, fusion="concat")

    prepared = prepare(small_pairs, settings)

    assert prepared.anew == ("image_encoder", "projections.image", "fusion", "head")
    assert said(prepared).logits.shape == (6, 3)


def test_words_are_those_of_the_checkpoint_and_sizes_those_of_the_settings(
    first_run: Run, small_pairs: PairTable
) -> None:
    table = replace(small_pairs, frame=small_pairs.frame.assign(text="zebra xylophone"))
    processor = begun(first_run, table, max_length=9, image_size=48).processor

    own = load_checkpoint(first_run.folder)[1]
    assert processor.tokenizer.get_vocab() == own.tokenizer.get_vocab()
    assert (processor.max_length, processor.image_size) == (9, 48)


def test_the_image_among_the_words_finds_room(first_run: Run, small_pairs: PairTable) -> None:
    """The tiny BERT has 32 positions; fusion early wants nine of them for the image."""
    prepared = begun(first_run, small_pairs, fusion="early", max_length=100)

    assert prepared.processor.max_length == 32 - 9


def test_the_same_seed_draws_the_same_and_another_other_weights(
    first_run: Run, small_pairs: PairTable
) -> None:
    first, again, other = (
        begun(first_run, small_pairs, fusion="late", seed=seed).model.head.out.weight
        for seed in (0, 0, 1)
    )
    assert torch.equal(first, again)
    assert not torch.equal(first, other)


def test_a_new_label_is_learnt_beside_the_old_ones(first_run: Run, small_pairs: PairTable) -> None:
    table = relabelled(small_pairs, {"green": "teal"})
    settings = continued(
        first_run.folder, epochs=15, batch_size=8, learning_rate=0.001, patience=0
    )
    prepared = prepare(table, settings)
    for _ in train(prepared.model, prepared.loaders, settings):
        pass

    seen = said(prepared)
    assert prepared.model.config.label_names == (*COLOURS, "teal")
    assert sorted(seen.truth()) == [0, 0, 2, 2, 3, 3]
    assert (seen.probabilities().argmax(axis=1) == seen.truth()).all()


def test_shots_leave_training_pairs_out_and_no_others(first_run: Run, small_pairs: PairTable) -> None:
    loaders = begun(first_run, small_pairs, shots=2).loaders

    sizes = [len(part.dataset) for part in (loaders.train, loaders.validation, loaders.test)]
    assert sizes == [6, 8, 6]
    assert sorted(loaders.train.dataset.labels) == [0, 0, 1, 1, 2, 2]


def test_a_checkpoint_that_has_gone_is_missed_in_words(
    small_pairs: PairTable, quick: TrainSettings, tmp_path: Path
) -> None:
    with pytest.raises(CheckpointError) as missed:
        prepare(small_pairs, quick.replace(start_from=str(tmp_path / "gone")))
    assert str(missed.value).startswith(
        "What this run starts from is needed, also to resume it. There is no checkpoint "
        f"{tmp_path}/gone. Expected a folder or a shipped name."
    )


def test_settings_with_other_encoders_are_refused(
    first_run: Run, small_pairs: PairTable, quick: TrainSettings
) -> None:
    settings = quick.replace(start_from=str(first_run.folder), text_encoder="scratch:bert")
    with pytest.raises(SettingsError, match="text encoder tiny-bert, and scratch:bert is wanted"):
        prepare(small_pairs, settings)
