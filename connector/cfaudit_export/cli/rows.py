"""An answer of SQL -> what a person sees of it: a table, or one column a line where a table has no room."""

from __future__ import annotations

from itertools import islice
from typing import TYPE_CHECKING, Annotated

import typer

from cfaudit_export.cli.terminal import Terminal
from cfaudit_export.errors import UsageError

if TYPE_CHECKING:
    from cfaudit_export.analysis.files.statement import Answer

RawCsv = Annotated[
    bool,
    typer.Option("--raw-csv", help="with --format csv: do not escape formulas; for programs, not for spreadsheets"),
]
_MOST = 1_000


def text_form(form: str, *, raw_csv: bool) -> str:
    """Return the form that `--format` and `--raw-csv` mean together.

    Raises:
        UsageError: they contradict each other.
    """
    if raw_csv and form != "csv":
        raise UsageError("--raw-csv needs --format csv")
    return "raw-csv" if raw_csv else form


def print_rows(terminal: Terminal, answer: Answer) -> None:
    """Print the first rows of an answer, and say so when there are more."""
    from cfaudit_export.cli.formats import rows, shown

    found = rows(answer)
    cells = [[shown(value) for value in row] for row in islice(found, _MOST)]
    if not terminal.table(_heads(answer), cells):
        terminal.say("one column per line, as they do not fit side by side; empty columns are left out")
    if next(found, None) is not None:
        terminal.say(f"only the first {_MOST:,} rows are shown; --format csv gives all")


def _heads(answer: Answer) -> list[str]:
    """Return the names of the columns, those of numbers marked to be aligned to the right."""
    from pyarrow import types

    return [
        f">{field.name}" if types.is_integer(field.type) or types.is_floating(field.type) else field.name
        for field in answer.columns
    ]
