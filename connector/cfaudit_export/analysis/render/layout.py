"""Texts and a width in, lines that fit out: they are broken between words, and nowhere else."""

from __future__ import annotations

import re
from collections.abc import Iterator, Sequence

from rich.cells import cell_len

# A text in quotes is one word: it is a path, a URL or a command, to be copied.
_WORD = re.compile(r"(?<!\w)'[^']*'(?!\w)\S*|\S+")


def folded(line: str, room: int, *, indent: int = 2) -> str:
    """Return a line of text as lines that fit into `room` cells where that breaks no word.

    `indent` is how far what goes on from the line above is indented.
    """
    if cell_len(line) <= room:
        return line
    lines, end = [""], 0
    for word in _WORD.finditer(line):
        gap, end = line[end : word.start()], word.end()
        if lines[-1].strip() and cell_len(lines[-1] + gap + word[0]) > room:
            lines.append(" " * indent + word[0])
        else:
            lines[-1] += gap + word[0]
    return "\n".join(lines)


def blocks(heads: Sequence[str], rows: Sequence[Sequence[str]], room: int) -> Iterator[str]:
    """Yield the lines of a table that does not fit side by side: a block for each row, a line for each cell.

    A cell without text has none.
    """
    wide = max(map(cell_len, heads))
    for number, row in enumerate(rows):
        if number:
            yield ""
        for head, cell in zip(heads, row, strict=True):
            if cell.strip():
                yield folded(f"{head}{' ' * (wide - cell_len(head))}  {cell.strip()}", room, indent=wide + 2)


def widths(columns: Sequence[Sequence[str]], room: int, between: int = 1) -> list[int] | None:
    """Return a width for each column, None where they cannot stand side by side with every word whole.

    Args:
        columns: the texts of each column, its head among them.
        room: how many cells a line has.
        between: how many cells are between two columns.
    """
    room -= between * (len(columns) - 1)
    found = [max(map(cell_len, column), default=0) for column in columns]
    least = [max((cell_len(word) for text in column for word in text.split()), default=0) for column in columns]
    while sum(found) > room:
        spare = [width - low for width, low in zip(found, least, strict=True)]
        widest = max(range(len(spare)), key=spare.__getitem__)
        if spare[widest] <= 0:
            return None
        found[widest] -= 1
    return found
