"""One piece of trimmed rows, read again through disjoint filters: what the readings say of its rows."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Callable, Mapping
from contextlib import suppress
from dataclasses import replace

import anyio
import pyarrow as pa
import pyarrow.compute as pc

from cfaudit_export.sources.auditlogs.brief import BriefPages, OutOfCallsError, brief
from cfaudit_export.sources.auditlogs.decode import PAGE_SCHEMA
from cfaudit_export.sources.auditlogs.intervals import FilterFindings
from cfaudit_export.sources.auditlogs.intervals import ValueReader as IntervalReading
from cfaudit_export.sources.auditlogs.prefetch import NEEDED, FilterPrefetch
from cfaudit_export.sources.auditlogs.reader import AuditLogsReader
from cfaudit_export.sources.auditlogs.shadow_probe import RejectedRows, cast_shadows
from cfaudit_export.sources.auditlogs.spans import intervals
from cfaudit_export.sources.paging.disambiguate import salvage
from cfaudit_export.sources.paging.evidence import Piece
from cfaudit_export.sources.paging.facets import (
    CANDIDATES,
    FacetReading,
    Filter,
    Twins,
    distribute,
    facet_of,
    find_twins,
    single,
    wanted_counts,
)
from cfaudit_export.sources.paging.query import MOST_ROWS, Query, Rejection
from cfaudit_export.sources.paging.reader import CursorDeadError
from cfaudit_export.sources.paging.rows import between, last_ms

_COMBINATIONS = 64
_AROUND_CALLS = 4  # that one question around rejected rows may cost
_TYPES = {"raw_status_code": pa.int32()}


class Rebuild:
    """Reads what filters return over a piece."""

    def __init__(
        self, reader: AuditLogsReader, plain: Query, piece: Piece, ahead: FilterPrefetch, most_calls: int | None
    ) -> None:
        """Build it.

        Args:
            reader: asks the questions.
            plain: the question for the whole piece.
            piece: the rows, complete for their interval.
            ahead: what was read of filters for earlier pieces of the same walk.
            most_calls: calls that may be made; None for any number.
        """
        self._reader = reader
        self._pages = BriefPages(reader, most_calls)
        self._ahead = ahead
        self._plain = plain
        self._piece = piece
        self._rejected = RejectedRows(self._pages.page, replace(plain, padding=reader.exclusive))
        self._texts = brief(piece.rows)["event_raw"]
        self._times = piece.rows["event_time"]
        self._holes = sorted((rejected.since_ms, rejected.before_ms) for rejected in piece.unreadable)
        rejected_rows = sorted((rejected.since_ms, rejected.before_ms, rejected.rows) for rejected in piece.unreadable)
        exclusive = replace(plain, padding=reader.exclusive)
        self._intervals = intervals(plain, exclusive, piece.rows, rejected_rows) if rejected_rows else ()
        self._interval_reading = IntervalReading(self._pages.page, plain, _apart(piece))
        self._readings: dict[str, FacetReading] = {}
        self._twins: list[Twins] = []

    async def read(self, facets: list[str], wanted: dict[str, tuple[str, ...]]) -> list[str]:
        """Read every facet, all at once, and return those for which there were calls; the reader bounds the rest."""
        async with anyio.create_task_group() as group:
            for facet in facets:
                group.start_soon(self._read_facet, facet, wanted[facet])
        self._twins = find_twins(self._texts, list(self._readings.values()))
        return [facet for facet in facets if facet in self._readings]

    @property
    def calls(self) -> int:
        """Tool calls made so far."""
        return self._pages.calls

    def may_spend(self, calls: int) -> bool:
        """Say whether so many calls may be made."""
        return self._pages.may_spend(calls)

    async def _read_facet(self, facet: str, values: tuple[str, ...]) -> None:
        async with self._reader.readings:
            with suppress(OutOfCallsError):
                read = self._reading_of_intervals if self._intervals else self._reading
                self._readings[facet] = await read(facet, values)

    async def _reading(self, facet: str, values: tuple[str, ...]) -> FacetReading:
        texts: list[pa.ChunkedArray] = []
        labels: list[pa.Array] = []
        unmatched = len(self._texts)
        for value in values:
            # A filter that leaves nothing out is asked for another value too: it may be one that has no effect.
            if unmatched <= 0 and (facet in self._reader.proven or not len(self._texts)):
                break
            found = await self._having((facet, value))
            if found.num_rows < len(self._texts):
                self._reader.proven.add(facet)
            elif unmatched <= 0:
                self._reader.doubt(facet)
            texts.append(found["event_raw"])
            labels.append(pa.repeat(pa.scalar(value), found.num_rows))
            unmatched -= found.num_rows
        empty = pa.chunked_array([], pa.string())
        texts_of_all = pa.chunked_array([chunk for text in [empty, *texts] for chunk in text.chunks], pa.string())
        return FacetReading(facet, texts_of_all, pa.chunked_array(labels, pa.string()))

    async def _reading_of_intervals(self, facet: str, values: tuple[str, ...]) -> FacetReading:
        """Read a facet of a piece that holds rejected rows."""
        states = [FilterFindings(interval) for interval in self._intervals]
        for number, value in enumerate(values):
            is_proven = facet in self._reader.proven
            if all(one.left <= 0 for one in states) and is_proven:
                break
            if number and not is_proven and all(one.left < 0 for one in states):
                self._reader.doubt(facet)
                break
            if not (len(states) > 1 and await self._take_whole(states, (facet, value))):
                for one in states:
                    if (one.left > 0 or facet not in self._reader.proven) and await self._interval_reading.ask_for(
                        one, (facet, value)
                    ):
                        self._reader.proven.add(facet)
        for one in states:
            await self._interval_reading.resolve(one, facet)
            for value, rejected in one.rejected.items():
                self._rejected.learn(one.interval, (facet, value), rejected)
            for part, value, rejected in one.parts:
                self._rejected.learn(part, (facet, value), rejected)
        pairs = [(text, value) for one in states for value, texts in one.values.items() for text in texts]
        return FacetReading(
            facet,
            pa.chunked_array([[text for text, _ in pairs]], pa.string()),
            pa.chunked_array([[value for _, value in pairs]], pa.string()),
        )

    async def _take_whole(self, states: list[FilterFindings], one: Filter) -> bool:
        """Ask for a value in the whole piece; False where rejected rows have it, too."""
        parts: list[pa.Table] = []
        query = replace(self._plain, filters=(*self._plain.filters, one))
        if await self._read(query, parts) is not None:
            return False
        rows = pa.concat_tables([PAGE_SCHEMA.empty_table().select(NEEDED), *parts])
        for state in states:
            texts = between(rows, state.interval.since_ms, state.interval.before_ms)["event_raw"].to_pylist()
            state.values[one[1]], state.rejected[one[1]] = texts, 0
            state.left -= len(texts)
        if rows.num_rows < len(self._texts):
            self._reader.proven.add(one[0])
        return True

    async def tell_twins_apart(self, facets: list[str]) -> None:
        """Ask for combined filters in the milliseconds of twins that differ in more than one facet."""
        asked: dict[tuple[int, frozenset[Filter]], list[Twins]] = defaultdict(list)
        at = self._milliseconds([twins.text for twins in self._twins])
        for twins in self._twins:
            combinations = wanted_counts(twins, facets)
            if len(combinations) <= _COMBINATIONS:
                for filters in combinations:
                    asked[at[twins.text], filters].append(twins)
        for (millisecond, filters), some in asked.items():
            if not self.may_spend(_AROUND_CALLS):
                return
            here = replace(self._plain, since_ms=millisecond, before_ms=millisecond + 1)
            found = (await self._matching(tuple(sorted(filters)), here))["event_raw"].to_pylist()
            for twins in some:
                twins.counts[filters] = found.count(twins.text)

    async def shadows(self, facets: Mapping[str, tuple[str, ...]], may_spend: Callable[[int], bool]) -> pa.Table | None:
        """Return what is certain of the unreadable rows; what the readings met already is not asked again."""
        with suppress(OutOfCallsError):
            cast = await cast_shadows(
                self._rejected, self._piece.unreadable, facets, self._piece.rows, may_spend, intervals=self._intervals
            )
            return self._typed_columns(cast)
        return None

    def _typed_columns(self, cast: pa.Table | None) -> pa.Table | None:
        if cast is None:
            return None
        return pa.table({name: typed(name, cast[name]) for name in cast.column_names})

    def columns(self, facets: list[str]) -> dict[str, pa.Array]:
        """Return what was found, one column a facet."""
        columns = {facet: single(self._texts, self._readings[facet]) for facet in facets}
        if self._twins:
            spread = {twins.text: iter(distribute(twins, facets)) for twins in self._twins}
            mask = pc.is_in(self._texts, value_set=pa.array(list(spread), pa.string())).combine_chunks()
            rows = [next(spread[text]) for text in self._texts.filter(mask).to_pylist()]
            for facet in facets:
                values = pa.array([row.get(facet) for row in rows], pa.string())
                columns[facet] = pc.replace_with_mask(columns[facet], mask, values)
        return {facet: typed(facet, column) for facet, column in columns.items()}

    def _milliseconds(self, texts: list[str]) -> dict[str, int]:
        at = pc.index_in(pa.array(texts, pa.string()), value_set=self._texts.combine_chunks())
        times = self._times.take(at).cast(pa.int64()).to_pylist()
        return {text: time // 1_000_000 for text, time in zip(texts, times, strict=True)}

    async def _having(self, one: Filter) -> pa.Table:
        """Read the rows of the piece that have a value."""
        found, reached = await self._ahead.take(self._pages.page, one, self._plain)
        if reached >= self._plain.before_ms:
            return found
        return pa.concat_tables([found, await self._matching((one,), replace(self._plain, since_ms=reached))])

    async def _matching(self, filters: tuple[Filter, ...], plain: Query) -> pa.Table:
        """Read the rows that meet the filters, around what is known to be unreadable."""
        query = replace(plain, filters=(*plain.filters, *filters))
        parts = [PAGE_SCHEMA.empty_table().select(NEEDED)]
        position = query.since_ms
        while position < query.before_ms:
            reached = await self._read(replace(query, since_ms=position), parts)
            if reached is None:
                break
            hole = next((hole for hole in self._holes if hole[1] > reached), None)
            if hole is None:  # rejected rows that were not there before: what lies behind stays unknown
                break
            # The end is asked for tightly, or the hole itself would refuse the page.
            exclusive = replace(query, since_ms=reached, before_ms=hole[0], padding=self._reader.exclusive)
            if reached < hole[0]:
                await self._read(exclusive, parts)
            inside = replace(exclusive, since_ms=hole[0], before_ms=hole[1], limit=MOST_ROWS)
            outcome = await self._pages.page(inside)
            self._rejected.note(inside, outcome)
            found = await salvage(self._pages.page, inside, PAGE_SCHEMA.empty_table(), outcome=outcome)
            parts.append(found.select(NEEDED))
            position = hole[1]
        found = pa.concat_tables(parts)
        return between(found, plain.since_ms, plain.before_ms)

    async def _read(self, query: Query, parts: list[pa.Table]) -> int | None:
        """Add all pages of a question to `parts`, or what lies before a refused one, and return that millisecond."""
        mine: list[pa.Table] = []
        reached = query.since_ms
        while True:
            try:
                outcome = await self._pages.page(query)
            except CursorDeadError:
                outcome = Rejection(())
            if isinstance(outcome, Rejection):
                parts += [between(rows, query.since_ms - 1, reached) for rows in mine]
                return reached
            if outcome.rows.num_rows:
                mine.append(outcome.rows.select(NEEDED))
                reached = max(last_ms(outcome.rows), reached)
            if outcome.cursor is None:
                parts += mine
                return None
            query = query.at(outcome.cursor)


def _apart(piece: Piece) -> tuple[Filter, ...]:
    """Return the values of a filter that leaves out all rejected rows, because the field of the filter is at fault."""
    at_fault = {facet_of(rejected.reason.partition(":")[0]) for rejected in piece.unreadable}
    name = at_fault.pop() if len(at_fault) == 1 else None
    return tuple((name, value) for value in CANDIDATES[name]) if name else ()


def typed(facet: str, values: pa.Array) -> pa.Array:
    """Return the values of a facet with the type of its column."""
    return values.cast(_TYPES[facet]) if facet in _TYPES else values
