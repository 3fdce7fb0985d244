"""What is to be read -> how many events are expected there: by what earlier runs found, or by a few probes."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from datetime import datetime, timedelta
from statistics import mean, stdev

from cfaudit_export.core.model import MILLISECOND, Checkpoint, Window, floor_ms
from cfaudit_export.plugin.interfaces import Rereading, Source

_PROBES = 8
_LONGEST = timedelta(hours=1)
_ERRORS = 2  # standard errors to each side: 19 of 20 such intervals hold the truth, if events come evenly enough


@dataclass(frozen=True, slots=True)
class ExpectedEvents:
    """How many events are expected.

    Attributes:
        events: the estimate.
        least: the lower end of its spread.
        most: the upper end.
        probes: how many windows were read for it; 0 where earlier runs tell.
    """

    events: int
    least: int
    most: int
    probes: int = 0


def expected_by_history(checkpoint: Checkpoint | None, wanted: timedelta) -> ExpectedEvents | None:
    """Return what so much time holds if it is like the time that runs have read; None before the first one."""
    known = checkpoint.sinks.values() if checkpoint else ()
    covered = [(one.rows, sum((window.duration for window in one.covered), timedelta())) for one in known]
    rows, span = max(covered, key=lambda pair: pair[1], default=(0, timedelta()))
    if not span:
        return None
    events = math.ceil(rows * (wanted / span))
    return ExpectedEvents(events, events, events)


def expected_by_probes(source: Source, windows: Sequence[Window]) -> ExpectedEvents:
    """Read the newest hour of the windows, the oldest and some in between, and reckon from them; mostly a page each.

    Raises what `Source.extract` raises.
    """
    wanted = sum((window.duration for window in windows), timedelta())
    if not wanted:
        return ExpectedEvents(0, 0, 0)
    probes = tuple(_probes(windows, wanted))
    looked = sum((probe.duration for probe in probes), timedelta())
    counts = [_count(source, probe) for probe in probes]
    if looked >= wanted:
        return ExpectedEvents(sum(counts), sum(counts), sum(counts), len(probes))
    per_probe = wanted / (looked / len(probes))
    error = _ERRORS * stdev(counts) / math.sqrt(len(counts)) if len(counts) > 1 else mean(counts)
    found = mean(counts)
    least, most = max(found - error, 0.0) * per_probe, (found + error) * per_probe
    return ExpectedEvents(round(found * per_probe), max(round(least), sum(counts)), round(most), len(probes))


def _probes(windows: Sequence[Window], wanted: timedelta) -> list[Window]:
    """Return short windows, spread evenly over the time: the first is its begin, the last its end."""
    length = max(min(_LONGEST, wanted / _PROBES), MILLISECOND)
    found: list[Window] = []
    for number in range(_PROBES):
        since = _at(windows, (wanted - length) * number / (_PROBES - 1))
        before = floor_ms(since + length)
        if not found or since >= found[-1].before:
            found.append(Window(since, max(before, since + MILLISECOND)))
    return found


def _at(windows: Sequence[Window], offset: timedelta) -> datetime:
    """Return the moment so far into the windows, one after the other."""
    for window in windows:
        if offset < window.duration:
            return floor_ms(window.since + offset)
        offset -= window.duration
    return windows[-1].since


def _count(source: Source, window: Window) -> int:
    """Count the events of a window, as cheaply as the source can: without columns that it would rebuild."""
    pieces = source.reread([window], (), columns=False) if isinstance(source, Rereading) else source.extract([window])
    return sum(piece.events.num_rows + sum(gap.rows for gap in piece.gaps) for piece in pieces)
