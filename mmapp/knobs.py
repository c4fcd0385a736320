"""What a knob is: a field with bounds, unit and help, in a class that checks it. Names no knob."""

from __future__ import annotations

from typing import Any, Self

from pydantic import BaseModel, ConfigDict, Field, ValidationError

from mmapp.errors import SettingsError


def setting(
    default: Any,
    help: str,
    *,
    unit: str = "",
    low: float | None = None,
    high: float | None = None,
    table: str | None = None,
    prefix: str = "",
    suggest: tuple[str, ...] = (),
    several: bool = False,
) -> Any:
    """One knob.

    Args:
        default: its value when nobody says otherwise; None means "found out from the data".
        help: one or two sentences for the person who may turn it.
        unit: shown beside the number.
        low: least value allowed.
        high: largest value allowed.
        table: "module:NAME" of the dict whose keys, behind `prefix`, are the choices; they live
            beside the classes they choose.
        prefix: see `table`.
        suggest: further good values of a knob that takes any name.
        several: the value is any number of the choices, separated by commas.
    """
    extra: dict[str, Any] = {
        "unit": unit, "table": table, "prefix": prefix, "suggest": suggest, "low": low, "high": high,
        "several": several,
    }  # fmt: skip
    return Field(default, description=help, ge=low, le=high, json_schema_extra=extra)


class Settings(BaseModel):
    """Base of all settings: frozen, nothing unknown accepted, mistakes told in sentences."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    def __init__(self, **values: Any) -> None:
        """Check every value. Raises SettingsError, which names all wrong values at once."""
        try:
            super().__init__(**values)
        except ValidationError as error:
            raise SettingsError(_sentences(error)) from None

    def replace(self, **changes: Any) -> Self:
        """A checked copy with some values changed. Raises SettingsError."""
        return type(self)(**{**self.model_dump(), **changes})


def _sentences(error: ValidationError) -> str:
    """All mistakes of one construction, each with the name, what was found and what is allowed."""
    found = []
    for mistake in error.errors():
        name = ".".join(str(part) for part in mistake["loc"])
        message = mistake["msg"].removeprefix("Value error, ")
        if mistake["type"] == "extra_forbidden":
            message = "there is no setting of this name"
        elif name:
            message = f"{message[0].lower()}{message[1:]}, found {mistake['input']!r}"
        found.append(f"{name}: {message}" if name else message)
    return "; ".join(found) + "."
