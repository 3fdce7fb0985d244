"""What a server has shown of itself in this session: how large its pages get, and which arguments it ignores."""

from __future__ import annotations

import logging
from dataclasses import dataclass, field

import pyarrow as pa

from cfaudit_export.sources.paging.page import Page

_LOG = logging.getLogger(__name__)


@dataclass(slots=True)
class Habits:
    """What was learned of a server. Shared by the workers of a source.

    Attributes:
        newest_first: it answers newest first, whatever `direction` says.
        ignored: arguments that it was seen to ignore.
        hopeless: walks that had to leave a rest unread because no question was answered soundly.
    """

    newest_first: bool = False
    ignored: set[str] = field(default_factory=set)
    hopeless: int = 0
    _cut: int = 0
    _served: list[tuple[int, int]] = field(default_factory=list)  # rows and bytes of the largest pages

    @property
    def is_backward(self) -> bool:
        """Whether time must be read from its end: a server that ignores `since` begins with its oldest row else."""
        return self.newest_first or "since" in self.ignored

    def saw(self, rows: pa.Table) -> None:
        """Take note of a page that was served whole."""
        size = (rows.num_rows, rows.nbytes)
        if not any(_holds(one, size) for one in self._served):
            self._served = [one for one in self._served if not _holds(size, one)] + [size]

    def is_last(self, page: Page) -> bool:
        """Say whether a page without a cursor is certainly the last one.

        It is when it is empty, or smaller than what was asked for and, both in rows and in bytes, than another page
        of this server. The server's own limit is learned that way and never taken to be what was asked for: a gateway
        may strip the cursor from pages that are cut at a limit of their own.
        """
        if page.cursor is not None:
            return False
        rows, size = page.rows.num_rows, page.rows.nbytes
        if not rows:
            return not page.unreadable
        is_small = page.asked is None or rows < page.asked
        return is_small and any(rows < most and size < most_bytes for most, most_bytes in self._served)

    def cuts(self, page: Page) -> None:
        """Take note of a page without a cursor that is not the last one."""
        self._cut = min(page.rows.num_rows, self._cut or page.rows.num_rows)

    def may_be_whole(self, page: Page) -> bool:
        """Say whether a page without a cursor is smaller than those that were not the last ones."""
        return not self._cut or page.rows.num_rows < self._cut

    def page_rows(self, asked: int) -> int:
        """Return how many rows a page has at most, as far as is known."""
        return max((rows for rows, _ in self._served), default=asked)

    def ignores(self, argument: str, what: str) -> None:
        """Warn, once, that the server ignores an argument."""
        if argument not in self.ignored:
            self.ignored.add(argument)
            _LOG.warning("the server ignores an argument", extra={"argument": argument, "what": what})


def _holds(large: tuple[int, int], small: tuple[int, int]) -> bool:
    return large[0] >= small[0] and large[1] >= small[1]
