"""PolicySpec as canonical JSON, for ``policy.json`` in a bundle and for the wire handshake."""

from __future__ import annotations

import json
from collections.abc import Callable, Mapping
from dataclasses import asdict, fields
from typing import TypeVar

from finevla_runtime.contracts.action import LAYOUTS, ActionSpace
from finevla_runtime.contracts.errors import SetupError, unknown_name
from finevla_runtime.contracts.instruction import InstructionKind
from finevla_runtime.contracts.policy import CameraSpec, Normalisation, PolicySpec, PromptSpec

T = TypeVar("T")
FRAMEWORKS = ("oft", "gr00t")


def spec_to_json(spec: PolicySpec) -> str:
    """Return the spec as JSON with sorted keys; equal specs give equal text."""
    return json.dumps(asdict(spec), sort_keys=True)


def spec_from_json(text: str) -> PolicySpec:
    """Parse and check a spec.

    Raises:
        SetupError: FV-SPC-001 (not JSON or not a mapping), FV-SPC-002 (missing key), FV-SPC-003 (unknown key or
            value), FV-SPC-004 (wrong type or an impossible value).
    """
    try:
        raw = json.loads(text)
    except json.JSONDecodeError as error:
        raise SetupError("FV-SPC-001", f"the policy spec is not JSON: {error}") from error
    keys = _keys(raw, PolicySpec, "policy spec")
    action = _keys(keys["action"], ActionSpace, "policy spec action")
    normalisation = _keys(keys["normalisation"], Normalisation, "policy spec normalisation")
    spec = PolicySpec(
        name=_text(keys, "name"),
        version=_text(keys, "version"),
        embodiment=_text(keys, "embodiment"),
        framework=_text(keys, "framework"),
        cameras=_tuple(keys, "cameras", _camera),
        action=ActionSpace(
            names=_tuple(action, "names", _str),
            units=_tuple(action, "units", _str),
            lower=_tuple(action, "lower", _float),
            upper=_tuple(action, "upper", _float),
            representation=_text(action, "representation"),
        ),
        layout=_text(keys, "layout"),
        state=_flag(keys, "state"),
        normalisation=Normalisation(
            mode=_tuple(normalisation, "mode", _str),
            low=_tuple(normalisation, "low", _float),
            high=_tuple(normalisation, "high", _float),
            clip=_flag(normalisation, "clip"),
        ),
        prompt=_prompt(keys["prompt"]),
        chunk_rows=_integer(keys, "chunk_rows"),
        execution_rows=_integer(keys, "execution_rows"),
        control_hz=_float(keys["control_hz"]),
        trained_kinds=_tuple(keys, "trained_kinds", _kind),
        fg_share=_float(keys["fg_share"]),
    )
    _check(spec)
    return spec


def _check(spec: PolicySpec) -> None:
    if spec.layout not in LAYOUTS:
        raise unknown_name("FV-SPC-003", "joint layout", spec.layout, LAYOUTS, "policy spec")
    if spec.framework not in FRAMEWORKS:
        raise unknown_name("FV-SPC-003", "framework", spec.framework, FRAMEWORKS, "policy spec")
    if not 1 <= spec.execution_rows <= spec.chunk_rows:
        raise SetupError(
            "FV-SPC-004",
            f"execution_rows {spec.execution_rows} must lie in 1..chunk_rows ({spec.chunk_rows}).",
        )
    if not spec.control_hz > 0:
        raise SetupError("FV-SPC-004", f"control_hz is {spec.control_hz}, it must be positive.")


def _keys(raw: object, kind: type, where: str) -> dict[str, object]:
    """Return ``raw`` when it is a mapping with exactly the fields of the dataclass ``kind``."""
    if not isinstance(raw, Mapping):
        raise SetupError("FV-SPC-001", f"{where} is {type(raw).__name__}, wanted a mapping.")
    wanted = [field.name for field in fields(kind)]
    for key in raw:
        if key not in wanted:
            raise unknown_name("FV-SPC-003", "key", str(key), wanted, where)
    for key in wanted:
        if key not in raw:
            raise SetupError("FV-SPC-002", f"{where} lacks {key!r}; export the bundle again.")
    return {str(key): value for key, value in raw.items()}


def _wrong(what: str, value: object, wanted: str) -> SetupError:
    return SetupError("FV-SPC-004", f"policy spec: {what} is {value!r}, wanted {wanted}.")


def _str(value: object) -> str:
    if not isinstance(value, str):
        raise _wrong("a value", value, "text")
    return value


def _float(value: object) -> float:
    if isinstance(value, bool) or not isinstance(value, (int, float)):
        raise _wrong("a value", value, "a number")
    return float(value)


def _kind(value: object) -> InstructionKind:
    known = [kind.value for kind in InstructionKind]
    if value not in known:
        raise unknown_name("FV-SPC-003", "instruction kind", str(value), known, "policy spec")
    return InstructionKind(value)


def _camera(value: object) -> CameraSpec:
    keys = _keys(value, CameraSpec, "policy spec camera")
    return CameraSpec(_text(keys, "name"), _integer(keys, "height"), _integer(keys, "width"), _text(keys, "resize"))


def _prompt(value: object) -> PromptSpec:
    keys = _keys(value, PromptSpec, "policy spec prompt")
    return PromptSpec(
        _text(keys, "template"),
        _integer(keys, "max_tokens"),
        _integer(keys, "pad_id"),
        _flag(keys, "lowercase"),
    )


def _text(keys: Mapping[str, object], name: str) -> str:
    return _str(keys[name])


def _flag(keys: Mapping[str, object], name: str) -> bool:
    value = keys[name]
    if not isinstance(value, bool):
        raise _wrong(name, value, "true or false")
    return value


def _integer(keys: Mapping[str, object], name: str) -> int:
    value = keys[name]
    if isinstance(value, bool) or not isinstance(value, int):
        raise _wrong(name, value, "a whole number")
    return value


def _tuple(keys: Mapping[str, object], name: str, read: Callable[[object], T]) -> tuple[T, ...]:
    value = keys[name]
    if not isinstance(value, list):
        raise _wrong(name, value, "a list")
    return tuple(read(item) for item in value)
