"""The command `plan`."""

from __future__ import annotations

import math
from collections.abc import Mapping
from contextlib import closing
from datetime import timedelta
from typing import Annotated, Any

import typer

from cfaudit_export.api import slices
from cfaudit_export.app.accounts import accounts_of
from cfaudit_export.app.compose import Assembly, connected
from cfaudit_export.app.failover import choose
from cfaudit_export.app.forecast import ExpectedEvents, expected_by_history, expected_by_probes
from cfaudit_export.app.side_by_side import in_order, side_by_side
from cfaudit_export.app.slicing import Count
from cfaudit_export.cli.command import command
from cfaudit_export.cli.run import Json, of_account, prepare
from cfaudit_export.cli.shell import Shell
from cfaudit_export.core.jsonable import as_json
from cfaudit_export.core.model import Connection, iso
from cfaudit_export.core.plurals import counted
from cfaudit_export.core.times import show_duration
from cfaudit_export.errors import CfauditError, ExitCode, UsageError, worst
from cfaudit_export.plugin.interfaces import Source
from cfaudit_export.settings import Settings
from cfaudit_export.settings.options import FILTERS, HOW, LOGS, WHAT, WHERE

_PACE_MINUTES = 5
_EPILOG = """
--slices N cuts the time into N slices, to export them in parallel, on one
machine or many. With 'auto' each slice takes about 20 minutes, and the newest
comes first. Export each slice with 'run --account A --since S --until U
--slice'; --json prints these options. All runs must share the checkpoints.

Examples:
  cfaudit-export plan --sink parquet -o sinks.parquet.path=out --since 90d
  cfaudit-export plan --sink parquet --since 2026-01-01 --slices 12 --json
"""


@command(WHAT, WHERE, FILTERS, HOW, LOGS, epilog=_EPILOG)
def plan(
    shell: Shell,
    settings: Settings,
    *,
    count: Annotated[
        str | None,
        typer.Option("--slices", help="cut the time into N slices, or as many as are worth it", metavar="N|auto"),
    ] = None,
    json: Json = False,
) -> int:
    """Show what a run would read, and how many calls that takes.

    Connects to the server to find the account and the cost of a page. Before the first run, reads a few short
    windows to estimate the number of events. Exports nothing.
    """
    assembly = prepare(shell, settings)
    if count is not None:
        _tell_slices(shell, slices(assembly, _count(count)), json=json)
        return ExitCode.OK
    plans, codes = [], [ExitCode.OK]
    with accounts_of(assembly) as accounts, closing(side_by_side(assembly, accounts, _planned)) as pairs:
        for account, planned in zip(accounts, in_order(pairs), strict=True):
            if isinstance(planned, CfauditError):
                shell.terminal.fail(of_account(account, planned))
                codes.append(planned.exit_code)
            else:
                plans.append(planned)
    if json:
        shell.terminal.answer(as_json(plans))
    else:
        for one in plans:
            _show_plan(shell, one)
    return worst(codes)


def _count(given: str) -> Count:
    """Read how many slices are wanted.

    Raises:
        UsageError: it is no such number.
    """
    if given == "auto":
        return "auto"
    if not (given.isascii() and given.isdigit() and int(given)):
        raise UsageError(f"--slices: expected a whole number from 1, or 'auto', not '{given}'")
    return int(given)


def _planned(assembly: Assembly, account: str) -> dict[str, Any] | CfauditError:
    """Return the plan of an account, or why there is none."""
    try:
        chosen = choose(assembly, account)
        with connected(chosen, account) as (source, connection):
            return _plan(chosen, source, connection)
    except CfauditError as error:
        return error


def _plan(assembly: Assembly, source: Source, connection: Connection) -> dict[str, Any]:
    from cfaudit_export.pipeline.plan import plan_stream

    settings = assembly.settings
    stream = assembly.stream(connection.account_id)
    found = assembly.store.load(stream.id)
    checkpoint = found.checkpoint if found else None
    planned = plan_stream(checkpoint, settings.sink, assembly.request, assembly.clock())
    wanted = sum((window.duration for window in planned.read), timedelta())
    events = expected_by_history(checkpoint, wanted) or expected_by_probes(source, planned.read)
    return {
        "stream": stream,
        "wanted": planned.wanted,
        "read": planned.read,
        "missing": planned.missing,
        "rescan": planned.rescan,
        "duration": wanted,
        "estimate": _estimate(assembly, connection, len(planned.read), events),
    }


def _estimate(assembly: Assembly, connection: Connection, windows: int, expected: ExpectedEvents) -> Mapping[str, Any]:
    """Guess calls from how many events are expected."""
    config, events = assembly.source[1], expected.events
    pages = windows + math.ceil(events / getattr(config, "page_size", 1000))
    calls = pages * connection.calls_per_page
    mode = assembly.settings.recover["mode"]
    columns = 0 if mode == "off" or not events else calls * connection.recovery_per_page
    budget = getattr(config, "budget_calls", 0)
    waited = calls + columns if mode == "all" else calls  # `auto` takes no more than there is to spare
    return {
        "events": events,
        "events_least": expected.least,
        "events_most": expected.most,
        "probes": expected.probes,
        "calls": calls,
        "calls_for_columns": columns,
        "calls_per_page": connection.calls_per_page,
        "budget_calls": budget,
        "minutes_of_waiting": _PACE_MINUTES * ((waited - 1) // budget) if budget and waited else 0,
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
    spread = f" ({estimate['events_least']:,} to {estimate['events_most']:,}, by {estimate['probes']} probes)"
    terminal.answer(
        f"events: about {estimate['events']:,}{spread if estimate['probes'] else ''}\n"
        f"calls: about {estimate['calls']:,} upstream ({estimate['calls_per_page']} a page), "
        f"budget {estimate['budget_calls'] or 'unlimited'} in {_PACE_MINUTES} minutes, "
        f"waiting about {counted(estimate['minutes_of_waiting'], 'minute')}\n"
        f"columns that are cut off: at most {estimate['calls_for_columns']:,} calls more, "
        "waited for with --recover all, else as the budget can spare them"
    )
