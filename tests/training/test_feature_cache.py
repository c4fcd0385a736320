"""Cached features stand for the encoders: the same logits, each text and picture encoded once."""

from __future__ import annotations

import errno
import os
import shutil
from itertools import zip_longest
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from safetensors.torch import load_file, save_file

from mmapp.data.loading import PairLoader, Shard
from mmapp.data.pairs import PairTable
from mmapp.evaluation.outputs import forward_inputs
from mmapp.models.encoders import Encoding
from mmapp.models.fusion import FUSIONS
from mmapp.settings import TrainSettings
from mmapp.training import encoder_inputs, feature_cache, remembered
from mmapp.training.feature_cache import FeatureCache, FeatureStore
from mmapp.training.loop import train
from mmapp.training.prepare import Prepared, prepare
from mmapp.training.remembered import Features

CPU = torch.device("cpu")


@pytest.fixture(autouse=True)
def own_folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """Where features are kept, so that no test finds what another computed."""
    monkeypatch.setattr(feature_cache, "features_home", lambda: tmp_path / "features")
    return tmp_path / "features"


def fill(prepared: Prepared, **options: Any) -> list[dict[str, Any]]:
    """Put features in the place of the train and validation pairs; gives the events' values."""
    loaders = [prepared.loaders.train, prepared.loaders.validation]
    events = list(FeatureCache(prepared.model, device=CPU, **options).fill(loaders))
    assert {event.kind for event in events} <= {"encoded"}
    return [event.values for event in events]


def count_reading(prepared: Prepared) -> dict[str, int]:
    """How many texts and pictures the encoders read from now on."""
    read = {"text": 0, "image": 0}

    def count(modality: str) -> Any:
        def hook(_: Any, args: tuple[torch.Tensor, ...]) -> None:
            read[modality] += len(args[0])

        return hook

    prepared.model.text_encoder.register_forward_pre_hook(count("text"))
    prepared.model.image_encoder.register_forward_pre_hook(count("image"))
    return read


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
    monkeypatch.setattr(encoder_inputs, "AT_ONCE", 5)
    prepared = prepare(gappy_pairs, quick)
    read = count_reading(prepared)

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


def run_again(
    pairs: PairTable, settings: TrainSettings, precision: str = "fp32"
) -> tuple[Prepared, dict[str, int]]:
    """A run as another process would do it; gives how many texts and pictures were encoded."""
    prepared = prepare(pairs, settings)
    read = count_reading(prepared)
    told = fill(prepared, precision=precision)
    for modality, count in read.items():
        last = [values for values in told if values["modality"] == modality][-1]
        assert last["done"] == last["total"] == count + last["found"]
    return prepared, read


NOTHING = {"text": 0, "image": 0}


def test_a_second_run_computes_nothing_whatever_its_fusion(
    small_pairs: PairTable, quick: TrainSettings
) -> None:
    _, first = run_again(small_pairs, quick.replace(fusion="attention", image_encoder="scratch:resnet"))
    assert min(first.values()) > 0

    for fusion in ("attention", "bilinear", "concat"):
        settings = quick.replace(fusion=fusion, image_encoder="scratch:resnet")
        assert run_again(small_pairs, settings)[1] == NOTHING, fusion


def test_pooled_features_do_not_serve_a_fusion_that_asks_for_tokens(
    small_pairs: PairTable, quick: TrainSettings
) -> None:
    _, first = run_again(small_pairs, quick)
    assert run_again(small_pairs, quick)[1] == NOTHING

    assert run_again(small_pairs, quick.replace(fusion="attention"))[1] == first


@pytest.mark.parametrize("tokens", [True, False])
def test_what_is_read_is_to_the_bit_what_is_computed(
    gappy_pairs: PairTable, quick: TrainSettings, tokens: bool
) -> None:
    settings = quick.replace(fusion="attention" if tokens else "bilinear")
    computed, _ = run_again(gappy_pairs, settings)
    read, encoded = run_again(gappy_pairs, settings)

    assert encoded == NOTHING
    for before, after in zip(
        computed.loaders.train.batches(), read.loaders.train.batches(), strict=True
    ):
        for modality, encoding in before["encodings"].items():
            for one, other in zip(encoding, after["encodings"][modality], strict=True):
                assert torch.equal(one, other)


def test_a_batch_worked_through_in_parts_is_kept_as_one(
    small_pairs: PairTable, quick: TrainSettings, own_folder: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    settings = quick.replace(fusion="attention")
    whole, read = run_again(small_pairs, settings)
    files = {path.name for path in own_folder.iterdir()}
    shutil.rmtree(own_folder)

    monkeypatch.setattr(remembered, "rows_at_once", lambda device, side, most: 3)
    parts, read_again = run_again(small_pairs, settings)

    assert read_again == read
    assert {path.name for path in own_folder.iterdir()} == files
    for one, other in zip(
        logits_by_row(whole, whole.loaders.train).values(),
        logits_by_row(parts, parts.loaders.train).values(),
        strict=True,
    ):
        torch.testing.assert_close(one, other, rtol=3e-3, atol=3e-3)


def test_what_features_depend_on_has_them_computed_anew(
    small_pairs: PairTable, quick: TrainSettings, tiny_bert: Path, tmp_path: Path
) -> None:
    """Each change is undone before the next, so that it alone is what is noticed."""
    _, all_of_it = run_again(small_pairs, quick)
    texts, pictures = {**all_of_it, "image": 0}, {**all_of_it, "text": 0}
    moved = Path(shutil.copytree(tiny_bert, tmp_path / "moved"))
    weights = load_file(moved / "model.safetensors")

    assert run_again(small_pairs, quick.replace(text_encoder=str(moved)))[1] == NOTHING
    weights["encoder.layer.1.output.dense.bias"][3] += 1e-6
    save_file(weights, moved / "model.safetensors", {"format": "pt"})
    assert run_again(small_pairs, quick.replace(text_encoder=str(moved)))[1] == texts
    assert run_again(small_pairs, quick.replace(image_size=48))[1] == pictures
    assert run_again(small_pairs, quick.replace(seed=1))[1] == pictures  # other first weights
    assert run_again(small_pairs, quick, "bf16")[1] == all_of_it
    assert run_again(small_pairs, quick)[1] == NOTHING


def test_another_version_of_a_library_or_of_our_own_way_is_noticed(
    small_pairs: PairTable, quick: TrainSettings, monkeypatch: pytest.MonkeyPatch
) -> None:
    _, all_of_it = run_again(small_pairs, quick)

    with monkeypatch.context() as patch:
        patch.setitem(remembered.VERSIONS, "torch", "99")
        assert run_again(small_pairs, quick)[1] == all_of_it
    with monkeypatch.context() as patch:
        patch.setattr(remembered, "FORMAT", 99)
        assert run_again(small_pairs, quick)[1] == all_of_it


def test_another_deal_of_the_same_pairs_finds_everything_when_all_are_encoded(
    small_pairs: PairTable, quick: TrainSettings
) -> None:
    """`small_pairs` dealt anew by `seed`, as pairs are that bring no split of their own."""

    def dealt(seed: int) -> PairTable:
        split = np.random.default_rng(seed).permutation(small_pairs.frame["split"])
        frame = small_pairs.frame.assign(split=split)
        return PairTable(frame, "dealt", own_split=False)

    encoded = []
    for seed in (1, 2):
        prepared = prepare(dealt(seed), quick)
        assert not prepared.loaders.test.dataset.own_split
        encoded.append(count_reading(prepared))
        list(train(prepared.model, prepared.loaders, quick.replace(tuning="head", epochs=1)))

    assert min(encoded[0].values()) > 0
    assert encoded[1] == NOTHING


def test_a_damaged_or_lost_file_is_computed_again_and_nothing_else(
    small_pairs: PairTable,
    quick: TrainSettings,
    own_folder: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(encoder_inputs, "AT_ONCE", 4)
    settings = quick.replace(fusion="attention")
    _, first = run_again(small_pairs, settings)
    files = sorted(own_folder.iterdir())
    assert len(files) > 20
    files[0].unlink()
    files[-1].write_bytes(files[-1].read_bytes()[:-5])

    _, again = run_again(small_pairs, settings)

    assert 2 <= sum(again.values()) <= 8  # the two batches; or one, of which both files were hit
    assert sum(again.values()) < sum(first.values()) / 3
    assert run_again(small_pairs, settings)[1] == NOTHING


def test_a_run_ends_with_the_same_weights_whether_features_were_read_computed_or_both(
    small_pairs: PairTable,
    quick: TrainSettings,
    own_folder: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(encoder_inputs, "AT_ONCE", 4)
    settings = quick.replace(tuning="head", fusion="attention", modality_dropout=0.3)

    def weights() -> dict[str, torch.Tensor]:
        prepared = prepare(small_pairs, settings)
        list(train(prepared.model, prepared.loaders, settings))
        return prepared.model.state_dict()

    computed, read = weights(), weights()
    for path in sorted(own_folder.iterdir())[::2]:
        path.unlink()
    mixed = weights()

    for name, weight in computed.items():
        assert torch.equal(read[name], weight), name
        assert torch.equal(mixed[name], weight), name


def test_a_run_on_a_full_disk_is_warned_and_goes_on(
    small_pairs: PairTable, quick: TrainSettings, monkeypatch: pytest.MonkeyPatch, own_folder: Path
) -> None:
    """Of files that cannot be written, and then of memory maps that would not fit."""

    def full(*_: object) -> None:
        raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))

    settings = quick.replace(tuning="head", epochs=1)
    with monkeypatch.context() as patch:
        patch.setattr(Path, "write_bytes", full)
        kept_nothing, told = trained(small_pairs, settings)
    assert [values["message"] for values in told] == [
        "The encoders' features could not be kept for later runs (No space left on device). "
        "This run goes on with those it has."
    ]
    assert list(own_folder.iterdir()) == []
    assert "encodings" in next(kept_nothing.loaders.train.batches())

    with monkeypatch.context() as patch:
        patch.setattr(feature_cache, "fits", lambda folder, size: size < 1000)
        computed_anew, told = trained(small_pairs, settings)
    assert len(told) == 1
    assert "no room for the encoders' features" in told[0]["message"]
    assert "pixel_values" in next(computed_anew.loaders.train.batches())


def trained(
    pairs: PairTable, settings: TrainSettings
) -> tuple[Prepared, list[dict[str, Any]]]:
    """A run to its end, and its warnings."""
    prepared = prepare(pairs, settings)
    events = list(train(prepared.model, prepared.loaders, settings))
    assert events[-1].kind == "finished"
    return prepared, [event.values for event in events if event.kind == "warning"]


def test_processes_share_the_work_and_give_the_same_features(
    small_pairs: PairTable, quick: TrainSettings, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Two processes, a batch each in turn, as if they were equally fast."""
    monkeypatch.setattr(encoder_inputs, "AT_ONCE", 4)
    monkeypatch.setattr(feature_cache, "REPORT_SECONDS", 0)
    both = [prepare(small_pairs, quick) for _ in range(2)]
    read = [count_reading(prepared) for prepared in both]
    streams = [
        FeatureCache(prepared.model, device=CPU, shard=Shard(rank, 2)).fill(
            [prepared.loaders.train, prepared.loaders.validation]
        )
        for rank, prepared in enumerate(both)
    ]

    for _ in zip_longest(*streams):
        pass

    used = small_pairs.frame[small_pairs.frame["split"] != "test"]
    for modality in ("text", "image"):
        counts = [of_one[modality] for of_one in read]
        assert sum(counts) == used[modality].nunique()
        assert min(counts) > 0
    for one, other in zip(*(p.loaders.train.batches() for p in both), strict=True):
        for modality in ("text", "image"):
            left, right = (batch["encodings"][modality].pooled for batch in (one, other))
            assert torch.equal(left, right)


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
    store.put([2, 0], Features.of(FIRST, tokens=True))
    store.put([1], Features.of(SECOND, tokens=True))
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
    store.put([2, 0], Features.of(FIRST, tokens=False))

    encoding = store.get(np.array([0, -1]))

    assert torch.equal(encoding.pooled[0], FIRST.pooled[1])
    assert encoding.tokens.shape == (2, 1, 2)
    assert encoding.mask.tolist() == [[True], [True]]


def test_the_files_of_a_store_vanish_with_it(store: FeatureStore, tmp_path: Path) -> None:
    """They are opened and unlinked at once, so a killed process leaves nothing behind."""
    assert list(tmp_path.iterdir()) == []
