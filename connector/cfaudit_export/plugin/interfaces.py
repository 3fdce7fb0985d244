"""The three things a plugin can build: a source, a sink, a checkpoint store. Each method's docstring is its contract.

They are protocols: a plugin inherits nothing and only has to fit. `cfaudit_export.testing` has a suite for each.
"""

from __future__ import annotations

from collections.abc import Generator, Iterable, Iterator
from contextlib import AbstractContextManager
from dataclasses import dataclass
from datetime import datetime
from typing import TYPE_CHECKING, Protocol, runtime_checkable

from cfaudit_export.core.model import Batch, Checkpoint, Connection, Gap, Receipt, Window

if TYPE_CHECKING:
    import pyarrow as pa


@dataclass(frozen=True, slots=True)
class Extract:
    """A window, read to its end.

    Attributes:
        window: the interval; every event of it that the source can give is in `events`, the rest is in `gaps`.
        events: a table with any of the columns of `cfaudit_export.schema` and their types, ascending by time.
            `event_time` as `timestamp[ns, UTC]` and `event_raw` are always there. Identity, account, source and
            `ingested_at` are added by the core; a column that is not there is null. `event_id` only where the
            source knows a real one, `source` only of events that another source gave. `key_token_name` may carry the
            token name that identity is computed from, where it differs from `actor_token_name`.
        gaps: what could not be read inside the window.
        read_at: when the last page of the window arrived.
        calls: tool calls that this window cost.
        trimmed: events whose facets were not asked for: call budget exhausted.
        shadows: what is certain of rows that exist and cannot be read, one row each: `event_time`, on the whole
            millisecond, and columns of the schema. All rows of a millisecond have the same values. None for none.
        refilled: windows that this source could not read, and another one did.
    """

    window: Window
    events: pa.Table
    gaps: tuple[Gap, ...]
    read_at: datetime
    calls: int
    trimmed: int = 0
    shadows: pa.Table | None = None
    refilled: tuple[Window, ...] = ()


class Source(Protocol):
    """Where events come from, for one stream.

    A source that can say cheaply how far back the newest events of a window reach may also have
    `guess_start(window: Window, count: int) -> datetime`; `events` reads from there on, and further back if need be.

    A source that can read a window in a second, independent way may also have
    `recount(window: Window, page_rows: int, filters: Iterable[tuple[str, str]] = ()) -> Extract`: `verify` compares
    exports with it. `filters` restrict further than those of the stream; `gaps` are where it could not look.

    One for which `extract` is dear may also be a `Rereading`, one that trims a `Completing`, and one whose
    `Connection` names `clock_ahead_seconds` ought to be a `Dating`; with None there it has to be.
    """

    def connect(self) -> Connection:
        """Connect, prove that the credential is accepted, and say what was found.

        Called once, before anything else. Reads no event.

        Raises:
            AccessError: the credential is refused, or not allowed to see the account.
            SourceUnavailableError: the server cannot be reached.
            ProtocolError: the server is not one this source can read, or lacks a filter of the stream.
        """
        ...

    def probe(self) -> None:
        """Prove that events can be read, by reading a page at most.

        Raises what `connect` raises; AccessError names the missing permission.
        """
        ...

    def extract(self, windows: Iterable[Window]) -> Generator[Extract, None, None]:
        """Read the windows, concurrently where that helps, and yield each piece as soon as it is complete.

        A window may come back in several pieces, in any order. Together the pieces are exactly the windows, and
        each piece is complete in itself, so that the caller may commit it at once. Memory is bounded by the pieces
        in flight, not by the length of the windows: a caller that does not take pieces makes the source wait.
        Closing the iterator cancels what is in flight.

        Raises:
            TryAgainError, AccessError, ProtocolError: reading cannot go on; pieces already yielded stay good.
        """
        ...

    def close(self) -> None:
        """Release everything. May be called twice, and on a source that never connected."""
        ...


@runtime_checkable
class Rereading(Protocol):
    """What a source may offer beside: to read again what was read before, as cheaply as can be."""

    def reread(
        self, windows: Iterable[Window], known: Iterable[Window], *, columns: bool
    ) -> Generator[Extract, None, None]:
        """Read the windows as `extract` does; it is likely that nothing in them is new.

        Args:
            windows: what to read.
            known: windows in which rows are known that cannot be read, ascending and disjoint. Each is read around,
                and asked for again with one call at most; what still cannot be read there is a gap, as ever.
            columns: whether columns that are cut off are rebuilt as `extract` does. Without them no shadows are cast,
                and no event counts as trimmed.

        Raises what `Source.extract` raises.
        """
        ...


@runtime_checkable
class Completing(Protocol):
    """What a source may offer beside: to give the columns of what was read trimmed, when it has calls to spare."""

    def complete(self, windows: Iterable[Window], known: Iterable[Window]) -> Generator[Extract, None, None]:
        """Read windows again with all columns, in this order, and end where that would take calls that are needed.

        Args:
            windows: what to read; disjoint.
            known: as for `Rereading.reread`.

        Yields:
            Pieces of the windows that have all columns, and no others.

        Raises what `Source.extract` raises.
        """
        ...


@runtime_checkable
class Dating(Protocol):
    """What a source may offer beside: to date its newest event, which shows what time it is at least."""

    def newest_time(self, window: Window) -> datetime | None:
        """Return a time, not later than the newest event of a window and at most a minute earlier; None without one.

        Raises what `Source.extract` raises.
        """
        ...


class Sink(Protocol):
    """Where events go. One instance serves one run, in one thread; other instances may be at work in other threads.

    A sink that can leave a mark in its destination, to tell it from an empty one of the same name (a disk that is not
    mounted, a bucket or table made anew), may also have `marked() -> str | None`, which returns the mark that is there,
    and `mark(token: str) -> str`, which leaves this one where there is none, and returns the one that is there then.
    What a destination has by itself will do, such as the time when a table was made.

    A sink that stores files names them in its receipts, with the digests that they were written with, and may keep the
    manifests that prove them beside them: `put_manifest(name: str, content: bytes) -> bool` writes one durably unless
    there is one of that name, which it says by False; `get_manifest(name: str) -> bytes | None` and
    `manifests(chain: str) -> Iterator[str]` give them back. Names are `<chain>/<number>.json`, below
    `_cfaudit/manifests`, and a chain is two names with a slash. For other sinks they are kept elsewhere.

    So that `retention` and `erase` can change files on record, the S3 sink has `read_file(name: str) -> bytes | None`,
    `write_file(name: str, content: bytes) -> None`, which puts a file in the place of the one of that name,
    `remove_file(name: str) -> None` and `files_aside() -> Iterator[str]`, the names below `_cfaudit/erased`. Names are
    those of receipts.

    A receipt that rejects every event of a batch is not taken at its word: the events are quarantined once the sink has
    taken others in the same run; until then the batch is withdrawn, and its events come again, perhaps in another one.
    """

    def check(self) -> str:
        """Prove that `load` would work, by the same path, and leave nothing behind.

        Needs no permission that `load` does not need. Returns one line that says what was proved, and where.

        Raises what `load` raises.
        """
        ...

    def load(self, batch: Batch) -> Receipt:
        """Store every event of the batch durably, or say why not.

        Idempotent by `batch.batch_id`: loading a batch again, in this process or another, adds nothing, whatever
        happened to the first attempt. A batch is never empty.

        Raises:
            SinkError: not now; the batch stays staged and will come again.
            LoadUnknownError: no answer; it will come again.
            SinkRefusedError: never, until the settings or permissions change.
        """
        ...

    def find(self, batch_id: str, window: Window) -> Receipt | None:
        """Say whether the batch is already here: a receipt with `already=True`, or None.

        Asked after a crash when the staged file is lost with its machine. None must mean that it is certainly not
        there.

        Raises:
            LoadUnknownError: this sink cannot tell.
            SinkError: not now.
        """
        ...

    def close(self) -> None:
        """Release everything. May be called twice."""
        ...


class BlobStore(Protocol):
    """What a checkpoint store may offer beside checkpoints: a place for files that belong to a stream.

    What is quarantined of a run goes there, where the machine's own disk is thrown away with it. Names have slashes.
    What a method wrote or removed is durable when it returns.
    """

    def keep(self, stream_id: str, name: str, content: bytes) -> None:
        """Keep a file, in the place of one of the same name. Raises what `CheckpointStore.load` raises."""
        ...

    def kept(self, stream_id: str) -> Iterator[str]:
        """Yield the names of all files of a stream, sorted. Raises what `CheckpointStore.load` raises."""
        ...

    def fetch(self, stream_id: str, name: str) -> bytes | None:
        """Return a file, None when there is none. Raises what `CheckpointStore.load` raises."""
        ...

    def drop(self, stream_id: str, name: str) -> None:
        """Remove a file; not having it is fine. Raises what `CheckpointStore.load` raises."""
        ...


@dataclass(frozen=True, slots=True)
class Versioned:
    """A checkpoint and the version under which the store holds it; the version is only good for `save`."""

    checkpoint: Checkpoint
    version: str


class CheckpointStore(Protocol):
    """Where checkpoints live, keyed by stream id.

    One that is not on the machine's own disk should be a `BlobStore`, too.
    """

    def load(self, stream_id: str) -> Versioned | None:
        """Return the checkpoint of a stream, None when there is none.

        Raises:
            CheckpointDamagedError: there is one, and it cannot be read.
            TryAgainError: the store cannot be reached.
        """
        ...

    def save(self, checkpoint: Checkpoint, *, expected: str | None) -> str:
        """Replace the checkpoint if its version still is `expected` (None: if there is none); return the new version.

        Durable when it returns. A reader sees the old document or the new one, never a mixture.

        Raises:
            CheckpointConflictError: another run was faster; nothing was changed.
            TryAgainError: the store cannot be reached or written.
        """
        ...

    def hold(self, stream_id: str) -> AbstractContextManager[None]:
        """Hold the stream for this process while the context lasts; a crashed holder does not block for ever.

        Raises:
            LockedError: another process holds it.
        """
        ...

    def streams(self) -> Iterator[str]:
        """Yield the ids of all streams that have a checkpoint, sorted."""
        ...
