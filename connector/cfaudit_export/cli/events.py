"""The command `events`."""

from __future__ import annotations

import shutil
import sys
from datetime import datetime, timedelta
from typing import TYPE_CHECKING, Annotated, Any

import typer

from cfaudit_export.app.accounts import accounts_of
from cfaudit_export.app.compose import Assembly, compose, connected
from cfaudit_export.app.failover import choose
from cfaudit_export.app.newest import newest
from cfaudit_export.cli.command import command
from cfaudit_export.cli.progress import progress_bar
from cfaudit_export.cli.rows import RawCsv, text_form
from cfaudit_export.cli.shell import Shell
from cfaudit_export.core.escape import escaped
from cfaudit_export.core.model import Gap, Window, floor_ms, iso
from cfaudit_export.errors import ExitCode, UsageError
from cfaudit_export.settings import Settings
from cfaudit_export.settings.options import FILTERS, LOGS, WHAT

if TYPE_CHECKING:
    import pyarrow as pa

_FORMATS = ("table", "csv", "json", "ndjson")
_REACH = timedelta(days=30)
_TIME, _WHO, _ON, _SPACES = 19, 20, 16, 8
_EPILOG = """
Reads from the server; exports nothing, and uses no checkpoint. Columns that
the server leaves out are recovered for the events shown, which takes about 20
calls; --recover off skips that.

The table has a few columns; the other formats have all of them. Each event has
the same event_id as in an export.

Examples:
  cfaudit-export events
  cfaudit-export events -n 10 --result failure --since 7d
  cfaudit-export events --actor-email ada@example.com --format ndjson
"""


@command(WHAT, FILTERS, "recover", "max_wait", LOGS, epilog=_EPILOG)
def events(
    shell: Shell,
    settings: Settings,
    *,
    number: Annotated[int, typer.Option("-n", "--number", help="number of events (default: 50)", metavar="N")] = 50,
    form: Annotated[
        str, typer.Option("--format", help="output format (default: table)", metavar="|".join(_FORMATS))
    ] = "table",
    raw_csv: RawCsv = False,
    plain: Annotated[bool, typer.Option("--plain", help="without transforms, as the server sends them")] = False,
) -> int:
    """Show the newest events from the server.

    Newest first, from the last 30 days or since --since. Ends with 65 if rows among them cannot be read.
    """
    from cfaudit_export.plugin.registry import load_plugins

    if form not in _FORMATS:
        raise UsageError(f"--format: expected one of {', '.join(_FORMATS)}, not '{form}'")
    form = text_form(form, raw_csv=raw_csv)
    if number < 1:
        raise UsageError(f"-n: expected 1 or more, not {number}")
    window = _window(settings, shell.clock())
    plugins = load_plugins(environ=shell.environ)
    hide = shell.terminal.redaction.hide
    assembly = compose(settings, plugins, environ=shell.environ, clock=shell.clock, hide=hide)
    tables, gaps = [], list[Gap]()
    with accounts_of(assembly) as accounts:
        for account in accounts:
            with progress_bar(shell.terminal, account or settings.source) as listeners:
                table, missing = _read(assembly, account, window, number, listeners, plain=plain)
            tables.append(table)
            gaps += missing
    _show(shell, _newest_first(tables, number), form)
    for gap in gaps:
        shell.terminal.fail(f"{gap.rows or 'unknown'} rows at {iso(gap.window.since)} cannot be read: {gap.reason}")
    return ExitCode.INCOMPLETE if gaps else ExitCode.OK


def _window(settings: Settings, now: datetime) -> Window:
    before = floor_ms(settings.until or now)
    return Window(floor_ms(settings.since or before - _REACH), before)


def _read(
    assembly: Assembly, account: str, window: Window, number: int, listeners: Any, *, plain: bool
) -> tuple[pa.Table, list[Gap]]:
    """Return the newest events of an account, and what could not be read among them."""
    from cfaudit_export.pipeline.map import map_extract
    from cfaudit_export.pipeline.transform import transformed
    from cfaudit_export.schema import schema

    assembly = choose(assembly, account)
    with connected(assembly, account, listeners) as (source, connection):
        stream = assembly.stream(connection.account_id)
        pieces = newest(source, window, number)
        transforms = () if plain else assembly.transforms.of_run
        mapped = (map_extract(piece, stream, connection, assembly.identity) for piece in pieces)
        tables = [transformed(one, transforms) for one in mapped]
    table = _newest_first([schema().empty_table(), *tables], number)
    oldest = table["event_time"][-1].as_py() if table.num_rows == number else window.since
    gaps = [gap for piece in pieces for gap in piece.gaps if gap.window.before > oldest]
    return table, gaps


def _newest_first(tables: list[pa.Table], number: int) -> pa.Table:
    import pyarrow as pa

    return pa.concat_tables(tables).sort_by([("event_time", "descending")]).slice(0, number)


def _show(shell: Shell, table: pa.Table, form: str) -> None:
    if form == "table":
        _show_table(shell, table)
        return
    from cfaudit_export.analysis.files.statement import Answer
    from cfaudit_export.cli.formats import TEXT_FORMS

    TEXT_FORMS[form](Answer(table.schema, iter(table.to_batches())), sys.stdout)


def _show_table(shell: Shell, table: pa.Table) -> None:
    if not table.num_rows:
        shell.terminal.answer("no events")
        return
    width = shutil.get_terminal_size().columns if sys.stdout.isatty() else None
    what = None if width is None else max(width - _TIME - _WHO - _ON - _SPACES, 10)
    rows = [
        (
            f"{event['event_time']:%Y-%m-%d %H:%M:%S}",
            escaped(_who(event), width and _WHO),
            escaped(_what(event), what),
            escaped(event["resource_type"] or event["resource_product"] or "-", width and _ON),
        )
        for event in table.to_pylist()
    ]
    shell.terminal.table(("time", "who", "what", "on"), rows)


def _who(event: dict[str, Any]) -> str:
    return str(event["actor_email"] or event["actor_token_name"] or event["actor_type"] or "-")


def _what(event: dict[str, Any]) -> str:
    if event["fidelity"] == "shadow":
        return f"{event['action_type'] or 'something'}, not given by the server"
    what = event["action_description"] or event["action_type"] or "-"
    return f"failed: {what}" if event["action_result"] == "failure" else what
