"""One step: a batch in parts equals the batch at once, and too little memory is answered by parts."""

from __future__ import annotations

from typing import Any

import pytest
import torch

from mmapp.data.pairs import PairTable
from mmapp.errors import TrainingError
from mmapp.settings import TrainSettings
from mmapp.training.loop import train
from mmapp.training.prepare import prepare
from mmapp.training.step import split

# No dropout anywhere: it would be drawn anew for each part. scratch:bert has none either.
ONE_STEP = {
    "text_encoder": "scratch:bert",
    "epochs": 1,
    "batch_size": 64,
    "modality_dropout": 0.0,
    "dropout": 0.0,
    "clip": 0.0,
}


def weights_after(pairs: PairTable, settings: TrainSettings) -> dict[str, torch.Tensor]:
    prepared = prepare(pairs, settings)
    list(train(prepared.model, prepared.loaders, settings))
    return prepared.model.state_dict()


@pytest.mark.parametrize("tuning", ["full", "head"])
def test_a_batch_in_parts_gives_the_gradients_of_the_batch_at_once(
    small_pairs: PairTable, quick: TrainSettings, tuning: str
) -> None:
    """SGD, so that a weight moves by its gradient and nothing hides a wrong scale."""
    settings = quick.replace(**ONE_STEP, tuning=tuning, optimizer="sgd", learning_rate=0.01)

    whole = weights_after(small_pairs, settings)
    parts = weights_after(small_pairs, settings.replace(accumulation=5))

    for name, expected in whole.items():
        torch.testing.assert_close(parts[name], expected, atol=1e-6, rtol=1e-4, msg=name)


def test_parts_share_the_rows_out_and_lose_none() -> None:
    batch = {"labels": torch.arange(7), "index": torch.arange(7), "size": 7}

    parts = list(split(batch, 3))

    assert [part["labels"].tolist() for part in parts] == [[0, 1], [2, 3], [4, 5, 6]]
    assert torch.cat([part["index"] for part in parts]).tolist() == list(range(7))


class Shortage:
    """Stands for a memory that holds only so many pairs at once."""

    def __init__(self, forward: Any, holds: int) -> None:
        self.forward = forward
        self.holds = holds
        self.sizes: list[int] = []

    def __call__(self, **inputs: Any) -> Any:
        rows = len(inputs["input_ids"])
        self.sizes.append(rows)
        if rows > self.holds:
            raise torch.OutOfMemoryError("CUDA out of memory")
        return self.forward(**inputs)


def test_too_little_memory_is_answered_by_parts_and_said_aloud(
    small_pairs: PairTable, quick: TrainSettings
) -> None:
    settings = quick.replace(**ONE_STEP, optimizer="sgd", learning_rate=0.01)
    expected = weights_after(small_pairs, settings)
    prepared = prepare(small_pairs, settings)
    shortage = Shortage(prepared.model.forward, holds=12)
    prepared.model.forward = shortage  # type: ignore[method-assign]
    events = []
    for event in train(prepared.model, prepared.loaders, settings):
        events.append(event)
        if event.kind == "step":  # the validation pairs are scored as ever
            shortage.holds = 1000

    warnings = [e.values["message"] for e in events if e.kind == "warning"]
    assert len(warnings) == 2  # 32 pairs do not fit, nor do 16; 8 do
    assert "in 4 parts" in warnings[-1]
    assert [e.values["reason"] for e in events if e.kind == "finished"] == ["done"]
    for name, value in prepared.model.state_dict().items():
        torch.testing.assert_close(value, expected[name], atol=1e-6, rtol=1e-4, msg=name)


def test_where_fewer_pairs_are_compared_it_is_said(
    small_pairs: PairTable, quick: TrainSettings
) -> None:
    settings = quick.replace(**ONE_STEP, alignment=1.0)
    prepared = prepare(small_pairs, settings)
    prepared.model.forward = Shortage(prepared.model.forward, holds=20)  # type: ignore[method-assign]
    events = list(train(prepared.model, prepared.loaders, settings))

    [warning] = [e.values["message"] for e in events if e.kind == "warning"]
    assert "in 2 parts. Alignment compares the pairs of a part only, with fewer others" in warning


def test_where_one_pair_is_too_much_training_ends_with_advice(
    small_pairs: PairTable, quick: TrainSettings
) -> None:
    settings = quick.replace(**ONE_STEP)
    prepared = prepare(small_pairs, settings)
    prepared.model.forward = Shortage(prepared.model.forward, holds=0)  # type: ignore[method-assign]

    with pytest.raises(TrainingError, match="not suffice even for one pair.*smaller encoders"):
        list(train(prepared.model, prepared.loaders, settings))
