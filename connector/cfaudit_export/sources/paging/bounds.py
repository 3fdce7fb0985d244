"""What `since` and `before` include, learned from a row that we know; the server does not say it."""

from __future__ import annotations

import logging
from collections.abc import Awaitable, Callable
from dataclasses import replace

import pyarrow as pa

from cfaudit_export.core.filters import AUDITLOGS_FILTERS
from cfaudit_export.sources.paging.asking import Asker
from cfaudit_export.sources.paging.evidence import Chain
from cfaudit_export.sources.paging.page import Page
from cfaudit_export.sources.paging.query import Padding, Query, Rejection
from cfaudit_export.sources.paging.reader import PageReader
from cfaudit_export.sources.paging.rows import between, last_whole_ms

_LOG = logging.getLogger(__name__)
_FAR_MS = 30 * 86_400_000

Ask = Callable[[Query], Awaitable[Page | Rejection]]


async def learn_edges(reader: PageReader, query: Query, known: pa.Table, ask: Ask) -> bool:
    """Set the padding of a reader, which is done once in a session.

    Args:
        reader: whose padding it is.
        query: the question near which a row is looked for where none is known.
        known: rows that were read, of which one serves that lies on a whole millisecond: a finer one is on no edge.
        ask: asks a question.

    Returns:
        False when no readable row can be found to learn it with.
    """
    at_ms = last_whole_ms(known)
    if at_ms is None:
        at_ms = await _any_row(query, ask)
    if at_ms is None:
        return False
    exact = replace(query, since_ms=at_ms, before_ms=at_ms + 2, cursor=None, padding=Padding(0, 0))
    since = await ask(exact)
    before = await ask(replace(exact, since_ms=at_ms - 2, before_ms=at_ms))
    if isinstance(since, Rejection) and (first := since.issues[0].index):
        since = await ask(replace(exact, limit=first))
    # In doubt as `assume_edges` has it, which costs calls at worst.
    since_includes = isinstance(since, Page) and _holds(since.rows, at_ms)
    before_includes = isinstance(before, Rejection) or _holds(before.rows, at_ms)
    reader.padding = Padding(0 if since_includes else 1, 0, learned=True)
    reader.exclusive = Padding(0 if since_includes else 1, -1 if before_includes else 0, learned=True)
    _LOG.info("learned what the ends include", extra={"since": since_includes, "before": before_includes})
    return True


async def learned_once(asker: Asker, chain: Chain, question: Query, rejection: Rejection) -> Page | None:
    """Find out, once, what the ends of questions include; return the rows before the first refused one if read."""
    reader = asker.reader
    if reader.padding != Padding():
        return None
    ahead: Page | Rejection | None = None
    if first := rejection.issues[0].index:
        ahead = await asker.rows(replace(chain.query, limit=first))
    read = ahead if isinstance(ahead, Page) else None
    rows = read.rows if read is not None else chain.last_table
    if not await learn_edges(reader, question, reader.empty if rows is None else rows, asker.rows):
        assume_edges(reader)
    return read


def assume_edges(reader: PageReader) -> None:
    """Take the worst for granted, that `since` excludes and `before` includes, until a row shows what is true."""
    reader.padding, reader.exclusive = Padding(1, 0), Padding(1, -1)


async def _any_row(query: Query, ask: Ask) -> int | None:
    """Return the millisecond of any readable row that lies on one, wherever it is."""
    since, before = query.since_ms, query.before_ms
    wide = replace(query, since_ms=since - _FAR_MS, cursor=None, limit=1, padding=Padding())
    ends = [before, since, *(before - (before - since) // part for part in (2, 4, 8))]
    plain = [replace(wide, before_ms=end, direction="desc") for end in ends]
    filtered = [
        replace(wide, filters=(*wide.filters, (name, value)))
        for name, values in AUDITLOGS_FILTERS.items()
        for value in values or ()
        if value
    ]
    for question in (*plain, *filtered):
        outcome = await ask(question)
        if isinstance(outcome, Page) and (at_ms := last_whole_ms(outcome.rows)) is not None:
            return at_ms
    return None


def _holds(rows: pa.Table, at_ms: int) -> bool:
    return bool(between(rows, at_ms, at_ms + 1).num_rows)
