"""One millisecond that holds rejected rows -> the readable rows between them, by filters that keep them apart.

A filter with one value returns the rows that have it. The values of one filter are disjoint, so their rows add up
without counting any twice; rows that lack the field are in none. Rows are compared by their text: of identical ones
at least as many exist as one way of asking returned.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Awaitable, Callable, Iterator
from dataclasses import replace

import pyarrow as pa

from cfaudit_export.core.filters import AUDITLOGS_FILTERS
from cfaudit_export.sources.paging.page import Page
from cfaudit_export.sources.paging.query import Query, Rejection
from cfaudit_export.sources.paging.reader import CursorDeadError
from cfaudit_export.sources.paging.rows import between

_METHODS = ("POST", "PUT", "PATCH", "DELETE", "GET")
_FACETS = ("actor_context", "action_type", "actor_type", "resource_scope", "action_result")
_DEPTH = 1
_EXAMPLES = 30
_PAGES = 50

Ask = Callable[[Query], Awaitable[Page | Rejection]]


async def separate(ask: Ask, here: Query, known: pa.Table, total: int | None, *, examples: pa.Table) -> pa.Table:
    """Return readable rows of the millisecond, `known` among them, and all `total` of them if filters can.

    Args:
        ask: asks a question.
        here: the question for the whole millisecond.
        known: rows that were read already.
        total: how many readable rows there are; None where that is not known.
        examples: rows from around, whose products, types and actors are worth asking for.
    """
    best = Multiset(known)
    seen = pa.concat_tables([known, examples])
    in_vain = 0
    for name, values in _choices(here, seen):
        if len(best) >= total if total is not None else in_vain > 1:
            break
        before = len(best)
        mine = Multiset(known.schema.empty_table())
        found = [
            await salvage(ask, replace(here, filters=(*here.filters, (name, value))), seen, _DEPTH) for value in values
        ]
        if not _same(found):
            for rows in found:
                mine.add(rows)
        best.raise_to(mine)
        in_vain += len(best) == before
    return best.table()


async def salvage(
    ask: Ask, query: Query, examples: pa.Table, depth: int = 0, *, outcome: Page | Rejection | None = None
) -> pa.Table:
    """Read what the question allows: all of it, or the rows before and behind the rejected ones.

    With `depth`, further filters are tried on what stands between rejected rows, that many at a time. `outcome` is the
    answer where the question has been asked already.
    """
    empty = examples.schema.empty_table()
    found, refusal = await _approach(ask, query, outcome or await ask(query), empty)
    rows = Multiset(_cut(found, query))
    if refusal is None:
        return rows.table()
    backward = replace(query, direction="desc")
    found, other = await _approach(ask, backward, await ask(backward), empty)
    if other is None:
        return _cut(found, query)
    rows.add(_cut(found, query))
    span = refusal.issues[-1].index - refusal.issues[0].index + 1
    if span == len(refusal.issues) or not depth:
        return rows.table()
    for name, values in _choices(query, examples):
        deeper = Multiset(empty)
        for value in values:
            narrower = replace(query, filters=(*query.filters, (name, value)))
            deeper.add(await salvage(ask, narrower, examples, depth - 1))
        rows.raise_to(deeper)
    return rows.table()


async def _approach(
    ask: Ask, query: Query, outcome: Page | Rejection, empty: pa.Table
) -> tuple[pa.Table, Rejection | None]:
    """Read page by page up to the first refused row; return the rows, and the refusal that ended it."""
    tables = [empty]
    for _ in range(_PAGES):
        if isinstance(outcome, Rejection):
            if first := outcome.issues[0].index:
                part = await ask(replace(query, limit=first))
                tables += [part.rows] if isinstance(part, Page) else []
            return pa.concat_tables(tables), outcome
        tables.append(outcome.rows)
        if outcome.cursor is None or not outcome.rows.num_rows:
            break
        query = query.at(outcome.cursor)
        try:
            outcome = await ask(query)
        except CursorDeadError:
            break
    return pa.concat_tables(tables), None


def _same(tables: list[pa.Table]) -> bool:
    """Say whether all values of a filter return the same rows, so that it seems to have no effect."""
    counted = [Counter(rows["event_raw"].to_pylist()) for rows in tables]
    # A single text may be that of twins with different values.
    return len(counted) > 1 and all(one == counted[0] for one in counted) and len(counted[0]) > 1


def _choices(query: Query, examples: pa.Table) -> Iterator[tuple[str, tuple[str, ...]]]:
    """Yield filters that the question does not use yet, and values worth asking for."""
    used = {name for name, _ in query.filters}
    for name in _FACETS:
        if name not in used:
            yield name, tuple(value for value in AUDITLOGS_FILTERS[name] or () if value)
    if "raw_method" not in used:
        yield "raw_method", _METHODS
    for name in ("resource_type", "actor_email"):
        seen = Counter(value for value in examples[name].to_pylist() if value)
        if seen and name not in used:
            yield name, tuple(sorted(value for value, _ in seen.most_common(_EXAMPLES)))


def _cut(rows: pa.Table, query: Query) -> pa.Table:
    return between(rows, query.since_ms - query.padding.since_ms, query.before_ms)


class Multiset:
    """Rows counted by their text."""

    def __init__(self, rows: pa.Table) -> None:
        self._empty = rows.schema.empty_table()
        self._counts: Counter[str] = Counter()
        self._samples: dict[str, pa.Table] = {}
        self.add(rows)

    def __len__(self) -> int:
        return self._counts.total()

    def add(self, rows: pa.Table) -> None:
        """Count further rows, known to be others than those counted."""
        for number, text in enumerate(rows["event_raw"].to_pylist()):
            self._counts[text] += 1
            self._samples.setdefault(text, rows.slice(number, 1))

    def raise_to(self, other: Multiset) -> None:
        """Count each row as often as the other does, where that is more often."""
        self._counts |= other._counts
        self._samples = other._samples | self._samples

    def table(self) -> pa.Table:
        """Return the rows, each as often as it was counted."""
        copies = [self._samples[text] for text, count in self._counts.items() for _ in range(count)]
        return pa.concat_tables([self._empty, *copies])
