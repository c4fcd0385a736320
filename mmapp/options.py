"""Settings classes -> options of a command. Knows typer, and no verb."""

from __future__ import annotations

import functools
import inspect
import types
from collections.abc import Callable
from typing import Annotated, Any, Literal, Union, get_args, get_origin

import typer
from pydantic.fields import FieldInfo

from mmapp.choices import choices_of
from mmapp.knobs import Settings

Given = dict[str, Any]  # only what the user wrote; everything else keeps its default


def settings_options(
    *kinds: type[Settings],
) -> Callable[[Callable[..., None]], Callable[..., None]]:
    """Give a command one option for every field of `kinds`; it receives those written as `given`."""

    def decorate(command: Callable[..., None]) -> Callable[..., None]:
        signature = inspect.signature(command, eval_str=True)
        own = [p for p in signature.parameters.values() if p.name != "given"]
        fields = [field for kind in kinds for field in kind.model_fields.items()]
        options = [_option(name, field) for name, field in fields]

        @functools.wraps(command)
        def with_options(**values: Any) -> None:
            written = {o.name: values.pop(o.name) for o in options}
            command(**values, given={k: v for k, v in written.items() if v is not None})

        with_options.__signature__ = signature.replace(  # type: ignore[attr-defined]
            parameters=[p.replace(kind=inspect.Parameter.KEYWORD_ONLY) for p in [*own, *options]]
        )
        with_options.__annotations__ = {p.name: p.annotation for p in [*own, *options]}
        return with_options

    return decorate


def _option(name: str, field: FieldInfo) -> inspect.Parameter:
    """`--field-name`; its help ends with the default, the unit and the bounds."""
    option = typer.Option(
        f"--{name.replace('_', '-')}",
        help=f"{field.description} {_remarks(field)}".strip(),
        metavar=_metavar(field),
        show_default=False,
        rich_help_panel="Settings",
    )
    kind: Any = _plain_type(field.annotation)
    annotation: Any = Annotated[kind | None, option]
    return inspect.Parameter(
        name, inspect.Parameter.KEYWORD_ONLY, default=None, annotation=annotation
    )


def _plain_type(annotation: Any) -> Any:
    """What the command line converts to; settings check the rest."""
    if get_origin(annotation) in (Union, types.UnionType):
        annotation = next(part for part in get_args(annotation) if part is not type(None))
    return str if get_origin(annotation) is Literal else annotation


def _metavar(field: FieldInfo) -> str | None:
    """The names to choose from, where no other name will do."""
    extra: dict[str, Any] = field.json_schema_extra  # type: ignore[assignment]
    between = "," if extra["several"] else "|"
    return None if extra["suggest"] else between.join(choices_of(field)) or None


def _remarks(field: FieldInfo) -> str:
    extra: dict[str, Any] = field.json_schema_extra  # type: ignore[assignment]
    parts = []
    if field.default is not None:
        parts.append(f"default {field.default} {extra['unit']}".strip())
    if extra["high"] is not None:
        parts.append(f"{extra['low']:g} to {extra['high']:g}")
    return f"({'; '.join(parts)})" if parts else ""
