"""The loop: what it says, why it ends, what it leaves behind; and the same by another path."""

from __future__ import annotations

import copy
import json
from collections.abc import Iterator
from dataclasses import replace
from typing import Any

import pytest
import torch
import torch.nn.functional as F
from torch import nn

from mmapp.data.pairs import PairTable
from mmapp.errors import SettingsError, TrainingError
from mmapp.models.model import FusionModel
from mmapp.settings import TrainSettings
from mmapp.training import loop
from mmapp.training.history import Event
from mmapp.training.loop import train
from mmapp.training.prepare import Prepared, prepare

STEPS = 4  # of an epoch: 26 pairs in batches of 8


def fit(table: PairTable, settings: TrainSettings) -> tuple[Prepared, list[Event]]:
    prepared = prepare(table, settings)
    return prepared, list(train(prepared.model, prepared.loaders, settings))


def weights(model: nn.Module) -> dict[str, torch.Tensor]:
    """Copies of all weights and running statistics."""
    return {name: tensor.clone() for name, tensor in model.state_dict().items()}


def differing(one: dict[str, torch.Tensor], other: dict[str, torch.Tensor]) -> list[str]:
    """Names of the tensors that are not equal to the bit."""
    assert one.keys() == other.keys()
    return [name for name in one if not torch.equal(one[name], other[name])]


def without_clock(events: list[Event]) -> list[tuple[str, dict[str, Any]]]:
    """What the events say, but for how long things took and what an earlier run had left to do."""
    timed = ("pairs_per_second", "seconds_left", "per_second", "found")
    return [(e.kind, {k: v for k, v in e.values.items() if k not in timed}) for e in events]


def scrambled(table: PairTable) -> PairTable:
    """Every second validation label is wrong: who learns the training pairs does worse there."""
    frame = table.frame.copy()
    wrong = frame.index[frame["split"] == "validation"][::2]
    other = {"red": "green", "green": "blue", "blue": "red"}
    frame.loc[wrong, "label"] = frame.loc[wrong, "label"].map(other)
    return replace(table, frame=frame)


@pytest.mark.parametrize("tuning", ["full", "head"])
def test_events_come_in_their_order(
    small_pairs: PairTable, quick: TrainSettings, tuning: str
) -> None:
    _, events = fit(small_pairs, quick.replace(tuning=tuning))

    epoch = ["step"] * STEPS + ["evaluated"]
    features = ["encoded", "encoded"] if tuning == "head" else []
    assert [e.kind for e in events] == ["started", *features, *epoch, *epoch, "finished"]


@pytest.mark.parametrize("tuning", ["full", "head"])
def test_events_hold_plain_python_values_only(
    small_pairs: PairTable, quick: TrainSettings, tuning: str
) -> None:
    _, events = fit(small_pairs, quick.replace(tuning=tuning))

    # NumPy's float64 passes for a float in json, so the types are asked as well.
    found = {type(value) for event in events for value in event.values.values()}
    assert found <= {int, float, str, bool, type(None)}
    for event in events:
        assert json.loads(json.dumps(event.record(), allow_nan=False)) == event.record()


def test_the_first_event_says_what_is_about_to_happen(
    small_pairs: PairTable, quick: TrainSettings
) -> None:
    prepared, events = fit(small_pairs, quick.replace(tuning="head"))

    sizes = {name: p.numel() for name, p in prepared.model.named_parameters()}
    encoders = ("text_encoder", "image_encoder")
    started = events[0].values
    assert {name: started[name] for name in ("step", "steps", "epochs", "pairs")} == {
        "step": 0,
        "steps": 2 * STEPS,
        "epochs": 2,
        "pairs": 26,
    }
    assert started["parameters"] == sum(sizes.values())
    assert started["learning"] == sum(n for k, n in sizes.items() if not k.startswith(encoders))
    assert (started["device"], started["precision"], started["processes"]) == ("cpu", "fp32", 1)


def test_step_events_count_steps_and_epochs(small_pairs: PairTable, quick: TrainSettings) -> None:
    settings = quick.replace(schedule="linear", warmup=0.25, learning_rate=0.003)
    _, events = fit(small_pairs, settings)

    steps = [e.values for e in events if e.kind == "step"]
    assert [s["step"] for s in steps] == [1, 2, 3, 4, 5, 6, 7, 8]
    assert [s["epoch"] for s in steps] == [0.25, 0.5, 0.75, 1.0, 1.25, 1.5, 1.75, 2.0]
    assert {s["steps"] for s in steps} == {8}
    # Two of eight steps warm up, the other six fall to zero; an event tells the rate that follows.
    expected = [2 / 3, 1, 5 / 6, 4 / 6, 3 / 6, 2 / 6, 1 / 6, 0]
    assert [s["learning_rate"] / 0.003 for s in steps] == pytest.approx(expected)


def test_the_epochs_train_loss_is_the_mean_over_its_pairs(
    small_pairs: PairTable, quick: TrainSettings
) -> None:
    prepared, events = fit(small_pairs, quick)

    losses = [e.values["loss"] for e in events if e.kind == "step"]
    # The order of an epoch decides where the small batch of two pairs stands.
    sizes = [len(rows) for epoch in (0, 1) for rows in prepared.loaders.train.plan(epoch)]
    told = [e.values["train_loss"] for e in events if e.kind == "evaluated"]
    by_hand = [
        sum(loss * size for loss, size in zip(losses[part], sizes[part], strict=True)) / 26
        for part in (slice(0, 4), slice(4, 8))
    ]
    assert sorted(sizes) == [2, 2] + [8] * 6
    assert told == pytest.approx(by_hand)


def test_a_long_run_tells_of_every_nth_step_with_the_mean_loss_since(
    small_pairs: PairTable, quick: TrainSettings, monkeypatch: pytest.MonkeyPatch
) -> None:
    settings = quick.replace(epochs=1)
    _, all_events = fit(small_pairs, settings)
    monkeypatch.setattr(loop, "STEP_EVENTS", 2)
    prepared, events = fit(small_pairs, settings)

    losses = [e.values["loss"] for e in all_events if e.kind == "step"]
    sizes = [len(rows) for rows in prepared.loaders.train.plan(0)]
    told = [e.values for e in events if e.kind == "step"]
    assert [s["step"] for s in told] == [2, 4]
    assert [s["loss"] for s in told] == pytest.approx(
        [
            (losses[i] * sizes[i] + losses[i + 1] * sizes[i + 1]) / (sizes[i] + sizes[i + 1])
            for i in (0, 2)
        ]
    )


def test_an_evaluation_tells_the_scores_of_the_validation_pairs(
    small_pairs: PairTable, quick: TrainSettings
) -> None:
    """Checked by asking the model that was left behind, pair by pair."""
    prepared, events = fit(scrambled(small_pairs), quick.replace(epochs=1))
    told = next(e.values for e in events if e.kind == "evaluated")

    model, dataset = prepared.model.eval(), prepared.loaders.validation.dataset
    right, loss = [], []
    for i in range(len(dataset)):
        batch = dataset.collate([dataset[i]])
        logits = model(
            **{k: batch[k] for k in ("input_ids", "attention_mask", "pixel_values")}
        ).logits
        right.append(int(logits.argmax()) == dataset.labels[i])
        loss.append(float(F.cross_entropy(logits, batch["labels"]).detach()))

    assert told["accuracy"] == sum(right) / 8
    assert told["loss"] == pytest.approx(sum(loss) / 8, rel=1e-4)
    assert (told["epoch"], told["step"], told["best"]) == (1, STEPS, True)
    assert {"macro_f1", "weighted_f1", "balanced_accuracy"} <= told.keys()


def test_after_the_last_epoch_the_reason_is_done(
    small_pairs: PairTable, quick: TrainSettings
) -> None:
    _, events = fit(small_pairs, quick.replace(watch="loss"))

    losses = [e.values["loss"] for e in events if e.kind == "evaluated"]
    assert events[-1].kind == "finished"
    assert events[-1].values == {
        "reason": "done",
        "step": 8,
        "epoch": 2,
        "best_epoch": 1 + losses.index(min(losses)),
    }


def test_patience_ends_a_run_that_gets_no_better(
    small_pairs: PairTable, quick: TrainSettings
) -> None:
    # Steps of length zero: no epoch can be better than the first.
    settings = quick.replace(learning_rate=0.0, epochs=9, patience=2)
    _, events = fit(small_pairs, settings)

    assert events[-1].values == {"reason": "patience", "step": 12, "epoch": 3, "best_epoch": 1}
    assert [e.values.get("best") for e in events if e.kind == "evaluated"] == [True, None, None]


@pytest.mark.parametrize(
    ("asked", "step", "epoch"),
    [(1, 0, 0), (3, 2, 0), (6, 4, 1)],
    ids=["before the first step", "within an epoch", "after an epoch"],
)
def test_a_stop_ends_the_run_at_the_next_step_boundary(
    small_pairs: PairTable, quick: TrainSettings, asked: int, step: int, epoch: int
) -> None:
    prepared, questions = prepare(small_pairs, quick), iter(range(1, 100))

    events = list(train(prepared.model, prepared.loaders, quick, lambda: next(questions) >= asked))

    assert events[-1].kind == "finished"
    assert events[-1].values["reason"] == "stopped"
    assert (events[-1].values["step"], events[-1].values["epoch"]) == (step, epoch)
    assert sum(e.kind == "step" for e in events) == step
    assert sum(e.kind == "evaluated" for e in events) == epoch


def test_a_stop_while_features_are_computed_takes_no_step(
    small_pairs: PairTable, quick: TrainSettings
) -> None:
    settings = quick.replace(tuning="head")
    prepared = prepare(small_pairs, settings)

    events = list(train(prepared.model, prepared.loaders, settings, lambda: True))

    assert [e.kind for e in events] == ["started", "finished"]
    assert events[-1].values == {"reason": "stopped", "step": 0, "epoch": 0, "best_epoch": None}


def test_a_loss_that_is_no_number_ends_the_run_with_a_sentence(
    small_pairs: PairTable, quick: TrainSettings
) -> None:
    prepared = prepare(small_pairs, quick)
    events: list[Event] = []
    with pytest.raises(
        TrainingError, match=r"^The loss is nan at step 3: .*Lower the learning rate"
    ):
        for event in train(prepared.model, prepared.loaders, quick):
            events.append(event)
            if event.values.get("step") == 2:
                with torch.no_grad():
                    prepared.model.head.out.bias[0] = float("nan")

    assert [e.kind for e in events] == ["started", "step", "step"]


def test_a_tuning_that_does_not_exist_is_refused_before_anything_happens(
    small_pairs: PairTable, quick: TrainSettings
) -> None:
    prepared = prepare(small_pairs, quick)

    with pytest.raises(SettingsError, match="no tuning 'most'"):
        next(train(prepared.model, prepared.loaders, quick.replace(tuning="most")))


@pytest.mark.parametrize("image_encoder", ["scratch:cnn", "scratch:resnet"])
def test_the_loss_starts_at_that_of_guessing(
    small_pairs: PairTable, quick: TrainSettings, image_encoder: str
) -> None:
    _, events = fit(small_pairs, quick.replace(image_encoder=image_encoder, epochs=1))

    first = next(e.values["loss"] for e in events if e.kind == "step")
    assert first == pytest.approx(1.0986, abs=0.3)  # ln 3


@pytest.mark.parametrize("tuning", ["full", "head"])
def test_the_best_epochs_weights_are_put_back(
    small_pairs: PairTable, quick: TrainSettings, tuning: str
) -> None:
    """Training again for exactly as many epochs as the best took gives the same weights."""
    table = scrambled(small_pairs)
    settings = quick.replace(
        epochs=6, schedule="constant", warmup=0.0, watch="loss", learning_rate=0.02, tuning=tuning
    )
    longer, events = fit(table, settings)
    best = events[-1].values["best_epoch"]
    assert best < 6

    shorter, _ = fit(table, settings.replace(epochs=best))

    assert differing(weights(longer.model), weights(shorter.model)) == []


@pytest.mark.parametrize("tuning", ["full", "head"])
def test_the_same_seed_gives_the_same_weights_to_the_bit_and_another_gives_others(
    small_pairs: PairTable, quick: TrainSettings, tuning: str
) -> None:
    settings = quick.replace(tuning=tuning, fusion="attention", modality_dropout=0.3)
    first, told = fit(small_pairs, settings)
    again, told_again = fit(small_pairs, settings)
    other, _ = fit(small_pairs, settings.replace(seed=1))

    assert differing(weights(first.model), weights(again.model)) == []
    assert without_clock(told) == without_clock(told_again)
    assert "head.out.weight" in differing(weights(first.model), weights(other.model))


def test_head_tuning_moves_no_weight_of_an_encoder(
    small_pairs: PairTable, quick: TrainSettings
) -> None:
    settings = quick.replace(tuning="head", image_encoder="scratch:resnet")
    prepared = prepare(small_pairs, settings)
    before = weights(prepared.model)

    list(train(prepared.model, prepared.loaders, settings))

    moved = differing(before, weights(prepared.model))
    assert "head.out.weight" in moved
    assert not [name for name in moved if name.startswith(("text_encoder.", "image_encoder."))]


def test_full_tuning_moves_the_weights_of_both_encoders(
    small_pairs: PairTable, quick: TrainSettings
) -> None:
    prepared = prepare(small_pairs, quick)
    before = weights(prepared.model)

    list(train(prepared.model, prepared.loaders, quick))

    moved = differing(before, weights(prepared.model))
    assert "text_encoder.backbone.encoder.layer.0.attention.self.query.weight" in moved
    assert "image_encoder.backbone.blocks.0.0.weight" in moved


def test_the_model_comes_back_as_an_ordinary_one_after_mixed_precision(
    small_pairs: PairTable, quick: TrainSettings
) -> None:
    """accelerate wraps the forward; left so, the model could not be saved or asked in float32."""
    settings = quick.replace(precision="bf16", epochs=1)
    prepared, events = fit(small_pairs, settings)

    assert events[0].values["precision"] == "bf16"
    assert prepared.model.forward.__func__ is FusionModel.forward
    assert {p.dtype for p in prepared.model.parameters()} == {torch.float32}


@pytest.mark.parametrize("clip", [0.05, 0.0])
def test_an_epoch_equals_a_loop_written_by_hand(
    small_pairs: PairTable, quick: TrainSettings, clip: float
) -> None:
    settings = quick.replace(
        epochs=1,
        schedule="constant",
        warmup=0.0,
        modality_dropout=0.0,
        clip=clip,
        weight_decay=0.1,
        learning_rate=0.01,
        encoder_learning_rate=0.002,
    )
    prepared = prepare(small_pairs, settings)
    by_hand = copy.deepcopy(prepared.model)
    list(train(prepared.model, prepared.loaders, settings))

    loader = prepare(small_pairs, settings).loaders.train
    measure_spread(by_hand, loader.batches())
    groups: dict[tuple[bool, bool], list[nn.Parameter]] = {}
    for name, parameter in by_hand.named_parameters():
        key = ("encoder." in name, parameter.ndim > 1)
        groups.setdefault(key, []).append(parameter)
    optimizer = torch.optim.AdamW(
        [
            {"params": some, "lr": 0.002 if slow else 0.01, "weight_decay": 0.1 if matrix else 0.0}
            for (slow, matrix), some in groups.items()
        ],
        fused=True,  # the other kernels round differently in the last place
    )
    prepare(small_pairs, settings)  # dropout goes on from where this leaves the generator
    by_hand.train()
    lengths = []
    for batch in loader.batches(0):
        logits = by_hand(
            **{k: batch[k] for k in ("input_ids", "attention_mask", "pixel_values")}
        ).logits
        F.cross_entropy(logits, batch["labels"]).backward()
        lengths.append(float(nn.utils.clip_grad_norm_(by_hand.parameters(), clip or 1e9)))
        optimizer.step()
        optimizer.zero_grad()

    assert min(lengths) > 0.05  # clipping had something to do
    assert differing(weights(prepared.model), weights(by_hand)) == []


@torch.no_grad()
def measure_spread(model: FusionModel, batches: Iterator[dict[str, Any]]) -> None:
    """Mean and deviation of what the encoders give, over all batches together."""
    model.eval()
    seen: dict[str, list[Any]] = {"text": [], "image": []}
    for batch in batches:
        seen["text"].append(model.text_encoder(batch["input_ids"], batch["attention_mask"]))
        seen["image"].append(model.image_encoder(batch["pixel_values"]))
    for modality, encodings in seen.items():
        projection = model.projections[modality]
        wholes = torch.cat([encoding.pooled for encoding in encodings])
        parts = torch.cat([encoding.tokens[encoding.mask] for encoding in encodings])
        for standardise, values in (
            (projection.standardise_pooled, wholes),
            (projection.standardise_tokens, parts),
        ):
            standardise.mean.copy_(values.mean(dim=0))
            standardise.scale.copy_(1 / values.std(dim=0).clamp(min=1e-3))
