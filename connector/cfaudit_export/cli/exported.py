"""What the commands that answer from exported data share: their options, and how they open the data."""

from __future__ import annotations

import sys
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from cfaudit_export.app.resolve import open_store
from cfaudit_export.cli.periods import WHICH
from cfaudit_export.cli.shell import Shell
from cfaudit_export.core.model import Checkpoint, Window
from cfaudit_export.errors import CfauditError, UsageError
from cfaudit_export.settings import ALL_ACCOUNTS, Settings, values

if TYPE_CHECKING:
    from cfaudit_export.analysis.answers.coverage import Coverage
    from cfaudit_export.analysis.answers.question import Question
    from cfaudit_export.analysis.files.engine import Limits
    from cfaudit_export.analysis.files.location import Location

_PIPE_COLUMNS, _MOST_COLUMNS = 80, 110

DataOption = Annotated[
    str | None,
    typer.Option(
        "--data",
        help="exported Parquet files: a folder, or s3://bucket/prefix (default: that of the sink)",
        metavar="PLACE",
        rich_help_panel=WHICH,
    ),
]
AccountOption = Annotated[
    list[str] | None,
    typer.Option("--account", help="only this account; repeatable", metavar="ID", rich_help_panel=WHICH),
]
Html = Annotated[
    str | None,
    typer.Option("--html", help="write one self-contained HTML file, and print its name", metavar="FILE"),
]


def ask(settings: Settings, period: Window, about: Sequence[str], zone: str) -> Question:
    """Return the question that the options make; `zone` is one that exists."""
    from cfaudit_export.analysis.answers.question import Question

    return Question(period, tuple(about), settings.filters, zone)


def accounts(shell: Shell, settings: Settings, account: Sequence[str] | None) -> tuple[str, ...]:
    """Return the accounts asked about: those of the command line, else of the settings, else none for all.

    Raises:
        UsageError: one is no account.
    """
    try:
        given = values.accounts(account, shell.clock()) if account else settings.account
    except ValueError as error:
        raise UsageError(f"--account: {error}") from None
    return () if given == ALL_ACCOUNTS else given


def location(settings: Settings, data: str | None) -> str:
    """Return where the data is: `--data`, else where a sink of the settings writes files.

    Raises:
        UsageError: no option and no setting names it.
    """
    places = _places(settings)
    wanted = [name for name in settings.sink if name in places] or list(places)
    if data is None and not wanted:
        raise UsageError("name the exported files, as in --data out or --data s3://bucket/prefix")
    return data or places[wanted[0]]


def open_data_location(settings: Settings, data: str | None) -> Location:
    """Return the place where the data is.

    Raises:
        CfauditError: no option and no setting names it, or it does not exist.
    """
    from cfaudit_export.analysis.files.open import open_location

    return open_location(location(settings, data), settings.sinks.get("s3"))


def limits(settings: Settings) -> Limits:
    """Return what a question may use of the machine."""
    from cfaudit_export.analysis.files.engine import Limits

    return Limits(settings.sql_memory_mb << 20, settings.sql_threads, settings.sql_spill_mb << 20)


@dataclass(frozen=True, slots=True)
class Remembered:
    """What the runs that made the data remember of it.

    Attributes:
        checkpoints: all there are.
        sinks: names of the sinks that may have written the data.
        filters: those of the settings.
    """

    checkpoints: Sequence[Checkpoint]
    sinks: Sequence[str]
    filters: Mapping[str, str]

    def until(self, about: Sequence[str]) -> datetime | None:
        """Return up to when accounts were exported, by default all, None if that is unknown."""
        from cfaudit_export.analysis.answers.coverage import reach

        return reach(self.checkpoints, about, self.sinks, self.filters)

    def coverage(self, period: Window, about: Sequence[str], there: Sequence[str]) -> Coverage:
        """Return what of a period was exported; `there` are the accounts that have files."""
        from cfaudit_export.analysis.answers.coverage import cover

        known = tuple(sorted({one.stream.account_id for one in self.checkpoints}))
        return cover(period, self.checkpoints, about or there or known, self.sinks, self.filters)


def remembered(shell: Shell, settings: Settings, place: Location) -> Remembered:
    """Return what is remembered of all streams; what cannot be read is said, and taken as unknown."""
    from cfaudit_export.plugin.registry import load_plugins

    sinks = settings.sink or [name for name, where in _places(settings).items() if _same(where, place.shown)]
    try:
        store = open_store(settings, load_plugins(environ=shell.environ))
        found = [store.load(stream_id) for stream_id in store.streams()]
    except CfauditError as error:
        shell.terminal.fail(f"{error}; the coverage is unknown")
        found = []
    return Remembered([one.checkpoint for one in found if one], sinks, settings.filters)


def show(answer: Any) -> None:
    """Print what rich shows to stdout, in a pipe for 80 columns."""
    from rich.console import Console

    console = Console(file=sys.stdout)
    console.width = min(console.width, _MOST_COLUMNS) if console.is_terminal else _PIPE_COLUMNS
    console.print(answer)


def save(page: str, file: str) -> None:
    """Put a page into a file.

    Raises:
        UsageError: it cannot be written.
    """
    from cfaudit_export.analysis.render.output import new_file

    with new_file(Path(file).expanduser()) as stream:
        stream.write(page.encode())


def _places(settings: Settings) -> dict[str, str]:
    """Return where each sink of the settings writes files, if it does."""
    places = {}
    for name, table in settings.sinks.items():
        if isinstance(table.get("path"), str):
            places[name] = table["path"]
        elif isinstance(table.get("bucket"), str):
            prefix = str(table.get("prefix", "")).partition("{")[0].rpartition("/")[0]
            places[name] = f"s3://{table['bucket']}/{prefix}".rstrip("/")
    return places


def _same(one: str, other: str) -> bool:
    if "s3://" in (one[:5], other[:5]):
        return one.rstrip("/") == other.rstrip("/")
    return Path(one).expanduser().resolve() == Path(other).expanduser().resolve()
