"""Distinct inputs in batches that recur: a new one costs its own batch and no other."""

from __future__ import annotations

import hashlib
import shutil
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from mmapp.data.loading import PairDataset
from mmapp.data.pairs import PairTable
from mmapp.errors import DataError
from mmapp.settings import TrainSettings
from mmapp.training.encoder_inputs import (
    AT_ONCE,
    INPUTS,
    USUAL,
    Inputs,
    image_inputs,
    image_keys,
    text_inputs,
    text_keys,
)
from mmapp.training.prepare import prepare


def made_up(numbers: list[int], lengths: bool) -> Inputs:
    """One input for each number, with a key of its own and, if asked for, 1 to 40 tokens."""
    keys = [hashlib.blake2b(str(n).encode(), digest_size=16).digest() for n in numbers]
    return Inputs(keys, [1 + n % 40 for n in numbers] if lengths else [], {}, lambda some: ())


def met(inputs: Inputs) -> set[tuple[bytes, ...]]:
    """Every batch, as the keys in it."""
    return {tuple(inputs.keys[i] for i in batch) for batch in inputs.batches()}


@pytest.mark.parametrize("lengths", [True, False])
def test_every_input_is_in_one_batch_of_a_good_size(lengths: bool) -> None:
    inputs = made_up(list(range(3000)), lengths)

    batches = list(inputs.batches())

    assert sorted(i for batch in batches for i in batch) == list(range(3000))
    assert max(map(len, batches)) <= AT_ONCE
    assert USUAL / 2 < np.mean([len(batch) for batch in batches]) <= USUAL
    if lengths:
        ordered = [inputs.lengths[i] for batch in batches for i in batch]
        assert ordered == sorted(ordered)


@pytest.mark.parametrize("lengths", [True, False])
def test_new_inputs_change_their_own_batches_alone(lengths: bool) -> None:
    before = met(made_up(list(range(3000)), lengths))

    for new in range(3000, 3010):
        after = met(made_up([*range(3000), new], lengths))
        assert 1 <= len(after - before) <= 4  # of about a hundred


def test_the_order_of_the_rows_does_not_matter() -> None:
    assert met(made_up(list(range(500)), True)) == met(made_up(list(range(499, -1, -1)), True))


@pytest.fixture
def dataset(gappy_pairs: PairTable, quick: TrainSettings) -> PairDataset:
    return prepare(gappy_pairs, quick).loaders.train.dataset


def test_the_same_text_and_the_same_picture_have_one_key_wherever_they_stand(
    dataset: PairDataset, gappy_pairs: PairTable, tmp_path: Path
) -> None:
    frame = gappy_pairs.part("train").frame.copy()
    for row, image in frame["image"].items():
        if image:
            frame.loc[row, "image"] = shutil.copy(image, tmp_path / f"{row}.png")
    frame["text"] = frame["text"].map(lambda text: f" {text.upper()} ", na_action="ignore")
    frame["text"] = frame["text"].astype(object).where(frame["text"].notna(), None)
    elsewhere = PairDataset(replace(gappy_pairs, frame=frame[::-1]), dataset.processor)

    assert text_keys(elsewhere) == text_keys(dataset)[::-1]
    assert image_keys(elsewhere) == image_keys(dataset)[::-1]
    for modality, of in INPUTS.items():
        assert len(of([dataset, elsewhere]).keys) == len(of([dataset]).keys), modality


def test_keys_tell_apart_what_differs_and_are_none_where_a_half_is_absent(
    dataset: PairDataset,
) -> None:
    for keys, values in ((text_keys(dataset), dataset.texts), (image_keys(dataset), dataset.images)):
        assert [key is None for key in keys] == [value is None for value in values]
        assert len(set(keys)) == len(set(values))


def test_a_picture_without_a_hash_is_told_by_its_file(
    dataset: PairDataset, gappy_pairs: PairTable
) -> None:
    frame = gappy_pairs.part("train").frame.assign(image_hash=None)
    by_hand = PairDataset(PairTable(frame, "by hand"), dataset.processor)

    assert image_keys(by_hand) == image_keys(dataset)


def test_batches_hold_what_the_processor_makes_of_their_inputs(dataset: PairDataset) -> None:
    rows = [i for i, text in enumerate(dataset.texts) if text and dataset.images[i]][:3]
    texts, images = text_inputs([dataset]), image_inputs([dataset])
    expected = dataset.processor(
        [dataset.texts[i] for i in rows], [Image.open(dataset.images[i]) for i in rows]
    )

    ids, mask = texts.batch([texts.keys.index(text_keys(dataset)[i]) for i in rows])
    (pixels,) = images.batch([images.keys.index(image_keys(dataset)[i]) for i in rows])

    assert ids.tolist() == expected["input_ids"].tolist()
    assert mask.tolist() == expected["attention_mask"].tolist()
    assert np.array_equal(pixels, expected["pixel_values"])


def test_a_picture_that_changed_since_is_not_taken_for_what_it_was(
    dataset: PairDataset, gappy_pairs: PairTable, tmp_path: Path
) -> None:
    frame = gappy_pairs.part("train").frame.copy()
    row = int(frame["image"].first_valid_index())
    path = tmp_path / "one.png"
    frame.loc[row, "image"] = str(path)
    Image.new("RGB", (32, 32), "yellow").save(path)
    changed = PairDataset(replace(gappy_pairs, frame=frame), dataset.processor)
    inputs = image_inputs([changed])

    with pytest.raises(DataError, match="^Image one.png has changed since the data was read. Start"):
        inputs.batch([inputs.keys.index(image_keys(changed)[row])])
