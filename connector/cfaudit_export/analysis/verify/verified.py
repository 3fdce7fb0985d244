"""What a verification found: values, and the lines that sum them up."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator
from dataclasses import dataclass
from datetime import datetime

from cfaudit_export.analysis.verify.coverage import ProvedCoverage
from cfaudit_export.analysis.verify.findings import Finding, verdict
from cfaudit_export.core.model import iso
from cfaudit_export.core.times import show_duration
from cfaudit_export.errors import ExitCode


@dataclass(frozen=True, slots=True)
class End:
    """Where a chain ends.

    Attributes:
        chain: which.
        sequence: number of its newest manifest.
        sealed_at: when that was written, as it says; None where it cannot be read.
        anchored: number of the newest manifest that something kept elsewhere names; None for none.
        anchored_at: when that was written, as it says.
    """

    chain: str
    sequence: int
    sealed_at: datetime | None
    anchored: int | None = None
    anchored_at: datetime | None = None


@dataclass(frozen=True, slots=True)
class Verified:
    """What was found.

    Attributes:
        findings: all that is wrong, not proved, or to be known.
        coverage: for each stream, what is proved.
        ends: of each chain.
        manifests: how many there are to be.
        valid_manifests: how many of them are signed, whole and in order.
        files: how many there are to be, of those that were asked about.
        valid_files: how many of them are as they were stored.
        events: how many the valid files hold, or were read.
        rows_read: whether rows were looked at.
    """

    findings: tuple[Finding, ...]
    coverage: tuple[ProvedCoverage, ...] = ()
    ends: tuple[End, ...] = ()
    manifests: int = 0
    valid_manifests: int = 0
    files: int = 0
    valid_files: int = 0
    events: int = 0
    rows_read: bool = False

    @property
    def exit_code(self) -> ExitCode:
        """Return what a process ends with that found this."""
        return verdict(self.findings)

    @property
    def lines(self) -> Iterator[str]:
        """Yield a line for each finding, then what sums them up."""
        yield from (one.line for one in self.findings)
        if self.manifests:
            asked = [f"Asked for {_asked(one)}." for one in self.coverage]
            yield from asked[:-1]
            yield f"{asked[-1]} {self._counts()}" if asked else self._counts()

    @property
    def state(self) -> str:
        """Return in one line what is proved, for the top of an answer."""
        ends = [f"{one.sequence}" for one in self.ends]
        if self.exit_code == ExitCode.CHANGED:
            wrong = sum(one.kind == "invalid" for one in self.findings)
            return f"NOT PROVED: {_number(wrong, 'thing')} INVALID; see 'cfaudit-export verify'"
        if not ends:
            return "not proved: no manifests were found"
        held = [one.anchored_at for one in self.ends if one.anchored_at]
        anchor = f"anchor of {min(held).date()}" if len(held) == len(self.ends) else "without an anchor"
        found = f"verified to manifest {', '.join(ends)}, {anchor}"
        if self.exit_code == ExitCode.OK:
            return found
        parts = [f"{show_duration(one.proved_for)} of {show_duration(one.asked_for)}" for one in self.coverage]
        return f"{found}; proved are {', '.join(parts)}; see 'cfaudit-export verify'"

    def _counts(self) -> str:
        counted = Counter(one.about for one in self.findings if one.kind == "invalid")
        counted["manifest"] = max(counted["manifest"], self.manifests - self.valid_manifests)
        parts = [f"{self.valid_files:,} of {_number(self.files, 'file')}"] if self.files else []
        parts.append(f"{self.valid_manifests:,} of {_number(self.manifests, 'manifest')}")
        wrong = [
            f", {_number(counted[about], about, 'es' if about == 'batch' else 's')} INVALID"
            for about in ("file", "manifest", "batch")
            if counted[about]
        ]
        return f"{' and '.join(parts)} valid{''.join(wrong)}. {self._rows(counted['event'])}"

    def _rows(self, doubles: int) -> str:
        events = _number(self.events, "event")
        if not self.rows_read:
            return f"{events}; rows were not looked at."
        return f"{events}, {f'{doubles:,} twice' if doubles else 'none twice'}."


def _asked(coverage: ProvedCoverage) -> str:
    about = f"account {coverage.stream.account_id}"
    if coverage.stream.filters:
        about += " with " + ", ".join(f"{name}={value}" for name, value in coverage.stream.filters)
    if coverage.asked is None:
        return f"all time, {about}: nothing is proved"
    period = f"{_end(coverage.asked.since)} to {_end(coverage.asked.before)}"
    asked_for, proved_for = show_duration(coverage.asked_for), show_duration(coverage.proved_for)
    return f"{period}, {about}: {asked_for}, proved: {proved_for}"


def _end(at: datetime) -> str:
    whole = at == at.replace(hour=0, minute=0, second=0, microsecond=0)
    return at.date().isoformat() if whole else iso(at)


def _number(count: int, of: str, plural: str = "s") -> str:
    return f"{count:,} {of}{plural if count != 1 else ''}"
