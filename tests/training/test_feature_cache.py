"""Cached features stand for the encoders: the same logits, each text and picture encoded once."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

from mmapp.data.loading import PairLoader
from mmapp.data.pairs import PairTable
from mmapp.evaluation.outputs import forward_inputs
from mmapp.models.encoders import Encoding
from mmapp.models.fusion import FUSIONS
from mmapp.settings import TrainSettings
from mmapp.training import feature_cache
from mmapp.training.feature_cache import FeatureCache, FeatureStore
from mmapp.training.prepare import Prepared, prepare

CPU = torch.device("cpu")


def fill(prepared: Prepared, **options: Any) -> list[dict[str, Any]]:
    """Put features in the place of the train and validation pairs; gives the events' values."""
    loaders = [prepared.loaders.train, prepared.loaders.validation]
    events = list(FeatureCache(prepared.model, device=CPU, **options).fill(loaders))
    assert {event.kind for event in events} <= {"encoded"}
    return [event.values for event in events]


@torch.no_grad()
def logits_by_row(prepared: Prepared, loader: PairLoader) -> dict[int, torch.Tensor]:
    prepared.model.eval()
    return {
        int(row): logits
        for batch in loader.batches()
        for row, logits in zip(
            batch["index"], prepared.model(**forward_inputs(batch)).logits, strict=True
        )
    }


@pytest.mark.parametrize("pairs", ["small_pairs", "gappy_pairs"])
@pytest.mark.parametrize("fusion", [name for name in FUSIONS if not FUSIONS[name].image_words])
def test_cached_features_give_the_logits_of_the_direct_forward(
    request: pytest.FixtureRequest, quick: TrainSettings, fusion: str, pairs: str
) -> None:
    settings = quick.replace(fusion=fusion, modality_dropout=0.0)
    prepared = prepare(request.getfixturevalue(pairs), settings)
    loaders = (prepared.loaders.train, prepared.loaders.validation)
    with torch.no_grad():
        prepared.model.head.out.weight.normal_()
    direct = [logits_by_row(prepared, loader) for loader in loaders]

    fill(prepared)

    # Tokens are kept in half precision, which has ten bits; pooled features are kept whole, and
    # differ only by how the encoder rounds in a batch of other company.
    tolerance = 3e-3 if FUSIONS[fusion].needs_tokens else 1e-5
    for loader, expected in zip(loaders, direct, strict=True):
        found = logits_by_row(prepared, loader)
        assert found.keys() == expected.keys()
        for row, logits in found.items():
            torch.testing.assert_close(logits, expected[row], rtol=tolerance, atol=tolerance)


def test_each_distinct_text_and_picture_is_encoded_once(
    gappy_pairs: PairTable, quick: TrainSettings, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(feature_cache, "AT_ONCE", 5)
    prepared = prepare(gappy_pairs, quick)
    read = {"text": 0, "image": 0}

    def count(modality: str) -> Any:
        def hook(_: Any, args: tuple[torch.Tensor, ...]) -> None:
            read[modality] += len(args[0])

        return hook

    prepared.model.text_encoder.register_forward_pre_hook(count("text"))
    prepared.model.image_encoder.register_forward_pre_hook(count("image"))

    told = fill(prepared)

    used = gappy_pairs.frame[gappy_pairs.frame["split"] != "test"]
    distinct = {"text": used["text"].nunique(), "image": used["image"].nunique()}
    assert distinct["text"] < used["text"].count()  # some stand in several pairs
    assert distinct["image"] < used["image"].count()
    assert read == distinct
    last = {values["modality"]: (values["done"], values["total"]) for values in told}
    assert last == {modality: (count, count) for modality, count in distinct.items()}


def test_no_encoder_runs_once_features_are_there(
    small_pairs: PairTable, quick: TrainSettings
) -> None:
    prepared = prepare(small_pairs, quick)
    fill(prepared)

    def forbidden(*_: Any) -> None:
        raise AssertionError("an encoder ran although its features are cached")

    prepared.model.text_encoder.register_forward_pre_hook(forbidden)
    prepared.model.image_encoder.register_forward_pre_hook(forbidden)

    assert len(logits_by_row(prepared, prepared.loaders.train)) == 26


def test_batches_keep_their_order_labels_and_absences(
    gappy_pairs: PairTable, quick: TrainSettings
) -> None:
    settings = quick.replace(modality_dropout=0.4)
    direct, cached = prepare(gappy_pairs, settings), prepare(gappy_pairs, settings)
    fill(cached)

    pairs = zip(direct.loaders.train.batches(1), cached.loaders.train.batches(1), strict=True)
    for before, after in pairs:
        assert "encodings" in after
        assert "input_ids" not in after
        assert (before["size"], "present" in before) == (after["size"], "present" in after)
        for name in {"index", "labels", "present"} & before.keys():
            assert torch.equal(before[name], after[name]), name


def test_stopped_it_changes_nothing(small_pairs: PairTable, quick: TrainSettings) -> None:
    prepared = prepare(small_pairs, quick)
    datasets = (prepared.loaders.train.dataset, prepared.loaders.validation.dataset)

    # Asked before each of two batches: the texts are encoded, the pictures no more.
    answers = iter([False, True])
    told = fill(prepared, should_stop=lambda: next(answers))

    assert [values["modality"] for values in told] == ["text"]
    assert (prepared.loaders.train.dataset, prepared.loaders.validation.dataset) == datasets


def test_a_modality_that_no_pair_has_needs_no_features(
    small_pairs: PairTable, quick: TrainSettings
) -> None:
    frame = small_pairs.frame.assign(text=None)
    pairs = PairTable(frame.astype({"text": object}).where(frame.notna(), None), "pictures alone")
    prepared = prepare(pairs, quick.replace(fusion="attention", text_encoder="scratch:bert"))
    direct = logits_by_row(prepared, prepared.loaders.validation)

    told = fill(prepared)

    assert {values["modality"] for values in told} == {"image"}
    found = logits_by_row(prepared, prepared.loaders.validation)
    for row, logits in direct.items():
        torch.testing.assert_close(found[row], logits, rtol=3e-3, atol=3e-3)


# Three texts of two, one and three tokens, laid in out of order.
FIRST = Encoding(
    torch.tensor([[1.1, 1.2], [2.1, 2.2]]),
    torch.tensor([[[0.1, 0.2], [0.3, 0.4], [9.0, 9.0]], [[0.5, 0.6], [9.0, 9.0], [9.0, 9.0]]]),
    torch.tensor([[True, True, False], [True, False, False]]),
)
SECOND = Encoding(
    torch.tensor([[3.1, 3.2]]),
    torch.tensor([[[1.0, 2.0], [3.0, 4.0], [5.0, 6.0]]]),
    torch.tensor([[True, True, True]]),
)


@pytest.fixture
def store(tmp_path: Path) -> FeatureStore:
    store = FeatureStore([1, 3, 2], width=2, tokens=True, folder=tmp_path)
    store.put([2, 0], FIRST)
    store.put([1], SECOND)
    return store


def test_a_store_gives_back_what_was_put_in_padded_to_the_longest_row(store: FeatureStore) -> None:
    encoding = store.get(np.array([2, 0]))

    assert torch.equal(encoding.pooled, FIRST.pooled)
    half = torch.tensor([[[0.1, 0.2], [0.3, 0.4]], [[0.5, 0.6], [0.0, 0.0]]]).half().float()
    assert torch.equal(encoding.tokens, half)
    assert encoding.mask.tolist() == [[True, True], [True, False]]


def test_an_absent_row_of_a_store_is_zeros_with_one_token(store: FeatureStore) -> None:
    encoding = store.get(np.array([-1, 1]))

    assert encoding.pooled.tolist()[0] == [0, 0]
    assert encoding.tokens[0].tolist() == [[0, 0]] * 3
    assert encoding.tokens[1].tolist() == [[1, 2], [3, 4], [5, 6]]
    assert encoding.mask.tolist() == [[True, False, False], [True, True, True]]
    assert store.get(np.array([-1])).mask.tolist() == [[True]]


def test_a_store_without_tokens_keeps_the_shape_that_was_promised() -> None:
    store = FeatureStore([1, 3, 2], width=2, tokens=False, folder=None)
    store.put([2, 0], FIRST)

    encoding = store.get(np.array([0, -1]))

    assert torch.equal(encoding.pooled[0], FIRST.pooled[1])
    assert encoding.tokens.shape == (2, 1, 2)
    assert encoding.mask.tolist() == [[True], [True]]


def test_the_files_of_a_store_vanish_with_it(store: FeatureStore, tmp_path: Path) -> None:
    """They are opened and unlinked at once, so a killed process leaves nothing behind."""
    assert list(tmp_path.iterdir()) == []
