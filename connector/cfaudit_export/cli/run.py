"""The command `run`, and what others share with it."""

from __future__ import annotations

import logging
from collections.abc import Sequence
from contextlib import AbstractContextManager
from typing import Annotated

import typer

from cfaudit_export import api
from cfaudit_export.api import compose_runs
from cfaudit_export.app.compose import Assembly, RunListeners
from cfaudit_export.cli.command import command, log_form
from cfaudit_export.cli.progress import progress_bar
from cfaudit_export.cli.shell import Shell
from cfaudit_export.cli.terminal import PROGRAM
from cfaudit_export.core.jsonable import as_json
from cfaudit_export.core.model import Checkpoint, RunReport, iso
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


@command(WHAT, WHERE, FILTERS, HOW, WATCH, LOGS, epilog=_RUN_EPILOG)
def run(shell: Shell, settings: Settings, *, json: Json = False) -> int:
    """Export what is new into each sink.

    Resumes at the checkpoint and ends at now minus the settle lag. The first run exports the last 30 days.
    """
    assembly = prepare(shell, settings, is_run=True)
    reports = export_all(shell, assembly)
    if json:
        shell.terminal.answer(as_json(reports))
    return worst(report.exit_code for report in reports)


def prepare(shell: Shell, settings: Settings, *, is_run: bool = False) -> Assembly:
    """Return the assembly of these settings.

    Raises:
        CfauditError: something does not fit, or there is no credential.
    """
    hide = shell.terminal.redaction.hide
    return compose_runs(settings, environ=shell.environ, clock=shell.clock, hide=hide, is_run=is_run)


def export_all(shell: Shell, assembly: Assembly, *, observed: bool = True) -> list[RunReport]:
    """Export every account, one after the other, and say how each run ended; one that fails stops no other.

    Raises:
        CfauditError: which accounts there are is asked for, and there is no answer.
    """
    reports = []

    def follow(account: str) -> AbstractContextManager[RunListeners]:
        return progress_bar(shell.terminal, account or assembly.source_name)

    for report in api.export_all(assembly, follow, observed=observed):
        _tell(shell, assembly, report, api.checkpoint_of(assembly, report))
        reports.append(report)
    if len(reports) > 1:
        _tell_all(shell, assembly, reports)
    return reports


def covered_until(checkpoint: Checkpoint | None, sink: str) -> str:
    """Return up to when a sink has everything, for people."""
    progress = checkpoint.sinks.get(sink) if checkpoint else None
    return iso(progress.covered[-1].before) if progress and progress.covered else "-"


def _tell(shell: Shell, assembly: Assembly, report: RunReport, checkpoint: Checkpoint | None) -> None:
    """Say how a run ended: a table for people, a line for machines, faults for both."""
    terminal, settings = shell.terminal, assembly.settings
    rows = [
        (one.name, one.rows, len(one.locations), len(report.gaps), covered_until(checkpoint, one.name))
        for one in report.sinks
    ]
    if log_form(terminal, settings) == "text" and rows:
        source = report.stream.source
        sure = "" if report.extra.get("account_verified", True) else " (not verified)"
        terminal.say(f"account {report.stream.account_id}{sure}, {report.events:,} events read from {source}")
        terminal.table(("sink", ">rows", ">files", ">gaps", "covered until"), rows, answer=False)
    if log_form(terminal, settings) == "text":
        if report.completed:
            terminal.say(f"{report.completed:,} trimmed events were delivered again with all columns")
        if report.still_trimmed:
            terminal.say(f"{report.still_trimmed:,} events still lack columns")
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
                f"sink '{name}' refused {progress.quarantined} events for good, which are quarantined; {_SEE_REPLAY}"
            )
    if report.gaps:
        terminal.fail(_gaps_remain(report))


def of_account(account: str, error: object) -> str:
    """Return an error with the account that it is about, where there are several."""
    return f"account {account}: {error}" if account else str(error)


def _tell_all(shell: Shell, assembly: Assembly, reports: Sequence[RunReport]) -> None:
    """Say how all accounts ended: one row each, and for machines which ones failed."""
    if log_form(shell.terminal, assembly.settings) == "text":
        columns = ("account", ">events", ">rows", ">gaps", "covered until", ">exit", "why")
        shell.terminal.table(columns, [_account_row(assembly, report) for report in reports], answer=False)
        return
    failed = [report.stream.account_id for report in reports if report.exit_code]
    code = int(worst(report.exit_code for report in reports))
    _LOG.info("all accounts finished", extra={"accounts": len(reports), "failed": failed, "exit_code": code})


def _account_row(assembly: Assembly, report: RunReport) -> tuple[object, ...]:
    checkpoint = api.checkpoint_of(assembly, report)
    until = min((covered_until(checkpoint, sink.name) for sink in report.sinks), default="-")
    rows = sum(sink.rows for sink in report.sinks)
    why = report.error or next((f"{sink.name}: {sink.error}" for sink in report.sinks if sink.error), "")
    facts = (report.stream.account_id, f"{report.events:,}", f"{rows:,}", len(report.gaps))
    return (*facts, until, int(report.exit_code), why or (report.exit_code and report.exit_code.meaning) or "")


def _gaps_remain(report: RunReport) -> str:
    """Return how many gaps there are, and where."""
    rows = sum(gap.rows for gap in report.gaps)
    since, before = min(gap.window.since for gap in report.gaps), max(gap.window.before for gap in report.gaps)
    return (
        f"account {report.stream.account_id}: {len(report.gaps):,} gaps remain, with {rows:,} rows that could not be "
        f"read, between {iso(since)} and {iso(before)}; see '{PROGRAM} gaps'"
    )
