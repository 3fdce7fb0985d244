"""How many rows to ask for: large pages to be quick, small ones where rows are large."""

from __future__ import annotations

from cfaudit_export.sources.paging.query import MOST_ROWS

# The text of a page is held several times until it is columns, by every worker at once.
COMFORT_BYTES = 4_000_000
# Before anything is known of a log: enough for a quiet one, and bearable with rows of 64 KB.
_FIRST = 250


class PageSize:
    """Rows of a page, learned from what comes back. Shared by the workers of a source.

    Attributes:
        rows: how many to ask for at most.
    """

    def __init__(self) -> None:
        self.rows = _FIRST

    def saw(self, rows: int, reply_bytes: int) -> None:
        """Take note of a page: the next one is as large as is comfortable with rows like these."""
        if rows:
            self.rows = min(max(COMFORT_BYTES * rows // max(reply_bytes, 1), 1), MOST_ROWS)

    def shrink(self, rows: int) -> bool:
        """Take note that so many rows are too large for a reply; False when fewer cannot be asked for."""
        self.rows = min(self.rows, max(rows // 4, 1))  # workers that asked alike are refused alike, for one reason
        return rows > 1
