"""Logits come home in table order, whatever order the batches had."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from scipy.special import softmax

from mmapp.data.loading import PairDataset, PairLoader
from mmapp.data.pairs import PairTable
from mmapp.evaluation.outputs import Outputs, collect, forward_inputs, to_device
from mmapp.models.encoders import Encoding
from mmapp.settings import TrainSettings
from mmapp.training.prepare import Prepared, prepare

CPU = torch.device("cpu")


@pytest.fixture
def prepared(gappy_pairs: PairTable, quick: TrainSettings) -> Prepared:
    made = prepare(gappy_pairs, quick)
    with torch.no_grad():
        made.model.head.out.weight.normal_()
    return made


def test_collected_logits_are_in_table_order(prepared: Prepared) -> None:
    """Texts of different lengths are batched by length, so table order has to be restored."""
    dataset = prepared.loaders.train.dataset
    loader = PairLoader(dataset, batch_size=5)
    order = [row for rows in loader.plan(0) for row in rows]
    assert order != sorted(order)

    outputs = collect(prepared.model, loader, device=CPU)

    assert outputs.labels.tolist() == dataset.labels
    assert outputs.logits.shape == (26, 3)
    prepared.model.eval()
    for i in range(len(dataset)):
        with torch.no_grad():
            alone = prepared.model(**forward_inputs(dataset.collate([dataset[i]]))).logits[0]
        np.testing.assert_allclose(outputs.logits[i], alone.numpy(), rtol=1e-4, atol=1e-5)


@pytest.mark.parametrize("learning", [True, False])
def test_the_model_answers_in_evaluation_mode_and_is_put_back(
    prepared: Prepared, learning: bool
) -> None:
    prepared.model.train(learning)

    first, second = (collect(prepared.model, prepared.loaders.test, device=CPU) for _ in range(2))

    assert np.array_equal(first.logits, second.logits)  # dropout would tell them apart
    assert prepared.model.training is learning


def test_progress_is_told_in_rows(prepared: Prepared) -> None:
    told: list[int] = []

    collect(
        prepared.model,
        PairLoader(prepared.loaders.train.dataset, 10),
        device=CPU,
        progress=told.append,
    )

    assert told == [10, 20, 26]


def test_rows_without_labels_give_logits_alone(prepared: Prepared, gappy_pairs: PairTable) -> None:
    dataset = PairDataset(gappy_pairs.part("test"), prepared.processor)

    outputs = collect(prepared.model, PairLoader(dataset, 4), device=CPU)

    assert outputs.labels is None
    assert outputs.logits.shape == (6, 3)


def test_no_rows_give_no_logits(prepared: Prepared, gappy_pairs: PairTable) -> None:
    dataset = PairDataset(gappy_pairs.part("nothing"), prepared.processor)

    outputs = collect(prepared.model, PairLoader(dataset, 4), device=CPU)

    assert len(outputs.logits) == 0


def test_probabilities_are_the_softmax_also_of_large_logits() -> None:
    logits = np.array([[1.0, 2.0, 3.0], [1000.0, 0.0, -1000.0]], np.float32)

    found = Outputs(logits, None).probabilities()

    np.testing.assert_allclose(found, softmax(logits, axis=1), rtol=1e-6)


def test_a_batch_moves_to_the_device_with_its_encodings_still_encodings() -> None:
    encoding = Encoding(torch.zeros(1, 2), torch.zeros(1, 1, 2), torch.ones(1, 1).bool())
    batch = {"encodings": {"text": encoding}, "labels": torch.tensor([1]), "size": 1}

    moved = to_device(batch, torch.device("meta"))

    assert isinstance(moved["encodings"]["text"], Encoding)
    assert {field.device.type for field in moved["encodings"]["text"]} == {"meta"}
    assert (moved["labels"].device.type, moved["size"]) == ("meta", 1)


def test_labels_never_reach_the_forward() -> None:
    batch = {"input_ids": 1, "labels": 2, "index": 3, "size": 4, "present": 5, "encodings": 6}

    assert forward_inputs(batch) == {"input_ids": 1, "present": 5, "encodings": 6}
