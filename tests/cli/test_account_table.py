"""The table at the end of a run of many accounts: a row for each, and where that is too many those that are worst."""

from __future__ import annotations

from dataclasses import replace
from datetime import UTC, datetime, timedelta

from cfaudit_export.cli.account_table import AccountRow, account_row, most_worth_a_look, total_of
from cfaudit_export.core.model import RunReport, SinkReport, Stream
from cfaudit_export.errors import ExitCode

NOW = datetime(2026, 11, 20, tzinfo=UTC)


def row(number: int, code: ExitCode = ExitCode.OK, until: str = "2026-11-20T00:00:00.000Z") -> AccountRow:
    report = RunReport(Stream(f"{number:032x}", "codemode"), NOW, NOW + timedelta(seconds=1), None, exit_code=code)
    return AccountRow(replace(report, events=3, sinks=(SinkReport("parquet", rows=2),)), until)


def test_up_to_fifty_accounts_have_a_row_each_in_their_order() -> None:
    rows = [row(number, ExitCode.ACCESS if number == 30 else ExitCode.OK) for number in range(50)]
    assert most_worth_a_look(rows) == rows


def test_of_more_accounts_the_worst_are_shown_and_then_those_that_are_furthest_behind() -> None:
    rows = [row(number) for number in range(1_000)]
    rows[700], rows[800] = row(700, ExitCode.INCOMPLETE), row(800, ExitCode.ACCESS)
    rows[900] = row(900, until="2026-11-01T00:00:00.000Z")
    shown = most_worth_a_look(rows)
    assert len(shown) == 20
    assert [one.report.stream.account_id for one in shown[:3]] == [
        rows[at].report.stream.account_id for at in (800, 700, 900)
    ]
    assert total_of(rows) == (
        "1,000 accounts, 2 of them not with exit code 0; 3,000 events read, 2,000 rows delivered; the 20 worst are "
        "shown, --json has all"
    )


def test_an_account_that_was_never_covered_says_so() -> None:
    assert account_row(row(1).report, None).cells == (f"{1:032x}", "3", "2", 0, "-", 0, "")
