"""What an encoder's name means, and how fast one learns that there is no network."""

from __future__ import annotations

import socket
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from mmapp import sources
from mmapp.errors import EncoderError
from mmapp.sources import Source, absolute, fetch, first_line, public_name

PROXIES = ("HTTPS_PROXY", "https_proxy", "ALL_PROXY", "all_proxy")


@pytest.mark.parametrize(
    ("written", "source"),
    [
        ("scratch:bert", Source("scratch", "bert")),
        ("torchvision:resnet50", Source("torchvision", "resnet50")),
        ("bert-base-uncased", Source("transformers", "bert-base-uncased")),
        ("google/vit@main", Source("transformers", "google/vit", "main")),
        ("google/vit@", Source("transformers", "google/vit")),
        ("other:thing", Source("transformers", "other:thing")),
    ],
)
def test_a_name_says_where_an_encoder_comes_from(written: str, source: Source) -> None:
    assert Source.parse(written) == source
    assert source.pretrained == (not written.startswith("scratch:"))
    assert not source.is_folder


@pytest.mark.parametrize("written", ["", "  "])
def test_an_empty_name_is_refused(written: str) -> None:
    with pytest.raises(EncoderError) as refused:
        Source.parse(written)
    assert str(refused.value) == ("No encoder is named. Expected scratch:NAME, a folder or a Hub id.")


def test_a_folder_is_itself_even_with_an_at_sign_in_its_name(tmp_path: Path) -> None:
    folder = tmp_path / "bert@home"
    folder.mkdir()
    assert Source.parse(str(folder)) == Source("transformers", str(folder))
    assert Source.parse(str(folder)).is_folder


def test_a_relative_folder_becomes_absolute_and_other_names_stay(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "encoder").mkdir()
    monkeypatch.chdir(tmp_path)
    assert absolute("encoder") == str((tmp_path / "encoder").resolve())
    for name in ("scratch:bert", "torchvision:resnet50", "google/vit@main"):
        assert absolute(name) == name


def test_strangers_see_only_what_a_folder_is_called(tmp_path: Path) -> None:
    assert public_name(str(tmp_path)) == tmp_path.name
    assert public_name("google/vit@main") == "google/vit@main"


class Loader:
    """Stands for a `from_pretrained`: answers each call with the next outcome, and remembers it."""

    def __init__(self, *outcomes: Any) -> None:
        self.outcomes = list(outcomes)
        self.calls: list[tuple[str, dict[str, Any]]] = []

    def __call__(self, name: str, **options: Any) -> Any:
        self.calls.append((name, options))
        outcome = self.outcomes.pop(0)
        if isinstance(outcome, Exception):
            raise outcome
        return outcome


@pytest.fixture
def network(monkeypatch: pytest.MonkeyPatch) -> Callable[[bool], list[tuple[Any, ...]]]:
    """network(answers): a Hub that answers or does not; gives the list of attempts to reach it."""
    for name in (*PROXIES, "HF_HUB_OFFLINE", "HF_ENDPOINT"):
        monkeypatch.delenv(name, raising=False)

    def pretend(answers: bool) -> list[tuple[Any, ...]]:
        attempts: list[tuple[Any, ...]] = []

        def connect(address: tuple[str, int], timeout: float) -> socket.socket:
            attempts.append((*address, timeout))
            if not answers:
                raise OSError("no route to host")
            return socket.socket()

        monkeypatch.setattr(sources.socket, "create_connection", connect)
        return attempts

    return pretend


VIT = Source("transformers", "google/vit", "v2")


def test_what_is_on_disk_loads_without_asking_the_network(
    network: Callable[[bool], list[tuple[Any, ...]]],
) -> None:
    attempts = network(True)
    load = Loader("the model")
    assert fetch(load, VIT, dtype="x") == "the model"
    assert load.calls == [
        (
            "google/vit",
            {"local_files_only": True, "trust_remote_code": False, "revision": "v2", "dtype": "x"},
        )
    ]
    assert attempts == []


def test_what_is_not_on_disk_is_fetched_and_its_code_never_trusted(
    network: Callable[[bool], list[tuple[Any, ...]]],
) -> None:
    attempts = network(True)
    load = Loader(OSError("not in the cache"), "the model")
    assert fetch(load, Source("transformers", "google/vit")) == "the model"
    assert load.calls[1] == ("google/vit", {"trust_remote_code": False, "revision": "main"})
    assert attempts == [("huggingface.co", 443, 2.0)]


def test_without_a_network_the_answer_comes_before_the_library_starts_to_retry(
    network: Callable[[bool], list[tuple[Any, ...]]],
) -> None:
    network(False)
    load = Loader(OSError("not in the cache"))
    with pytest.raises(EncoderError) as refused:
        fetch(load, VIT)
    assert str(refused.value) == (
        "google/vit is neither a folder nor in the local cache, and the Hub cannot be reached. "
        "Connect to the network once to fetch it, or choose a local folder or a scratch encoder."
    )
    assert len(load.calls) == 1


@pytest.mark.parametrize("value", ["1", "on", "True", "YES"])
def test_a_forbidden_network_is_not_asked(
    value: str,
    network: Callable[[bool], list[tuple[Any, ...]]],
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    attempts = network(True)
    monkeypatch.setenv("HF_HUB_OFFLINE", value)
    with pytest.raises(EncoderError, match="and HF_HUB_OFFLINE forbids the network. Connect"):
        fetch(Loader(OSError("not in the cache")), VIT)
    assert attempts == []


@pytest.mark.parametrize("proxy", PROXIES)
def test_behind_a_proxy_only_the_request_itself_can_tell(
    proxy: str,
    network: Callable[[bool], list[tuple[Any, ...]]],
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    attempts = network(False)
    monkeypatch.setenv(proxy, "http://proxy:3128")
    assert fetch(Loader(OSError("not in the cache"), "the model"), VIT) == "the model"
    assert attempts == []


@pytest.mark.parametrize(
    ("endpoint", "address"),
    [
        ("https://hub.example.org", ("hub.example.org", 443)),
        ("http://hub.example.org", ("hub.example.org", 80)),
        ("http://localhost:8080/hub", ("localhost", 8080)),
    ],
)
def test_the_hub_asked_is_the_one_the_environment_names(
    endpoint: str,
    address: tuple[str, int],
    network: Callable[[bool], list[tuple[Any, ...]]],
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    attempts = network(True)
    monkeypatch.setenv("HF_ENDPOINT", endpoint)
    fetch(Loader(OSError("not in the cache"), "the model"), VIT)
    assert [attempt[:2] for attempt in attempts] == [address]


def test_what_the_hub_does_not_have_is_told_with_what_to_do(
    network: Callable[[bool], list[tuple[Any, ...]]],
) -> None:
    network(True)
    load = Loader(OSError("not in the cache"), OSError("404: no such model.\nmany\nmore lines"))
    with pytest.raises(EncoderError) as refused:
        fetch(load, VIT)
    assert str(refused.value) == (
        "google/vit could not be fetched from the Hub: 404: no such model. "
        "Check the name, or name a local folder or a scratch encoder."
    )


@pytest.mark.parametrize("error", [OSError("no config.json"), ValueError("no config.json")])
def test_a_folder_that_cannot_be_loaded_is_never_looked_for_on_the_hub(
    error: Exception, tmp_path: Path, network: Callable[[bool], list[tuple[Any, ...]]]
) -> None:
    attempts = network(True)
    with pytest.raises(EncoderError) as refused:
        fetch(Loader(error), Source("transformers", str(tmp_path)))
    assert str(refused.value) == f"{tmp_path} could not be loaded: no config.json."
    assert refused.value.__cause__ is error
    assert attempts == []


def test_what_is_there_but_broken_is_not_fetched_again(
    network: Callable[[bool], list[tuple[Any, ...]]],
) -> None:
    attempts = network(True)
    with pytest.raises(EncoderError, match="^google/vit could not be loaded: unknown kind.$"):
        fetch(Loader(ValueError("unknown kind")), VIT)
    assert attempts == []


@pytest.mark.parametrize(
    ("error", "line"),
    [
        (ValueError("one.\ntwo"), "one."),
        (ValueError("  one"), "one."),
        (KeyError(), "KeyError."),
    ],
)
def test_of_a_long_error_the_first_line_is_shown(error: Exception, line: str) -> None:
    assert first_line(error) == line
