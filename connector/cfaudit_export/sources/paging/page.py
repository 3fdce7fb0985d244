"""A page of rows, whichever source it comes from."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import pyarrow as pa

from cfaudit_export.sources.paging.query import Unreadable

TIME = pa.timestamp("ns", tz="UTC")


@dataclass(frozen=True, slots=True)
class Page:
    """One reply of the tool.

    Attributes:
        rows: the rows in the order of the reply, columns as the reader's `empty`.
        cursor: where the next page starts; None at the end of the walk.
        further: names of fields that the rows have beyond the known ones.
        unreadable: rows of the page that the server leaves out of the reply, or that have no time to place them by.
        count: how many rows the server says there are in the page; None where it does not say.
        asked: how many rows it was asked for; None where that is not known.
    """

    rows: pa.Table
    cursor: str | None
    further: frozenset[str] = frozenset()
    unreadable: tuple[Unreadable, ...] = ()
    count: int | None = None
    asked: int | None = None


def as_count(said: Any) -> int | None:
    """Return the number of rows that a server says a page has, None where it says nothing of the kind."""
    return said if isinstance(said, int) and not isinstance(said, bool) and said >= 0 else None
