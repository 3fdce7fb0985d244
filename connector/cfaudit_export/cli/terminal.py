"""What people see: lines, tables and errors; escaped, and without secrets."""

from __future__ import annotations

import os
import shlex
import shutil
import sys
from collections.abc import Iterable, Sequence
from pathlib import Path
from typing import Literal, TextIO

from cfaudit_export.core.escape import escaped
from cfaudit_export.core.redaction import Redaction

PROGRAM = "cfaudit-export"
_PIPE_COLUMNS = 10_000
_DEFAULT_COLUMNS = 80
_BETWEEN = 2
_LAID_OUT = (" ", "\t", "{", "[", "}", "]")


class Terminal:
    """The two streams of the process. Commentary goes to stderr, the answer that was asked for to stdout.

    It is a stream itself, for log lines: what is written to it goes to stderr as it is at that moment, so that a
    progress bar can keep itself below.
    """

    def __init__(self) -> None:
        self.redaction = Redaction()

    @property
    def is_interactive(self) -> bool:
        """Whether a person is looking at stderr."""
        return sys.stderr.isatty()

    def write(self, text: str) -> int:
        """Write a text to stderr, on a terminal in lines that fit."""
        return sys.stderr.write(_fitting(text, sys.stderr))

    def flush(self) -> None:
        """Flush stderr."""
        sys.stderr.flush()

    def say(self, text: str = "") -> None:
        """Write lines to stderr."""
        self.write(self._safe(text) + "\n")

    def fail(self, message: str) -> None:
        """Write an error to stderr, on one line."""
        self.write(f"{PROGRAM}: {self.redaction(escaped(message))}\n")

    def answer(self, text: str, *, indent: int = 2) -> None:
        """Write lines to stdout; what goes on from the line above is indented."""
        sys.stdout.write(_fitting(self._safe(text.rstrip("\n")), sys.stdout, indent) + "\n")
        sys.stdout.flush()

    def ask(self, prompt: str) -> str:
        """Show a prompt on stderr, and return the line that is typed.

        Raises:
            EOFError: there is none.
        """
        self.write(prompt)
        self.flush()
        line = sys.stdin.readline()
        if not line:
            raise EOFError
        return line

    def table(self, columns: Sequence[str], rows: Iterable[Sequence[object]], *, answer: bool = True) -> bool:
        """Write a table, to stdout as an answer or else to stderr; a column named `>...` is aligned to the right.

        In a pipe a row is a line, however long. On a terminal texts are broken between words; where the columns still
        do not fit side by side, each row is a block of lines, and False is returned.
        """
        from rich.console import Console
        from rich.table import Table
        from rich.text import Text

        from cfaudit_export.analysis.render.layout import blocks, widths

        stream = sys.stdout if answer else sys.stderr
        room = _room(stream)
        heads = [self.redaction(escaped(column.removeprefix(">"))) for column in columns]
        cells = [[self.redaction(escaped(str(cell))) for cell in row] for row in rows]
        fit: Sequence[int | None] = [None] * len(heads)
        if room is not None:
            found = widths([list(column) for column in zip(heads, *cells, strict=True)], room, _BETWEEN)
            if found is None:
                stream.write("\n".join(blocks(heads, cells, room)) + "\n")
                return False
            fit = found
        table = Table(box=None, padding=(0, _BETWEEN, 0, 0), header_style="bold", pad_edge=False)
        for column, head, width in zip(columns, heads, fit, strict=True):
            justify: Literal["left", "right"] = "right" if column.startswith(">") else "left"
            table.add_column(Text(head), justify=justify, overflow="fold", width=width)
        for row in cells:
            table.add_row(*map(Text, row))
        Console(file=stream, width=room or _PIPE_COLUMNS).print(table)
        return True

    def _safe(self, text: str) -> str:
        return self.redaction("\n".join(map(escaped, text.split("\n"))))


def program() -> str:
    """Return how this program was called, so that a command that is printed works when it is pasted."""
    path = Path(sys.argv[0])
    found = shutil.which(PROGRAM)
    if path.name == "__main__.py" and path.parent.name == "cfaudit_export" and not found:
        return f"{shlex.quote(sys.executable)} -m cfaudit_export"
    if path.name != PROGRAM or (found and Path(found).resolve() == path.resolve()):
        return PROGRAM
    here = os.path.relpath(path)
    return shlex.quote(str(path) if here.startswith("..") else here)


def _room(stream: TextIO) -> int | None:
    """Return how many cells a line of a terminal has; None for another stream, where a line may be of any length."""
    if not stream.isatty():
        return None
    try:
        return int(os.environ.get("COLUMNS") or os.get_terminal_size(stream.fileno()).columns) or _DEFAULT_COLUMNS
    except (OSError, ValueError):
        return _DEFAULT_COLUMNS


def _fitting(text: str, stream: TextIO, indent: int = 2) -> str:
    """Return a text with its long lines broken between words, for a terminal.

    A line that begins with white space or a bracket is laid out already, such as a command, a traceback or JSON.
    """
    room = _room(stream)
    if room is None or all(len(line) <= room // 2 for line in text.split("\n")):
        return text
    from cfaudit_export.analysis.render.layout import folded

    return "\n".join(
        line if line.startswith(_LAID_OUT) else folded(line, room, indent=indent) for line in text.split("\n")
    )
