"""The rows of a walk that are not a piece yet, page by page, and what is asked about them after every page."""

from __future__ import annotations

import pyarrow as pa

from cfaudit_export.sources.paging.rows import last_ms


class RowBuffer:
    """Tables of rows in the order they were read; none is empty.

    Attributes:
        rows: how many rows they are.
        bytes: how much memory they take.
        newest_ms: millisecond of the newest row, None without rows.
    """

    def __init__(self) -> None:
        self.rows = 0
        self.bytes = 0
        self.newest_ms: int | None = None
        self._tables: list[pa.Table] = []

    @property
    def last(self) -> pa.Table | None:
        """The table that was read last."""
        return self._tables[-1] if self._tables else None

    @property
    def tables(self) -> tuple[pa.Table, ...]:
        """The tables, in the order they were read."""
        return tuple(self._tables)

    def add(self, table: pa.Table) -> None:
        """Hold a table, too; one without rows is of no interest."""
        if not table.num_rows:
            return
        self._tables.append(table)
        self.rows += table.num_rows
        self.bytes += table.nbytes
        newest = last_ms(table)
        self.newest_ms = newest if self.newest_ms is None else max(self.newest_ms, newest)
