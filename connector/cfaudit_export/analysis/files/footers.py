"""A place in, the files that hold events out: what their footers say, and why others are skipped.

A file is one of ours, or as good as that, when it lies in `account_id=.../event_date=...` and has the columns that no
event is without. A footer is the last thing that is written of a file; it is compared with its digest, where it has
one, and the pages with their checksums when they are read. What is damaged is never answered from.
"""

from __future__ import annotations

import os
import re
from collections.abc import Callable, Collection, Iterable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from datetime import UTC, date, datetime, timedelta
from typing import Any
from urllib.parse import unquote

import pyarrow as pa
import pyarrow.compute as pc

from cfaudit_export.analysis.files.columns import converted, unlike
from cfaudit_export.analysis.files.engine import Limits
from cfaudit_export.analysis.files.location import FoundFile, Location
from cfaudit_export.analysis.files.scan import FilePiece, Reading, rows_of
from cfaudit_export.core.checksums import read_footer
from cfaudit_export.core.escape import escaped
from cfaudit_export.core.model import Window
from cfaudit_export.parquet import MERGED_NOTE, merged_files, notes_of
from cfaudit_export.schema import schema

_FOLDERS = re.compile(r"(?:^|/)account_id=([^/]+)/event_date=(\d{4}-\d{2}-\d{2})/[^/]+$")
_DAY = re.compile(r"event_date=(\d{4}-\d{2}-\d{2})")
_S3_THREADS = 16  # they wait for answers; a disk answers at once, and more threads than processors only get in the way


@dataclass(frozen=True, slots=True)
class Ignored:
    """A file that is skipped: its name, and why."""

    name: str
    why: str


@dataclass(frozen=True, slots=True)
class DataFile:
    """A file with events.

    Attributes:
        found: where it is.
        account_id: the account that its folder names.
        day: the day that its folder names, `YYYY-MM-DD`.
        rows: how many events.
        first: time of its earliest event, None where the footer does not say.
        last: time of its latest.
        columns: names and types.
        notes: its key-value metadata.
        merged: the names of the files that it stands for, and what they said of their batches; None if it was not made
            of others.
        digest: the digest of its footer, which was compared; None where it has none.
        has_replacements: whether one of its events takes the place of a shadow.
    """

    found: FoundFile
    account_id: str
    day: str
    rows: int
    first: datetime | None
    last: datetime | None
    columns: pa.Schema
    notes: dict[str, str]
    merged: dict[str, dict[str, str]] | None
    digest: str | None
    has_replacements: bool

    @property
    def folder(self) -> str:
        """Return the name of its folder below the place."""
        return self.found.name.rpartition("/")[0]

    @property
    def is_merged(self) -> bool:
        """Whether it was made of others."""
        return self.merged is not None

    @property
    def is_foreign(self) -> bool:
        """Whether another program wrote it, so that damage may not be noticed."""
        return self.digest is None and not any(key.startswith("cfaudit_") for key in self.notes)


@dataclass(frozen=True, slots=True)
class Listing:
    """What a place holds."""

    files: tuple[DataFile, ...]
    ignored: tuple[Ignored, ...]


@dataclass(frozen=True, slots=True)
class Candidate:
    """A file that may hold events of the account and of the day that its folder names."""

    found: FoundFile
    account_id: str
    day: str

    @property
    def folder(self) -> str:
        """Return the name of its folder below the place."""
        return self.found.name.rpartition("/")[0]


def candidates(place: Location, wanted: Callable[[str], bool]) -> tuple[list[Candidate], list[Ignored]]:
    """List the files below the folders that are wanted, and those that lie elsewhere.

    Raises:
        OSError: the place cannot be read.
    """
    some, ignored = [], []
    for found in place.files(wanted):
        match = _FOLDERS.search(found.name)
        if why := found.fault or _unnamed(found.name):
            ignored.append(Ignored(found.name, why))
        elif match and _is_day(match[2]):
            some.append(Candidate(found, unquote(match[1]), match[2]))
        else:
            ignored.append(Ignored(found.name, "not in a folder account_id=.../event_date=..."))
    return some, ignored


def _unnamed(name: str) -> str:
    """Return why no library can open a file of this name, empty if they can."""
    try:
        name.encode()
    except UnicodeEncodeError:
        return "its name is not UTF-8"
    return ""


def look(place: Location, some: Sequence[Candidate], limits: Limits) -> list[DataFile | Ignored]:
    """Look at files.

    Raises:
        OSError: one cannot be read, or is gone since it was listed.
    """
    with ThreadPoolExecutor(os.cpu_count() if place.is_local else _S3_THREADS) as threads:
        return list(threads.map(lambda one: _look(place, one, limits), some))


def inspect(place: Location, wanted: Callable[[str], bool], limits: Limits) -> tuple[list[DataFile], list[Ignored]]:
    """Look at every file below the folders that are wanted; a merged file and those it stands for may both be there.

    Raises:
        OSError: as `candidates` and `look`.
    """
    some, ignored = candidates(place, wanted)
    looked = look(place, some, limits)
    files = [one for one in looked if isinstance(one, DataFile)]
    return files, [*ignored, *(one for one in looked if isinstance(one, Ignored))]


def streams(files: Iterable[DataFile]) -> set[tuple[str, str]]:
    """Return the streams that files come from, as far as they say: account and id of the stream."""
    return {
        (one.account_id, stream)
        for one in files
        for stream in (one.notes.get("cfaudit_streams") or one.notes.get("cfaudit_stream", "")).split()
    }


def wanted_folders(period: Window | None, accounts: Collection[str] = ()) -> Callable[[str], bool]:
    """Return what says of a folder's name whether it may hold events of some accounts (by default all) in a period.

    The day before and after are wanted as well: the event that takes a shadow's place may lie there.
    """
    day = timedelta(days=1)
    first = (period.since - day).date() if period else date.min
    last = (period.before + day).date() if period else date.max

    def wanted(folder: str) -> bool:
        if folder.startswith("account_id="):
            return not accounts or unquote(folder.partition("=")[2]) in accounts
        match = _DAY.fullmatch(folder)
        return match is None or first.isoformat() <= match[1] <= last.isoformat()

    return wanted


def _is_day(text: str) -> bool:
    """Say whether a text is a day that has a day before it and one behind it."""
    try:
        return date.min < date.fromisoformat(text) < date.max
    except ValueError:
        return False


def _look(place: Location, one: Candidate, limits: Limits) -> DataFile | Ignored:
    """Read the footer of a file."""
    found, reading = one.found, Reading(limits.group_bytes)
    try:
        with place.open(found) as file:
            footer = read_footer(file)
        if footer.metadata.num_rows > found.bytes:
            return Ignored(found.name, "no export: it has more rows than bytes")
        columns = footer.metadata.schema.to_arrow_schema().remove_metadata()
        notes = notes_of(footer.metadata)
        merged = merged_files(notes) if MERGED_NOTE in notes else None
        if why := unlike(columns) or _unfit(place, found, columns, reading):
            return Ignored(found.name, why)
        first, last = _times(footer.metadata, columns) or _read_times(place, found, reading)
        if any(end and end.date().isoformat() != one.day for end in (first, last)):
            return Ignored(found.name, "no export: it has times that are not of the day of its folder")
    except OverflowError:
        return Ignored(found.name, "no export: it has times of no calendar")
    except (pa.ArrowException, OSError) as error:
        if isinstance(error, OSError) and error.errno is not None:
            raise  # it could not be read; whatever Arrow says without a number is about what was read
        return Ignored(found.name, f"not a whole Parquet file ({escaped(str(error).partition(chr(10))[0], 80)})")
    return DataFile(
        found=found,
        account_id=one.account_id,
        day=one.day,
        rows=footer.metadata.num_rows,
        first=first,
        last=last,
        columns=columns,
        notes=notes,
        merged=merged,
        digest=footer.digest,
        has_replacements=_has_values(footer.metadata, columns, "replaces"),
    )


def _unfit(place: Location, found: FoundFile, columns: pa.Schema, reading: Reading) -> str:
    """Return which column holds a value that is none of the type that it is read as, empty if none does.

    Files of this program have the very types, and are not looked into.
    """
    if not (wanted := converted(columns)):
        return ""
    for batch in rows_of(place, [FilePiece(found)], columns, reading).scanner(columns=wanted.names).to_reader():
        for one in wanted:
            try:
                batch[one.name].cast(one.type)
            except pa.ArrowException as error:
                return f"no export: column {one.name}: {escaped(str(error).partition(chr(10))[0], 80)}"
    return ""


def _times(metadata: Any, columns: pa.Schema) -> tuple[datetime, datetime] | None:
    """Return the earliest and the latest time of the statistics of the row groups, None where one has none."""
    found = list(_statistics(metadata, columns, "event_time"))
    if not found or any(one is None or not one.has_min_max for one in found):
        return None
    return min(one.min for one in found).astimezone(UTC), max(one.max for one in found).astimezone(UTC)


def _read_times(place: Location, found: FoundFile, reading: Reading) -> tuple[datetime | None, datetime | None]:
    """Return the earliest and the latest time of the rows of a file, None where it has no times."""
    ends: list[datetime] = []
    columns = pa.schema([schema().field("event_time")])
    for batch in rows_of(place, [FilePiece(found)], columns, reading).scanner().to_reader():
        of_batch = pc.min_max(batch["event_time"])
        ends += [of_batch[end].as_py().astimezone(UTC) for end in ("min", "max") if of_batch[end].is_valid]
    return min(ends, default=None), max(ends, default=None)


def _has_values(metadata: Any, columns: pa.Schema, column: str) -> bool:
    """Say whether a column may hold anything but nulls."""
    found = _statistics(metadata, columns, column)
    return any(one is None or not one.has_null_count or one.num_values > 0 for one in found)


def _statistics(metadata: Any, columns: pa.Schema, column: str) -> Iterator[Any]:
    """Yield the statistics of a column in each row group, None for one without."""
    index = columns.get_field_index(column)
    if len(columns) != metadata.num_columns:  # a nested column has several
        index = metadata.schema.names.index(column) if column in columns.names else -1
    for group in range(metadata.num_row_groups if index >= 0 else 0):
        yield metadata.row_group(group).column(index).statistics
