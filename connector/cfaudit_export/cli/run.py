"""The command `run`, and what others share with it."""

from __future__ import annotations

import logging
from collections.abc import Sequence
from contextlib import AbstractContextManager, closing
from typing import Annotated

import typer

from cfaudit_export import api
from cfaudit_export.api import EndedRun, compose_runs
from cfaudit_export.app.compose import Assembly, RunListeners
from cfaudit_export.cli.account_table import (
    COLUMNS,
    MOST_TOLD,
    AccountRow,
    account_row,
    covered_until,
    most_worth_a_look,
    total_of,
)
from cfaudit_export.cli.command import command, log_form
from cfaudit_export.cli.periods import zone_of
from cfaudit_export.cli.progress import ProgressBars
from cfaudit_export.cli.shell import Shell
from cfaudit_export.cli.terminal import PROGRAM
from cfaudit_export.core.jsonable import as_json
from cfaudit_export.core.model import Checkpoint, RunReport, iso
from cfaudit_export.core.plurals import are, counted
from cfaudit_export.errors import ExitCode, worst
from cfaudit_export.settings import Settings
from cfaudit_export.settings.options import FILTERS, HOW, LOGS, WATCH, WHAT, WHERE

_LOG = logging.getLogger(__name__)

_EXIT_CODES = "\n".join(f"  {code:>3}  {code.meaning}" for code in ExitCode)
_RUN_EPILOG = f"""
A TIME is ISO 8601, a date, an age, or words: 2026-11-20T08:30:00Z, 2026-11-20,
7d, 'yesterday', 'monday 14:00'. Without an offset, ISO 8601 is UTC here; words
are in the time zone of this machine. A DURATION is like 30s, 5m or 1h30m.

Each option is also a key of the TOML file and a variable: --settle-lag is
settle_lag and CFAUDIT_SETTLE_LAG; --actor-email is actor_email in [filters]
and CFAUDIT_FILTERS__ACTOR_EMAIL. Order: flags, -o, variables, file.

Examples:
  cfaudit-export run --sink parquet -o sinks.parquet.path=out
  cfaudit-export run --sink parquet --since 2026-11-01 --until 2026-11-08
  cfaudit-export run --sink parquet --actor-email ada@example.com

Exit codes:
{_EXIT_CODES}
"""

_SEE_REPLAY = "see 'cfaudit-export replay --list'"

Json = Annotated[bool, typer.Option("--json", help="print the answer as JSON on stdout")]


Alert = Annotated[
    bool, typer.Option("--alert", help="then tell what deserves a look, as 'alert' does", rich_help_panel=WATCH)
]


@command(WHAT, WHERE, FILTERS, HOW, WATCH, LOGS, epilog=_RUN_EPILOG)
def run(shell: Shell, settings: Settings, *, alert: Alert = False, json: Json = False) -> int:
    """Export what is new into each sink.

    Resumes at the checkpoint and ends at now minus the settle lag. The first run exports the last 30 days.
    """
    assembly = prepare(shell, settings, is_run=True)
    reports = export_all(shell, assembly)
    if json:
        shell.terminal.answer(as_json(reports))
    codes = [report.exit_code for report in reports]
    if alert:
        from cfaudit_export.cli.alert import alerted

        codes.append(alerted(shell, settings, zone_of(shell, None), quiet=json).exit_code)
    return worst(codes)


def prepare(shell: Shell, settings: Settings, *, is_run: bool = False) -> Assembly:
    """Return the assembly of these settings.

    Raises:
        CfauditError: something does not fit, or there is no credential.
    """
    hide = shell.terminal.redaction.hide
    return compose_runs(settings, environ=shell.environ, clock=shell.clock, hide=hide, is_run=is_run)


def export_all(shell: Shell, assembly: Assembly, *, observed: bool = True) -> list[RunReport]:
    """Export every account, and say how each run ended; one that fails stops no other.

    Returns:
        The reports, in the order of the accounts.

    Raises:
        CfauditError: which accounts there are is asked for, and there is no answer.
    """
    bars, rows = ProgressBars(shell.terminal), dict[int, AccountRow]()

    def follow(account: str) -> AbstractContextManager[RunListeners]:
        return bars.follow(account or assembly.source_name)

    with closing(api.export_each(assembly, follow, observed=observed)) as runs:
        for ended in runs:
            _tell(shell, assembly, ended)
            rows[ended.place] = account_row(ended.report, ended.checkpoint)
    ordered = [rows[place] for place in sorted(rows)]
    if len(ordered) > 1:
        _tell_all(shell, assembly, ordered)
    return [row.report for row in ordered]


def _tell(shell: Shell, assembly: Assembly, ended: EndedRun) -> None:
    """Say how a run ended: a table for people, a line for machines, faults for both."""
    terminal, report, checkpoint = shell.terminal, ended.report, ended.checkpoint
    is_text = log_form(terminal, assembly.settings) == "text" and ended.place < MOST_TOLD
    rows = [
        (one.name, one.rows, len(one.locations), len(report.gaps), covered_until(checkpoint, one.name))
        for one in report.sinks
    ]
    if is_text and rows:
        source = report.stream.source
        sure = "" if report.extra.get("account_verified", True) else " (not verified)"
        terminal.say(f"account {report.stream.account_id}{sure}, {counted(report.events, 'event')} read from {source}")
        terminal.table(("sink", ">rows", ">files", ">gaps", "covered until"), rows, answer=False)
    if is_text:
        if report.completed:
            terminal.say(f"delivered again with all columns: {counted(report.completed, 'trimmed event')}")
        if report.still_trimmed:
            terminal.say(f"still without all columns: {counted(report.still_trimmed, 'event')}")
    _tell_faults(shell, assembly, report, checkpoint)


def _tell_faults(shell: Shell, assembly: Assembly, report: RunReport, checkpoint: Checkpoint | None) -> None:
    """Say what went wrong, and what is left to do."""
    terminal, settings = shell.terminal, assembly.settings
    if failover := report.extra.get("failover"):
        terminal.fail(f"account {report.stream.account_id}: {failover}; see '{PROGRAM} check'")
    if report.error:
        terminal.fail(of_account(report.stream.account_id if settings.account else "", report.error))
    for sink in report.sinks:
        if sink.error:
            terminal.fail(f"sink '{sink.name}': {sink.error}")
    for name, progress in checkpoint.sinks.items() if checkpoint else ():
        if progress.quarantined:
            terminal.fail(
                f"sink '{name}' refused {counted(progress.quarantined, 'event')} for good, which "
                f"{are(progress.quarantined)} quarantined; {_SEE_REPLAY}"
            )
    if report.gaps:
        terminal.fail(_gaps_remain(report))


def of_account(account: str, error: object) -> str:
    """Return an error with the account that it is about, where there are several."""
    return f"account {account}: {error}" if account else str(error)


def _tell_all(shell: Shell, assembly: Assembly, rows: Sequence[AccountRow]) -> None:
    """Say how all accounts ended: one row each, and for machines which ones failed."""
    if log_form(shell.terminal, assembly.settings) == "text":
        shown = most_worth_a_look(rows)
        shell.terminal.table(COLUMNS, [row.cells for row in shown], answer=False)
        if len(shown) < len(rows):
            shell.terminal.say(total_of(rows))
        return
    failed = [row.report.stream.account_id for row in rows if row.report.exit_code]
    code = int(worst(row.report.exit_code for row in rows))
    _LOG.info("all accounts finished", extra={"accounts": len(rows), "failed": failed, "exit_code": code})


def _gaps_remain(report: RunReport) -> str:
    """Return how many gaps there are, and where."""
    rows = sum(gap.rows for gap in report.gaps)
    since, before = min(gap.window.since for gap in report.gaps), max(gap.window.before for gap in report.gaps)
    remain = "remains" if len(report.gaps) == 1 else "remain"
    missing = f"{counted(len(report.gaps), 'gap')} {remain}, with {counted(rows, 'row')} that could not be read"
    return (
        f"account {report.stream.account_id}: {missing}, between {iso(since)} and {iso(before)}; see '{PROGRAM} gaps'"
    )
