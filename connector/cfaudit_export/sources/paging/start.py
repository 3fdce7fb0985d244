"""Pages that are read newest first -> since when the newest events are, and when the newest one was."""

from __future__ import annotations

from collections.abc import Awaitable, Callable
from dataclasses import replace
from datetime import datetime, timedelta

from cfaudit_export.core.model import Window, from_ms
from cfaudit_export.sources.paging.page import Page
from cfaudit_export.sources.paging.query import Query, Rejection
from cfaudit_export.sources.paging.rows import between, first_ms, last_ms

_CLOSE_MS = 60_000
_NO_IDEA = timedelta(minutes=1)
_RESERVE = 1.5


def start_by(page: Page, window: Window, count: int) -> datetime:
    """Return the time of the oldest of `count` events, or a guess by how dense those of the page are."""
    rows = page.rows.num_rows
    if not rows:
        return window.before - _NO_IDEA if page.cursor else window.since
    oldest = from_ms(first_ms(page.rows))
    if rows >= count:
        return oldest
    return window.before - (window.before - oldest) * (_RESERVE * count / rows) if page.cursor else window.since


async def newest_time(ask: Callable[[Query], Awaitable[Page | Rejection]], window: Query) -> datetime | None:
    """Return the time of the newest row of a question, to the minute where it cannot be read; None without a row.

    A refused row shows no time, but that it is there: halves of the time close in on it, 20 for a year.

    Raises what `ask` raises.
    """
    low, high, found = window.since_ms, window.before_ms, False
    at = low
    while True:
        outcome = await ask(replace(window, since_ms=at, before_ms=high, limit=1, direction="desc"))
        rows = None if isinstance(outcome, Rejection) else between(outcome.rows, at, high)
        if rows is not None and rows.num_rows:
            return from_ms(last_ms(rows))
        if isinstance(outcome, Rejection) or outcome.unreadable:
            low, found = at, True
        else:
            high = at
        if high - low <= _CLOSE_MS:
            return from_ms(low) if found else None
        at = (low + high) // 2
