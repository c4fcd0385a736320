"""Batches: every row once, the same order from the same seed, halves hidden by one coin a row."""

from __future__ import annotations

import shutil
from collections import Counter
from collections.abc import Callable
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest
import torch
from PIL import Image

from mmapp.data import loading
from mmapp.data.images import open_image
from mmapp.data.loading import ImageStore, PairDataset, PairLoader, Shard
from mmapp.data.pairs import LabelSet, PairTable
from mmapp.data.processor import FusionProcessor
from mmapp.data.vocabulary import learn_wordpiece
from mmapp.errors import DataError

GoodRows = Callable[..., PairTable]
WORDS = "one two three four five six seven".split()


@pytest.fixture
def processor() -> FusionProcessor:
    return FusionProcessor(learn_wordpiece([" ".join(WORDS)] * 2, 16), image_size=4, max_length=16)


@pytest.fixture
def pictures(tmp_path: Path) -> list[str]:
    """Six noisy pictures, none of the size the model sees."""
    rng = np.random.default_rng(0)
    paths = [tmp_path / f"{i}.png" for i in range(6)]
    for path in paths:
        Image.fromarray(rng.integers(0, 256, (9, 7, 3)).astype(np.uint8)).save(path)
    return [str(path) for path in paths]


@pytest.fixture
def dataset(
    processor: FusionProcessor, pictures: list[str], good_rows: GoodRows
) -> Callable[..., PairDataset]:
    """dataset(n): n complete rows whose texts have one to seven words."""

    def build(n: int, **changes: Any) -> PairDataset:
        rows = [
            {
                "image": pictures[i % 6],
                "text": " ".join(WORDS[: 1 + i * 5 % 7]),
                "label": "ab"[i % 2],
                **changes,
            }
            for i in range(n)
        ]
        return PairDataset(good_rows(rows), processor, LabelSet(("a", "b")))

    return build


def rows_of(batches: Any) -> list[list[int]]:
    return [batch["index"].tolist() for batch in batches]


def assert_same(first: list[dict[str, Any]], second: list[dict[str, Any]]) -> None:
    assert len(first) == len(second)
    for one, other in zip(first, second, strict=True):
        assert one.keys() == other.keys()
        assert one["size"] == other["size"]
        tensors = [name for name in one if name != "size"]
        assert all(torch.equal(one[name], other[name]) for name in tensors)


def test_a_batch_is_what_the_processor_would_make_of_its_pairs(
    dataset: Callable[..., PairDataset], processor: FusionProcessor, pictures: list[str]
) -> None:
    (batch,) = PairLoader(dataset(5), 8).batches()
    order = batch["index"].tolist()
    texts = [" ".join(WORDS[: 1 + i * 5 % 7]) for i in order]
    alone = processor(texts, [open_image(Path(pictures[i % 6])) for i in order])
    assert torch.equal(batch["input_ids"], alone["input_ids"])
    assert torch.equal(batch["attention_mask"], alone["attention_mask"])
    assert torch.equal(batch["pixel_values"], alone["pixel_values"])
    assert batch["labels"].tolist() == [i % 2 for i in order]
    assert batch["size"] == 5
    assert "present" not in batch  # every half is there


def test_absent_halves_are_marked_and_shown_as_the_processor_does(
    processor: FusionProcessor, pictures: list[str], good_rows: GoodRows
) -> None:
    table = good_rows([{"image": pictures[0]}, {"text": "one two"}])
    (batch,) = PairLoader(PairDataset(table, processor), 2).batches()
    assert batch["index"].tolist() == [0, 1]
    assert batch["present"].tolist() == [[False, True], [True, False]]
    alone = processor([None, "one two"], [open_image(Path(pictures[0])), None])
    assert torch.equal(batch["input_ids"], alone["input_ids"])
    assert torch.equal(batch["pixel_values"], alone["pixel_values"])
    assert "labels" not in batch


def test_labels_are_numbered_by_the_set_and_strangers_refused(
    processor: FusionProcessor, good_rows: GoodRows
) -> None:
    table = good_rows([{"text": "one", "label": label} for label in ("b", "c", "a")])
    assert PairDataset(table, processor, LabelSet(("c", "b", "a"))).labels == [1, 0, 2]
    with pytest.raises(DataError, match="^Label 'c' is not one of the 2 labels known here"):
        PairDataset(table, processor, LabelSet(("a", "b")))


@pytest.mark.parametrize("shuffle", [True, False])
@pytest.mark.parametrize(("n", "size"), [(1, 4), (8, 4), (23, 4), (600, 3), (5, 100)])
def test_an_epoch_shows_every_row_once_in_batches_of_the_size_asked_for(
    n: int, size: int, shuffle: bool, dataset: Callable[..., PairDataset]
) -> None:
    loader = PairLoader(dataset(n), size, shuffle=shuffle)
    for epoch in range(3):
        plan = loader.plan(epoch)
        assert sorted(row for rows in plan for row in rows) == list(range(n))
        assert len(plan) == len(loader)
        sizes = sorted(map(len, plan), reverse=True)
        assert sizes == [size] * (n // size) + [n % size] * (n % size > 0)
    assert rows_of(loader.batches(2)) == plan


def test_the_order_follows_from_seed_and_epoch(dataset: Callable[..., PairDataset]) -> None:
    rows = dataset(40)

    def plan(seed: int, epoch: int) -> list[list[int]]:
        return PairLoader(rows, 4, shuffle=True, seed=seed).plan(epoch)

    assert plan(3, 5) == plan(3, 5)
    plans = [plan(seed, epoch) for seed in range(3) for epoch in range(3)]
    assert all(plans.count(one) == 1 for one in plans)


def test_iterating_leaves_the_global_random_numbers_alone(
    dataset: Callable[..., PairDataset],
) -> None:
    before = torch.get_rng_state()
    list(PairLoader(dataset(9), 4, shuffle=True, modality_dropout=0.5).batches(1))
    assert torch.equal(torch.get_rng_state(), before)


def test_evaluation_goes_from_short_to_long_texts(dataset: Callable[..., PairDataset]) -> None:
    rows = dataset(20)
    lengths = [len(rows.ids[row]) for batch in PairLoader(rows, 3).plan(0) for row in batch]
    assert lengths == sorted(lengths)
    assert lengths[0] < lengths[-1]


def test_rows_of_a_training_batch_are_about_as_long_as_each_other(
    dataset: Callable[..., PairDataset],
) -> None:
    rows = dataset(350)
    plan = PairLoader(rows, 5, shuffle=True).plan(0)
    lengths = [[len(rows.ids[row]) for row in batch] for batch in plan]
    # 250 rows (50 batches of 5) are sorted together and hold seven lengths, 100 more hold seven
    # again, so at most 2 * 6 batches see two neighbouring lengths; the others see only one.
    assert sum(min(batch) != max(batch) for batch in lengths) <= 12
    # And yet short and long ones alternate over the epoch.
    firsts = [batch[0] for batch in lengths]
    assert firsts != sorted(firsts)


@pytest.mark.parametrize("dropout", [0.0, 0.5])
@pytest.mark.parametrize("skip", [0, 1, 4, 6])
def test_an_epoch_can_go_on_in_its_middle(
    skip: int, dropout: float, dataset: Callable[..., PairDataset]
) -> None:
    rows = dataset(23)
    whole = list(PairLoader(rows, 4, shuffle=True, modality_dropout=dropout).batches(2))
    rest = list(PairLoader(rows, 4, shuffle=True, modality_dropout=dropout).batches(2, skip=skip))
    assert len(whole) == 6
    assert_same(rest, whole[skip:])


def test_worker_processes_prepare_the_same_batches(dataset: Callable[..., PairDataset]) -> None:
    rows = dataset(11)
    alone = list(PairLoader(rows, 4, shuffle=True, modality_dropout=0.5).batches(1))
    loader = PairLoader(rows, 4, shuffle=True, modality_dropout=0.5, workers=1)
    assert_same(list(loader.batches(1)), alone)


@pytest.mark.parametrize("world", [2, 3])
def test_shards_share_every_batch_out_among_them(
    world: int, dataset: Callable[..., PairDataset]
) -> None:
    loader = PairLoader(dataset(22), 4, shuffle=True)
    parts = [list(loader.batches(0, shard=Shard(rank, world))) for rank in range(world)]
    for whole, *own in zip(loader.plan(0), *parts, strict=True):
        shown = [batch["index"].tolist() for batch in own]
        assert {batch["size"] for batch in own} == {len(whole)}
        if len(whole) >= world:
            assert sorted(sum(shown, [])) == sorted(whole)
            assert max(map(len, shown)) - min(map(len, shown)) <= 1
        else:
            assert shown == [whole] * world  # nobody may go without a batch


def hidden_halves(dataset: PairDataset, share: float, epoch: int = 0) -> np.ndarray:
    """What was hidden, as [n, 2] of (text, image), rows in the order of the dataset."""
    hidden = np.zeros((len(dataset), 2), dtype=bool)
    loader = PairLoader(dataset, 32, shuffle=True, modality_dropout=share)
    for batch in loader.batches(epoch):
        present = batch.get("present", torch.ones(len(batch["index"]), 2, dtype=torch.bool))
        hidden[batch["index"].numpy()] = ~present.numpy()
    return hidden


@pytest.mark.parametrize("share", [0.1, 0.5])
def test_modality_dropout_hides_its_share_and_never_both_halves(
    share: float, dataset: Callable[..., PairDataset]
) -> None:
    hidden = hidden_halves(dataset(2000), share)
    assert not hidden.all(axis=1).any()
    # Four standard deviations of 2000 coins: 4 * sqrt(0.5 * 0.5 / 2000) = 0.045.
    assert abs(hidden.any(axis=1).mean() - share) < 0.045
    of_hidden = hidden[hidden.any(axis=1)]
    assert abs(of_hidden[:, 0].mean() - 0.5) < 2 / np.sqrt(len(of_hidden))


def test_modality_dropout_hides_other_rows_every_epoch(
    dataset: Callable[..., PairDataset],
) -> None:
    rows = dataset(200)
    first = hidden_halves(rows, 0.5, epoch=0)
    assert np.array_equal(first, hidden_halves(rows, 0.5, epoch=0))
    assert not np.array_equal(first, hidden_halves(rows, 0.5, epoch=1))


def test_modality_dropout_never_hides_the_only_half(
    dataset: Callable[..., PairDataset],
) -> None:
    hidden = hidden_halves(dataset(200, image=None), 0.9)
    assert Counter(map(tuple, hidden.tolist())) == {(False, True): 200}


def test_processes_toss_their_own_coins(dataset: Callable[..., PairDataset]) -> None:
    loader = PairLoader(dataset(64), 64, modality_dropout=0.5)
    (first,), (second,) = (list(loader.batches(shard=Shard(rank, 2))) for rank in range(2))
    assert not torch.equal(first["present"], second["present"])


def test_the_store_gives_the_pixels_the_processor_makes(
    processor: FusionProcessor, pictures: list[str], tmp_path: Path
) -> None:
    store = ImageStore([*pictures, pictures[0]], processor, tmp_path)
    for path in [*pictures, *reversed(pictures)]:
        expected = processor.pixels(open_image(Path(path)))
        assert np.array_equal(store[path], expected)
    assert sorted(map(str, tmp_path.glob("*"))) == pictures  # no other file is left to see


def test_a_picture_is_decoded_once(
    processor: FusionProcessor, pictures: list[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    opened: Counter[str] = Counter()

    def count(path: Path, at_least: int | None = None) -> Image.Image:
        opened[str(path)] += 1
        return open_image(path, at_least)

    monkeypatch.setattr(loading, "open_image", count)
    store = ImageStore(pictures, processor, None)
    first = {path: store[path].copy() for path in pictures}
    again = {path: store[path] for path in pictures}
    assert opened == dict.fromkeys(pictures, 1)
    assert all(np.array_equal(first[path], again[path]) for path in pictures)


def test_on_a_full_disk_pictures_are_decoded_anew_instead_of_kept(
    processor: FusionProcessor, pictures: list[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    needed = len(pictures) * 4 * 4 * 3
    seen = {}
    for free in (2 * needed, 2 * needed + 1):
        monkeypatch.setattr(shutil, "disk_usage", lambda _, free=free: SimpleNamespace(free=free))
        store = ImageStore(pictures, processor, None)
        values = store[pictures[1]].copy()
        Path(pictures[1]).rename(f"{pictures[1]}.away")
        try:
            seen[free] = np.array_equal(store[pictures[1]], values)
        except DataError as error:
            seen[free] = str(error)
        Path(f"{pictures[1]}.away").rename(pictures[1])
    assert seen == {2 * needed: "the file does not exist", 2 * needed + 1: True}


def test_a_picture_that_went_away_is_told_in_words(
    processor: FusionProcessor, pictures: list[str]
) -> None:
    store = ImageStore(pictures, processor, None)
    Path(pictures[2]).unlink()
    with pytest.raises(DataError, match="^the file does not exist$"):
        store[pictures[2]]
