"""The page is built whole, without torch and without asking another host for anything."""

from __future__ import annotations

import json
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import gradio as gr
import pytest

from mmapp.data.ingest import load_pairs
from mmapp.errors import DataError
from mmapp.runs.queue import RunQueue
from mmapp.ui import interface, words
from mmapp.ui.handlers import spoken
from mmapp.ui.shelf import Shelf
from mmapp.ui.uploads import keep_upload

ROOT = Path(__file__).parents[2]

BUILD = """
import json, sys
from pathlib import Path
from mmapp.runs.queue import RunQueue
from mmapp.ui.interface import build
page, shelf = build(RunQueue(Path(sys.argv[1])))
heavy = {"torch", "torchvision", "transformers", "accelerate", "peft", "sklearn"}
print(json.dumps(sorted(heavy & set(sys.modules))))
"""


@pytest.fixture(scope="module")
def page(drawn_by: Callable[..., Any], tmp_path_factory: pytest.TempPathFactory) -> gr.Blocks:
    queue = RunQueue(tmp_path_factory.mktemp("home") / "runs")
    return drawn_by(interface.build, queue)[0]


def drawn(page: gr.Blocks, kind: str) -> list[dict[str, Any]]:
    return [c["props"] for c in page.get_config_file()["components"] if c["type"] == kind]


def test_the_page_is_built_without_the_heavy_libraries(tmp_path: Path) -> None:
    child = subprocess.run(
        [sys.executable, "-c", BUILD, str(tmp_path)], cwd=ROOT, capture_output=True, text=True
    )
    assert child.returncode == 0, child.stderr
    assert json.loads(child.stdout.splitlines()[-1]) == []


def test_every_tab_is_there_in_the_order_of_the_work(page: gr.Blocks) -> None:
    assert [tab["label"] for tab in drawn(page, "tabitem")] == [
        words.TRY,
        words.DATA,
        words.TRAIN,
        words.RESULTS,
    ]


def test_predictions_can_be_asked_for_by_name(page: gr.Blocks) -> None:
    endpoints = page.get_api_info()["named_endpoints"]
    actions = {"/predict", "/predict_table", "/compare", "/cancel_comparison", "/make_ensemble"}
    assert actions <= set(endpoints)
    names = " ".join(endpoints)
    private_ones = ("begin", "poll", "go_on", "find_again", "take_upload", "foresee", "renew", "show")
    for private in private_ones:
        assert private not in names


def test_names_to_answer_with_are_asked_for_where_a_model_can(
    page: gr.Blocks, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The bundled model was not aligned. Callers of before give three values, and still may."""
    [names] = [box for box in drawn(page, "textbox") if box.get("label") == words.NAMES]
    assert not names["visible"]
    given = page.get_api_info()["named_endpoints"]["/predict"]["parameters"]
    assert [one["parameter_has_default"] for one in given][3:] == [True]
    [predict] = [fn.fn for fn in page.fns.values() if fn.api_name == "predict"]
    told: list[tuple[object, ...]] = []
    found = SimpleNamespace(probabilities={"seven": 1.0}, words=())
    asked = SimpleNamespace(
        predict=lambda *pair: told.append(pair) or found,
        zero_shot=lambda *given: told.append(given) or found,
    )
    monkeypatch.setattr(Shelf, "open", lambda shelf, key: asked)
    for names in (["seven, eight"], [], [" "]):
        predict("digits", "x", "a.png", *names)
    assert told == [(["seven", " eight"], "x", "a.png"), ("x", "a.png"), ("x", "a.png")]


def test_tagged_words_are_shown_in_the_place_of_one_answer(
    page: gr.Blocks, monkeypatch: pytest.MonkeyPatch
) -> None:
    [predict] = [fn.fn for fn in page.fns.values() if fn.api_name == "predict"]
    words_told = (("see", "O", 0.9), ("<b>me</b>", "B-X", 0.8))
    found = SimpleNamespace(probabilities={}, words=words_told)
    asked = SimpleNamespace(predict=lambda *pair: found)
    monkeypatch.setattr(Shelf, "open", lambda shelf, key: asked)
    label, tagged = predict("digits", "see <b>me</b>", None)
    assert (label.visible, tagged.visible) == (False, True)
    assert [(t["token"], t["class_or_confidence"]) for t in tagged.value] == [
        ("see ", None),
        ("<b>me</b> ", "B-X"),
    ]


def test_nothing_on_the_page_comes_from_another_host(page: gr.Blocks) -> None:
    told = json.dumps([c["props"] for c in page.get_config_file()["components"]], default=str)
    assert "http://" not in told
    assert "https://" not in told


class Stub:
    """Stands for the page and for the queue; remembers how it was called."""

    def __init__(self, *_: Any) -> None:
        self.calls: dict[str, dict[str, Any]] = {}

    def __getattr__(self, name: str) -> Any:
        return lambda **options: self.calls.update({name: options})


def test_what_lies_below_the_home_has_no_address(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Gradio serves what lies below the working directory; here that is the home itself."""
    page, shelf = Stub(), Stub()
    shelf.first = lambda: None
    monkeypatch.setenv("MMAPP_HOME", str(tmp_path))
    monkeypatch.setattr(interface, "RunQueue", Stub)
    monkeypatch.setattr(interface, "build", lambda queue: (page, shelf))
    interface.serve(port=1)
    launched = page.calls["launch"]
    table = tmp_path / "table.csv"
    table.write_text("text,label\nx y,a\nz w,b\n")
    keep_upload([table])
    folders = {path.name for path in tmp_path.iterdir() if path.is_dir()}
    assert folders == {"uploads"}
    blocked = {Path(path).name for path in launched["blocked_paths"]}
    assert blocked == {*folders, "checkpoints", "features", "runs", "samples", "unpacked"}
    assert {Path(path).parent for path in launched["blocked_paths"]} == {tmp_path}
    assert not launched.get("share")
    assert not launched.get("allowed_paths")


def test_where_the_home_is_the_repository_its_examples_are_shown(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    page, shelf = Stub(), Stub()
    shelf.first = lambda: None
    monkeypatch.setattr(interface, "home", lambda: ROOT)
    monkeypatch.setattr(interface, "RunQueue", Stub)
    monkeypatch.setattr(interface, "build", lambda queue: (page, shelf))
    interface.serve(port=1)
    blocked = page.calls["launch"]["blocked_paths"]
    assert str(ROOT / "runs") in blocked
    assert str(ROOT / "checkpoints") not in blocked


def test_a_mistake_of_the_visitor_is_told_in_its_own_words() -> None:
    @spoken
    def read(source: str) -> None:
        load_pairs(source)

    with pytest.raises(gr.Error) as told:
        read("<b>gone</b>")
    assert told.value.message.startswith("There is no &lt;b&gt;gone&lt;/b&gt;. Expected a zip")
    assert isinstance(told.value.__cause__, DataError)


def test_a_mistake_of_ours_is_told_with_an_apology_and_no_detail(
    caplog: pytest.LogCaptureFixture,
) -> None:
    @spoken
    def stumble() -> None:
        raise ZeroDivisionError("secret detail")

    with pytest.raises(gr.Error) as told:
        stumble()
    assert told.value.message == words.APOLOGY.format(name="stumble")
    assert "secret detail" in caplog.text
