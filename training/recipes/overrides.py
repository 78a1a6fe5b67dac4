"""Settings of a recipe from the command line: ``key=value`` with the type of the field, unknown keys refused."""

from __future__ import annotations

import types
import typing
from collections.abc import Mapping, Sequence
from dataclasses import fields, is_dataclass, replace
from typing import TypeVar

from finevla_runtime.contracts.errors import SetupError, unknown_name

Settings = TypeVar("Settings")
_TRUE, _FALSE = ("true", "yes", "on", "1"), ("false", "no", "off", "0")
# Identity of a run rather than a setting of it.
_FIXED = ("name", "framework", "stage", "data")


def override(recipe: Settings, changes: Sequence[str]) -> Settings:
    """Return the recipe with ``key=value`` changes; ``mixture.batch=64`` reaches into nested settings.

    Raises:
        SetupError: FV-TRN-020 for an unknown key (with the nearest), FV-TRN-021 for a value of another type.
    """
    for change in changes:
        key, equals, text = change.partition("=")
        if not equals:
            raise SetupError("FV-TRN-021", f"--set {change!r} is not KEY=VALUE.")
        recipe = _changed(recipe, key.strip(), key.strip().split("."), text.strip())
    return recipe


def _changed(settings: Settings, whole: str, path: Sequence[str], text: str) -> Settings:
    assert is_dataclass(settings)  # noqa: S101  # For the type checker; every recipe is one.
    hints = typing.get_type_hints(type(settings))
    known = [field.name for field in fields(settings) if field.name not in _FIXED]
    name, *rest = path
    if name not in known:
        prefix = whole[: len(whole) - len(".".join(path))]
        raise unknown_name("FV-TRN-020", "setting", whole, [prefix + k for k in known], "--set")
    value = getattr(settings, name)
    if rest:
        if not is_dataclass(value):
            raise SetupError("FV-TRN-020", f"--set {whole}: {name!r} is one value and has no settings inside.")
        return replace(settings, **{name: _changed(value, whole, rest, text)})  # type: ignore[type-var]
    if is_dataclass(value):
        inside = ", ".join(f"{whole}.{field.name}" for field in fields(value))
        raise SetupError("FV-TRN-020", f"--set {whole}: it is a group; set one of {inside}.")
    return replace(settings, **{name: _read(text, hints[name], whole)})


def _read(text: str, kind: object, key: str) -> object:
    """Return ``text`` as a value of a field's type."""
    origin = typing.get_origin(kind)
    if origin in (typing.Union, types.UnionType):
        if text.lower() == "none" and type(None) in typing.get_args(kind):
            return None
        return _read(text, next(a for a in typing.get_args(kind) if a is not type(None)), key)
    if origin is tuple:
        inner = typing.get_args(kind)[0]
        return tuple(_read(part.strip(), inner, key) for part in text.split(",") if part.strip())
    if origin is not None and issubclass(typing.cast(type, origin), Mapping):
        inner = typing.get_args(kind)[1]
        pairs = [part.partition(":") for part in text.split(",") if part.strip()]
        return {name.strip(): _read(value.strip(), inner, key) for name, _, value in pairs}
    return _scalar(text, kind, key)


def _scalar(text: str, kind: object, key: str) -> object:
    if kind is bool:
        if text.lower() not in (*_TRUE, *_FALSE):
            raise SetupError("FV-TRN-021", f"--set {key}={text}: wanted true or false.")
        return text.lower() in _TRUE
    if kind is str:
        return text
    try:
        if kind is int:
            return int(text.replace("_", ""))
        return float(text)
    except ValueError as error:
        wanted = "a whole number" if kind is int else "a number"
        raise SetupError("FV-TRN-021", f"--set {key}={text}: wanted {wanted}.") from error
