"""The newest events of a window, by reading as little of it as is needed."""

from __future__ import annotations

from datetime import timedelta

from cfaudit_export.core.model import MILLISECOND, Window, floor_ms
from cfaudit_export.plugin.interfaces import Extract, Source

_FIRST_LOOK = timedelta(minutes=1)
_GROWTH = 4


def newest(source: Source, window: Window, count: int) -> list[Extract]:
    """Return pieces that reach back from the end of the window until they hold so many events, or all there are.

    A source that has `guess_start` is asked where to start; whether that was far enough is seen by reading. From there
    on each look reaches several times as far back as all before it.

    Raises what `Source.extract` raises.
    """
    guess = getattr(source, "guess_start", None)
    since = guess(window, count) if guess else window.before - _FIRST_LOOK
    before, found, rows = window.before, list[Extract](), 0
    while True:
        since = max(window.since, min(floor_ms(since), before - MILLISECOND))
        for extract in source.extract([Window(since, before)]):
            found.append(extract)
            rows += extract.events.num_rows
        if rows >= count or since == window.since:
            return found
        since, before = window.before - _GROWTH * (window.before - since), since
