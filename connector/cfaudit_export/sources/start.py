"""A page that was read newest first -> since when the newest events are."""

from __future__ import annotations

from datetime import datetime, timedelta

from cfaudit_export.model import Window, from_ms
from cfaudit_export.sources.auditlogs.decode import Page
from cfaudit_export.sources.auditlogs.rows import first_ms

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
