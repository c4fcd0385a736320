"""How loud the libraries are: no bars and load reports of theirs between our own lines."""

from __future__ import annotations

import transformers


def quiet_libraries() -> None:
    """Keep transformers to its errors. For processes of our own, never for an importer's."""
    transformers.utils.logging.set_verbosity_error()
    transformers.utils.logging.disable_progress_bar()
