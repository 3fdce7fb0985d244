"""The command `events`."""

from __future__ import annotations

import shutil
import sys
from collections.abc import Sequence
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
from cfaudit_export.core.plurals import counted
from cfaudit_export.errors import ExitCode, UsageError
from cfaudit_export.settings import Settings
from cfaudit_export.settings.options import FILTERS, LOGS, WHAT

if TYPE_CHECKING:
    import pyarrow as pa

_FORMATS = ("table", "csv", "json", "ndjson")
_REACH = timedelta(days=30)
# The columns of the table, and how many characters of a value a terminal shows; what is left is for `what`. On a narrow
# one, what an action was done on is left out.
_NARROW = {"time": 19, "who": 16, "what": 12, "on": 14, "result": 7, "credential": 9}
_WIDE = {**_NARROW, "who": 24, "credential": 13}
_WIDE_FROM = 100
_BETWEEN = 2
_FIRST_OF = {
    "who": ("actor_email", "actor_token_name", "actor_type"),
    "on": ("resource_type", "resource_product"),
    "result": ("action_result",),
    "credential": ("actor_context",),
}
_EPILOG = """
Reads from the server; exports nothing, and uses no checkpoint. Columns that
the server leaves out are recovered for the events shown, which takes about 20
calls; --recover off skips that.

The table shows who did what, on what, with which result and credential.
--columns chooses others: these names, or those that 'cfaudit-export schema'
lists. The other formats have all columns of the schema. Each event has the
same event_id as in an export.

Examples:
  cfaudit-export events
  cfaudit-export events -n 10 --result failure --since 7d
  cfaudit-export events --columns time,who,what,raw_cf_ray_id
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
    columns: Annotated[
        str | None, typer.Option("--columns", help="columns of the table, separated by commas", metavar="NAMES")
    ] = None,
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
    if columns and form != "table":
        raise UsageError("--columns is for the table; other formats have all columns")
    chosen = _chosen(columns)
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
    _show(shell, _newest_first(tables, number), form, chosen)
    for gap in gaps:
        rows = counted(gap.rows, "row") if gap.rows else "rows"
        shell.terminal.fail(f"{rows} at {iso(gap.window.since)} cannot be read: {gap.reason}")
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


def _show(shell: Shell, table: pa.Table, form: str, columns: Sequence[str]) -> None:
    if form == "table":
        _show_table(shell, table, columns)
        return
    from cfaudit_export.analysis.files.statement import Answer
    from cfaudit_export.cli.formats import TEXT_FORMS

    TEXT_FORMS[form](Answer(table.schema, iter(table.to_batches())), sys.stdout)


def _chosen(columns: str | None) -> tuple[str, ...]:
    """Return the columns that are asked for; none where the terminal decides.

    Raises:
        UsageError: there is no such column.
    """
    if columns is None:
        return ()
    from cfaudit_export.core.suggest import nearest
    from cfaudit_export.schema import schema

    known = [*_WIDE, *schema().names]
    named = tuple(dict.fromkeys(name.strip() for name in columns.split(",") if name.strip()))
    for name in named:
        if name not in known:
            raise UsageError(
                f"--columns: no column '{name}'{nearest(name, known)} (columns: {', '.join(_WIDE)}, "
                "and those of 'cfaudit-export schema')"
            )
    if not named:
        raise UsageError("--columns: name at least one column, as in --columns time,who,what")
    return named


def _show_table(shell: Shell, table: pa.Table, columns: Sequence[str]) -> None:
    if not table.num_rows:
        shell.terminal.answer("no events")
        return
    width = shutil.get_terminal_size().columns if sys.stdout.isatty() else None
    is_wide = width is None or width >= _WIDE_FROM
    columns = columns or [name for name in _WIDE if name != "on" or is_wide]
    limits = dict.fromkeys(columns) if width is None else _limits(columns, width)
    rows = [[escaped(_cell(event, name), limits[name]) for name in columns] for event in table.to_pylist()]
    shell.terminal.table(columns, rows)


def _limits(columns: Sequence[str], width: int) -> dict[str, int | None]:
    """Return how many characters of each column are shown, so that a row is a line: `what` has what is left."""
    widths = _WIDE if width >= _WIDE_FROM else _NARROW
    limits: dict[str, int | None] = {name: widths.get(name) for name in columns}
    if "what" in limits:
        others = sum(widths.get(name, 0) + _BETWEEN for name in columns if name != "what")
        limits["what"] = max(width - others, widths["what"])
    return limits


def _cell(event: dict[str, Any], column: str) -> str:
    match column:
        case "time":
            return f"{event['event_time']:%Y-%m-%d %H:%M:%S}"
        case "what":
            return _what(event)
        case _:
            found = (event[name] for name in _FIRST_OF.get(column, (column,)))
            return str(next((value for value in found if value not in (None, "")), "-"))


def _what(event: dict[str, Any]) -> str:
    if event["fidelity"] == "shadow":
        return f"{event['action_type'] or 'something'}, not given by the server"
    return event["action_description"] or event["action_type"] or "-"
