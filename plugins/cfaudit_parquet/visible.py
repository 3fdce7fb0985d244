"""The name of a file -> the file that holds its events: itself, or the one that `compact` merged it into."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path

from cfaudit_export import LoadUnknownError
from cfaudit_export.parquet import MERGED_PREFIX, merged_files, read_notes

_ATTEMPTS = 3


@dataclass(frozen=True, slots=True)
class Visible:
    """Where the events of a file are, and what the file says, or said, of its batch."""

    path: Path
    notes: dict[str, str]


def find_file(file: Path) -> Visible | None:
    """Return where the events of a file are, None when they are nowhere.

    Raises:
        LoadUnknownError: a file that may hold them cannot be read.
        OSError: the folder cannot be read.
    """
    for _ in range(_ATTEMPTS):
        with suppress(FileNotFoundError):  # merged since it was seen: the file it went into was there before
            if file.exists():
                return Visible(file, _notes(file))
            return next(_merged_into(file), None)
    raise LoadUnknownError(f"files in '{file.parent}' are being merged; ask again")


def _merged_into(file: Path) -> Iterator[Visible]:
    for name in _names(file.parent):
        if name.startswith(MERGED_PREFIX) and name.endswith(".parquet"):
            path = file.with_name(name)
            merged = merged_files(_notes(path))
            if file.name in merged:
                yield Visible(path, merged[file.name])


def _names(folder: Path) -> list[str]:
    """Return what is in a folder; unlike a glob, fail where looking is not allowed."""
    try:
        return sorted(path.name for path in folder.iterdir())
    except FileNotFoundError:
        return []


def _notes(path: Path) -> dict[str, str]:
    try:
        return read_notes(str(path))
    except ValueError as error:  # as pyarrow's ArrowInvalid is one
        raise LoadUnknownError(f"'{path}' was altered since; put it back as it was") from error
