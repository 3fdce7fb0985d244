"""A table of settings in, a frozen dataclass out; what does not fit is named by the key's path.

Types are those that a plugin writes on its dataclass: texts, numbers, lists, nested dataclasses, `Literal`, `Path`
(`~` is expanded) and `timedelta` (`30s`, `1h30m`). Nothing is guessed and no unknown key is skipped.
"""

from __future__ import annotations

import dataclasses
import re
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any, TypeVar

import msgspec
from msgspec import inspect

from cfaudit_export.core.suggest import nearest
from cfaudit_export.core.times import parse_duration
from cfaudit_export.errors import SettingsError

T = TypeVar("T")

_MISSING = re.compile(r"Object missing required field `(\w+)`")


def to_config(config: type[T], table: Mapping[str, Any], where: str, *, strict: bool = True) -> T:
    """Return `config` filled from `table`.

    Args:
        config: a frozen dataclass. The values of its `repr=False` fields never appear in an error.
        table: keys and values as TOML gives them; left as it is.
        where: path of the table, for error messages: `sinks.parquet`.
        strict: False lets a text stand for a number or a boolean, as environment and `-o` can give nothing else.

    Raises:
        SettingsError: a key is unknown or missing, or a value does not fit.
    """
    kind = inspect.type_info(config)
    hidden = sorted(_hidden(kind, table), key=len, reverse=True)
    try:
        return msgspec.convert(_prepared(kind, table, where), config, strict=strict, dec_hook=_path)
    except msgspec.ValidationError as error:
        text = _explained(str(error), where)
    except SettingsError as error:
        text = str(error)
    for secret in hidden:
        text = text.replace(secret, "***")
    # The cause is cut off: its text may hold what was hidden above.
    raise SettingsError(text) from None


def _prepared(kind: inspect.Type, value: Any, key: str) -> Any:
    """Return the value with durations read, after refusing what msgspec would pass over or explain poorly."""
    match kind, value:
        case inspect.UnionType(), _ if len(kinds := _but_none(kind)) == 1:
            return _prepared(kinds[0], value, key)
        case inspect.DataclassType(), Mapping():
            fields = {field.name: field.type for field in kind.fields}
            for name in value:
                if name not in fields:
                    known = ", ".join(fields) or "none"
                    raise SettingsError(f"unknown key '{key}.{name}'{nearest(name, fields)} (known: {known})")
            return {name: _prepared(fields[name], item, f"{key}.{name}") for name, item in value.items()}
        case inspect.DictType(), Mapping():
            return {name: _prepared(kind.value_type, item, f"{key}.{name}") for name, item in value.items()}
        case ((inspect.ListType() | inspect.VarTupleType() | inspect.SetType()), list()):
            return [_prepared(kind.item_type, item, f"{key}[{at}]") for at, item in enumerate(value)]
        case inspect.TimeDeltaType(), str():
            try:
                return parse_duration(value)
            except ValueError as error:
                raise SettingsError(f"'{key}': {error}") from None
        case inspect.LiteralType(values=choices), str() if value not in choices and isinstance(choices[0], str):
            raise SettingsError(f"'{key}' must be one of {', '.join(map(str, choices))}, not '{value}'")
    return value


def _but_none(kind: inspect.UnionType) -> list[inspect.Type]:
    return [one for one in kind.types if not isinstance(one, inspect.NoneType)]


def _path(kind: type, value: Any) -> Any:
    if kind is not Path:
        raise ValueError(f"expected {kind.__name__}, which no setting can be")
    if not isinstance(value, str):
        raise TypeError(f"expected a path, got {type(value).__name__}")
    if not value:
        raise ValueError("expected a path, got an empty text")
    try:
        return Path(value).expanduser()
    except RuntimeError:
        raise ValueError(f"unknown user in path '{Path(value).parts[0]}'") from None


def _explained(text: str, where: str) -> str:
    text, _, path = text.partition(" - at `$")
    key = where + path.rstrip("`")
    if missing := _MISSING.fullmatch(text):
        key = f"{key}.{missing[1]}"
        return f"'{key}' is missing; set it in the settings file, or with -o {key}=VALUE"
    if text.startswith("Expected `"):
        text = text.replace("Expected", "expected").replace("object", "table").replace("`", "")
    return f"'{key}': {text}"


def _hidden(kind: inspect.Type, value: Any) -> Iterator[str]:
    """Yield the texts in fields that must not be shown."""
    match kind, value:
        case inspect.UnionType(), _:
            for one in _but_none(kind):
                yield from _hidden(one, value)
        case inspect.DataclassType(cls=config), Mapping():
            shown = {field.name: field.repr for field in dataclasses.fields(config)}
            for field in kind.fields:
                item = value.get(field.name)
                yield from _hidden(field.type, item) if shown[field.name] else _texts(item)
        case inspect.DictType(), Mapping():
            for item in value.values():
                yield from _hidden(kind.value_type, item)
        case ((inspect.ListType() | inspect.VarTupleType()), list()):
            for item in value:
                yield from _hidden(kind.item_type, item)


def _texts(value: Any) -> Iterator[str]:
    match value:
        case Mapping():
            for item in value.values():
                yield from _texts(item)
        case list():
            for item in value:
                yield from _texts(item)
        case None | bool() | "":
            return
        case _:
            yield str(value)
