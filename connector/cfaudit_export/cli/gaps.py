"""The command `gaps`."""

from __future__ import annotations

from dataclasses import replace
from datetime import UTC, datetime
from typing import Annotated, Any

import typer

from cfaudit_export.app.resolve import open_store
from cfaudit_export.cli.command import command
from cfaudit_export.cli.run import Json, export_all, prepare
from cfaudit_export.cli.shell import Shell
from cfaudit_export.cli.status import checkpoints_of, named
from cfaudit_export.core.gaps import open_gaps
from cfaudit_export.core.jsonable import as_json
from cfaudit_export.core.model import Checkpoint, Gap, iso
from cfaudit_export.errors import CfauditError, ExitCode, worst
from cfaudit_export.settings import Settings
from cfaudit_export.settings.options import FILTERS, HOW, LOGS, WHAT, WHERE

_EPILOG = """
A gap is an interval with rows that could not be read, mostly because the server
refuses to return them. Every run retries recent gaps and some older
ones. Rows that become readable are delivered, and their gap is removed.

Without --retry no server is called, and --account, --sink, --since and --until
choose the gaps to list. With --retry all options of 'run' apply.

Examples:
  cfaudit-export gaps
  cfaudit-export gaps --json
  cfaudit-export gaps --retry --sink parquet -o sinks.parquet.path=out
"""


@command(WHAT, WHERE, FILTERS, HOW, LOGS, epilog=_EPILOG)
def gaps(
    shell: Shell,
    settings: Settings,
    *,
    retry: Annotated[bool, typer.Option("--retry", help="read the gaps again now")] = False,
    json: Json = False,
) -> int:
    """List the gaps, or try to read them again.

    Ends with exit code 65 while there are gaps.
    """
    codes = _retry(shell, settings) if retry else []
    found: list[tuple[Checkpoint, tuple[Gap, ...]]] = []
    for checkpoint in _stored(shell, settings):
        if isinstance(checkpoint, CfauditError):
            shell.terminal.fail(str(checkpoint))
            codes.append(checkpoint.exit_code)
        elif listed := _listed(checkpoint, settings):
            found.append((checkpoint, listed))
            codes.append(ExitCode.INCOMPLETE)
    if json:
        shell.terminal.answer(as_json([_described(one, gap) for one, listed in found for gap in listed]))
    elif found:
        for checkpoint, listed in found:
            _show(shell, checkpoint, listed)
    else:
        shell.terminal.answer("no gaps")
    return worst(codes)


def _retry(shell: Shell, settings: Settings) -> list[ExitCode]:
    assembly = prepare(shell, settings)
    assembly = replace(assembly, request=replace(assembly.request, only_gaps=True))
    return [report.exit_code for report in export_all(shell, assembly, observed=False)]


def _stored(shell: Shell, settings: Settings) -> list[Checkpoint | CfauditError]:
    from cfaudit_export.plugin.registry import load_plugins

    return list(checkpoints_of(open_store(settings, load_plugins(environ=shell.environ))))


def _listed(checkpoint: Checkpoint, settings: Settings) -> tuple[Gap, ...]:
    """Return the gaps of a stream that were asked for."""
    if settings.named_accounts and checkpoint.stream.account_id not in settings.named_accounts:
        return ()
    since = settings.since or datetime.min.replace(tzinfo=UTC)
    until = settings.until or datetime.max.replace(tzinfo=UTC)
    listed = open_gaps(checkpoint, settings.sink or None)
    return tuple(gap for gap in listed if gap.window.before > since and gap.window.since < until)


def _described(checkpoint: Checkpoint, gap: Gap) -> dict[str, Any]:
    return {
        "stream": checkpoint.stream,
        "window": gap.window,
        "rows": gap.rows,
        "reason": gap.reason,
        "attempts": gap.attempts,
        "first_seen_at": gap.first_seen_at,
        "last_tried_at": gap.last_tried_at,
        "shadows": gap.shadows,
    }


def _show(shell: Shell, checkpoint: Checkpoint, listed: tuple[Gap, ...]) -> None:
    shell.terminal.answer(named(checkpoint.stream))
    rows = [
        (
            iso(gap.window.since),
            f"{gap.window.duration.total_seconds() * 1000:,.0f}",
            gap.rows or "?",
            gap.attempts,
            f"{gap.first_seen_at:%Y-%m-%d %H:%M}",
            gap.reason,
        )
        for gap in listed
    ]
    shell.terminal.table(("from", ">ms", ">rows", ">tried", "first seen", "why"), rows)
