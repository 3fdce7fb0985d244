"""Manifests that are believed -> which time is proved, for each stream; holes and gaps by name."""

from __future__ import annotations

from collections.abc import Collection, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from datetime import datetime, timedelta

from cfaudit_export.analysis.verify.findings import Finding, incomplete, span
from cfaudit_export.core.escape import escaped
from cfaudit_export.core.intervals import intersect, subtract, union
from cfaudit_export.core.model import Stream, Window, from_ms
from cfaudit_export.core.plurals import counted
from cfaudit_export.proof.manifest import GapEntry, Manifest

EARLIEST, LATEST = from_ms(0), from_ms(253_402_300_799_000)
"""What a time begins or ends with where that was not asked."""


@dataclass(frozen=True, slots=True)
class ProvedCoverage:
    """What is proved of a stream.

    Attributes:
        stream: which, without the time of a slice.
        asked: the time that was asked about; None where nothing is covered and no time was asked about.
        covered: the parts of it that manifests cover.
        proved: those of which nothing is missing and no file is wrong.
        gaps: what the server did not return.
        removed: the days of the time that was asked about of which files were removed on purpose.
    """

    stream: Stream
    asked: Window | None
    covered: tuple[Window, ...]
    proved: tuple[Window, ...]
    gaps: tuple[GapEntry, ...]
    removed: tuple[Window, ...] = ()

    @property
    def asked_for(self) -> timedelta:
        """Return how long the time is that was asked about."""
        return self.asked.duration if self.asked else timedelta()

    @property
    def proved_for(self) -> timedelta:
        """Return how much of it is proved."""
        return sum((one.duration for one in self.proved), timedelta())


def by_stream(manifests: Iterable[Manifest]) -> dict[Stream, list[Manifest]]:
    """Return manifests by their stream; those of a slice belong to the stream."""
    found: dict[Stream, list[Manifest]] = {}
    for one in manifests:
        found.setdefault(_whole(one.stream), []).append(one)
    return found


def covered_by_account(manifests: Iterable[Manifest]) -> dict[str, tuple[Window, ...]]:
    """Return which time of each account some manifest covers."""
    found: dict[str, list[Window]] = {}
    for one in manifests:
        found.setdefault(one.stream.account_id, []).extend(one.covered)
    return {account: union(*windows) for account, windows in found.items()}


def cover(
    stream: Stream,
    manifests: Sequence[Manifest],
    since: datetime | None,
    until: datetime | None,
    shaken: Collection[str],
    *,
    removed: Sequence[Window] = (),
) -> ProvedCoverage:
    """Return what is proved of a stream between two times, by default from the first that is covered to the last.

    Args:
        stream: which.
        manifests: its manifests that are believed, in the order of their chains.
        since: start of the time, None for the first that is covered.
        until: end of the time, None for the last.
        shaken: ids of batches that are not as they were.
        removed: days of its account of which files were removed on purpose. Without `since` the time begins behind
            those with which it would begin.
    """
    everything = union(*(window for one in manifests for window in one.covered))
    asked = _asked(subtract(everything, removed) or everything, since, until)
    if asked is None:
        return ProvedCoverage(stream, None, (), (), ())
    covered = intersect([asked], everything)
    gaps = tuple(one for one in _open_gaps(manifests) if intersect([one.window], [asked]))
    lost = [one.window for one in gaps]
    lost += [batch.window for one in manifests for batch in one.batches if batch.batch_id in shaken]
    gone = intersect([asked], removed)
    return ProvedCoverage(stream, asked, covered, subtract(covered, [*lost, *gone]), gaps, gone)


def coverage_findings(coverage: ProvedCoverage, manifests: Sequence[Manifest], *, alone: bool) -> Iterator[Finding]:
    """Yield what is missing of a stream; `alone` if no other stream is asked about."""
    of = "" if alone else f", account {coverage.stream.account_id}"
    if coverage.asked is None:
        yield incomplete("time", f"Not covered: no manifest covers any time{of}")
        return
    for hole in subtract([coverage.asked], coverage.covered):
        yield incomplete("time", f"Not covered: {span(hole)} (never exported){of}", hole)
    for gap in coverage.gaps:
        rows = counted(gap.rows, "event") if gap.rows else "events"
        what = f"Gap: {span(gap.window)}, {rows} that the server did not return: {escaped(gap.reason, 200)}{of}"
        yield incomplete("gap", what, gap.window)
    if quarantined := sum({one.chain: one.quarantined for one in manifests}.values()):
        events = counted(quarantined, "event")
        yield incomplete("event", f"Quarantined: {events} that the sink refused{of}")


def _whole(stream: Stream) -> Stream:
    return replace(stream, slice=None)


def _asked(everything: Sequence[Window], since: datetime | None, until: datetime | None) -> Window | None:
    if since is None and until is None and not everything:
        return None
    start = since or (everything[0].since if everything else EARLIEST)
    end = until or (everything[-1].before if everything else LATEST)
    return Window(start, end) if start < end else None


def _open_gaps(manifests: Iterable[Manifest]) -> list[GapEntry]:
    """Return the gaps that were found and not filled since."""
    found: dict[Window, GapEntry] = {}
    for one in manifests:
        for gap in one.gaps_closed:
            inside = gap.window
            filled = [one for one in found if inside.since <= one.since and one.before <= inside.before]
            for window in filled:
                del found[window]
        found |= {gap.window: gap for gap in one.gaps_opened}
    return [found[window] for window in sorted(found)]


def of_accounts(streams: Mapping[Stream, Sequence[Manifest]], accounts: Collection[str]) -> list[Stream]:
    """Return the streams that are asked about, and one without manifests for each account that has none."""
    found = [stream for stream in streams if not accounts or stream.account_id in accounts]
    lacking = sorted(set(accounts) - {stream.account_id for stream in found})
    return sorted(found, key=lambda one: (one.account_id, one.filters)) + [Stream(account, "") for account in lacking]
