"""Checkpoints -> what of a period was exported at all, and what is known to be missing.

Only the checkpoint knows that a quiet hour was read and found empty. Without it, coverage is unknown, and said to be.
"""

from __future__ import annotations

from collections.abc import Collection, Iterable, Mapping
from dataclasses import dataclass
from datetime import datetime

from cfaudit_export.core.gaps import open_gaps
from cfaudit_export.core.intervals import intersect, subtract, union
from cfaudit_export.core.model import Checkpoint, Gap, SinkProgress, Stream, Window


@dataclass(frozen=True, slots=True)
class StreamCoverage:
    """What one stream delivered of a period to the sink whose files are read.

    Attributes:
        stream: what is exported.
        sink: name of the sink.
        until: up to when it has everything, but for `missing` and `gaps`.
        missing: parts of the period that were never delivered.
        gaps: windows of the period that could not be read.
    """

    stream: Stream
    sink: str
    until: datetime | None
    missing: tuple[Window, ...]
    gaps: tuple[Gap, ...]


@dataclass(frozen=True, slots=True)
class Coverage:
    """How much of a period the data can speak for.

    Attributes:
        period: the period.
        streams: what is known of each stream.
        unknown: accounts in the data, or asked for, of which no checkpoint speaks.
        reason: why something is unknown, empty when nothing is.
    """

    period: Window
    streams: tuple[StreamCoverage, ...] = ()
    unknown: tuple[str, ...] = ()
    reason: str = ""

    @property
    def is_complete(self) -> bool | None:
        """Whether everything is there: False when something is known to be missing, None when that is unknown.

        An account is whole when its streams together cover the period, and none of them left a gap.
        """
        if self.missing or self.gaps:
            return False
        return None if self.unknown or not self.streams else True

    @property
    def missing(self) -> tuple[Window, ...]:
        """Return the parts of the period that some account lacks."""
        return union(*(window for account in self._accounts() for window in self._missing(account)))

    @property
    def gaps(self) -> tuple[Gap, ...]:
        """Return the gaps in the period."""
        return tuple(sorted((gap for one in self.streams for gap in one.gaps), key=lambda gap: gap.window))

    def _accounts(self) -> tuple[str, ...]:
        return tuple(sorted({one.stream.account_id for one in self.streams}))

    def _missing(self, account: str) -> tuple[Window, ...]:
        left: tuple[Window, ...] = (self.period,)
        for one in self.streams:
            if one.stream.account_id == account:
                left = intersect(left, one.missing)
        return left


def cover(
    period: Window,
    checkpoints: Iterable[Checkpoint],
    accounts: Collection[str],
    sinks: Collection[str] = (),
    filters: Mapping[str, str] | None = None,
) -> Coverage:
    """Return the coverage of a period.

    Args:
        period: the period.
        checkpoints: all there are.
        accounts: those that the answer is about.
        sinks: names of the sinks that may have written the files; without any, a checkpoint's only one.
        filters: those of the question; a stream that leaves out what they let pass is no help.
    """
    streams, reasons = [], []
    for checkpoint in checkpoints:
        if checkpoint.stream.account_id in accounts:
            named, why_not = _sinks(checkpoint, sinks, filters or {})
            streams += [_stream(checkpoint, name, checkpoint.sinks[name], period) for name in named]
            reasons += [why_not] if why_not else []
    unknown = tuple(sorted(set(accounts) - {one.stream.account_id for one in streams}))
    reason = "; ".join(dict.fromkeys(reasons)) or "the state folder has no checkpoint of it"
    return Coverage(period, tuple(streams), unknown, reason if unknown else "")


def reach(
    checkpoints: Iterable[Checkpoint],
    accounts: Collection[str] = (),
    sinks: Collection[str] = (),
    filters: Mapping[str, str] | None = None,
) -> datetime | None:
    """Return up to when every account was exported, by default all; None if unknown. Takes the arguments of `cover`."""
    ends: dict[str, datetime] = {}
    for checkpoint in checkpoints:
        account = checkpoint.stream.account_id
        if not accounts or account in accounts:
            for name in _sinks(checkpoint, sinks, filters or {})[0]:
                for window in checkpoint.sinks[name].covered[-1:]:
                    ends[account] = max(ends.get(account, window.before), window.before)
    return min(ends.values(), default=None)


def _sinks(checkpoint: Checkpoint, sinks: Collection[str], filters: Mapping[str, str]) -> tuple[list[str], str]:
    """Return the sinks of a checkpoint that may have written the files, or why none of them tells anything."""
    if left_out := set(checkpoint.stream.filters) - set(filters.items()):
        listed = ", ".join(f"{name}={value}" for name, value in sorted(left_out))
        return [], f"of account {checkpoint.stream.account_id} only events with {listed} are exported"
    named = [name for name in checkpoint.sinks if name in sinks or (not sinks and len(checkpoint.sinks) == 1)]
    return named, "" if named else "it is not known which sink of the checkpoint wrote these files"


def _stream(checkpoint: Checkpoint, name: str, progress: SinkProgress, period: Window) -> StreamCoverage:
    return StreamCoverage(
        checkpoint.stream,
        name,
        progress.covered[-1].before if progress.covered else None,
        subtract((period,), progress.covered),
        tuple(gap for gap in open_gaps(checkpoint, [name]) if intersect((gap.window,), (period,))),
    )
