"""What was delivered trimmed, and gaps in it -> a part of it whose columns can be rebuilt with the calls there are."""

from __future__ import annotations

from collections.abc import Sequence

from cfaudit_export.core.model import Window, floor_ms


def newest_part(window: Window, gaps: Sequence[Window], most: int) -> Window | None:
    """Return the end of a window, with so many gaps at most, as columns around each cost calls of their own.

    One that the window shares with another counts, too: its rows are in the way as well.
    """
    inside = [gap for gap in gaps if window.since < gap.before and gap.since < window.before]
    if len(inside) <= most:
        return window
    if most < 1:
        return None
    # Not between two that adjoin, which are one place to those who remember what they have of it.
    for number in (*range(most, 0, -1), *range(most + 1, len(inside))):
        older, newer = inside[-number - 1], inside[-number]
        if older.before < newer.since:
            return Window(floor_ms(older.before + (newer.since - older.before) / 2), window.before)
    return window
