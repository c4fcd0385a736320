"""Onlookers are shown what events.jsonl says, each figure once, and none of them can end a run."""

from __future__ import annotations

import struct
import sys
from collections import Counter
from collections.abc import Callable, Iterator
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest

from mmapp.errors import SettingsError
from mmapp.runs import trackers
from mmapp.runs.run import Order, Run
from mmapp.runs.worker import work
from mmapp.training.history import Event

Point = tuple[str, int]


def records(path: Path) -> Iterator[bytes]:
    """The records of a TFRecord file: length and its sum, bytes and theirs."""
    held = path.read_bytes()
    place = 0
    while place < len(held):
        length, of_length = struct.unpack_from("<QI", held, place)
        payload = held[place + 12 : place + 12 + length]
        (of_payload,) = struct.unpack_from("<I", held, place + 12 + length)
        assert of_length == masked(held[place : place + 8])
        assert of_payload == masked(payload)
        yield payload
        place += 16 + length
    assert place == len(held)


def masked(content: bytes) -> int:
    """CRC-32C (Castagnoli) bit by bit, rotated and shifted as TensorFlow writes it."""
    crc = 0xFFFFFFFF
    for byte in content:
        crc ^= byte
        for _ in range(8):
            crc = crc >> 1 ^ 0x82F63B78 * (crc & 1)
    crc ^= 0xFFFFFFFF
    return ((crc >> 15 | crc << 17) + 0xA282EAD8) & 0xFFFFFFFF


def scalars(run: Run) -> list[tuple[str, int, float]]:
    """Every scalar of the run's TensorBoard files: name, step, value as float32."""
    from tensorboardX.proto.event_pb2 import Event as Written

    found = []
    for path in sorted((run.folder / "tensorboard").glob("events.out.tfevents.*")):
        for record in records(path):
            event = Written.FromString(record)
            found += [(v.tag, event.step, v.simple_value) for v in event.summary.value]
    return found


def expected(run: Run) -> dict[Point, float]:
    """The same worked out from events.jsonl and report.json."""
    points: dict[Point, float] = {}
    last = 0
    for event in run.events():
        step = event.get("step", 0)
        if event["event"] == "step":
            for name in ("loss", "learning_rate", "pairs_per_second"):
                points[f"train/{name}", step] = event[name]
        if event["event"] == "evaluated":
            points["train/epoch_loss", step] = event["train_loss"]
            for name in ("loss", "accuracy", "macro_f1", "weighted_f1", "balanced_accuracy"):
                points[f"validation/{name}", step] = event[name]
        last = max(last, step)
    report = run.report() or {}
    for name in ("accuracy", "macro_f1", "log_loss"):
        points[f"test/{name}", last] = report[name]
    return points


def as_float32(value: float) -> float:
    return struct.unpack("f", struct.pack("f", value))[0]


def test_tensorboard_shows_what_the_events_say_and_each_figure_once(whole: Run) -> None:
    found = scalars(whole)
    assert max(Counter((name, step) for name, step, _ in found).values()) == 1
    shown = {(name, step): value for name, step, value in found}
    wanted = expected(whole)
    assert {point: shown.get(point) for point in wanted} == {
        point: as_float32(value) for point, value in wanted.items()
    }
    assert {name.partition("/")[0] for name, _ in shown} == {"train", "validation", "test"}
    assert {step for name, step in shown if name == "train/loss"} == set(range(1, 13))


def test_the_knobs_are_written_once_and_without_the_folders_of_this_machine(
    order: Callable[..., Order], tiny_bert: Path, tmp_path: Path
) -> None:
    run = Run.create(tmp_path / "run", order(text_encoder=str(tiny_bert), epochs=1))
    stop_at(run, step=2)
    go_on(run)
    files = [path for path in (run.folder / "tensorboard").rglob("*") if path.is_file()]
    assert [path.suffix for path in files].count(".yml") == 1
    held = b"".join(path.read_bytes() for path in files)
    assert b"tiny-bert" in held
    assert str(tmp_path.parent).encode() not in held
    assert str(tiny_bert.parent).encode() not in held


def test_a_resumed_run_shows_no_figure_twice(run: Run, whole: Run) -> None:
    """Stopped within an epoch; two steps later than its last snapshot it is told of again."""
    stop_at(run, step=6)
    lost = [{"event": "step", "step": n, "loss": 9.0} for n in (7, 8)]
    for record in lost:  # told by a process that was killed, and so shown already
        run.append(record)
    go_on(run)
    found = scalars(run)
    assert max(Counter((name, step) for name, step, _ in found).values()) == 1
    losses = {step: value for name, step, value in found if name == "train/loss"}
    same = {s: v for n, s, v in scalars(whole) if n == "train/loss"}
    assert losses == {step: value for step, value in same.items() if step not in (7, 8)}
    assert [step for name, step, _ in found if name == "test/accuracy"] == [12]


def test_trackio_keeps_the_curves_in_its_own_store_on_this_machine(
    order: Callable[..., Order], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    import trackio
    from trackio import sqlite_storage

    # trackio reads its variable once, when it is first imported.
    monkeypatch.setattr(sqlite_storage, "TRACKIO_DIR", tmp_path / "trackio")
    run = Run.create(tmp_path / "run", order(epochs=2, tracker="trackio"))
    stop_at(run, step=6)
    go_on(run)

    name = run.state()["tracked_as"]
    assert name.startswith("run-")
    logs = sqlite_storage.SQLiteStorage.get_logs(trackers.PROJECT, name)
    found = [(k, log["step"], v) for log in logs for k, v in log.items() if "/" in k]
    assert max(Counter((name, step) for name, step, _ in found).values()) == 1
    shown = {(name, step): value for name, step, value in found}
    wanted = expected(run)
    assert {point: shown.get(point) for point in wanted} == wanted
    [kept] = trackio.Api().runs(trackers.PROJECT)
    assert (kept.name, kept.config["epochs"], kept.config["fusion"]) == (name, 2, "attention")


def test_weights_and_biases_is_called_as_its_package_wants_it(
    order: Callable[..., Order], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Its package is not here; a module that remembers stands for it."""
    calls: list[tuple[str, Any]] = []
    opened = SimpleNamespace(
        log=lambda values, step: calls.append(("log", (step, values))),
        finish=lambda: calls.append(("finish", None)),
    )
    module = SimpleNamespace(
        init=lambda **options: calls.append(("init", options)) or opened,
        config=SimpleNamespace(update=lambda values, **_: calls.append(("config", values))),
    )
    monkeypatch.setitem(sys.modules, "wandb", module)
    monkeypatch.setitem(trackers.TRACKERS, "wandb", (trackers.wandb, lambda: True))
    run = Run.create(tmp_path / "run", order(epochs=1, tracker="wandb"))
    work(run, lambda: False)

    name = run.state()["tracked_as"]
    assert calls[0] == (
        "init",
        {"project": "mmapp", "name": name, "id": name, "resume": "allow", "dir": str(run.folder)},
    )
    assert calls[1][1]["fusion"] == "attention"
    assert calls[-1] == ("finish", None)
    shown = {(k, v[0]): x for what, v in calls if what == "log" for k, x in v[1].items()}
    wanted = expected(run)
    assert {point: shown.get(point) for point in wanted} == wanted


@pytest.mark.parametrize("moment", ["start", "store_init_configuration", "log", "finish"])
def test_a_tracker_that_fails_is_left_out_and_the_run_goes_on(
    moment: str, order: Callable[..., Order], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    calls: list[str] = []

    class Failing:
        name = "wandb"

        def __getattr__(self, method: str) -> Callable[..., None]:
            def call(*_: Any, **__: Any) -> None:
                calls.append(method)
                if method == moment:
                    raise ConnectionError("https://user:secret-token@host/ does not answer")

            return call

    monkeypatch.setitem(trackers.TRACKERS, "wandb", (lambda *_: Failing(), lambda: True))
    run = Run.create(tmp_path / "run", order(epochs=1, tracker="wandb"))
    assert work(run, lambda: False) == "done"
    assert run.has_checkpoint()
    message = (
        "wandb failed (ConnectionError) and gets no more figures; the run and its TensorBoard files "
        "go on."
    )
    assert [e["message"] for e in run.events() if e["event"] == "warning"] == [message]
    assert run.log.read_text().count(message) == 1
    assert calls.index(moment) == len(calls) - 1
    held = b"".join(path.read_bytes() for path in run.folder.rglob("*") if path.is_file())
    assert b"secret-token" not in held
    assert len(scalars(run)) >= 20


def test_a_folder_that_cannot_be_written_ends_no_run(run: Run) -> None:
    (run.folder / "tensorboard").write_text("in the way")
    assert work(run, lambda: False) == "done"
    [warning] = [e["message"] for e in run.events() if e["event"] == "warning"]
    assert warning.startswith("TensorBoard's files cannot be written (")


def test_a_tracker_that_is_not_installed_is_told_before_training_begins(
    order: Callable[..., Order], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setitem(trackers.TRACKERS, "wandb", (trackers.wandb, lambda: False))
    run = Run.create(tmp_path / "run", order(tracker="wandb"))
    with pytest.raises(SettingsError) as refused:
        work(run, lambda: False)
    assert str(refused.value) == (
        "The tracker wandb is not installed; install it with: python -m pip install wandb"
    )
    assert run.state()["message"] == str(refused.value)
    assert not run.pairs.exists()


def stop_at(run: Run, step: int) -> None:
    """Work until this step was told of."""
    reached: list[int] = []

    def tell(event: Event) -> None:
        if event.values.get("step") == step:
            reached.append(step)

    assert work(run, lambda: bool(reached), tell) == "stopped"


def go_on(run: Run) -> None:
    run.write_state(status="queued", message=None)
    assert work(run, lambda: False) == "done"
