"""What the commands that answer from exported data share: their options, and how they open the data."""

from __future__ import annotations

import sys
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from cfaudit_export.app import archive
from cfaudit_export.app.archive import Remembered, limits, location
from cfaudit_export.cli.periods import WHICH
from cfaudit_export.cli.shell import Shell
from cfaudit_export.core.model import Window
from cfaudit_export.errors import UsageError
from cfaudit_export.settings import ALL_ACCOUNTS, Settings, values

if TYPE_CHECKING:
    from cfaudit_export.analysis.answers.question import Question
    from cfaudit_export.analysis.files.location import Location

__all__ = [
    "AccountOption",
    "DataOption",
    "Html",
    "Remembered",
    "accounts",
    "ask",
    "limits",
    "location",
    "open_data_location",
    "remembered",
    "save",
    "show",
]
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


def open_data_location(settings: Settings, data: str | None) -> Location:
    """Return the place where the data is.

    Raises:
        CfauditError: no option and no setting names it, or it does not exist.
    """
    from cfaudit_export.analysis.files.open import open_location

    return open_location(location(settings, data), settings.sinks.get("s3"))


def remembered(shell: Shell, settings: Settings, place: Location) -> Remembered:
    """Return what is remembered of all streams; what cannot be read is said, and taken as unknown."""
    return archive.remembered(settings, shell.environ, place.shown, shell.terminal.fail)


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
