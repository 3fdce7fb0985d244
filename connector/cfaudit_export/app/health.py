"""What is remembered of streams -> whether all is well, in the manner of monitoring plugins: one line, one level."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from datetime import datetime, timedelta
from enum import IntEnum

from cfaudit_export.core.gaps import open_gaps
from cfaudit_export.core.model import Checkpoint, iso
from cfaudit_export.core.plurals import counted
from cfaudit_export.core.times import show_duration

WARN_DAYS = 7.0
_SHOWN = 5
# The server's clock, by which coverage ends, may be ahead of ours.
_AHEAD = timedelta(minutes=5)


class Level(IntEnum):
    """How bad it is; the number is what Nagios, Icinga and all who follow them expect as exit code."""

    OK = 0
    WARNING = 1
    CRITICAL = 2
    UNKNOWN = 3

    @property
    def meaning(self) -> str:
        """Return the sentence that the documentation prints for this level."""
        return _MEANINGS[self]


_MEANINGS = {
    Level.OK: "every stream is up to date",
    Level.WARNING: "gaps, refused or trimmed events, or the sign-in ends in 7 days",
    Level.CRITICAL: "a stream is behind, or the sign-in has expired or was refused",
    Level.UNKNOWN: "checkpoints cannot be read",
}


@dataclass(frozen=True, slots=True)
class ExpectedStreams:
    """What ought to be up to date.

    Attributes:
        log: the log whose streams count, whichever source reads it.
        filters: the filters whose streams count, sorted pairs; a run with others by hand is not looked after.
        accounts: the accounts that must be there; none for all that are remembered.
        sinks: the sinks that count; none for all that are remembered.
        max_lag: how far behind a sink may be.
    """

    log: str
    filters: tuple[tuple[str, str], ...] = ()
    accounts: tuple[str, ...] = ()
    sinks: tuple[str, ...] = ()
    max_lag: timedelta = timedelta(hours=2)


@dataclass(frozen=True, slots=True)
class HealthFinding:
    """Something that is not as it should be."""

    level: Level
    text: str


@dataclass(frozen=True, slots=True)
class Health:
    """How things are: what was found, worst first, and the figures that graphs are drawn of."""

    findings: tuple[HealthFinding, ...]
    streams: int
    lag_seconds: float
    gaps: int
    quarantined: int
    trimmed: int
    max_lag_seconds: float

    @property
    def level(self) -> Level:
        """Return the level of the worst finding."""
        return max((finding.level for finding in self.findings), default=Level.OK, key=_SEVERITY.index)

    @property
    def line(self) -> str:
        """Return all of it in one line: level, what is wrong, and figures for graphs behind a bar."""
        said = [finding.text for finding in self.findings[:_SHOWN]]
        if len(self.findings) > _SHOWN:
            said.append(f"and {len(self.findings) - _SHOWN} more")
        text = "; ".join(said) or f"{counted(self.streams, 'stream')}, at most {show_duration(self._lag)} behind"
        figures = (
            f"lag={self.lag_seconds:.0f}s;;{self.max_lag_seconds:.0f};0 gaps={self.gaps};0 "
            f"quarantined={self.quarantined};0 trimmed={self.trimmed}"
        )
        # A bar in the text would end it.
        return f"{self.level.name} - {text.replace('|', '/')} | {figures}"

    @property
    def _lag(self) -> timedelta:
        return timedelta(seconds=self.lag_seconds)


# An unknown state is bad; a state known to be bad is worse.
_SEVERITY = (Level.OK, Level.WARNING, Level.UNKNOWN, Level.CRITICAL)


def examine(
    checkpoints: Sequence[Checkpoint],
    expected: ExpectedStreams,
    now: datetime,
    *,
    unreadable: Iterable[str] = (),
    days_to_sign_in: float | None = None,
    dead: Iterable[str] = (),
) -> Health:
    """Look at what is remembered.

    Args:
        checkpoints: of all streams.
        expected: what ought to be up to date.
        now: the time.
        unreadable: why some could not be read.
        days_to_sign_in: days until a person must sign in again; None when that is never needed.
        dead: why sign-ins can no longer be used, of those whose renewal was refused for good.
    """
    streams = [one for one in checkpoints if _is_expected(one, expected)]
    findings = [HealthFinding(Level.UNKNOWN, why) for why in unreadable]
    findings += _missing(streams, expected)
    for one in streams:
        findings += _of_stream(one, expected, now)
    findings += _sign_in(days_to_sign_in)
    findings += [HealthFinding(Level.CRITICAL, why) for why in dead]
    lags = [_lag(one, name, now) for one in streams for name in _sinks(one, expected)]
    return Health(
        findings=tuple(sorted(findings, key=lambda finding: -_SEVERITY.index(finding.level))),
        streams=len(streams),
        lag_seconds=max((lag.total_seconds() for lag in lags if lag is not None and lag > timedelta()), default=0.0),
        gaps=sum(len(open_gaps(one, expected.sinks or None)) for one in streams),
        quarantined=sum(one.sinks[name].quarantined for one in streams for name in _sinks(one, expected)),
        trimmed=sum(one.sinks[name].trimmed_rows for one in streams for name in _sinks(one, expected)),
        max_lag_seconds=expected.max_lag.total_seconds(),
    )


def _is_expected(checkpoint: Checkpoint, expected: ExpectedStreams) -> bool:
    stream = checkpoint.stream
    return (
        stream.slice is None
        and (stream.log or stream.source) == expected.log
        and tuple(sorted(stream.filters)) == expected.filters
        and (not expected.accounts or stream.account_id in expected.accounts)
    )


def _sinks(checkpoint: Checkpoint, expected: ExpectedStreams) -> list[str]:
    return [name for name in checkpoint.sinks if not expected.sinks or name in expected.sinks]


def _lag(checkpoint: Checkpoint, sink: str, now: datetime) -> timedelta | None:
    covered = checkpoint.sinks[sink].covered
    return now - covered[-1].before if covered else None


def _missing(streams: Sequence[Checkpoint], expected: ExpectedStreams) -> Iterator[HealthFinding]:
    known = {one.stream.account_id for one in streams}
    if not streams and not expected.accounts:
        yield HealthFinding(Level.CRITICAL, "nothing exported yet")
    for account in expected.accounts:
        if account not in known:
            yield HealthFinding(Level.CRITICAL, f"account {account} was never exported")


def _of_stream(checkpoint: Checkpoint, expected: ExpectedStreams, now: datetime) -> Iterator[HealthFinding]:
    where = f"account {checkpoint.stream.account_id}"
    for name in expected.sinks or checkpoint.sinks:
        lag = _lag(checkpoint, name, now) if name in checkpoint.sinks else None
        if lag is None:
            yield HealthFinding(Level.CRITICAL, f"{where}: sink {name} has nothing yet")
        elif lag < -_AHEAD:
            until = iso(checkpoint.sinks[name].covered[-1].before)
            what = f"the checkpoint covers sink {name} until {until}, which is in the future"
            yield HealthFinding(
                Level.CRITICAL, f"{where}: {what}; set the clock, or restore the checkpoint from a backup"
            )
        elif lag > expected.max_lag:
            yield HealthFinding(Level.CRITICAL, f"{where}: sink {name} is {show_duration(lag)} behind")
    if gaps := open_gaps(checkpoint, expected.sinks or None):
        yield HealthFinding(Level.WARNING, f"{where}: {counted(len(gaps), 'gap')}")
    for name in _sinks(checkpoint, expected):
        if refused := checkpoint.sinks[name].quarantined:
            yield HealthFinding(Level.WARNING, f"{where}: {counted(refused, 'event')} refused by sink {name}")
        if overdue := checkpoint.sinks[name].overdue_rows(now):
            yield HealthFinding(
                Level.WARNING, f"{where}: {counted(overdue, 'event')} of sink {name} without all columns"
            )


def _sign_in(days: float | None) -> Iterator[HealthFinding]:
    if days is None or days > WARN_DAYS:
        return
    if days > 0:
        yield HealthFinding(Level.WARNING, f"the sign-in ends in {show_duration(timedelta(days=days))}")
    else:
        yield HealthFinding(Level.CRITICAL, "the sign-in has expired")
