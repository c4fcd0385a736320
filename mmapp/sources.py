"""What an encoder's name means, and how its files are fetched without long waits.

`scratch:NAME` starts from nothing, `torchvision:NAME` is one of torchvision's classifiers, anything
else is a local folder or a Hugging Face id, optionally with `@revision`. Knows no tensor.
"""

from __future__ import annotations

import os
import socket
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal, TypeVar
from urllib.parse import urlsplit

from mmapp.errors import EncoderError

T = TypeVar("T")

CONNECT_SECONDS = 2.0

# peft's. transformers loads what lies beside it, and from a pickle if there is no other file.
ADAPTER = "adapter_config.json"


@dataclass(frozen=True)
class Source:
    """A parsed encoder name.

    Attributes:
        kind: "scratch", "torchvision" or "transformers".
        name: what follows the prefix; a folder or a Hub id for "transformers".
        revision: branch, tag or commit of a Hub id, or None.
    """

    kind: Literal["scratch", "torchvision", "transformers"]
    name: str
    revision: str | None = None

    @classmethod
    def parse(cls, written: str) -> Source:
        """Raises EncoderError when nothing is named."""
        prefix, _, rest = written.partition(":")
        if prefix in ("scratch", "torchvision") and rest:
            return cls(prefix, rest)  # type: ignore[arg-type]
        if not written.strip():
            raise EncoderError("No encoder is named. Expected scratch:NAME, a folder or a Hub id.")
        if Path(written).is_dir():
            return cls("transformers", written)
        name, _, revision = written.partition("@")
        return cls("transformers", name, revision or None)

    @property
    def pretrained(self) -> bool:
        return self.kind != "scratch"

    @property
    def is_folder(self) -> bool:
        return self.kind == "transformers" and Path(self.name).is_dir()


def absolute(written: str) -> str:
    """The name as it stays true when the working directory changes."""
    source = Source.parse(written)
    return str(Path(source.name).resolve()) if source.is_folder else written


def public_name(written: str) -> str:
    """The name as strangers may see it: of a local folder, only what the folder is called."""
    return Path(written).name if Source.parse(written).is_folder else written


def fetch(load: Callable[..., T], source: Source, **options: Any) -> T:
    """Call a `from_pretrained` of transformers on a source of kind "transformers".

    What is on disk loads at once; only then is the network asked, and only when it answers: the
    library's own retries would take some 23 seconds to find out that there is none.

    Raises:
        EncoderError: not on disk and not reachable, not found, or found but not loadable.
    """
    where = {"trust_remote_code": False, "revision": source.revision or "main", **options}
    try:
        return load(source.name, local_files_only=True, **where)
    except Exception as error:
        if source.is_folder:
            raise EncoderError(f"{source.name} could not be loaded: {first_line(error)}") from error
        missing = isinstance(error, OSError)
        if not missing:
            raise EncoderError(f"{source.name} could not be loaded: {first_line(error)}") from error
    _require_hub(source)
    try:
        return load(source.name, **where)
    except Exception as error:
        raise EncoderError(
            f"{source.name} could not be fetched from the Hub: {first_line(error)} "
            "Check the name, or name a local folder or a scratch encoder."
        ) from error


def _require_hub(source: Source) -> None:
    """Raises EncoderError within CONNECT_SECONDS when the Hub cannot be reached."""
    what_now = (
        f"{source.name} is neither a folder nor in the local cache, and {{}}. Connect to the network "
        "once to fetch it, or choose a local folder or a scratch encoder."
    )
    if os.environ.get("HF_HUB_OFFLINE", "").upper() in ("1", "ON", "YES", "TRUE"):
        raise EncoderError(what_now.format("HF_HUB_OFFLINE forbids the network"))
    if any(os.environ.get(name) for name in ("HTTPS_PROXY", "https_proxy", "ALL_PROXY", "all_proxy")):
        return  # a proxy answers for the Hub; only the request itself can tell
    address = urlsplit(os.environ.get("HF_ENDPOINT") or "https://huggingface.co")
    port = address.port or (443 if address.scheme == "https" else 80)
    try:
        socket.create_connection((address.hostname or "", port), CONNECT_SECONDS).close()
    except OSError:
        raise EncoderError(what_now.format("the Hub cannot be reached")) from None


def first_line(error: BaseException) -> str:
    """The first line of an error's message, for a sentence to the user."""
    lines = str(error).strip().splitlines() or [type(error).__name__]
    return lines[0].rstrip(".") + "."
