"""An answer of SQL -> what a person sees of it: a table, or one column a line where a table has no room."""

from __future__ import annotations

import sys
from itertools import islice
from typing import TYPE_CHECKING, Annotated

import typer

from cfaudit_export.cli.terminal import Terminal
from cfaudit_export.core.escape import escaped
from cfaudit_export.errors import UsageError

if TYPE_CHECKING:
    from cfaudit_export.analysis.files.statement import Answer

RawCsv = Annotated[
    bool,
    typer.Option(
        "--raw-csv", help="with --format csv: texts as they are, for programs; spreadsheets run formulas in them"
    ),
]
_MOST = 1_000
_BETWEEN = 2


def text_form(form: str, *, raw_csv: bool) -> str:
    """Return the form that `--format` and `--raw-csv` mean together.

    Raises:
        UsageError: they contradict each other.
    """
    if raw_csv and form != "csv":
        raise UsageError("--raw-csv is for --format csv")
    return "raw-csv" if raw_csv else form


def print_rows(terminal: Terminal, answer: Answer) -> None:
    """Print the first rows of an answer, and say so when there are more."""
    from cfaudit_export.cli.formats import rows, shown

    found = rows(answer)
    cells = [[shown(value) for value in row] for row in islice(found, _MOST)]
    heads = _heads(answer)
    room = _room(heads, cells)
    if room is None:
        _print_records(terminal, answer.columns.names, cells)
    else:
        terminal.table(heads, cells, widths=room)
    if next(found, None) is not None:
        terminal.say(f"only the first {_MOST:,} rows are shown; --format csv gives all")


def _heads(answer: Answer) -> list[str]:
    """Return the names of the columns, those of numbers marked to be aligned to the right."""
    from pyarrow import types

    return [
        f">{field.name}" if types.is_integer(field.type) or types.is_floating(field.type) else field.name
        for field in answer.columns
    ]


def _room(heads: list[str], cells: list[list[str]]) -> list[int] | None:
    """Return how wide each column is, nothing for as wide as it likes, None where they do not fit beside each other."""
    if not sys.stdout.isatty():
        return []  # in a pipe a row is a line
    from rich.console import Console

    from cfaudit_export.analysis.render.widths import widths

    texts = zip(*([escaped(cell) for cell in row] for row in cells), strict=True) if cells else [()] * len(heads)
    columns = [[head.removeprefix(">"), *column] for head, column in zip(heads, texts, strict=True)]
    return widths(columns, Console(file=sys.stdout).width, _BETWEEN)


def _print_records(terminal: Terminal, names: list[str], cells: list[list[str]]) -> None:
    wide = max(map(len, names))
    for number, row in enumerate(cells, 1):
        terminal.answer(f"row {number}")
        for name, cell in zip(names, row, strict=True):
            if cell:
                terminal.answer(f"  {name:<{wide}}  {escaped(cell)}")
    terminal.say("one column a line, as they do not fit side by side; empty ones are left out")
