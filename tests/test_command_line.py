"""The command line from end to end on forty pairs: results, exit statuses, one line for a mistake."""

from __future__ import annotations

import csv
import json
import os
import re
import shutil
import signal
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any, NamedTuple

import pytest

from mmapp.__main__ import main
from mmapp.data.ingest import load_pairs
from mmapp.data.pairs import PairTable
from mmapp.runs.run import Run

ROOT = Path(__file__).parents[1]

TINY = "--width 8 --image-size 32 --batch-size 8 --epochs 2 --precision fp32".split()


class Told(NamedTuple):
    """What a command left behind."""

    status: int
    out: str
    err: str

    def line(self) -> str:
        """The one line of a mistake."""
        assert "Traceback" not in self.err
        lines = [line for line in self.err.splitlines() if "loading libraries" not in line]
        assert len(lines) == 1, self.err
        assert self.out == ""
        return lines[0].removeprefix("mmapp: ")


def started(*arguments: str) -> subprocess.Popen[str]:
    """The real command, in a process of its own."""
    return subprocess.Popen(
        [sys.executable, "-m", "mmapp", *arguments],
        cwd=ROOT,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
    )


def ended(process: subprocess.Popen[str]) -> Told:
    out, err = process.communicate(timeout=60)
    return Told(process.returncode, out, err)


@pytest.fixture(scope="session")
def data(small_pairs: PairTable) -> str:
    return small_pairs.source


@pytest.fixture(scope="session")
def trained(data: str, tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, Told]:
    """A run's folder and what the command said."""
    folder = tmp_path_factory.mktemp("trained") / "run"
    return folder, ended(started("train", data, "--output", str(folder), *TINY))


@pytest.fixture(scope="session")
def few_digits(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Seven pairs of the sample for each split and label."""
    frame = load_pairs("sample:digits").frame
    few = frame.groupby(["split", "label"]).head(7)[["image", "text", "label", "split"]]
    path = tmp_path_factory.mktemp("few") / "digits.csv"
    few.rename(columns={"image": "file_name"}).to_csv(path, index=False)
    return path


@pytest.fixture
def command(monkeypatch: pytest.MonkeyPatch, capfd: pytest.CaptureFixture[str]) -> Callable[..., Told]:
    """command("check", ...): the same in this process, where torch is loaded already."""

    def call(*arguments: str | Path) -> Told:
        monkeypatch.setattr(sys, "argv", ["mmapp", *map(str, arguments)])
        capfd.readouterr()
        try:
            status = main()
        except SystemExit as exit:
            status = int(exit.code or 0)
        return Told(status, *capfd.readouterr())

    return call


def test_train_leaves_a_run_folder_with_the_result(trained: tuple[Path, Told]) -> None:
    folder, told = trained
    assert told.status == 0, told.err
    run = Run.open(folder)
    assert run.status == "done"
    assert run.has_checkpoint()
    assert "test: 6 pairs" in told.out
    assert told.out.splitlines()[-1] == f"checkpoint: {folder / 'checkpoint'}"
    assert "epoch 2: training loss" in told.err
    assert "\x1b" not in told.err


def test_train_again_is_refused_in_one_line(
    trained: tuple[Path, Told], data: str, command: Callable[..., Told]
) -> None:
    folder, _ = trained
    before = {path: path.stat().st_mtime_ns for path in folder.rglob("*")}
    told = command("train", data, "--output", folder, *TINY)
    assert told.status == 1
    assert told.line() == (
        f"{folder} exists already and is not overwritten. Name another folder, or add --resume to "
        "go on with the run in it."
    )
    assert {path: path.stat().st_mtime_ns for path in folder.rglob("*")} == before


def test_to_resume_a_finished_run_does_no_harm(
    trained: tuple[Path, Told], data: str, command: Callable[..., Told]
) -> None:
    folder, first = trained
    weights = (folder / "checkpoint" / "model.safetensors").stat().st_mtime_ns
    told = command("train", data, "--output", folder, "--resume")
    assert (told.status, told.out) == (0, first.out)
    assert (folder / "checkpoint" / "model.safetensors").stat().st_mtime_ns == weights


def test_a_run_that_is_being_worked_on_is_left_alone(
    trained: tuple[Path, Told], data: str, command: Callable[..., Told], tmp_path: Path
) -> None:
    run = Run(Path(shutil.copytree(trained[0], tmp_path / "run")))
    run.write_state(status="running")
    with run.claim():
        told = command("train", data, "--output", run.folder, "--resume")
        assert run.status == "running"
    assert told.status == 1
    assert told.line() == f"{run.folder} is being worked on by another process."


def test_a_run_starts_from_a_shipped_model_with_a_few_pairs_of_each_label(
    command: Callable[..., Told], few_digits: Path, tmp_path: Path
) -> None:
    folder = tmp_path / "run"
    options = "--start-from digits --shots 3 --epochs 1 --tuning head".split()
    told = command("train", few_digits, "--output", folder, *options)

    assert told.status == 0, told.err
    assert "6 training pairs" in told.err
    assert re.search(r"^  before: accuracy \d\.\d{3}; change [+-]\d\.\d{3} \(", told.out, re.M)
    settings = json.loads((folder / "settings.json").read_text())["settings"]
    assert (settings["start_from"], settings["fusion"]) == ("digits", "attention")
    assert (settings["task"], settings["image_size"], settings["shots"]) == ("match", 32, 3)
    again = command("train", few_digits, "--output", folder, "--resume")
    assert (again.status, again.out) == (0, told.out)


def test_a_run_starts_from_another_run_wherever_it_is_named_from(
    trained: tuple[Path, Told], data: str, command: Callable[..., Told], tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> None:  # fmt: skip
    monkeypatch.chdir(trained[0].parent)
    options = ["--start-from", "run", "--epochs", "1", "--precision", "fp32"]
    told = command("train", data, "--output", tmp_path / "second", *options)
    assert told.status == 0, told.err
    settings = Run.open(tmp_path / "second").order().settings
    assert (settings.start_from, settings.width) == (str(trained[0]), 8)
    refused = command("train", data, "--output", tmp_path / "third", *options, "--text-encoder", "x")
    assert refused.status == 2
    assert "trained with the text encoder scratch:bert, and x is wanted" in refused.line()
    assert not (tmp_path / "third").exists()


USAGE = {
    "a value out of bounds": (["--epochs", "0"], "epochs: input should be greater than"),
    "a value of no choice": (["--schedule", "wavy"], "schedule: input should be 'cosine'"),
    "a value that is no number": (["--epochs", "many"], "integer"),
    "an unknown option": (["--wings", "2"], "No such option: --wings"),
    "a contradiction": (
        ["--validation-fraction", "0.5", "--test-fraction", "0.5"],
        "leave less than a fifth of the pairs to learn from",
    ),
}


@pytest.mark.parametrize("mistake", USAGE)
def test_a_mistake_of_usage_ends_with_2_and_leaves_nothing(
    mistake: str, data: str, command: Callable[..., Told], tmp_path: Path
) -> None:
    options, sentence = USAGE[mistake]
    told = command("train", data, "--output", tmp_path / "run", *options)
    assert told.status == 2
    assert sentence in " ".join(told.err.replace("│", " ").split())
    assert told.out == ""
    assert not (tmp_path / "run").exists()


def test_a_search_is_not_launched_on_many_processes(
    data: str, command: Callable[..., Told], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("WORLD_SIZE", "2")
    told = command("search", data, "--output", tmp_path / "run")
    assert told.status == 2
    assert told.line() == "A search starts its own processes: run it without accelerate launch."
    assert not (tmp_path / "run").exists()


def test_an_unknown_name_ends_with_2_and_can_be_corrected(
    data: str, command: Callable[..., Told], tmp_path: Path
) -> None:
    """Only the model knows its fusions, so the run has been made by then; it gives way."""
    told = command("train", data, "--output", tmp_path / "run", *TINY, "--fusion", "magic")
    assert told.status == 2
    assert "There is no fusion 'magic'. Expected one of concat," in told.err
    assert "Traceback" not in told.err
    assert command("train", data, "--output", tmp_path / "run", *TINY).status == 0


@pytest.mark.parametrize("verb", ["train", "evaluate", "predict", "check"])
def test_data_that_is_not_there_ends_with_1_and_one_line(
    verb: str, trained: tuple[Path, Told], command: Callable[..., Told], tmp_path: Path
) -> None:
    gone = str(tmp_path / "gone")
    arguments = {
        "train": [gone, "--output", str(tmp_path / "run")],
        "evaluate": [str(trained[0]), gone],
        "predict": [str(trained[0]), "--data", gone, "--output", str(tmp_path / "a.csv")],
        "check": [gone],
    }
    told = command(verb, *arguments[verb])
    assert told.status == 1
    assert told.line().startswith(f"There is no {gone}. Expected a zip, a folder, a table")


def test_evaluate_prints_one_json_object_to_a_pipe(trained: tuple[Path, Told], data: str) -> None:
    """In a process of its own, so that nothing but the result is on its stdout."""
    folder, _ = trained
    told = ended(started("evaluate", str(folder), data, "--json"))
    assert told.status == 0, told.err
    report = json.loads(told.out)
    metrics = json.loads((folder / "checkpoint" / "metrics.json").read_text())
    assert (report["n"], report["split"], report["notes"]) == (6, "test", [])
    for name in ("accuracy", "macro_f1"):
        assert report[name] == metrics[name]


def test_evaluate_tells_another_split_and_a_strange_one(
    trained: tuple[Path, Told], data: str, command: Callable[..., Told]
) -> None:
    told = command("evaluate", trained[0], data, "--split", "validation")
    assert json.loads(told.out)["n"] == 8  # no terminal: JSON, asked for or not
    told = command("evaluate", trained[0], data, "--split", "tset")
    assert told.status == 2
    assert told.line().startswith("There is no split 'tset'.")


def test_predict_answers_for_one_pair(
    trained: tuple[Path, Told], data: str, command: Callable[..., Told]
) -> None:
    pair = ["--text", "a red thing", "--image", f"{data}/00.png"]
    told = command("predict", trained[0], *pair, "--json")
    assert told.status == 0
    answer = json.loads(told.out)
    assert sum(answer["probabilities"].values()) == pytest.approx(1, abs=1e-6)
    assert answer["label"] == max(answer["probabilities"], key=answer["probabilities"].get)
    lines = command("predict", trained[0], *pair).out.splitlines()
    assert lines == [f"{p:7.4f}  {name}" for name, p in answer["probabilities"].items()]


def test_predict_answers_for_a_table(
    trained: tuple[Path, Told], data: str, command: Callable[..., Told], tmp_path: Path
) -> None:
    output = tmp_path / "answers.csv"
    told = command("predict", trained[0], "--data", data, "--output", output)
    assert told == (0, f"{output}\n", "mmapp: 40 of 40 rows answered\n")
    with output.open(newline="", encoding="utf-8") as table:
        rows = list(csv.DictReader(table))
    assert [row["row"] for row in rows] == [str(number) for number in range(1, 41)]
    assert {row["label"] for row in rows} <= {"red", "green", "blue"}


def test_an_aligned_model_finds_halves_and_answers_by_names(
    data: str, command: Callable[..., Told], tmp_path: Path
) -> None:
    options = [*TINY, "--epochs", "1", "--fusion", "concat", "--alignment", "1"]
    trained = command("train", data, "--output", tmp_path / "run", *options)
    assert trained.status == 0, trained.err
    found = r"^  text to image     [01]\.\d{3} .* first of 6; by chance 0\.167$"
    assert re.search(found, trained.out, re.M), trained.out
    asked = ["--image", f"{data}/00.png", "--labels", "white, black"]
    answer = json.loads(command("predict", tmp_path / "run", *asked, "--json").out)
    assert set(answer["probabilities"]) == {"white", "black"}
    told = command("evaluate", tmp_path / "run", data, "--zero-shot", "--template", "a {} thing")
    assert "no label was learnt from" in told.err
    assert json.loads(told.out)["n"] == 6


@pytest.mark.parametrize(
    ("arguments", "sentence"),
    [
        (["evaluate", "digits", "sample:digits", "--template", "a {}"], "give --zero-shot as well."),
        (["predict", "digits", "--text", "x", "--template", "a {}"], "give --labels as well."),
        (["predict", "digits", "--data", "x", "--labels", "a,b"], "--labels answers for one pair"),
    ],
)
def test_what_belongs_to_names_wants_names(
    arguments: list[str], sentence: str, command: Callable[..., Told]
) -> None:
    told = command(*arguments)
    assert told.status == 2
    assert sentence in told.line()


@pytest.mark.parametrize(
    ("options", "sentence"),
    [
        ([], "Give either --text and/or --image, or --data with --output."),
        (["--text", "x", "--data", "y"], "Give either --text and/or --image, or --data with"),
        (["--data", "y"], "--data needs --output FILE.csv."),
    ],
)
def test_predict_wants_one_pair_or_many(
    options: list[str], sentence: str, command: Callable[..., Told]
) -> None:
    told = command("predict", "digits", *options)
    assert told.status == 2
    assert told.line().startswith(sentence)


def test_an_output_that_cannot_be_written_ends_with_1_and_one_line(
    trained: tuple[Path, Told], data: str, command: Callable[..., Told], tmp_path: Path
) -> None:
    told = command("predict", trained[0], "--data", data, "--output", tmp_path)
    assert told.status == 1
    assert "Is a directory" in told.line()


def test_check_prints_the_findings(command: Callable[..., Told], tmp_path: Path) -> None:
    (tmp_path / "a.csv").write_text("text,label\none thing,a\nanother thing,b\na third,\n")
    described = json.loads(command("check", tmp_path / "a.csv", "--json").out)
    assert (described["rows"], described["used"], described["set_aside"]) == (3, 2, 1)
    told = command("check", tmp_path / "a.csv")
    assert told.status == 0
    assert told.out.startswith("2 of 3 rows can be used.\n")
    assert "[set aside] row 3: The label is empty.\n" in told.out


def test_check_takes_the_columns_that_are_named(command: Callable[..., Told], tmp_path: Path) -> None:
    (tmp_path / "a.csv").write_text("one,two,three\nsome words,x,a\nother words,y,b\n")
    described = json.loads(
        command("check", tmp_path / "a.csv", "--label-column", "three", "--json").out
    )
    assert described["classes"] == {"a": 1, "b": 1}
    told = command("check", tmp_path / "a.csv", "--label-column", "tree")
    assert told.status == 1
    assert told.line().endswith("Did you mean 'three'?")


def test_ctrl_c_ends_with_130_saved_and_resumable(
    data: str, command: Callable[..., Told], tmp_path: Path
) -> None:
    """The epochs would take minutes; the run goes on with fewer than it was begun with."""
    folder = tmp_path / "run"
    many = [*TINY, "--epochs", "900"]
    process = started("train", data, "--output", str(folder), *many, "--patience", "0")
    deadline = time.monotonic() + 60
    while not any(event["event"] == "evaluated" for event in Run(folder).events()):
        assert process.poll() is None, ended(process).err
        assert time.monotonic() < deadline, "no epoch was done within 60 s"
        time.sleep(0.05)
    os.kill(process.pid, signal.SIGINT)
    told = ended(process)

    assert told.status == 130, told.err
    assert "Traceback" not in told.err
    assert f"stopped and saved; go on with: train {data} --output {folder} --resume" in told.err
    run = Run.open(folder)
    state = run.state()
    assert state["status"] == "stopped"
    assert run.has_checkpoint()
    assert (run.resume / f"step-{state['step']}.safetensors").is_file()

    orders: dict[str, Any] = json.loads((folder / "settings.json").read_text())
    orders["settings"]["epochs"] = state["epoch"] + 1
    (folder / "settings.json").write_text(json.dumps(orders))
    told = command("train", data, "--output", folder, "--resume")
    assert told.status == 0
    assert [e["step"] for e in run.events() if e["event"] == "started"] == [0, state["step"]]
    assert run.status == "done"


def test_without_a_verb_the_help_is_shown(command: Callable[..., Told]) -> None:
    told = command()
    assert told.status == 2
    for verb in ("train", "search", "evaluate", "predict", "check", "serve"):
        assert verb in told.out + told.err
