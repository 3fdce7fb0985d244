"""The runs of several accounts -> the table at their end: a row for each, or for those that are most worth a look."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from cfaudit_export.core.model import Checkpoint, RunReport, iso
from cfaudit_export.errors import ExitCode, worst

COLUMNS = ("account", ">events", ">rows", ">gaps", "covered until", ">exit", "why")
MOST_TOLD = 20
"""So many accounts are told of one by one, and are shown where not all are."""
_MOST_ROWS = 50


@dataclass(frozen=True, slots=True)
class AccountRow:
    """How one account ended.

    Attributes:
        report: what its run did.
        covered_until: up to when every sink has everything, `-` for never.
    """

    report: RunReport
    covered_until: str

    @property
    def cells(self) -> tuple[object, ...]:
        """Return the cells of its row."""
        report, code = self.report, self.report.exit_code
        why = report.error or next((f"{one.name}: {one.error}" for one in report.sinks if one.error), "")
        facts = (report.stream.account_id, f"{report.events:,}", f"{rows_of(report):,}", len(report.gaps))
        return (*facts, self.covered_until, int(code), why or (code and code.meaning) or "")


def account_row(report: RunReport, checkpoint: Checkpoint | None) -> AccountRow:
    """Return the row of a run."""
    return AccountRow(report, min((covered_until(checkpoint, sink.name) for sink in report.sinks), default="-"))


def covered_until(checkpoint: Checkpoint | None, sink: str) -> str:
    """Return up to when a sink has everything, for people."""
    progress = checkpoint.sinks.get(sink) if checkpoint else None
    return iso(progress.covered[-1].before) if progress and progress.covered else "-"


def rows_of(report: RunReport) -> int:
    """Return how many rows a run delivered, to all sinks together."""
    return sum(sink.rows for sink in report.sinks)


def most_worth_a_look(rows: Sequence[AccountRow]) -> Sequence[AccountRow]:
    """Return all rows, or where that is too many to read the worst: by exit code, then by what is covered."""
    if len(rows) <= _MOST_ROWS:
        return rows
    order = _from_the_worst({row.report.exit_code for row in rows})
    return sorted(rows, key=lambda row: (order.index(row.report.exit_code), row.covered_until))[:MOST_TOLD]


def total_of(rows: Sequence[AccountRow]) -> str:
    """Return the line that sums up rows of which not all are shown."""
    failed = sum(bool(row.report.exit_code) for row in rows)
    events, delivered = sum(row.report.events for row in rows), sum(rows_of(row.report) for row in rows)
    return (
        f"{len(rows):,} accounts, {failed:,} of them not with exit code 0; {events:,} events read, {delivered:,} rows "
        f"delivered; the {MOST_TOLD} worst are shown, --json has all"
    )


def _from_the_worst(codes: set[ExitCode]) -> list[ExitCode]:
    ordered = []
    while codes:
        ordered.append(worst(codes))
        codes = codes - {ordered[-1]}
    return ordered
