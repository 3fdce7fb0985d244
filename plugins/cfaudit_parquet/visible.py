"""The name of a file -> the file that holds its events: itself, or the one that `compact` merged it into."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import suppress
from dataclasses import dataclass
from datetime import date
from pathlib import Path

import msgspec
import pyarrow as pa

from cfaudit_export import LoadUnknownError, SinkRefusedError
from cfaudit_export.parquet import MERGED_PREFIX, digest_of, merged_files, read_ids, read_notes

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


def require_events(file: Path, found: Visible, ids: list[str]) -> None:
    """Make sure that what bears the name of a file holds the events of that name, each once, and if unmerged no other.

    Raises:
        SinkRefusedError: it does not; a file is not believed by its name.
        LoadUnknownError: it cannot be read.
    """
    stored = _ids(found.path)
    if found.path != file:  # the events of other batches are there, too
        wanted = set(ids)
        stored = [one for one in stored if one in wanted]
    if stored != ids:
        raise SinkRefusedError(
            f"'{found.path}' is there, but does not hold the events of batch '{file.stem}'; move it away"
        )


def require_own_word(file: Path, found: Visible, rows: int) -> None:
    """Make sure that a file holds as many events as its batch has, and those that its footer says it was written with.

    Only the staged batch says which events of a merged file are its own. So a merged file must hold at least as many
    events as the batches that it names have together, and as a whole those that it was written with.

    Raises:
        LoadUnknownError: it does not, or cannot be read.
    """
    ids, own = _ids(found.path), _notes(found.path)
    has_all = len(ids) == rows if found.path == file else len(ids) >= _rows_of_batches(found.path, own)
    # Older files have no digest.
    if not has_all or own.get("cfaudit_digest", digest_of(ids)) != digest_of(ids):
        raise LoadUnknownError(
            f"'{found.path}' was altered since: it does not hold what it was written with; put it back"
        )


def days_of(file: Path, notes: dict[str, str]) -> dict[str, int]:
    """Return how many events a batch has on each day, as the file of one of those days says.

    Raises:
        LoadUnknownError: it does not say so, as what this program writes does.
    """
    try:
        days = msgspec.json.decode(notes["cfaudit_days"], type=dict[str, int])
        is_sane = days[_day_of(file)] > 0 and all(_is_day(day) and rows > 0 for day, rows in days.items())
    except (KeyError, ValueError) as error:
        raise _altered(file) from error
    if not is_sane:
        raise _altered(file)
    return days


def _rows_of_batches(path: Path, notes: dict[str, str]) -> int:
    """Return how many events the batches have on the day of a merged file, by its notes."""
    said = _merged_files(path, notes).values()
    return sum(days_of(path, one)[_day_of(path)] for one in said if "cfaudit_days" in one)


def _day_of(path: Path) -> str:
    return path.parent.name.partition("=")[2]


def _is_day(text: str) -> bool:
    try:
        return date.fromisoformat(text).isoformat() == text
    except ValueError:
        return False


def _altered(path: Path) -> LoadUnknownError:
    return LoadUnknownError(f"the notes of '{path}' were altered since; put it back as it was, or move it away")


def _ids(path: Path) -> list[str]:
    try:
        return read_ids(str(path))
    except FileNotFoundError as error:
        raise LoadUnknownError(f"'{path}' was merged or removed just now; ask again") from error
    except (OSError, pa.ArrowException) as error:
        raise LoadUnknownError(f"'{path}' was altered since, or its disk fails; put it back as it was") from error


def _merged_into(file: Path) -> Iterator[Visible]:
    for name in _names(file.parent):
        if name.startswith(MERGED_PREFIX) and name.endswith(".parquet"):
            path = file.with_name(name)
            merged = _merged(path)
            if file.name in merged:
                yield Visible(path, merged[file.name])


def _merged(path: Path) -> dict[str, dict[str, str]]:
    return _merged_files(path, _notes(path))


def _merged_files(path: Path, notes: dict[str, str]) -> dict[str, dict[str, str]]:
    try:
        return merged_files(notes)
    except ValueError as error:
        raise LoadUnknownError(f"'{path}' is no file that 'compact' made; move it away") from error


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
