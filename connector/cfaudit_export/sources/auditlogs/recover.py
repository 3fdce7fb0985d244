"""A piece of trimmed rows -> the same with columns rebuilt, by reading it again through disjoint filters."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from itertools import accumulate

import anyio
import pyarrow as pa
import pyarrow.compute as pc

from cfaudit_export.records import Recover
from cfaudit_export.sources import AUDITLOGS_FILTERS
from cfaudit_export.sources.auditlogs.ahead import NEEDED, Ahead
from cfaudit_export.sources.auditlogs.contract import MOST_ROWS, Query, Rejection
from cfaudit_export.sources.auditlogs.decode import PAGE_SCHEMA, Page
from cfaudit_export.sources.auditlogs.facets import (
    Filter,
    Reading,
    Twins,
    distribute,
    find_twins,
    single,
    wanted_counts,
)
from cfaudit_export.sources.auditlogs.offer import Offer
from cfaudit_export.sources.auditlogs.reader import CursorDeadError, Reader
from cfaudit_export.sources.auditlogs.rows import between, last_ms
from cfaudit_export.sources.auditlogs.separate import salvage
from cfaudit_export.sources.auditlogs.shadows import OddRows, cast_shadows
from cfaudit_export.sources.auditlogs.walk import Piece
from cfaudit_export.sources.pace import Pace

# Facets in the order in which they are given up when calls are short, and values in the order of how common they are:
# a facet is done when every row has a value, so the rare ones are often not asked for.
CANDIDATES: dict[str, tuple[str, ...]] = {
    "action_type": ("update", "create", "delete", "login", "view"),
    "action_result": ("success", "failure"),
    "actor_context": ("dash", "api_token", "api_key", "oauth", "origin_ca_key"),
    "actor_type": ("user", "account", "system", "cloudflare_admin"),
    "resource_scope": ("accounts", "zones", "user", "memberships"),
    "raw_method": ("POST", "PUT", "PATCH", "DELETE", "GET"),
    "raw_status_code": ("200", "201", "202", "204", "400", "403", "404", "409", "500", "502", "503"),
}
_COMBINATIONS = 64
LEAST_CALLS = 40
"""Calls without which there is no use in beginning."""
_TYPES = {"raw_status_code": pa.int32()}


@dataclass(frozen=True, slots=True)
class Recovered:
    """Columns rebuilt for a piece.

    Attributes:
        columns: by name, one value a row; null where nothing is certain.
        complete: False when facets were left out for want of budget.
        calls: tool calls it took.
        shadows: what is certain of unreadable rows, as `Extract.shadows`.
    """

    columns: dict[str, pa.Array]
    complete: bool
    calls: int
    shadows: pa.Table | None = None


async def recover(
    reader: Reader,
    pace: Pace,
    piece: Piece,
    ahead: Ahead,
    *,
    policy: Recover,
    page_size: int,
    filters: Sequence[Filter],
) -> Recovered:
    """Rebuild what the policy and the budget allow.

    Args:
        reader: asks the questions.
        pace: knows what is left of the budget.
        piece: the rows, complete for their interval.
        ahead: what was read of filters for earlier pieces of the same walk.
        policy: what to rebuild.
        page_size: rows per page.
        filters: the stream's own filters; what they fix needs no reading.
    """
    listed = {name: values for name, values in policy.values.items() if name in AUDITLOGS_FILTERS}
    wanted = reader.offer.candidates({**CANDIDATES, **listed})
    given = dict(filters)
    facets = [name for name in wanted if name not in given and name not in reader.further]
    if policy.mode == "off" or not (piece.rows.num_rows or piece.unreadable):
        return Recovered({}, complete=policy.mode != "off", calls=0)
    is_auto = policy.mode == "auto"
    if is_auto:
        pages = -(-piece.rows.num_rows // page_size)
        costs = {facet: reader.cost * (pages + len(wanted[facet])) for facet in facets}
        facets = _affordable(costs, pace.spare())
        whole = len(facets) == len(costs)
    else:
        whole = True
    plain = Query(piece.since_ms, piece.before_ms, page_size, filters=tuple(filters), edges=reader.edges)
    work = _Recovery(reader, plain, piece, ahead)
    await work.read(facets, wanted)
    await work.tell_twins_apart(facets)
    columns = work.columns(facets)
    for name, value in given.items():
        if name in wanted:
            columns[name] = _typed(name, pa.repeat(pa.scalar(value), piece.rows.num_rows))

    def may_spend(calls: int) -> bool:
        spare = pace.spare() if is_auto else None
        return whole and (spare is None or calls * reader.cost <= spare)

    shadows = await work.shadows({name: wanted[name] for name in facets}, may_spend)
    return Recovered(columns, whole, work.calls, shadows)


def pages_per_page(offer: Offer, page_size: int, piece_rows: int) -> int:
    """Return how many pages rebuilding costs for each page of a large piece, at most."""
    facets = offer.candidates(CANDIDATES)
    return len(facets) + -(-sum(map(len, facets.values())) * page_size // max(piece_rows, page_size))


def _affordable(costs: dict[str, int], spare: int | None) -> list[str]:
    """Return the first facets that fit into what may be spent."""
    if spare is None:
        return list(costs)
    sums = accumulate(costs.values())
    return [facet for facet, total in zip(costs, sums, strict=True) if total <= spare]


class _Recovery:
    def __init__(self, reader: Reader, plain: Query, piece: Piece, ahead: Ahead) -> None:
        self._reader = reader
        self._ahead = ahead
        self._plain = plain
        self._piece = piece
        self._odd = OddRows(self._ask, replace(plain, edges=reader.tight))
        self._texts = piece.rows["event_raw"]
        self._times = piece.rows["event_time"]
        self._holes = sorted((odd.since_ms, odd.before_ms) for odd in piece.unreadable)
        self._readings: dict[str, Reading] = {}
        self._twins: list[Twins] = []
        self.calls = 0

    async def read(self, facets: list[str], wanted: dict[str, tuple[str, ...]]) -> None:
        """Read every facet, all at once; the reader bounds what is in flight."""
        async with anyio.create_task_group() as group:
            for facet in facets:
                group.start_soon(self._read_facet, facet, wanted[facet])
        self._twins = find_twins(self._texts, list(self._readings.values()))

    async def _read_facet(self, facet: str, values: tuple[str, ...]) -> None:
        async with self._reader.readings:
            self._readings[facet] = await self._reading(facet, values)

    async def _reading(self, facet: str, values: tuple[str, ...]) -> Reading:
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
        return Reading(facet, texts_of_all, pa.chunked_array(labels, pa.string()))

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
            here = replace(self._plain, since_ms=millisecond, before_ms=millisecond + 1)
            found = (await self._matching(tuple(sorted(filters)), here))["event_raw"].to_pylist()
            for twins in some:
                twins.counts[filters] = found.count(twins.text)

    async def shadows(self, facets: Mapping[str, tuple[str, ...]], may_spend: Callable[[int], bool]) -> pa.Table | None:
        """Return what is certain of the unreadable rows; what the readings met already is not asked again."""
        cast = await cast_shadows(self._odd, self._piece.unreadable, facets, self._piece.rows, may_spend)
        if cast is None:
            return None
        return pa.table({name: _typed(name, cast[name]) for name in cast.column_names})

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
        return {facet: _typed(facet, column) for facet, column in columns.items()}

    def _milliseconds(self, texts: list[str]) -> dict[str, int]:
        at = pc.index_in(pa.array(texts, pa.string()), value_set=self._texts.combine_chunks())
        times = self._times.take(at).cast(pa.int64()).to_pylist()
        return {text: time // 1_000_000 for text, time in zip(texts, times, strict=True)}

    async def _having(self, one: Filter) -> pa.Table:
        """Read the rows of the piece that have a value."""
        found, reached = await self._ahead.take(self._ask, one, self._plain)
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
            if hole is None:  # odd rows that were not there before: what lies behind stays unknown
                break
            # The end is asked for tightly, or the hole itself would refuse the page.
            tight = replace(query, since_ms=reached, before_ms=hole[0], edges=self._reader.tight)
            if reached < hole[0]:
                await self._read(tight, parts)
            inside = replace(tight, since_ms=hole[0], before_ms=hole[1], limit=MOST_ROWS)
            outcome = await self._ask(inside)
            self._odd.note(inside, outcome)
            found = await salvage(self._ask, inside, PAGE_SCHEMA.empty_table(), outcome=outcome)
            parts.append(found.select(NEEDED))
            position = hole[1]
        found = pa.concat_tables(parts)
        return between(found, plain.since_ms, plain.before_ms)

    async def _ask(self, query: Query) -> Page | Rejection:
        self.calls += 1
        return await self._reader.page(query)

    async def _read(self, query: Query, parts: list[pa.Table]) -> int | None:
        """Add all pages of a question to `parts`, or what lies before a refused one, and return that millisecond."""
        mine: list[pa.Table] = []
        reached = query.since_ms
        while True:
            try:
                outcome = await self._ask(query)
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


def _typed(facet: str, values: pa.Array) -> pa.Array:
    return values.cast(_TYPES[facet]) if facet in _TYPES else values
