"""Files -> the view `audit_events` in DuckDB, with the columns and types of the schema.

Arrow reads the files, in a folder and in S3 alike, and skips those that their folder or their footer rules out. So
DuckDB itself needs no file and no network, and may not touch any: the author of the SQL can read events and nothing
else.

Tables and views: `audit_events` holds the events, `event_date` (the UTC day as `YYYY-MM-DD`) behind the columns of the
schema. `stored_events` is the same with the shadows that another event has taken the place of.
"""

from __future__ import annotations

from collections.abc import Callable, Collection, Iterator, Mapping
from concurrent.futures import ThreadPoolExecutor, wait
from contextlib import ExitStack, contextmanager, suppress
from datetime import datetime
from typing import Any, Self, TypeVar

import pyarrow as pa

from cfaudit_export.analysis.files.catalog import CatalogDataset, FileCatalog
from cfaudit_export.analysis.files.columns import require_text
from cfaudit_export.analysis.files.engine import Limits, import_duckdb, open_engine
from cfaudit_export.analysis.files.footers import Listing, wanted_folders
from cfaudit_export.analysis.files.location import Location, damaged, reading_failed
from cfaudit_export.core.model import Window
from cfaudit_export.errors import CfauditError, SettingsError, TryAgainError

_T = TypeVar("_T")
EVENTS = "audit_events"
_STORED = "stored_events"
_CURRENT = "current_events"
_PATIENCE_SECONDS = 0.1
_LOCKED = {
    "python_enable_replacements": "false",  # a name in SQL must never be a variable of this program
    "autoinstall_known_extensions": "false",
    "autoload_known_extensions": "false",
    "allow_community_extensions": "false",
}


class EventDatabase:
    """Exported events, open for questions. A context manager.

    Attributes:
        place: where they are.
        catalog: the files, and those that were skipped.
        connection: DuckDB, without access to anything but the events.
    """

    def __init__(
        self,
        place: Location,
        catalog: FileCatalog,
        period: Window | None = None,
        *,
        time_zone: str = "UTC",
        limits: Limits | None = None,
    ) -> None:
        """Open those of a period, by default all. `time_zone` is the one in which SQL shows and reads times.

        Raises:
            SettingsError: DuckDB is not installed, or does not know the time zone.
        """
        self.place = place
        self.catalog = catalog
        with ExitStack() as stack:
            self.connection = stack.enter_context(open_engine(limits or Limits(), _LOCKED))
            self._thread = stack.enter_context(ThreadPoolExecutor(1))
            self._set("TimeZone", time_zone)
            self._define(period)
            self._set("enable_external_access", "false")
            self._set("lock_configuration", "true")
            self._open = stack.pop_all()

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self._open.close()

    @property
    def listing(self) -> Listing:
        """Return what is known of every file; all of them are looked at.

        Raises:
            CfauditError: one cannot be read.
        """
        with self._translated():
            return self.catalog.listing

    @property
    def rows(self) -> int:
        """Return how many events the files hold, the shadows included."""
        return sum(one.rows for one in self.listing.files)

    @property
    def first(self) -> datetime | None:
        """Return the time of the earliest event, None if there is none or it is unknown."""
        return min((one.first for one in self.listing.files if one.first), default=None)

    @property
    def last(self) -> datetime | None:
        """Return the time of the latest event, None if there is none or it is unknown."""
        return max((one.last for one in self.listing.files if one.last), default=None)

    @property
    def accounts(self) -> tuple[str, ...]:
        """Return the accounts that have files."""
        return tuple(sorted({one.account_id for one in self.listing.files}))

    def run(self, statement: str, values: Mapping[str, Any] | None = None) -> None:
        """Execute a statement that answers nothing. Raises what `ask` raises."""
        with self._translated():
            self.connection.execute(statement, dict(values or {}))

    def ask(self, query: str, values: Mapping[str, Any] | None = None) -> list[dict[str, Any]]:
        """Return the rows that a query of this program yields; times are aware, and UTC.

        Raises:
            CfauditError: the files cannot be read.
        """
        with self._translated():
            found = self.connection.sql(query, params=dict(values or {})).to_arrow_table()
            require_text(found.columns)
            rows: list[dict[str, Any]] = found.to_pylist()
        return rows

    def definitions(self) -> list[Any]:
        """Return how the names are defined by which SQL finds the events."""
        names = ", ".join(f"'{name}'" for name in (EVENTS, _STORED, _CURRENT))
        found: list[Any] = self.connection.execute(
            f"""SELECT schema_name, view_name, sql FROM duckdb_views() WHERE lower(view_name) IN ({names})
            UNION ALL SELECT schema_name, table_name, sql FROM duckdb_tables()
            WHERE lower(table_name) IN ({names}) ORDER BY ALL"""  # noqa: S608  # names of this module
        ).fetchall()
        return found

    def stoppable(self, work: Callable[[], _T]) -> _T:
        """Let DuckDB work in another thread: while it works in this one, Python does not hear of Ctrl-C."""
        try:
            done = self._thread.submit(work)
            # Python does not hear of a signal that comes just before it begins to wait: it must not wait for long.
            while wait([done], _PATIENCE_SECONDS).not_done:
                pass
        except KeyboardInterrupt:
            idle = self._thread.submit(int)  # comes after the work, whether that was noted above or not
            # Once is not enough: DuckDB forgets what came before it has begun.
            while wait([idle], _PATIENCE_SECONDS).not_done:
                self.connection.interrupt()
            raise
        return done.result()

    @contextmanager
    def _translated(self) -> Iterator[None]:
        try:
            yield
        except (import_duckdb().Error, OSError, pa.ArrowException, OverflowError) as error:
            raise self.failed(error) from error

    def failed(self, error: Exception) -> CfauditError:
        """Return the error that says what it means that the files could not be read; the next question lists anew."""
        if isinstance(error, import_duckdb().OutOfMemoryException):
            return SettingsError("the question takes more memory or disk than it may: sql_memory_mb, sql_spill_mb")
        failure = reading_failed(self.place, self.catalog.cause_of(error))
        with suppress(OSError):  # what led here matters more
            if isinstance(failure, TryAgainError):
                self.catalog.forget()
            elif isinstance(failure, SettingsError) and (found := self.catalog.damaged()):
                return damaged(self.place, *found)
        return failure

    def _set(self, name: str, value: str) -> None:
        try:
            self.connection.execute(f"SET {name} = $value", {"value": value})
        except import_duckdb().Error as error:
            if name == "TimeZone":
                raise SettingsError(f"unknown time zone '{value}'; use a name such as 'Europe/Berlin'") from error
            raise

    def _define(self, period: Window | None) -> None:
        self.connection.register(_STORED, CatalogDataset(self.catalog, replaced_too=True))
        self.connection.register(_CURRENT, CatalogDataset(self.catalog, replaced_too=False))
        where = ""
        if period:
            since, before = (end.isoformat() for end in (period.since, period.before))
            where = f" WHERE event_time >= TIMESTAMPTZ '{since}' AND event_time < TIMESTAMPTZ '{before}'"
        self.run(f"CREATE TEMP VIEW {EVENTS} AS SELECT * FROM {_CURRENT}{where}")  # noqa: S608  # texts of this module


def open_data(
    place: Location,
    period: Window | None = None,
    accounts: Collection[str] = (),
    *,
    time_zone: str = "UTC",
    limits: Limits | None = None,
) -> EventDatabase:
    """Return the events of a place: those of a period and of some accounts, by default all.

    Raises:
        CfauditError: the place cannot be read, or DuckDB is not installed.
    """
    import_duckdb()
    try:
        catalog = FileCatalog(place, wanted_folders(period, accounts), limits)
    except OSError as error:
        raise reading_failed(place, error) from error
    return EventDatabase(place, catalog, period, time_zone=time_zone, limits=limits)
