"""The files of a place -> a dataset that looks only at those that a question is about.

A folder's name says the account and the day of its events. So most files are ruled out without a look at them, and a
question about one day of a year reads the footers of three days: of that day, and of those beside it, where the event
that takes a shadow's place may lie.
"""

from __future__ import annotations

import logging
from collections.abc import Callable, Collection, Iterable, Sequence
from datetime import UTC, date, datetime, timedelta
from functools import cached_property
from typing import Any

import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.dataset as ds

from cfaudit_export.analysis.files.columns import event_columns, require_text, unknown_columns
from cfaudit_export.analysis.files.engine import Limits
from cfaudit_export.analysis.files.footers import (
    Candidate,
    DataFile,
    Ignored,
    Listing,
    candidates,
    look,
)
from cfaudit_export.analysis.files.location import FoundFile, Location
from cfaudit_export.analysis.files.merged import Merges
from cfaudit_export.analysis.files.replacing import Replacements, replacements
from cfaudit_export.analysis.files.scan import FilePiece, Reading, paths_by, rows_of
from cfaudit_export.core.escape import escaped

_LOG = logging.getLogger(__name__)
_ATTEMPTS = 3
_DAY = timedelta(days=1)


class FileCatalog:
    """What a place holds: listed at once, and each file read when it is first needed, and only once."""

    def __init__(self, place: Location, wanted: Callable[[str], bool], limits: Limits | None = None) -> None:
        """List the files below the folders that are wanted; `limits` are those of comparing files.

        Raises:
            OSError: the place cannot be read.
        """
        self.place = place
        self._wanted = wanted
        self._limits = limits or Limits()
        self._merges = Merges(place, self._limits)
        self._looked: dict[str, DataFile | Ignored] = {}
        self.failures: list[Exception] = []
        self._told_of_foreign = False
        self._told_of_unknown = False
        self._list()

    def _list(self) -> None:
        self.candidates, self._strangers = candidates(self.place, self._wanted)

    @property
    def ignored(self) -> tuple[Ignored, ...]:
        """Return the files that were skipped so far."""
        return (*self._strangers, *(one for one in self._looked.values() if isinstance(one, Ignored)))

    @cached_property
    def listing(self) -> Listing:
        """Return all that the place holds; every file is looked at."""
        return Listing(tuple(self.files(lambda _: True)), self.ignored)

    def files(self, chosen: Callable[[Candidate], bool]) -> list[DataFile]:
        """Return those of some candidates that hold events, without those that a merged file stands for.

        Raises:
            OSError: one cannot be read, or files vanish as fast as they are listed.
        """
        for attempt in range(_ATTEMPTS):
            some = [one for one in self.candidates if chosen(one)]
            unknown = [one for one in some if one.found.name not in self._looked]
            try:
                found = look(self.place, unknown, self._limits)
            except FileNotFoundError:
                # It was merged into another a moment ago; that one is in the next listing.
                if attempt + 1 == _ATTEMPTS:
                    raise
                self._list()
            else:
                self._looked |= {one.found.name: facts for one, facts in zip(unknown, found, strict=True)}
                known = (self._looked[one.found.name] for one in some)
                files = [one for one in known if isinstance(one, DataFile)]
                self._tell_of_foreign(files)
                self._tell_of_unknown([one for one in found if isinstance(one, DataFile)])
                gone = self._merges.replaced(files)
                return [one for one in files if one.found.name not in gone]
        raise AssertionError("the last attempt returns or raises")

    def rows(self, files: Iterable[DataFile]) -> ds.Dataset:
        """Return the rows of files; what keeps one from being read is noted in `failures`."""
        reading = Reading(self._limits.group_bytes, self._skip, self.failures.append)
        return rows_of(self.place, [FilePiece(one.found, _bounds(one)) for one in files], event_columns(), reading)

    def _skip(self, found: FoundFile, why: str) -> None:
        _LOG.warning("skipped", extra={"file": found.name, "why": why})
        self._looked[found.name] = Ignored(found.name, escaped(why, 120))
        self.__dict__.pop("listing", None)

    def damaged(self) -> tuple[str, str] | None:
        """Return the name of a file that was looked at and whose rows cannot be read, and why; None if all can."""
        for one in self._looked.values():
            if isinstance(one, DataFile) and (why := fault_of(self.place, one, self._limits, event_columns().names)):
                return one.found.name, why
        return None

    def _tell_of_foreign(self, files: Iterable[DataFile]) -> None:
        if self._told_of_foreign or not (foreign := [one.found.name for one in files if one.is_foreign]):
            return
        self._told_of_foreign = True
        extra = {"files": len(foreign), "first": foreign[0]}
        _LOG.warning("files of another program have no digests; damage to them may go unnoticed", extra=extra)

    def _tell_of_unknown(self, files: Sequence[DataFile]) -> None:
        if self._told_of_unknown or not (some := [one for one in files if unknown_columns(one.columns)]):
            return
        self._told_of_unknown = True
        extra = {"file": some[0].found.name, "columns": escaped(", ".join(unknown_columns(some[0].columns)), 80)}
        _LOG.warning("columns that this version does not know are not read", extra=extra)

    def cause_of(self, error: Exception) -> Exception:
        """Return what kept a file from being read, where that is what an error of DuckDB says; else the error."""
        failures, self.failures[:] = [*self.failures], []
        return next((one for one in failures if str(one) in str(error)), error)

    def forget(self) -> None:
        """List anew at the next question: what was listed is not there any more."""
        self._list()
        there = {one.found.name: one.found for one in self.candidates}
        # What could not be read may have been repaired since, and a name may stand for another file.
        self._looked = {
            name: facts
            for name, facts in self._looked.items()
            if isinstance(facts, DataFile) and there.get(name) == facts.found
        }
        self.__dict__.pop("listing", None)


class CatalogDataset(ds.FileSystemDataset):  # type: ignore[misc]  # pyarrow has no types
    """The events of a catalog; which files are read is decided when DuckDB says what it needs."""

    def __init__(self, catalog: FileCatalog, *, replaced_too: bool) -> None:
        """Build it; `replaced_too` says whether shadows that another event took the place of are there."""
        super().__init__([], event_columns(), ds.ParquetFileFormat())
        self._catalog = catalog
        self._replaced_too = replaced_too

    def scanner(self, columns: list[str] | None = None, filter: Any = None, **options: Any) -> Any:  # noqa: A002  # the names are pyarrow's
        """Return what reads the rows that pass a filter; DuckDB asks for it once a scan."""
        try:
            folders = self._folders(filter)
            files = self._catalog.files(lambda one: one.folder in folders)
            condition = filter
            if not self._replaced_too and (found := self._replaced_in(folders)):
                condition = found.kept if filter is None else filter & found.kept
            return self._catalog.rows(files).scanner(columns=columns, filter=condition, **options)
        except Exception as error:
            self._catalog.failures.append(error)
            raise

    def _folders(self, filter: Any) -> set[str]:  # noqa: A002  # as above
        """Return the folders whose names a filter does not rule out."""
        one_of_each = {one.folder: one for one in self._catalog.candidates}
        pieces = [FilePiece(one.found, _by_name(one)) for one in one_of_each.values()]
        paths = paths_by(filter, pieces, event_columns())
        return {folder for folder, one in one_of_each.items() if one.found.path in paths}

    def _replaced_in(self, folders: Collection[str]) -> Replacements | None:
        """Return which events in some folders, or more, others took the place of."""
        days = {(one.account_id, one.day) for one in self._catalog.candidates if one.folder in folders}
        near = {(account, _moved(day, by)) for account, day in days for by in (-1, 0, 1)}
        files = self._catalog.files(lambda one: (one.account_id, one.day) in near)
        return replacements(self._catalog.rows(one for one in files if one.has_replacements))


def fault_of(place: Location, one: DataFile, limits: Limits, names: Collection[str] | None = None) -> str:
    """Read a file; return why that is impossible, empty if it is possible.

    Args:
        place: where it is.
        one: the file.
        limits: what may be used of the machine.
        names: the columns to read, as far as it has them; by default all.

    Raises:
        OSError: it is not the file's fault.
    """
    try:
        rows = rows_of(place, [FilePiece(one.found)], one.columns, Reading(limits.group_bytes))
        wanted = [name for name in dict.fromkeys(one.columns.names) if not names or name in names]
        for batch in rows.scanner(columns=wanted).to_reader():
            require_text(batch.columns)
            pc.min_max(batch["event_time"]).as_py()
    except OverflowError:
        return "it has times of no calendar"
    except (pa.ArrowException, OSError) as error:
        if isinstance(error, OSError) and error.errno is not None:
            raise
        return escaped(str(error).strip().partition("\n")[0], 120)
    return ""


def _by_name(one: Candidate) -> ds.Expression:
    """Return what is true of every event in a folder."""
    first = datetime.combine(date.fromisoformat(one.day), datetime.min.time(), UTC)
    return _within(one.account_id, one.day, first, first + _DAY - timedelta(microseconds=1))


def _bounds(file: DataFile) -> ds.Expression:
    """Return what is true of every event of a file."""
    return _within(file.account_id, file.day, file.first, file.last)


def _within(account_id: str, day: str, first: datetime | None, last: datetime | None) -> ds.Expression:
    bounds = (ds.field("account_id") == account_id) & (ds.field("event_date") == day)
    if first is not None and last is not None:
        earliest, latest = (pa.scalar(end, pa.timestamp("us", "UTC")) for end in (first, last))
        bounds = bounds & (ds.field("event_time") >= earliest) & (ds.field("event_time") <= latest)
    return bounds


def _moved(day: str, days: int) -> str:
    return (date.fromisoformat(day) + days * _DAY).isoformat()
