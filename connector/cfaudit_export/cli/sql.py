"""The command `sql`."""

from __future__ import annotations

import sys
from dataclasses import dataclass, field
from io import TextIOWrapper
from pathlib import Path
from typing import IO, TYPE_CHECKING, Annotated

import typer

from cfaudit_export.cli.command import command
from cfaudit_export.cli.exported import (
    AccountOption,
    DataOption,
    accounts,
    limits,
    open_data_location,
)
from cfaudit_export.cli.periods import TIMES, Zone, since_option, until_option, window, zone_of
from cfaudit_export.cli.rows import RawCsv, print_rows, text_form
from cfaudit_export.cli.shapes import ShapeOption, ShapeVersion
from cfaudit_export.cli.shell import Shell
from cfaudit_export.errors import ExitCode, UsageError
from cfaudit_export.settings import Settings
from cfaudit_export.settings.options import LOGS
from cfaudit_export.shapes.view import view_of

if TYPE_CHECKING:
    from cfaudit_export.analysis.files.database import EventDatabase as OpenData
    from cfaudit_export.analysis.files.statement import Answer

_FORMATS = ("table", "csv", "json", "ndjson", "parquet")
_EPILOG = f"""
The events are in the view 'audit_events', with the columns that
'cfaudit-export schema' lists, and event_date, the day in UTC. Conditions on
event_time, event_date and account_id skip whole files, as do --since, --until
and --account. The SQL is DuckDB's; it can read the events, and nothing else.

--shape ocsf adds the view 'ocsf_events', with one struct column for each
attribute of OCSF; json_strip_nulls(to_json(o)) makes an event of a row o.
--shape cim adds 'cim_events', with the fields of Splunk's data models.

Without QUERY, statements are read from stdin, or typed at a prompt.
{TIMES}
Examples:
  cfaudit-export sql --data out "select count(*) from audit_events"
  cfaudit-export sql --data out --shape ocsf "from ocsf_events limit 5"
  cfaudit-export sql --data out --since 7d --format csv -O week.csv \\
    "select event_time, actor_email, action_description from audit_events"
"""  # noqa: S608  # help, no query


@command("state_dir", LOGS, epilog=_EPILOG)
def sql(
    shell: Shell,
    settings: Settings,
    *,
    query: Annotated[str | None, typer.Argument(help="SQL statements", metavar="QUERY", show_default=False)] = None,
    data: DataOption = None,
    account: AccountOption = None,
    since: Annotated[str | None, since_option("all")] = None,
    until: Annotated[str | None, until_option("now")] = None,
    time_zone: Zone = None,
    shape: ShapeOption = None,
    shape_version: ShapeVersion = None,
    form: Annotated[
        str, typer.Option("--format", help="output format (default: table)", metavar="|".join(_FORMATS))
    ] = "table",
    output: Annotated[
        str | None, typer.Option("-O", "--output", help="file to write to (default: stdout)", metavar="FILE")
    ] = None,
    raw_csv: RawCsv = False,
) -> int:
    """Query exported data with SQL."""
    from cfaudit_export.analysis.files.database import open_data

    if form not in _FORMATS:
        raise UsageError(f"--format: expected one of {', '.join(_FORMATS)}, not '{form}'")
    form = text_form(form, raw_csv=raw_csv)
    if form == "parquet" and output is None and sys.stdout.isatty():
        raise UsageError("--format parquet needs a file, as in -O answer.parquet")
    if form == "table" and output is not None:
        raise UsageError("--output needs a --format for files: csv, json, ndjson or parquet")
    view = view_of(shape, shape_version, keyword="CREATE TEMP VIEW") if shape else None
    if shape_version and not shape:
        raise UsageError("--shape-version needs --shape")
    zone = zone_of(shell, time_zone)
    period = window(shell, since or "1970-01-01", until, zone=zone) if since or until else None
    place = open_data_location(settings, data)
    with open_data(
        place, period, accounts(shell, settings, account), time_zone=zone.key, limits=limits(settings)
    ) as opened:
        if view:
            opened.run(view)
        writer = _Writer(shell, opened, form, Path(output).expanduser() if output else None)
        if query is None and sys.stdin.isatty():
            from cfaudit_export.cli.prompt import converse

            converse(shell.terminal, writer.write, settings.state_dir / "sql_history")
        else:
            writer.write(sys.stdin.read() if query is None else query)
    return ExitCode.OK


@dataclass(frozen=True, slots=True)
class _Writer:
    """Writes answers as the options say."""

    shell: Shell
    data: OpenData
    form: str
    output: Path | None
    _told: set[str] = field(default_factory=set)

    def write(self, text: str) -> None:
        """Answer the statements of a text, and name files that were skipped for them.

        Raises:
            CfauditError: one cannot be answered, or the answer not be written.
        """
        self._answer(text)
        for one in self.data.catalog.ignored:
            if one.name not in self._told:
                self._told.add(one.name)
                self.shell.terminal.say(f"skipped '{one.name}': {one.why}")

    def _answer(self, text: str) -> None:
        """Answer them.

        Raises:
            CfauditError: one cannot be answered, or the answer not be written.
        """
        from cfaudit_export.analysis.files.statement import answers
        from cfaudit_export.analysis.render.output import new_file

        found = answers(self.data, text)
        try:
            if self.output is None:
                for answer in found:
                    self._print(answer)
                return
            with new_file(self.output) as stream:
                self._put(next(found), stream)
                if next(found, None) is not None:
                    raise UsageError("--output takes one statement, not several")
        except StopIteration:
            raise UsageError("no SQL statement given") from None
        else:
            self.shell.terminal.say(f"wrote '{self.output}'")

    def _print(self, answer: Answer) -> None:
        if self.form == "table":
            print_rows(self.shell.terminal, answer)
        elif self.form == "parquet":
            self._put(answer, sys.stdout.buffer)
        else:
            self._put_text(answer, sys.stdout)
        sys.stdout.flush()

    def _put(self, answer: Answer, stream: IO[bytes]) -> None:
        from cfaudit_export.cli.formats import write_parquet

        if self.form == "parquet":
            write_parquet(answer, stream)
            return
        text = TextIOWrapper(stream, "utf-8", newline="")
        self._put_text(answer, text)
        text.detach()

    def _put_text(self, answer: Answer, stream: IO[str]) -> None:
        from cfaudit_export.cli.formats import TEXT_FORMS

        TEXT_FORMS[self.form](answer, stream)
