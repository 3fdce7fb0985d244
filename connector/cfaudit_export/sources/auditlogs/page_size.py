"""How many rows to ask for: large pages to be quick, small ones where rows are large."""

from __future__ import annotations

from cfaudit_export.sources.paging.query import MOST_ROWS

# The text of a page is held several times until it is columns.
COMFORT_BYTES = 3_000_000
_AT_ONCE_BYTES = 6_000_000
MOST_BYTES = 8_000_000
"""Of a page of several rows. The rest of one that is larger is not read, and fewer rows are asked for."""


class PageSize:
    """Rows of a page, learned from what comes back. Shared by the workers of a source.

    Attributes:
        rows: how many to ask for at most.
    """

    def __init__(self) -> None:
        self.rows = MOST_ROWS
        self._row_bytes = 1

    def saw(self, rows: int, reply_bytes: int) -> None:
        """Take note of a page: the next one is as large as is comfortable with rows like these."""
        if rows:
            self._row_bytes = max(reply_bytes // rows, 1)
            self.rows = min(max(COMFORT_BYTES * rows // max(reply_bytes, 1), 1), MOST_ROWS)

    def at_once(self, most: int) -> int:
        """Return how many pages may be on their way at the same time: `most`, unless rows are large."""
        return max(min(most, _AT_ONCE_BYTES // (self.rows * self._row_bytes)), 1)

    def shrink(self, rows: int) -> bool:
        """Take note that so many rows are too large for a reply; False when fewer cannot be asked for."""
        self.rows = min(self.rows, max(rows // 4, 1))  # workers that asked alike are refused alike, for one reason
        return rows > 1

    @staticmethod
    def most_bytes(rows: int) -> int | None:
        """Return how many bytes the reply to a question for so many rows may have; None for any that a reply may."""
        return MOST_BYTES if rows > 1 else None
