"""How much to ask for in one call: large enough to be quick, small enough to be answered, and whole."""

from __future__ import annotations

# A call's reply is held several times in a sandbox of 128 MB, and may have 32 MiB of two bytes a character at worst.
MOST_BYTES = 12_000_000
# A reply of every worker may wait here to be decoded, with four bytes a character if one of them is an emoji; and two
# pages share the cost of a call well enough.
COMFORT_BYTES = 2_500_000
# Of several rows: before their size is known, each worker asks for a page of it.
_MOST_BYTES_OF_SEVERAL = 5_000_000
# Of a reply that must not be cut off: for its header, with the words of an error in it.
_HEADER_BYTES = 2_000
_LEAST_BYTES = 500


class Size:
    """Rows of a page and pages of a call, learned from what comes back. Shared by the workers of a source.

    Attributes:
        rows: of a page.
        pages: of a call.
        most: bytes of all pages of a call, be it a single row; the server leaves out what is beyond, and says so.
    """

    def __init__(self, page_size: int, pages_per_call: int) -> None:
        self._page_size = page_size
        self._pages_per_call = pages_per_call
        self.rows = page_size
        self.pages = 1
        self.most = MOST_BYTES

    def most_of(self, rows: int) -> int:
        """Return how many bytes a reply to a question for pages of so many rows may have."""
        return self.most if rows == 1 else min(self.most, _MOST_BYTES_OF_SEVERAL)

    def grow(self, pages: int, rows: int, reply_bytes: int) -> None:
        """Take note of a reply to a question for so many pages: ask for more next time, if that is comfortable."""
        comfortable = max(self._comfort * max(rows, 1) // max(reply_bytes, 1), 1)
        if self.rows < self._page_size:
            self.rows = max(min(2 * self.rows, comfortable, self._page_size), 1)
        else:
            self.pages = max(min(pages + 1, comfortable // self.rows, self._pages_per_call), 1)

    def shrink(self, pages: int, rows: int, page_bytes: int | None = None) -> bool:
        """Take note of a question that was too large: ask for half of the pages, then of the rows.

        `page_bytes` is the size of the page that did not fit, where it is known. Return False when nothing smaller
        can be asked for.
        """
        if page_bytes is not None:
            self.pages = 1
            self.rows = min(self.rows, max(min(rows * self._comfort // page_bytes, rows // 2), 1))
        elif pages > 1:
            self.pages = min(self.pages, pages // 2)
        else:
            self.rows = min(self.rows, max(rows // 2, 1))
        return pages > 1 or rows > 1

    def cut(self, kept: int, asked: int) -> bool:
        """Take note of a reply that was cut off: let the server leave out what would be, instead of cutting it.

        Args:
            kept: bytes that were left of it.
            asked: what `most` was for it. Several workers may learn the same at once.

        Return False when nothing smaller can be asked for.
        """
        self.most = min(self.most, max(min(kept - _HEADER_BYTES, asked // 2), _LEAST_BYTES))
        self.pages = 1
        return asked > _LEAST_BYTES

    @property
    def _comfort(self) -> int:
        return min(COMFORT_BYTES, self.most * 3 // 4)
