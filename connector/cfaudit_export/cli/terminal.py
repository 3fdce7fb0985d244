"""What people see: lines, tables and errors; escaped, and without secrets."""

from __future__ import annotations

import sys
from collections.abc import Iterable, Sequence
from itertools import zip_longest
from typing import Literal

from cfaudit_export.app.log import Redaction
from cfaudit_export.core.escape import escaped

PROGRAM = "cfaudit-export"
_PIPE_COLUMNS = 10_000


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
        """Write a text to stderr as it is."""
        return sys.stderr.write(text)

    def flush(self) -> None:
        """Flush stderr."""
        sys.stderr.flush()

    def say(self, text: str = "") -> None:
        """Write lines to stderr."""
        self.write(self._safe(text) + "\n")

    def fail(self, message: str) -> None:
        """Write an error to stderr, on one line."""
        self.write(f"{PROGRAM}: {self.redaction(escaped(message))}\n")

    def answer(self, text: str) -> None:
        """Write lines to stdout."""
        sys.stdout.write(self._safe(text.rstrip("\n")) + "\n")
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

    def table(
        self,
        columns: Sequence[str],
        rows: Iterable[Sequence[object]],
        *,
        answer: bool = True,
        widths: Sequence[int] = (),
    ) -> None:
        """Write a table, to stdout as an answer or else to stderr; a column named `>...` is aligned to the right.

        `widths` are those of the columns, where the caller gives them.
        """
        from rich.console import Console
        from rich.table import Table
        from rich.text import Text

        table = Table(box=None, padding=(0, 2, 0, 0), header_style="bold", pad_edge=not widths)
        for column, width in zip_longest(columns, widths):
            justify: Literal["left", "right"] = "right" if column.startswith(">") else "left"
            head = Text(self.redaction(escaped(column.removeprefix(">"))))
            table.add_column(head, justify=justify, overflow="fold", width=width)
        for row in rows:
            table.add_row(*(Text(self.redaction(escaped(str(cell)))) for cell in row))
        stream = sys.stdout if answer else sys.stderr
        # In a pipe a row is a line, however long.
        Console(file=stream, width=None if stream.isatty() else _PIPE_COLUMNS).print(table)

    def _safe(self, text: str) -> str:
        return self.redaction("\n".join(map(escaped, text.split("\n"))))
