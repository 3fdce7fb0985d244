"""The arguments of a call -> those that the tool takes, or a sentence from which the caller can correct them."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from cfaudit_export.core.escape import shown
from cfaudit_export.core.suggest import nearest
from cfaudit_export.errors import UsageError
from cfaudit_export.serve.tools import ToolSpec

_LONGEST = 20_000


def checked(tool: ToolSpec, given: Mapping[str, Any]) -> dict[str, Any]:
    """Return the arguments; those that are null are taken as not given.

    Raises:
        UsageError: one is unknown, missing, or not of the kind that the tool takes.
    """
    for name in given:
        if name not in tool.properties:
            known = ", ".join(tool.properties)
            raise UsageError(f"unknown argument '{shown(name)}'{nearest(name, tool.properties)} (arguments: {known})")
    found = {name: value for name, value in given.items() if value is not None}
    for name in tool.required:
        if name not in found:
            raise UsageError(f"argument '{name}' is missing: {tool.properties[name]['description']}")
    return {name: _checked(name, tool.properties[name], value) for name, value in found.items()}


def _checked(name: str, body: Mapping[str, Any], value: Any) -> Any:
    kind = body["type"]
    if kind == "array" and isinstance(value, str):
        return [value]
    if not _fits(kind, value):
        raise UsageError(f"{name}: expected {_KINDS[kind]}, not {shown(repr(value))}")
    if kind == "integer":
        value = int(value)
        if not body["minimum"] <= value <= body["maximum"]:
            raise UsageError(f"{name}: expected {body['minimum']} to {body['maximum']}, not {value}")
    if isinstance(value, str) and len(value) > _LONGEST:
        raise UsageError(f"{name}: {len(value):,} characters are too many; at most {_LONGEST:,}")
    if "enum" in body and value not in body["enum"]:
        listed = ", ".join(body["enum"])
        raise UsageError(f"{name}: expected one of {listed}, not '{shown(value)}'{nearest(value, body['enum'])}")
    return value


def _fits(kind: str, value: Any) -> bool:
    if kind == "integer":
        return not isinstance(value, bool) and isinstance(value, int | float) and value == value // 1
    if kind == "array":
        return isinstance(value, list) and all(isinstance(one, str) for one in value)
    return isinstance(value, {"string": str, "object": dict}[kind])


_KINDS = {"string": "a text", "integer": "a whole number", "array": "a list of texts", "object": "an object"}
