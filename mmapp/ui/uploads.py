"""What a visitor uploads, brought to a place that no other visitor can read by its address."""

from __future__ import annotations

import secrets
import shutil
from pathlib import Path

from mmapp.data.archive import unpack
from mmapp.data.ingest import uploads
from mmapp.errors import DataError


def keep_upload(files: list[Path]) -> tuple[Path, str]:
    """Copy an upload out of the server's public temporary folder.

    One zip or table stays as it is. Several files become a folder; a zip among them is unpacked
    into it, so that a table finds its pictures there.

    Returns:
        Its place, as `load_pairs` takes it, and a title.

    Raises:
        DataError: several zips, or several files of one name.
        ArchiveError: a zip that cannot be unpacked.
    """
    archives = [file for file in files if file.suffix.lower() == ".zip"]
    if len(archives) > 1:
        raise DataError("Several zips were given. Put everything into one zip, or give one at a time.")
    names = [file.name for file in files]
    twice = sorted({name for name in names if names.count(name) > 1})
    if twice:
        raise DataError(f"Several files are called {twice[0]}. Rename them, or zip their folders.")
    folder = uploads() / secrets.token_hex(8)
    folder.mkdir(parents=True)
    for file in files:
        if len(files) > 1 and file in archives:
            unpack(file, folder)
        else:
            shutil.copyfile(file, folder / file.name)
    if len(files) == 1:
        return folder / files[0].name, files[0].name
    return folder, f"{len(files)} files"
