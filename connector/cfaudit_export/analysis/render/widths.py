"""Cells and a width in, the widths of columns out, so that a table fits and no word is broken without need."""

from __future__ import annotations

from collections.abc import Sequence

from rich.cells import cell_len

_WORD = 28
"""A longer word may be broken."""

_LEAST = 8
"""No column with that much to show becomes narrower."""


def widths(columns: Sequence[Sequence[str]], room: int, between: int = 1) -> list[int] | None:
    """Return a width for each column, None where they cannot stand side by side.

    Args:
        columns: the texts of each column, its head among them.
        room: how many cells a line has.
        between: how many cells are between two columns.
    """
    room -= between * (len(columns) - 1)
    found = [min(max(map(cell_len, column), default=0), room) for column in columns]
    words = [max((cell_len(word) for text in column for word in text.split()), default=0) for column in columns]
    for least in ([min(word, _WORD) for word in words], [_LEAST for _ in words]):
        _shrink(found, least, room)
    return found if sum(found) <= room else None


def _shrink(found: list[int], least: Sequence[int], room: int) -> None:
    """Take from the columns that have most to spare until they fit or none has anything to spare."""
    while sum(found) > room:
        spare = [width - low for width, low in zip(found, least, strict=True)]
        widest = max(range(len(spare)), key=spare.__getitem__)
        if spare[widest] <= 0:
            return
        found[widest] -= 1
