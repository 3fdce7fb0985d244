"""Where settings come from: each place as a tree of raw values, with the words to name it in an error."""

from __future__ import annotations

import tomllib
from collections.abc import Callable, Iterable, Mapping
from contextlib import suppress
from dataclasses import dataclass
from difflib import get_close_matches
from pathlib import Path
from typing import Any

from cfaudit_export.errors import CfauditError, SettingsError, UsageError
from cfaudit_export.settings.options import OPTIONS, PREFIX, Option
from cfaudit_export.settings.paths import anchored

Tree = dict[str, Any]

PLUGIN_TABLES = ("sources", "sinks", "transforms", "checkpoint")
# Variables of this program that are not settings.
_OTHER_VARIABLES = ("config", "disabled_plugins")
# Higher than for keys: a variable may belong to another program.
_ALIKE = 0.75


@dataclass(frozen=True, slots=True)
class Layer:
    """One place that says something.

    Attributes:
        tree: what it says, nested by key.
        named: how an error names an option of this place.
        error: what a wrong value of this place is.
        notices: what a person should know of it.
    """

    tree: Tree
    named: Callable[[Option], str]
    error: type[CfauditError] = SettingsError
    notices: tuple[str, ...] = ()


def flag_layer(flags: Mapping[str, Any]) -> Layer:
    """Return what the flags say: `Option.name` to the text or list of texts that was given."""
    tree: Tree = {}
    for option in OPTIONS:
        if flags.get(option.name) not in (None, [], 0):
            _plant(tree, option.key.split("."), flags[option.name], option.key)
    return Layer(tree, lambda option: option.flags[0], UsageError)


def pair_layer(pairs: Iterable[str]) -> Layer:
    """Return what `-o KEY=VALUE` says; of two about the same key the later counts.

    Raises:
        UsageError: one has no `=`, or its key is none.
        SettingsError: a key is unknown.
    """
    tree: Tree = {}
    for pair in pairs:
        key, equals, value = pair.partition("=")
        if not equals:
            raise UsageError(f"-o takes KEY=VALUE, as in -o sinks.parquet.path=out, not '{pair}'")
        _plant(tree, _path(key), _value(value), key)
    _check(tree, "in -o")
    return Layer(tree, lambda option: f"-o {option.key}")


def variable_layer(environ: Mapping[str, str]) -> Layer:
    """Return what `CFAUDIT_...` variables say; two underscores go one table down; an empty one says nothing.

    A variable that is none of ours is left alone, for it may hold the value of a header, unless it is nearly one of
    ours.

    Raises:
        SettingsError: a variable is nearly one of ours, or names an unknown key.
    """
    tree: Tree = {}
    short = {option.short_variable: option.key.split(".") for option in OPTIONS if option.short_variable}
    roots = {option.key.partition(".")[0] for option in OPTIONS} | set(PLUGIN_TABLES)
    for variable in sorted(environ):
        if not variable.startswith(PREFIX) or not environ[variable]:
            continue
        path = variable.removeprefix(PREFIX).lower().split("__")
        if path[0] in roots or variable in short:
            _plant(tree, short.get(variable, path), _value(environ[variable]), variable)
        elif path[0] not in _OTHER_VARIABLES:
            _refuse_slip(variable, path[0], roots | {one.removeprefix(PREFIX).lower() for one in short})
    _check(tree, "in the environment")
    return Layer(tree, lambda option: option.variable)


def _refuse_slip(variable: str, name: str, roots: Iterable[str]) -> None:
    """Refuse a variable that is nearly one of ours."""
    for table in (*PLUGIN_TABLES, "filters"):
        if name.startswith(f"{table}_"):
            meant = f"{PREFIX}{table.upper()}__"
            raise SettingsError(f"unknown variable '{variable}'; names within a table start with '{meant}'")
    if match := get_close_matches(name, sorted(roots), n=1, cutoff=_ALIKE):
        raise SettingsError(f"unknown variable '{variable}'; did you mean '{PREFIX}{match[0].upper()}'?")


def file_layer(file: Path | None, directory: Path) -> Layer:
    """Return what a TOML file says, its relative paths beside it.

    Raises:
        SettingsError: it cannot be read, is not TOML, has an unknown key, or a path that may mean two things.
    """
    if file is None:
        return Layer({}, lambda option: option.key)
    try:
        tree = tomllib.loads(file.read_text("utf-8-sig"))
    except FileNotFoundError:
        raise SettingsError(f"there is no settings file '{file}'") from None
    except OSError as error:
        raise SettingsError(f"the settings file '{file}' cannot be read: {error.strerror or error}") from None
    except ValueError as error:
        raise SettingsError(f"'{file}' is not valid TOML: {error}") from None
    _check(tree, f"in '{file}'")
    tree, notices = anchored(tree, file, directory)
    return Layer(tree, lambda option: f"'{option.key}' in '{file}'", notices=notices)


def _check(tree: Tree, where: str) -> None:
    """Refuse keys that nothing reads."""
    tables: dict[str, set[str]] = {}
    for option in OPTIONS:
        root, _, leaf = option.key.partition(".")
        tables.setdefault(root, set()).update({leaf} - {""})
    for key, value in tree.items():
        if key in PLUGIN_TABLES:
            _check_plugin_table(key, value, where)
        elif key not in tables:
            raise SettingsError(f"unknown key '{key}' {where}{_nearest(key, [*tables, *PLUGIN_TABLES])}")
        elif tables[key]:
            if not isinstance(value, Mapping):
                raise SettingsError(f"'{key}' {where} must be a table, as in [{key}]")
            for leaf in value:
                if leaf not in tables[key]:
                    raise SettingsError(f"unknown key '{key}.{leaf}' {where}{_nearest(leaf, tables[key], f'{key}.')}")
        elif isinstance(value, Mapping) and f"{key}s" in PLUGIN_TABLES:
            raise SettingsError(f"'{key}' {where} takes names; the settings of one belong in [{key}s.NAME]")


def _check_plugin_table(key: str, value: Any, where: str) -> None:
    tables = [value] if key == "checkpoint" else [value, *(value.values() if isinstance(value, Mapping) else ())]
    if not all(isinstance(table, Mapping) for table in tables):
        form = "[checkpoint]" if key == "checkpoint" else f"[{key}.NAME]"
        raise SettingsError(f"'{key}' {where} must hold tables, as in {form}")


def _plant(tree: Tree, path: list[str], value: Any, name: str) -> None:
    *branches, leaf = path
    for branch in branches:
        tree = tree.setdefault(branch, {})
        if not isinstance(tree, dict):
            raise SettingsError(f"'{name}' contradicts the shorter key '{branch}', which is given a value too")
    tree[leaf] = value


def _path(key: str) -> list[str]:
    """Read a dotted key as TOML does, quotes included."""
    tree: Any = {}
    with suppress(ValueError):
        tree = tomllib.loads(f"{key} = 0")
    path = []
    while isinstance(tree, dict):
        if len(tree) != 1:
            raise UsageError(f"-o takes a key such as sinks.parquet.path before '=', not '{key}'")
        [(name, tree)] = tree.items()
        path.append(name)
    return path


def _value(text: str) -> Any:
    """Read a list, table or quoted text as TOML; leave anything else for the reader of the key to understand."""
    if text[:1] in ("[", "{", '"', "'"):
        with suppress(ValueError):
            return tomllib.loads(f"value = {text}")["value"]
    return text


def _nearest(name: str, known: Iterable[str], prefix: str = "") -> str:
    from cfaudit_export.core.suggest import nearest  # msgspec takes its time, and few make typing errors

    hint = nearest(name, sorted(known))
    return hint.replace("'", f"'{prefix}", 1) if prefix else hint
