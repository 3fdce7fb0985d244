"""Arithmetic on sets of time: ascending, disjoint windows in, the same out.

A set is a tuple of windows that neither touch nor overlap; `union` makes one of any windows.
"""

from __future__ import annotations

from collections.abc import Iterable
from datetime import datetime
from itertools import pairwise

from cfaudit_export.core.model import Window, floor_ms


def union(*windows: Window) -> tuple[Window, ...]:
    """Return the set of all times in any of the windows; windows that touch become one."""
    merged: list[Window] = []
    for window in sorted(windows):
        if merged and window.since <= merged[-1].before:
            merged[-1] = Window(merged[-1].since, max(merged[-1].before, window.before))
        else:
            merged.append(window)
    return tuple(merged)


def subtract(wanted: Iterable[Window], covered: Iterable[Window]) -> tuple[Window, ...]:
    """Return the times of `wanted` that are not in `covered`."""
    rest = list(union(*wanted))
    for hole in union(*covered):
        rest = [piece for window in rest for piece in _without(window, hole)]
    return tuple(rest)


def intersect(left: Iterable[Window], right: Iterable[Window]) -> tuple[Window, ...]:
    """Return the times that are in both."""
    left = union(*left)
    return subtract(left, subtract(left, right))


def holes(covered: Iterable[Window]) -> tuple[Window, ...]:
    """Return the times between the windows of a set."""
    covered = union(*covered)
    return subtract([Window(covered[0].since, covered[-1].before)], covered) if covered else ()


def contains(windows: Iterable[Window], at: datetime) -> bool:
    """Say whether the moment lies in one of the windows."""
    return any(window.since <= at < window.before for window in windows)


def cut(window: Window, count: int) -> tuple[Window, ...]:
    """Return windows of about the same length that tile the window: `count` of them, or one for each millisecond."""
    edges = [window.since + window.duration * number // count for number in range(count + 1)]
    edges = list(dict.fromkeys(map(floor_ms, edges)))
    return tuple(Window(since, before) for since, before in pairwise(edges))


def _without(window: Window, hole: Window) -> Iterable[Window]:
    if hole.before <= window.since or window.before <= hole.since:
        yield window
        return
    if window.since < hole.since:
        yield Window(window.since, hole.since)
    if hole.before < window.before:
        yield Window(hole.before, window.before)
