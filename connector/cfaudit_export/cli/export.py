"""The commands `run` and `plan`."""

from __future__ import annotations

import logging
import math
from collections.abc import Mapping
from contextlib import suppress
from datetime import timedelta
from typing import Annotated, Any

import typer

from cfaudit_export.assemble import Workshop, connected, export
from cfaudit_export.cli.command import Shell, command, log_form
from cfaudit_export.cli.progress import progress_bar
from cfaudit_export.cli.signin import current_sign_in
from cfaudit_export.cli.terminal import PROGRAM
from cfaudit_export.encode import as_json
from cfaudit_export.errors import CfauditError, ExitCode, worst
from cfaudit_export.model import Checkpoint, Connection, RunReport, iso
from cfaudit_export.runs import fit, slices
from cfaudit_export.settings import Settings
from cfaudit_export.settings.options import FILTERS, HOW, LOGS, WHAT, WHERE
from cfaudit_export.times import show_duration

_LOG = logging.getLogger(__name__)
_PACE_MINUTES = 5

_EXIT_CODES = "\n".join(f"  {code:>3}  {code.meaning}" for code in ExitCode)
_RUN_EPILOG = f"""
A TIME is ISO 8601, a date, or how long ago: 2026-11-20T08:30:00Z, 2026-11-20,
7d, 12h. A DURATION is like 30s, 5m or 1h30m.

Every option is a key of the TOML file and a variable too: --settle-lag is
settle_lag and CFAUDIT_SETTLE_LAG, --actor-email is actor_email in [filters]
and CFAUDIT_FILTERS__ACTOR_EMAIL. Flags win, then -o, variables, the file.

Examples:
  cfaudit-export run --sink parquet -o sinks.parquet.path=out
  cfaudit-export run --sink parquet --since 2026-11-01 --until 2026-11-08
  cfaudit-export run --sink parquet --actor-email ada@example.com

Exit codes:
{_EXIT_CODES}
"""
_PLAN_EPILOG = """
With --slices the time is cut into slices for runs beside each other, on one
machine or many; --json gives their options. Each is exported by
'run --account A --since S --until U --slice'. All must share the checkpoints.

Examples:
  cfaudit-export plan --sink parquet -o sinks.parquet.path=out --since 90d
  cfaudit-export plan --sink parquet --since 2026-01-01 --slices 12 --json
"""

Json = Annotated[bool, typer.Option("--json", help="print the answer as JSON on stdout")]


@command(WHAT, WHERE, FILTERS, HOW, LOGS, epilog=_RUN_EPILOG)
def run(shell: Shell, settings: Settings, *, json: Json = False) -> int:
    """Export what is new into each sink.

    Continues at the checkpoint, up to now minus the settle lag; the first run starts 30 days back.
    """
    workshop = prepare(shell, settings)
    reports = []
    for account in workshop.accounts:
        with progress_bar(shell.terminal, account or settings.source) as watch:
            report = export(workshop, account, watch)
        reports.append(report)
        tell(shell, settings, workshop, report)
    if workshop.credential.kind == "oauth":
        with suppress(CfauditError):  # the run is over, and how it went is known
            current_sign_in(settings, workshop.server_url, shell.clock())
    if json:
        shell.terminal.answer(as_json(reports))
    return worst(report.exit_code for report in reports)


@command(WHAT, WHERE, FILTERS, HOW, LOGS, epilog=_PLAN_EPILOG)
def plan(
    shell: Shell,
    settings: Settings,
    *,
    count: Annotated[
        int | None, typer.Option("--slices", help="cut the time into so many slices", metavar="N", min=1)
    ] = None,
    json: Json = False,
) -> int:
    """Show what a run would fetch, and what it would cost.

    Connects to learn the account and the cost of a call; fetches and writes nothing.
    """
    workshop = prepare(shell, settings)
    if count:
        _tell_slices(shell, slices(workshop, count), json=json)
        return ExitCode.OK
    plans = []
    for account in workshop.accounts:
        with connected(workshop, account) as (_, connection):
            plans.append(_plan(workshop, connection))
    if json:
        shell.terminal.answer(as_json(plans))
        return ExitCode.OK
    for one in plans:
        _show_plan(shell, one)
    return ExitCode.OK


def prepare(shell: Shell, settings: Settings) -> Workshop:
    """Return the workshop of these settings.

    Raises:
        CfauditError: something does not fit, or there is no credential.
    """
    return fit(settings, environ=shell.environ, clock=shell.clock, hide=shell.terminal.redaction.hide)


def covered_until(checkpoint: Checkpoint | None, sink: str) -> str:
    """Return up to when a sink has everything, for people."""
    progress = checkpoint.sinks.get(sink) if checkpoint else None
    return iso(progress.covered[-1].before) if progress and progress.covered else "-"


def tell(shell: Shell, settings: Settings, workshop: Workshop, report: RunReport) -> None:
    """Say how a run ended: a table for people, a line for machines, errors for both."""
    terminal = shell.terminal
    checkpoint = _checkpoint(workshop, report) if report.sinks else None
    rows = [
        (one.name, one.rows, len(one.locations), len(report.gaps), covered_until(checkpoint, one.name))
        for one in report.sinks
    ]
    if log_form(terminal, settings) == "text":
        if rows:
            terminal.say(f"account {report.stream.account_id}, {report.events:,} events read")
            terminal.table(("sink", ">rows", ">files", ">gaps", "covered until"), rows, answer=False)
    else:
        _LOG.info("run finished", extra=_facts(report))
    if report.error:
        terminal.fail(f"account {report.stream.account_id}: {report.error}" if settings.account else report.error)
    for sink in report.sinks:
        if sink.error:
            terminal.fail(f"sink '{sink.name}': {sink.error}")
    for name, progress in checkpoint.sinks.items() if checkpoint else ():
        if progress.quarantined:
            terminal.fail(f"events that sink '{name}' refuses for good, set aside: {progress.quarantined}")
    if report.trimmed:
        terminal.say(f"{report.trimmed:,} events have columns left out for want of calls; --recover all waits for them")
    if report.gaps:
        terminal.fail(_gaps_remain(report))


def _gaps_remain(report: RunReport) -> str:
    """Return how many gaps there are, and where."""
    rows = sum(gap.rows for gap in report.gaps)
    since, before = min(gap.window.since for gap in report.gaps), max(gap.window.before for gap in report.gaps)
    return (
        f"account {report.stream.account_id}: {len(report.gaps):,} gaps remain, with {rows:,} rows that could not be "
        f"read, between {iso(since)} and {iso(before)}; see '{PROGRAM} gaps'"
    )


def _checkpoint(workshop: Workshop, report: RunReport) -> Checkpoint | None:
    """Return the checkpoint for the table; that it cannot be read now changes nothing about the run."""
    with suppress(CfauditError):
        found = workshop.store.load(report.stream.id)
        return found.checkpoint if found else None
    return None


def _facts(report: RunReport) -> dict[str, Any]:
    return {
        "account": report.stream.account_id,
        "stream": report.stream.id,
        "events": report.events,
        "rows": sum(sink.rows for sink in report.sinks),
        "calls": report.calls,
        "gaps": len(report.gaps),
        "trimmed": report.trimmed,
        "seconds": round((report.finished_at - report.started_at).total_seconds(), 3),
        "exit_code": int(report.exit_code),
    }


def _plan(workshop: Workshop, connection: Connection) -> dict[str, Any]:
    from cfaudit_export.pipeline.plan import Wish, plan_stream

    settings = workshop.settings
    stream = workshop.stream(connection.account_id)
    found = workshop.store.load(stream.id)
    checkpoint = found.checkpoint if found else None
    wish = Wish(workshop.clock(), settings.since, settings.until, settings.settle_lag)
    planned = plan_stream(checkpoint, settings.sink, wish)
    wanted = sum((window.duration for window in planned.read), timedelta())
    return {
        "stream": stream,
        "wanted": planned.wanted,
        "read": planned.read,
        "missing": planned.missing,
        "rescan": planned.rescan,
        "duration": wanted,
        "estimate": _estimate(workshop, checkpoint, connection, len(planned.read), wanted),
    }


def _estimate(
    workshop: Workshop, checkpoint: Checkpoint | None, connection: Connection, windows: int, wanted: timedelta
) -> Mapping[str, Any]:
    """Guess events and calls from what earlier runs found; without any, only the fewest calls are known."""
    config = workshop.source[1]
    known = checkpoint.sinks.values() if checkpoint else ()
    covered = [(one.rows, sum((window.duration for window in one.covered), timedelta())) for one in known]
    rows, span = max(covered, key=lambda pair: pair[1], default=(0, timedelta()))
    events = math.ceil(rows * (wanted / span)) if span else None
    pages = windows + math.ceil((events or 0) / getattr(config, "page_size", 1000))
    calls = pages * connection.calls_per_page
    budget = getattr(config, "budget_calls", 0)
    return {
        "events": events,
        "calls": calls,
        "calls_per_page": connection.calls_per_page,
        "budget_calls": budget,
        "minutes_of_waiting": _PACE_MINUTES * ((calls - 1) // budget) if budget and calls else 0,
    }


def _tell_slices(shell: Shell, parts: list[dict[str, Any]], *, json: bool) -> None:
    if json:
        shell.terminal.answer(as_json(parts))
    else:
        names = ("account", "since", "until")
        shell.terminal.table(names, [tuple(part[name] for name in names) for part in parts])


def _show_plan(shell: Shell, planned: Mapping[str, Any]) -> None:
    terminal, estimate = shell.terminal, planned["estimate"]
    terminal.answer(f"account {planned['stream'].account_id}")
    if not planned["read"]:
        terminal.answer("nothing to fetch")
        return
    rows = [
        (sink, kind, iso(window.since), iso(window.before), show_duration(window.duration))
        for kind in ("missing", "rescan")
        for sink, windows in planned[kind].items()
        for window in windows
    ]
    terminal.table(("sink", "why", "since", "before", ">length"), rows)
    events = "unknown before the first run" if estimate["events"] is None else f"about {estimate['events']:,}"
    least = "at least" if estimate["events"] is None else "about"
    terminal.answer(
        f"events: {events}\n"
        f"calls: {least} {estimate['calls']:,} upstream ({estimate['calls_per_page']} a page), "
        f"budget {estimate['budget_calls'] or 'unlimited'} in {_PACE_MINUTES} minutes, "
        f"waiting about {estimate['minutes_of_waiting']} minutes"
    )
