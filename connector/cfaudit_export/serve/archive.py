"""The data that a worker holds open, and what is remembered of it: read anew every minute, not for every question."""

from __future__ import annotations

import os
from collections.abc import Callable, Collection, Iterator
from contextlib import contextmanager, suppress
from dataclasses import replace
from datetime import datetime
from threading import Event, Thread
from typing import Any, Self, TypeVar
from zoneinfo import ZoneInfo

from cfaudit_export.analysis.answers.coverage import Coverage
from cfaudit_export.analysis.answers.question import time_zone
from cfaudit_export.analysis.files.database import EventDatabase, open_data
from cfaudit_export.analysis.files.engine import Limits
from cfaudit_export.analysis.files.open import open_location
from cfaudit_export.app.archive import Remembered, limits, remembered
from cfaudit_export.core.model import Window, floor_ms
from cfaudit_export.errors import SettingsError, TryAgainError, UsageError
from cfaudit_export.serve.order import ServeOrder

FRESH_SECONDS = 60.0
"""How long a listing of files, and what checkpoints say, is used."""

_MOST_MEMORY = 512 << 20
_MOST_THREADS = 4
_AGAIN_SECONDS = 0.05
_T = TypeVar("_T")


class Archive:
    """Exported data, open for questions from one thread. A context manager.

    Attributes:
        order: what is served, and to whom.
    """

    def __init__(
        self,
        order: ServeOrder,
        clock: Callable[[], datetime],
        ticks: Callable[[], float],
        tell: Callable[[str], object],
    ) -> None:
        """Build it; nothing is opened before the first question.

        Args:
            order: what is served.
            clock: the time.
            ticks: seconds that only grow.
            tell: is told what cannot be read of the checkpoints.
        """
        self.order = order
        self._clock = clock
        self._ticks = ticks
        self._tell = tell
        self._data: EventDatabase | None = None
        self._memory: Remembered | None = None
        self._read_at = 0.0
        self._connections: list[Any] = []
        self._kept: dict[str, Any] = {}

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *error: object) -> None:
        if self._data is not None:
            self._data.__exit__(*error)
            self._data = None

    @property
    def now(self) -> datetime:
        """The time, to the millisecond."""
        return floor_ms(self._clock())

    @property
    def data(self) -> EventDatabase:
        """The events, of one account where one is pinned.

        Raises:
            CfauditError: they cannot be read.
        """
        if self._data is None:
            place = open_location(self.order.data, self.order.settings.sinks.get("s3"))
            pinned = [self.order.account] if self.order.account else []
            self._data = open_data(place, None, pinned, limits=served_limits(self.order))
            self._read_at = self._ticks()
        return self._data

    @contextmanager
    def apart(self, period: Window | None = None) -> Iterator[EventDatabase]:
        """Open the events of a period once more, by default all: tables that a question makes of them vanish with it.

        Raises:
            CfauditError: they cannot be read.
        """
        whole = self.data
        with EventDatabase(whole.place, whole.catalog, period, limits=served_limits(self.order)) as data:
            self._connections.append(data.connection)
            try:
                yield data
            finally:
                self._connections.remove(data.connection)

    def interrupt(self) -> None:
        """Stop what is being asked; from another thread."""
        for one in [*self._connections, *([self._data.connection] if self._data else [])]:
            one.interrupt()

    @property
    def memory(self) -> Remembered:
        """What runs remember of the data."""
        if self._memory is None:
            place = self.data.place.shown
            self._memory = remembered(self.order.settings, os.environ, place, self._tell)
        return self._memory

    def kept(self, name: str, make: Callable[[], _T]) -> _T:
        """Return what was worked out of all events since they were listed, or work it out now."""
        if name not in self._kept:
            self._kept[name] = make()
        found: _T = self._kept[name]
        return found

    def zone(self, name: str | None) -> ZoneInfo:
        """Return a time zone, by default that of the server.

        Raises:
            UsageError: it is none.
        """
        return time_zone(name or self.order.zone)

    def refresh(self) -> None:
        """Look for new files and checkpoints, if that was not done for a minute.

        Raises:
            CfauditError: the place cannot be read.
        """
        if self._data is not None and self._ticks() - self._read_at >= FRESH_SECONDS:
            self.renew()

    def renew(self) -> None:
        """Look for new files and checkpoints.

        Raises:
            CfauditError: the place cannot be read.
        """
        self._memory = None
        self._kept.clear()
        try:
            self.data.catalog.forget()
        except OSError as error:
            raise self.data.failed(error) from error
        self._read_at = self._ticks()

    def accounts(self, asked: str | None = None) -> tuple[str, ...]:
        """Return the accounts that a question is about; none for all there are.

        Raises:
            UsageError: the one that is asked for was not exported.
        """
        if self.order.account:
            return (self.order.account,)
        if not asked:
            return ()
        if asked.lower() not in self.known_accounts():
            raise UsageError(f"account: '{asked}' was not exported; audit_coverage lists the accounts that were")
        return (asked.lower(),)

    def known_accounts(self) -> tuple[str, ...]:
        """Return the accounts that files or checkpoints speak of, as far as callers may know of them."""
        remembered_ones = {one.stream.account_id for one in self.memory.checkpoints}
        found = {*self.data.accounts, *remembered_ones}
        return tuple(sorted(found & {self.order.account} if self.order.account else found))

    def coverage(self, period: Window, about: Collection[str]) -> Coverage:
        """Return what of a period was exported."""
        about = tuple(about) or ((self.order.account,) if self.order.account else self.known_accounts())
        found = self.memory.coverage(period, about, ())
        # Where there is nothing at all, the accounts of others must not be told.
        return replace(found, unknown=tuple(one for one in found.unknown if one in about))

    def exported_until(self, about: Collection[str]) -> datetime | None:
        """Return up to when accounts were exported, by default all; None if that is unknown."""
        return self.memory.until(tuple(about) or self.known_accounts())


def served_limits(order: ServeOrder) -> Limits:
    """Return what a question may use: what is set, and never more than one server of many callers should."""
    found = limits(order.settings)
    return Limits(
        min(found.memory_bytes, _MOST_MEMORY),
        min(found.threads or os.cpu_count() or 1, _MOST_THREADS),
        found.spill_bytes,
    )


def answered(archive: Archive, ask: Callable[[], _T]) -> _T:
    """Answer a question; once more with a new listing where files were replaced meanwhile.

    Raises what the question raises.
    """
    archive.refresh()
    try:
        return ask()
    except TryAgainError:
        archive.renew()
        return ask()


@contextmanager
def bounded(archive: Archive, seconds: float) -> Iterator[None]:
    """Stop the database when a question takes too long.

    Raises:
        UsageError: it took too long.
    """
    done, late = Event(), Event()

    def watch() -> None:
        if done.wait(seconds):
            return
        late.set()
        # Once is not enough: DuckDB forgets what came before it has begun.
        while not done.wait(_AGAIN_SECONDS):
            with suppress(Exception):
                archive.interrupt()

    watcher = Thread(target=watch, daemon=True)
    watcher.start()
    try:
        yield
    except (UsageError, SettingsError) as error:
        if not late.is_set():
            raise
        raise UsageError(f"stopped after {seconds:.0f} s; ask about a shorter time or for less") from error
    finally:
        done.set()
        watcher.join()
