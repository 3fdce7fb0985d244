"""A piece with gaps -> the piece with the gaps closed, as far as a second source of the same log can read them."""

from __future__ import annotations

import logging
from collections import Counter
from collections.abc import Callable, Generator, Iterable, Iterator
from contextlib import AbstractContextManager, ExitStack, closing
from dataclasses import replace
from datetime import datetime
from itertools import chain
from typing import Any

import pyarrow as pa

from cfaudit_export.core.intervals import intersect, subtract, union
from cfaudit_export.core.model import MILLISECOND, Connection, Gap, Window, from_ms
from cfaudit_export.errors import CfauditError, ProtocolError
from cfaudit_export.pipeline.dedup.seen import within
from cfaudit_export.plugin.interfaces import Extract, Rereading, Source

_LOG = logging.getLogger(__name__)
_MOST_BYTES = 48_000_000
_MOST_ODD = 100  # rows of a gap that are told from those around it
# What a source may offer beside, and the second one has no part in.
_OF_THE_FIRST = ("complete", "guess_start", "newest_time")

Opener = Callable[[Connection], AbstractContextManager[tuple[Source, Connection]]]


class FallbackSource:
    """A source with a second one behind it, which reads what the first one cannot.

    The second one is opened at the first gap. When it fails, gaps stay gaps, and it is left alone until the next run.
    What the first one offers beside `Source` is offered, and nothing else: callers go by what is there.
    """

    def __init__(self, build_first: Callable[[Callable[[], bool]], Source], second: str, open_second: Opener) -> None:
        """Take both.

        Args:
            build_first: builds what is read first; it may ask whether the second source still reads gaps.
            second: the name of the second source.
            open_second: opens it for the account that the first one found.
        """
        self._failed = False
        self._first = build_first(lambda: not self._failed)
        for name in _OF_THE_FIRST:
            if hasattr(self._first, name):
                setattr(self, name, getattr(self._first, name))
        if isinstance(self._first, Rereading):
            self.reread = self._reread
        if hasattr(self._first, "recount"):
            self.recount = self._recount
        self._name = second
        self._open_second = open_second
        self._stack = ExitStack()
        self._connection: Connection | None = None
        self._second: Source | None = None

    def connect(self) -> Connection:
        """Connect the first source; as `Source.connect`."""
        self._connection = self._first.connect()
        return self._connection

    def probe(self) -> None:
        """Prove that the first source can be read; as `Source.probe`."""
        self._first.probe()

    def extract(self, windows: Iterable[Window]) -> Generator[Extract, None, None]:
        """Read the windows, and gaps in them from the second source; as `Source.extract`."""
        return self._with_gaps_filled(self._first.extract(windows))

    def _reread(
        self, windows: Iterable[Window], known: Iterable[Window], *, columns: bool
    ) -> Generator[Extract, None, None]:
        assert isinstance(self._first, Rereading)  # noqa: S101  # offered only then
        return self._with_gaps_filled(self._first.reread(windows, known, columns=columns))

    def _recount(self, window: Window, page_rows: int, filters: Iterable[tuple[str, str]] = ()) -> Extract:
        def ask(second: Source, gaps: Iterable[Window]) -> Generator[Extract, None, None]:
            if again := getattr(second, "recount", None):
                yield from (again(gap, page_rows, filters) for gap in gaps)

        first: Any = self._first
        piece: Extract = first.recount(window, page_rows, filters)
        if not piece.gaps or self._failed:
            return piece
        return self._merged(piece, window, list(self._read(_gaps(piece), ask)))

    def _with_gaps_filled(self, pieces: Generator[Extract, None, None]) -> Generator[Extract, None, None]:
        with closing(pieces):
            for piece in pieces:
                yield from self._filled(piece) if piece.gaps and not self._failed else (piece,)

    def close(self) -> None:
        """Close both."""
        self._stack.close()
        self._second = None
        self._first.close()

    def _filled(self, piece: Extract) -> Iterator[Extract]:
        """Yield the piece, cut where what fills its gaps is too much to be kept until all of it is there."""
        held: list[Extract] = []
        done: list[Window] = []
        for found in self._read(_gaps(piece), lambda second, gaps: second.extract(gaps)):
            held.append(found)
            if sum(one.events.nbytes for one in held) > _MOST_BYTES:
                done += [one.window for one in held]
                yield from (replace(one, events=self._named(one.events), refilled=(one.window,)) for one in held)
                held = []
        for window in subtract([piece.window], done):
            inside = [one for one in held if intersect([one.window], [window])]
            yield self._merged(piece, window, inside)

    def _read(
        self, gaps: Iterable[Window], ask: Callable[[Source, Iterable[Window]], Generator[Extract, None, None]]
    ) -> Iterator[Extract]:
        """Yield what the second source reads of the gaps, until it fails."""
        try:
            with closing(ask(self._opened(), gaps)) as pieces:
                yield from pieces
        except CfauditError as error:
            self._failed = True
            _LOG.warning("gaps cannot be filled", extra={"source": self._name, "error": str(error)})

    def _opened(self) -> Source:
        if self._second is None:
            assert self._connection is not None, "connect comes first"  # noqa: S101  # a fault of the caller
            source, found = self._stack.enter_context(self._open_second(self._connection))
            if found.account_id != self._connection.account_id:
                raise ProtocolError(f"it reads account '{found.account_id}', not '{self._connection.account_id}'")
            self._second = source
        return self._second

    def _merged(self, piece: Extract, window: Window, found: list[Extract]) -> Extract:
        """Return a window of the piece, with what was found in the place of what the piece has there."""
        refilled = [one.window for one in found]
        left = [gap for one in piece.gaps for gap in _left(one, window, refilled)]
        shadows = None if piece.shadows is None else within(piece.shadows, subtract([window], refilled))
        if not refilled:
            events = within(piece.events, [window])
            return replace(piece, window=window, events=events, gaps=tuple(left), shadows=shadows)
        own = within(piece.events, subtract([window], refilled))
        tables = [_with_key_parts(own), *(self._named(one.events) for one in found)]
        return Extract(
            window,
            pa.concat_tables(tables, promote_options="default").sort_by("event_time"),
            tuple(sorted(chain(left, *(one.gaps for one in found)), key=lambda gap: gap.window)),
            max(piece.read_at, *(one.read_at for one in found)),
            piece.calls + sum(one.calls for one in found),
            min(piece.trimmed, own.num_rows),
            shadows,
            union(*(odd for one in found for odd in _odd(one, piece.events))),
        )

    def _named(self, events: pa.Table) -> pa.Table:
        source = pa.repeat(pa.scalar(self._name), events.num_rows)
        return _with_key_parts(events).append_column("source", source)


def _gaps(piece: Extract) -> tuple[Window, ...]:
    return intersect([gap.window for gap in piece.gaps], [piece.window])


def _odd(found: Extract, own: pa.Table) -> tuple[Window, ...]:
    """Return the milliseconds in which the second source found more rows than the first one; all, if these are many.

    The gap may reach from one row that was read to the next. Remembered so, it would be looked for anew.
    """
    if found.events.num_rows > _MOST_ODD:
        return (found.window,)
    more = _moments(found.events) - _moments(within(own, [found.window]))
    return tuple(Window(at, at + MILLISECOND) for at in sorted(more)) or (found.window,)


def _moments(events: pa.Table) -> Counter[datetime]:
    # Cut to whole milliseconds as integers: Python's times have no nanoseconds.
    return Counter(from_ms(at // 1_000_000) for at in events["event_time"].cast(pa.int64()).to_pylist())


def _left(gap: Gap, window: Window, refilled: list[Window]) -> Iterator[Gap]:
    """Yield what is left of a gap in a window; of a part it is not known how many of its rows it holds."""
    for rest in subtract(intersect([gap.window], [window]), refilled):
        yield gap if rest == gap.window else replace(gap, window=rest, rows=0)


def _with_key_parts(events: pa.Table) -> pa.Table:
    """Return events that say themselves which token name their key is made from, as no source speaks for all now."""
    if "key_token_name" in events.column_names or "actor_token_name" not in events.column_names:
        return events
    return events.append_column("key_token_name", events["actor_token_name"])
