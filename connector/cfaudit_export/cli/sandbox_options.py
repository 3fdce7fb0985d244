"""The knobs of the sandbox <-> options of the command line, made from `SandboxOptions` and its documentation."""

from __future__ import annotations

import inspect
import re
from collections.abc import Iterator, Mapping
from dataclasses import fields
from datetime import datetime, timedelta
from typing import Any, Literal, get_args, get_origin, get_type_hints

import typer

from cfaudit_export.cli.command import flag
from cfaudit_export.core.times import parse_duration, parse_moment, show_duration
from cfaudit_export.errors import UsageError

_SECONDS = "_seconds"
_METAVARS = {int: "N", float: "SHARE", str: "TEXT", int | None: "N", datetime | None: "TIME"}


def knob_parameters() -> Iterator[inspect.Parameter]:
    """Yield an option for every knob; lengths of time lose the `_seconds` of their names."""
    from cfaudit_sandbox import DRIFTS, POISON_KINDS, SandboxOptions

    help_of = _documented(SandboxOptions)
    help_of["poison"] = (
        f"rows that the server rejects; the kind 'all' spreads over every kind: {', '.join(POISON_KINDS)}"
    )
    help_of["drift"] = f"possible future changes of the tool: {', '.join(DRIFTS)}"
    hints = get_type_hints(SandboxOptions)
    for knob in fields(SandboxOptions):
        name, kind = _flag(knob.name), hints[knob.name]
        about = help_of[knob.name]
        if kind is bool:
            yield flag(knob.name, bool, knob.default, typer.Option(f"{name}/--no-{name[2:]}", help=about))
            continue
        if knob.default:
            about += f" (default: {_shown(knob.name, knob.default)})"
        repeats = knob.default == ()
        info = typer.Option(name, help=about + ("; repeatable" if repeats else ""), metavar=_metavar(knob.name, kind))
        yield flag(knob.name, list[str] | None if repeats else str | None, None, info)


def sandbox_options(given: Mapping[str, Any], now: datetime) -> Any:
    """Return the `SandboxOptions` that the command line gave.

    Raises:
        UsageError: a value is none, or out of range.
    """
    from cfaudit_sandbox import SandboxOptions

    hints = get_type_hints(SandboxOptions)
    values = {}
    for name, text in given.items():
        if text is None:
            continue
        try:
            values[name] = _value(name, hints[name], text, now)
        except ValueError as error:
            raise UsageError(f"{_flag(name)}: {error}") from None
    try:
        return SandboxOptions(**values)
    except ValueError as error:
        raise UsageError(str(error)) from None


def _value(name: str, kind: Any, given: Any, now: datetime) -> Any:
    if isinstance(given, bool | list):
        return given if isinstance(given, bool) else tuple(given)
    if name.endswith(_SECONDS):
        return float(given) if _is_number(given) else parse_duration(given).total_seconds()
    if get_origin(kind) is Literal:
        for choice in get_args(kind):
            if str(choice) == given:
                return choice
        raise ValueError(f"expected one of {', '.join(map(str, get_args(kind)))}, not '{given}'")
    if datetime in get_args(kind):
        return parse_moment(given, now)
    if kind is str:
        return given
    if not _is_number(given) or (kind is not float and "." in given):
        raise ValueError(f"expected a {'number' if kind is float else 'whole number'}, not '{given}'")
    return float(given) if kind is float else int(given)


def _is_number(text: str) -> bool:
    return re.fullmatch(r"\d+(\.\d+)?", text, re.ASCII) is not None


def _flag(name: str) -> str:
    return "--" + name.removesuffix(_SECONDS).replace("_", "-")


def _metavar(name: str, kind: Any) -> str:
    if name.endswith(_SECONDS):
        return "DURATION"
    if get_origin(kind) is Literal:
        return "|".join(map(str, get_args(kind)))
    if name == "poison":
        return "KIND=COUNT"
    return _METAVARS.get(kind, "TEXT")


def _shown(name: str, default: Any) -> str:
    if name.endswith(_SECONDS):
        return show_duration(timedelta(seconds=default))
    return f"{default:g}" if isinstance(default, float) else f"{default}"


def _documented(options: type) -> dict[str, str]:
    """Read what the docstring says of each attribute."""
    found: dict[str, str] = {}
    name = ""
    for line in inspect.cleandoc(options.__doc__ or "").partition("Attributes:\n")[2].splitlines():
        if match := re.fullmatch(r"    (\w+): (.*)", line):
            name, found[match[1]] = match[1], match[2]
        elif name:
            found[name] += " " + line.strip()
    return {name: text.rstrip(".").replace("`", "") for name, text in found.items()}
