"""What `since` and `before` include, learned from a row that we know; the server does not say it."""

from __future__ import annotations

import logging
from collections.abc import AsyncGenerator, Awaitable, Callable
from contextlib import aclosing
from dataclasses import replace

import pyarrow as pa

from cfaudit_export.core.filters import AUDITLOGS_FILTERS
from cfaudit_export.sources.paging.asking import Asker
from cfaudit_export.sources.paging.evidence import Chain
from cfaudit_export.sources.paging.page import Page
from cfaudit_export.sources.paging.query import MOST_ROWS, Padding, Query, Rejection
from cfaudit_export.sources.paging.reader import PageReader
from cfaudit_export.sources.paging.refused import run_length
from cfaudit_export.sources.paging.rows import whole_ms

_LOG = logging.getLogger(__name__)
_FAR_MS = 30 * 86_400_000
_CANDIDATES = 6  # rows that are tried at most
_FEW_ROWS = 50  # that no server cuts a page down to without a word

Ask = Callable[[Query], Awaitable[Page | Rejection]]


async def learn_edges(reader: PageReader, query: Query, known: pa.Table, ask: Ask) -> None:
    """Set the padding of a reader, which is done once in a session.

    Two questions tell: one that starts at the time of a row that can be read, one that ends there, each asked from that
    end on. Where a refused row may stand in front of that row, the answer tells nothing and another row is tried; what
    no row tells is assumed to be as is worse, which costs calls: that `since` excludes and `before` includes.

    Args:
        reader: whose padding it is.
        query: the question near which a row is looked for where none is known.
        known: rows that were read, of which those serve that lie on a whole millisecond: a finer one is on no edge.
        ask: asks a question.
    """
    since: bool | None = None
    before: bool | None = None
    tries = 0
    async with aclosing(_candidates(query, known, ask)) as candidates:
        async for at_ms in candidates:
            exact = replace(
                query, since_ms=at_ms, before_ms=at_ms + 2, limit=MOST_ROWS, cursor=None, padding=Padding(0, 0)
            )
            if since is None:
                since = await _meets(ask, exact, at_ms)
            if before is None:
                before = await _meets(ask, replace(exact, since_ms=at_ms - 2, before_ms=at_ms, direction="desc"), at_ms)
            tries += 1
            if tries == _CANDIDATES or (since is not None and before is not None):
                break
    is_learned = since is not None and before is not None
    reader.padding = Padding(0 if since else 1, 0, learned=is_learned)
    reader.exclusive = Padding(0 if since else 1, 0 if before is False else -1, learned=is_learned)
    _LOG.info("learned what the ends include", extra={"since": since, "before": before})


async def _meets(ask: Ask, question: Query, at_ms: int) -> bool | None:
    """Say whether a question meets a row at its very start; None where refused rows may hide it."""
    near, rows = await _up_to_refused(ask, question)
    if rows is not None:
        return at_ms in whole_ms(rows)
    far, rows = await _up_to_refused(ask, replace(question, direction="desc" if question.direction == "asc" else "asc"))
    if rows is not None and at_ms in whole_ms(rows):
        return True
    # Where refused rows are all that is not seen from either end, it is not among them.
    is_all = isinstance(near, Rejection) and isinstance(far, Rejection) and _is_one_run(near, far)
    return False if is_all else None


def _is_one_run(near: Rejection, far: Rejection) -> bool:
    """Say whether refusals of the same question from either end name the same rows, and these stand side by side."""
    number = run_length(near.issues)
    rows = near.issues[0].index + number + far.issues[0].index
    return number == len(near.issues) == len(far.issues) == run_length(far.issues) and rows <= _FEW_ROWS


async def _up_to_refused(ask: Ask, question: Query) -> tuple[Page | Rejection, pa.Table | None]:
    """Return an answer, and the first rows; None where a refused one comes before them, or nothing is known."""
    outcome = await ask(question)
    page = outcome
    if isinstance(outcome, Rejection):
        if not (first := outcome.issues[0].index):
            return outcome, None
        page = await ask(replace(question, limit=first))
        if isinstance(page, Page) and not page.rows.num_rows:
            return outcome, None
    if isinstance(page, Rejection) or page.unreadable or (page.cursor is not None and not page.rows.num_rows):
        return outcome, None
    return outcome, page.rows


async def learned_once(asker: Asker, chain: Chain, question: Query, rejection: Rejection) -> Page | None:
    """Find out, once, what the ends of questions include; return the rows before the first refused one if read."""
    reader = asker.reader
    if reader.padding != Padding():
        return None
    ahead: Page | Rejection | None = None
    if first := rejection.issues[0].index:
        ahead = await asker.rows(replace(chain.query, limit=first))
    read = ahead if isinstance(ahead, Page) else None
    rows = [one for one in (chain.last_table, None if read is None else read.rows) if one is not None]
    await learn_edges(reader, question, pa.concat_tables([reader.empty, *rows]), asker.rows)
    return read


async def _candidates(query: Query, known: pa.Table, ask: Ask) -> AsyncGenerator[int]:
    """Yield moments at which rows lie: of those that are known, the last ones first; then those that are found."""
    told = set(whole_ms(known))
    for at_ms in sorted(told, reverse=True):
        yield at_ms
    async with aclosing(_found(query, ask)) as found:
        async for at_ms in found:
            if at_ms not in told:
                told.add(at_ms)
                yield at_ms


async def _found(query: Query, ask: Ask) -> AsyncGenerator[int]:
    """Yield the milliseconds of readable rows that lie on one, wherever they are."""
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
        if isinstance(outcome, Page):
            for at_ms in whole_ms(outcome.rows):
                yield at_ms
