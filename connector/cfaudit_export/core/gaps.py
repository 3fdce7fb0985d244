"""A checkpoint -> its gaps: what sinks lack of the time that they cover. One list, for all who show or retry it.

That a sink lacks something is said by `Seen.gaps` of the sink, and nowhere else. `Checkpoint.gaps` knows why it could
not be read, and what was tried. It has nothing of a window that was read since, and that only a sink lacks
which was away then.
"""

from __future__ import annotations

from collections.abc import Collection, Iterator, Mapping
from dataclasses import replace

from cfaudit_export.core.intervals import intersect, subtract, union
from cfaudit_export.core.model import Checkpoint, Gap, SinkProgress, Window


def lacking(progress: SinkProgress) -> tuple[Window, ...]:
    """Return the windows in which a sink lacks what could not be read, of the time that it covers."""
    return intersect((gap.window for gap in progress.seen.gaps), progress.covered)


def open_gaps(checkpoint: Checkpoint, sinks: Collection[str] | None = None) -> tuple[Gap, ...]:
    """Return the gaps of a stream, ascending: what a retry reads.

    Args:
        checkpoint: what is remembered of the stream.
        sinks: names of those that count; None for all.
    """
    counted = checkpoint.sinks.keys() if sinks is None else checkpoint.sinks.keys() & set(sinks)
    lacked = {name: _with_promised(checkpoint.sinks[name]) for name in sorted(counted)}
    found = [
        gap if part == gap.window else replace(gap, window=part, rows=0)
        for gap in checkpoint.gaps
        for part in intersect([gap.window], union(*(window for windows in lacked.values() for window in windows)))
    ]
    found += _readable(checkpoint, lacked)
    return tuple(sorted(found, key=lambda gap: gap.window))


def _with_promised(progress: SinkProgress) -> tuple[Window, ...]:
    """Return what a sink lacks, and what it will lack once it has what is promised to it."""
    promised = (gap.window for intent in progress.intents for gap in intent.seen.gaps)
    return union(*lacking(progress), *promised)


def _readable(checkpoint: Checkpoint, lacked: Mapping[str, tuple[Window, ...]]) -> Iterator[Gap]:
    """Yield what was read since, and is lacked by a sink that was away then."""
    known = [gap.window for gap in checkpoint.gaps]
    at = checkpoint.updated_at
    for window in subtract((window for windows in lacked.values() for window in windows), known):
        names = ", ".join(f"'{name}'" for name, windows in lacked.items() if intersect(windows, [window]))
        yield Gap(window, 0, f"another sink has its rows; the next run reads it for {names}", at, at, attempts=0)
