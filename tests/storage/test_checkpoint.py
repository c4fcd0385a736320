"""A checkpoint gives back the same model, is whole or not there, and is read without trust."""

from __future__ import annotations

import json
import os
import pickle
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch
from safetensors.torch import load_file, save_file

from mmapp.data.pairs import PairTable
from mmapp.errors import CheckpointError
from mmapp.evaluation.outputs import forward_inputs
from mmapp.inference.scoring import evaluate
from mmapp.models.model import FusionModel
from mmapp.settings import TrainSettings
from mmapp.storage import checkpoint as storage
from mmapp.storage.checkpoint import Facts, load_checkpoint, save_checkpoint
from mmapp.storage.folder import MAX_CONFIG_BYTES, find_checkpoint, lasting_name
from mmapp.training.loop import train
from mmapp.training.prepare import Prepared, prepare

ROOT = Path(__file__).parents[2]
SHIPPED = ROOT / "checkpoints" / "digits"

FILES = {
    "README.md",
    "config.json",
    "history.jsonl",
    "metrics.json",
    "model.safetensors",
    "preprocessor_config.json",
    "settings.json",
    "tokenizer.json",
    "tokenizer_config.json",
}


def read(path: Path) -> Any:
    return json.loads(path.read_text(encoding="utf-8"))


def change(path: Path, **values: Any) -> None:
    path.write_text(json.dumps({**read(path), **values}), encoding="utf-8")


@torch.inference_mode()
def logits(model: FusionModel, prepared: Prepared) -> torch.Tensor:
    batches = prepared.loaders.test.batches()
    return torch.cat([model.eval()(**forward_inputs(batch)).logits for batch in batches])


def test_a_checkpoint_read_back_gives_the_same_logits_to_the_bit(
    saved: Path, prepared: Prepared
) -> None:
    model, _ = load_checkpoint(saved)
    assert torch.equal(logits(model, prepared), logits(prepared.model, prepared))
    assert not model.training


def test_the_checkpoint_of_a_lora_run_is_an_ordinary_one(
    small_pairs: PairTable, quick: TrainSettings, facts: Facts, tmp_path: Path
) -> None:
    """Whether it needs peft is asked of another process, for in this one it was needed to train; nor
    may a run of another tuning wait for its import."""
    settings = quick.replace(tuning="lora", learning_rate=0.02)
    prepared = prepare(small_pairs, settings)
    list(train(prepared.model, prepared.loaders, settings))
    folder = tmp_path / "checkpoint"
    save_checkpoint(folder, prepared.model, prepared.processor, facts)
    code = (
        "import sys, mmapp.training.loop; from mmapp.storage.checkpoint import load_checkpoint; "
        f"load_checkpoint({str(folder)!r}); print('peft' in sys.modules)"
    )
    run = subprocess.run(
        [sys.executable, "-c", code], cwd=ROOT, capture_output=True, text=True, check=True
    )

    model, _ = load_checkpoint(folder)

    assert torch.equal(logits(model, prepared), logits(prepared.model, prepared))
    untouched = prepare(small_pairs, settings.replace(tuning="full")).model
    assert load_file(folder / "model.safetensors").keys() == untouched.state_dict().keys()
    assert {path.name for path in folder.iterdir()} == FILES
    assert "peft" not in (folder / "config.json").read_text(encoding="utf-8")
    assert run.stdout.split() == ["False"]


def test_its_processor_read_back_gives_the_same_tensors(saved: Path, prepared: Prepared) -> None:
    table = prepared.loaders.test.dataset
    _, processor = load_checkpoint(saved)
    before = prepared.processor(table.texts, [None] * len(table))
    after = processor(table.texts, [None] * len(table))
    assert after.keys() == before.keys()
    assert [name for name in before if not torch.equal(before[name], after[name])] == []
    assert (processor.image_mean, processor.image_std) == (
        prepared.processor.image_mean,
        prepared.processor.image_std,
    )


def test_transformers_itself_opens_the_folder(saved: Path, prepared: Prepared) -> None:
    model = FusionModel.from_pretrained(saved)
    assert torch.equal(logits(model, prepared), logits(prepared.model, prepared))
    assert model.config.label_names == ("blue", "green", "red")


def test_a_checkpoint_is_exactly_these_files(saved: Path, facts: Facts) -> None:
    assert {path.name for path in saved.iterdir()} == FILES
    assert os.listdir(saved.parent) == ["checkpoint"]
    assert read(saved / "metrics.json") == facts.report
    assert read(saved / "settings.json") == {"settings": facts.settings, "command": facts.command}
    lines = (saved / "history.jsonl").read_text().splitlines()
    assert [json.loads(line) for line in lines] == facts.history


def test_an_earlier_checkpoint_is_replaced_as_a_whole(
    checkpoint: Path, prepared: Prepared, facts: Facts
) -> None:
    (checkpoint / "left over.txt").touch()
    save_checkpoint(checkpoint, prepared.model, prepared.processor, facts)
    assert {path.name for path in checkpoint.iterdir()} == FILES
    assert os.listdir(checkpoint.parent) == ["checkpoint"]


def test_a_failure_half_way_leaves_the_earlier_checkpoint_as_it_was(
    checkpoint: Path, prepared: Prepared, facts: Facts, monkeypatch: pytest.MonkeyPatch
) -> None:
    before = {path.name: path.read_bytes() for path in checkpoint.iterdir()}

    def fail(*_: object) -> str:
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(storage, "write_card", fail)  # the last file that is written
    with pytest.raises(OSError, match="No space left"):
        save_checkpoint(checkpoint, prepared.model, prepared.processor, facts)
    assert {path.name: path.read_bytes() for path in checkpoint.iterdir()} == before
    monkeypatch.undo()
    save_checkpoint(checkpoint, prepared.model, prepared.processor, facts)
    assert os.listdir(checkpoint.parent) == ["checkpoint"]


def test_no_file_tells_where_the_encoders_or_the_data_lay(saved: Path, tiny_bert: Path) -> None:
    """The folders' own names may be told ("tiny-bert"), what lies above them may not."""
    above = str(tiny_bert.parent.parent).encode()  # pytest's folder, the data's as well
    telling = [path.name for path in saved.iterdir() if above in path.read_bytes()]
    assert telling == []
    assert read(saved / "config.json")["text_encoder"] == "tiny-bert"


def hide_a_weight(folder: Path) -> None:
    weights = load_file(folder / "model.safetensors")
    del weights["head.out.bias"], weights["absent.text"]
    save_file(weights, folder / "model.safetensors", metadata={"format": "pt"})


def cut_the_weights(folder: Path) -> None:
    path = folder / "model.safetensors"
    path.write_bytes(path.read_bytes()[:-100])


def leave_only_a_pickle(folder: Path) -> None:
    weights = load_file(folder / "model.safetensors")
    (folder / "model.safetensors").unlink()
    torch.save(weights, folder / "pytorch_model.bin")


def index_of(*files: str) -> Callable[[Path], None]:
    def write(folder: Path) -> None:
        (folder / "model.safetensors").rename(folder / "part.safetensors")
        names = load_file(folder / "part.safetensors")
        weight_map = {name: files[i % len(files)] for i, name in enumerate(names)}
        index = {"metadata": {}, "weight_map": weight_map}
        (folder / "model.safetensors.index.json").write_text(json.dumps(index))

    return write


def take_a_larger_tokenizer(folder: Path) -> None:
    vocabulary = read(folder / "tokenizer.json")
    pieces = vocabulary["model"]["vocab"]
    known = len(pieces)
    pieces |= {f"piece{number}": known + number for number in range(5)}
    (folder / "tokenizer.json").write_text(json.dumps(vocabulary))


def in_config(**values: Any) -> Callable[[Path], None]:
    return lambda folder: change(folder / "config.json", **values)


def write(name: str, content: str) -> Callable[[Path], None]:
    return lambda folder: (folder / name).write_text(content) and None


# What is wrong with a folder, and how the refusal goes on after its name.
REFUSED: dict[str, tuple[Callable[[Path], None], str]] = {
    "of another library": (
        in_config(model_type="bert"),
        " holds a bert, not a checkpoint of this app. As an encoder it may serve: give it to train.",
    ),
    "of no library": (in_config(model_type=None), " holds a model of unknown type, not"),
    "brings code": (
        in_config(auto_map={"AutoModel": "evil.Model"}),
        " asks to run code that it brings. Such folders are not opened.",
    ),
    "brings code for a part": (
        in_config(text_config={"model_type": "x", "auto_map": {"AutoModel": "evil.Model"}}),
        " asks to run code that it brings.",
    ),
    "brings an adapter": (
        write("adapter_config.json", '{"peft_type": "LORA", "base_model_name_or_path": "evil"}'),
        " brings adapter_config.json, and transformers would read pickles for it. Such folders are",
    ),
    "of a newer format": (
        in_config(format_version=2),
        " is of format 2; this app reads up to 1. Update the app.",
    ),
    "of a strange format": (in_config(format_version="new"), " is of format new; this app reads"),
    "of no temperature": (
        in_config(temperature=0),
        " is calibrated by the temperature 0; expected a number above zero.",
    ),
    "of a strange temperature": (in_config(temperature=True), " is calibrated by the temperature True"),
    "of an unknown fusion": (
        in_config(fusion="magic"),
        " could not be opened: There is no fusion 'magic'. Expected one of",
    ),
    "of another width": (in_config(width=16), " could not be opened: "),
    "only a pickle": (
        leave_only_a_pickle,
        " has no model.safetensors; other weight files are not read.",
    ),
    "an index of pickles": (
        index_of("part.safetensors", "pytorch_model.bin"),
        "/model.safetensors.index.json names pytorch_model.bin; weights are read only from "
        ".safetensors files beside it.",
    ),
    "an index of files elsewhere": (
        index_of("../part.safetensors"),
        "/model.safetensors.index.json names ../part.safetensors; weights are read only from",
    ),
    "an index of nothing": (
        write("model.safetensors.index.json", "{}"),
        "/model.safetensors.index.json names no file; weights",
    ),
    "cut weights": (cut_the_weights, " could not be opened: Error while deserializing header"),
    "missing weights": (
        hide_a_weight,
        " lacks 2 of the model's weights (absent.text, head.out.bias). The folder is incomplete, "
        "or mixes files of two checkpoints.",
    ),
    "config.json is no JSON": (
        write("config.json", "{'model_type':"),
        "/config.json cannot be read as JSON: Expecting property name",
    ),
    "config.json is a list": (write("config.json", "[]"), "/config.json does not hold a JSON object."),
    "config.json without an end": (
        write("config.json", " " * (MAX_CONFIG_BYTES + 1)),
        "/config.json is larger than 4 MB.",
    ),
    "no processor": (
        lambda folder: (folder / "preprocessor_config.json").unlink(),
        " holds no processor of this app: ",
    ),
}


@pytest.mark.parametrize("wrong", REFUSED)
def test_a_folder_that_may_not_be_trusted_is_refused_in_words(wrong: str, checkpoint: Path) -> None:
    spoil, sentence = REFUSED[wrong]
    spoil(checkpoint)
    with pytest.raises(CheckpointError) as refused:
        load_checkpoint(checkpoint)
    assert str(refused.value).startswith(f"{checkpoint}{sentence}")


def test_the_tokenizer_of_another_checkpoint_is_refused(checkpoint: Path, prepared: Prepared) -> None:
    known = prepared.model.config.text_config.vocab_size
    take_a_larger_tokenizer(checkpoint)
    with pytest.raises(CheckpointError) as refused:
        load_checkpoint(checkpoint)
    assert str(refused.value) == (
        f"The tokenizer in {checkpoint} has {known + 5} pieces, but the model knows {known}. "
        "The folder mixes files of two checkpoints."
    )


class Touch:
    """Unpickled, it makes a file."""

    def __init__(self, path: Path) -> None:
        self.path = path

    def __reduce__(self) -> tuple[Any, ...]:
        return Path.touch, (self.path,)


@pytest.mark.parametrize("name", ["pytorch_model.bin", "pytorch_model.bin.index.json", "config.pkl"])
def test_a_pickle_beside_the_weights_is_not_opened(name: str, checkpoint: Path, tmp_path: Path) -> None:
    (checkpoint / name).write_bytes(pickle.dumps(Touch(tmp_path / "opened")))
    load_checkpoint(checkpoint)
    assert not (tmp_path / "opened").exists()


def test_the_code_of_a_tokenizer_is_not_run(checkpoint: Path, tmp_path: Path) -> None:
    change(
        checkpoint / "tokenizer_config.json",
        auto_map={"AutoTokenizer": ["evil.Tokenizer", None]},
        tokenizer_class="Tokenizer",
    )
    ran = tmp_path / "ran"
    (checkpoint / "evil.py").write_text(
        f"import pathlib\npathlib.Path({str(ran)!r}).touch()\nclass Tokenizer: pass\n"
    )
    with pytest.raises(CheckpointError, match="contains custom code"):
        load_checkpoint(checkpoint)
    assert not ran.exists()


def test_weights_in_several_files_are_read(checkpoint: Path, prepared: Prepared) -> None:
    index_of("part.safetensors")(checkpoint)
    model, _ = load_checkpoint(checkpoint)
    assert torch.equal(logits(model, prepared), logits(prepared.model, prepared))


def test_a_run_folder_its_checkpoint_and_a_shipped_name_are_found(checkpoint: Path) -> None:
    assert find_checkpoint(checkpoint.parent) == checkpoint
    assert find_checkpoint(str(checkpoint)) == checkpoint
    assert find_checkpoint("digits") == SHIPPED


def test_the_name_that_lasts_is_the_runs_folder_or_the_shipped_name(
    checkpoint: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(checkpoint.parent.parent)
    for name in (checkpoint, checkpoint.parent, "run", "run/checkpoint"):
        assert lasting_name(name) == str(checkpoint.parent)
    for name in ("digits", SHIPPED):
        assert lasting_name(name) == "digits"
    elsewhere = checkpoint.rename(checkpoint.parent.parent / "mine")
    assert lasting_name("mine") == str(elsewhere)


def test_what_is_no_checkpoint_is_told_apart_from_what_is_not_there(tmp_path: Path) -> None:
    with pytest.raises(CheckpointError) as refused:
        find_checkpoint(tmp_path)
    assert str(refused.value).startswith(
        f"{tmp_path} holds no checkpoint. Expected config.json in it or in its folder checkpoint; "
        "a run has one once it has finished or was stopped. Shipped ones: digits"
    )
    with pytest.raises(CheckpointError) as refused:
        find_checkpoint(tmp_path / "nowhere")
    assert str(refused.value).startswith(
        f"There is no checkpoint {tmp_path}/nowhere. Expected a folder or a shipped name."
    )


def test_the_shipped_checkpoint_is_small_and_of_the_usual_settings() -> None:
    size = sum(path.stat().st_size for path in SHIPPED.rglob("*") if path.is_file())
    assert size <= 6 * 2**20
    told = read(SHIPPED / "settings.json")
    usual = TrainSettings().model_dump()
    # A setting that came later is not in it, and means what it means by default.
    assert told["settings"] == {name: usual[name] for name in told["settings"]}
    assert told["command"] == "python -m mmapp train sample:digits --output RUN"


def test_the_shipped_checkpoint_scores_here_what_it_says(monkeypatch: pytest.MonkeyPatch) -> None:
    """The bootstrap is left out: what the interval is about does not change what is scored."""
    monkeypatch.setattr("mmapp.evaluation.report.WITH_INTERVAL", ())
    told = read(SHIPPED / "metrics.json")
    report = evaluate("digits", "sample:digits")
    assert told["accuracy"] >= 0.95
    assert report["n"] == told["n"] == 720
    assert report["accuracy"] == told["accuracy"]
    assert report["log_loss"] == pytest.approx(told["log_loss"], abs=1e-4)
    assert report["notes"] == []
