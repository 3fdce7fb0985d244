"""Relative paths of a TOML file -> paths that mean the same wherever the program is started: beside the file.

In tables of plugins, paths are the keys `path`, `..._file`, `..._dir` and `..._path`.
"""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Any

from cfaudit_export.errors import SettingsError
from cfaudit_export.settings import values
from cfaudit_export.settings.options import OPTIONS

_PLUGIN_TABLES = ("sources", "sinks", "transforms", "checkpoint")
_SUFFIXES = ("_file", "_dir", "_path")


def anchored(tree: dict[str, Any], file: Path, directory: Path) -> tuple[dict[str, Any], tuple[str, ...]]:
    """Return a tree whose relative paths lie beside its file, and what a person should know of them.

    Until version 0.2 they were relative to the working directory. One that is there, and not beside the file, is used
    on, and said.

    Args:
        tree: what the file says.
        file: the file.
        directory: the working directory.

    Raises:
        SettingsError: a path is in both folders, so that it may be meant either way.
    """
    beside, here = file.parent.resolve(), directory.resolve()
    if beside == here:
        return tree, ()
    said: list[str] = []

    def moved(key: str, value: str) -> str:
        new, old = beside / value, here / value
        if not old.exists():
            return str(new)
        if new.exists():
            raise SettingsError(
                f"'{key}' in '{file}' is '{value}', which is both '{new}' and '{old}'; write the whole path"
            )
        said.append(
            f"'{key}' in '{file}' is '{value}': using '{old}' of the working directory, as before version 0.2; "
            f"paths are relative to the file now, so write the whole path"
        )
        return str(old)

    named = set(_of_options()) | set(_of_plugins(tree))
    return _replaced(tree, (), named, moved), tuple(said)


def _of_options() -> Iterator[tuple[str, ...]]:
    return (tuple(option.key.split(".")) for option in OPTIONS if option.read is values.path)


def _of_plugins(tree: Any, above: tuple[str, ...] = ()) -> Iterator[tuple[str, ...]]:
    for name, value in tree.items():
        if isinstance(value, dict):
            if above or name in _PLUGIN_TABLES:
                yield from _of_plugins(value, (*above, name))
        elif above and (name == "path" or name.endswith(_SUFFIXES)):
            yield (*above, name)


def _replaced(tree: dict[str, Any], above: tuple[str, ...], named: set[tuple[str, ...]], moved: Any) -> dict[str, Any]:
    found: dict[str, Any] = {}
    for name, value in tree.items():
        key = (*above, name)
        if isinstance(value, dict):
            found[name] = _replaced(value, key, named, moved)
        elif key in named and isinstance(value, str) and _is_relative(value):
            found[name] = moved(".".join(key), value)
        else:
            found[name] = value
    return found


def _is_relative(value: str) -> bool:
    return bool(value) and not value.startswith("~") and "://" not in value and not Path(value).is_absolute()
