"""What a setting may be: the names in its type, or the keys of the table it refers to. No torch."""

from __future__ import annotations

import ast
from functools import cache
from pathlib import Path
from typing import Any, Literal, get_args, get_origin

from pydantic.fields import FieldInfo

from mmapp.errors import SettingsError


def choices_of(field: FieldInfo) -> list[str]:
    """The values a field may take, or suggests; empty for numbers and free text."""
    if get_origin(field.annotation) is Literal:
        return list(get_args(field.annotation))
    extra: dict[str, Any] = field.json_schema_extra  # type: ignore[assignment]
    if not extra["table"]:
        return []
    module, _, name = extra["table"].partition(":")
    keys = [f"{extra['prefix']}{key}" for key in _table_keys(module, name)]
    auto = ["auto"] if field.default == "auto" else []
    return [*auto, *keys, *extra["suggest"]]


def names_in(written: str, field: FieldInfo, what: str) -> list[str]:
    """ "a,b" as values that a field may take. Raises SettingsError."""
    names, known = [name.strip() for name in written.split(",")], choices_of(field)
    for name in names:
        if name not in known:
            raise SettingsError(f"There is no {what} {name!r}. Expected {', '.join(known)}.")
    return names


@cache
def _table_keys(module: str, name: str) -> list[str]:
    """The keys of a dict written out in a module, read from its text: importing it would import
    torch, and the page is to open before that."""
    root = Path(__file__).resolve().parents[1]
    source = root.joinpath(*module.split(".")).with_suffix(".py").read_text(encoding="utf-8")
    for node in ast.parse(source).body:
        targets = [node.target] if isinstance(node, ast.AnnAssign) else getattr(node, "targets", [])
        if any(isinstance(target, ast.Name) and target.id == name for target in targets):
            return [ast.literal_eval(key) for key in node.value.keys]  # type: ignore[attr-defined]
    raise LookupError(f"{module} has no table {name}")
