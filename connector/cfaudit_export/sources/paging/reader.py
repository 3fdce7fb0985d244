"""What a walk needs of the reader of its pages, the same in every source that walks."""

from __future__ import annotations

from typing import TYPE_CHECKING, Protocol

if TYPE_CHECKING:
    import pyarrow as pa

    from cfaudit_export.sources.paging.habits import Habits
    from cfaudit_export.sources.paging.page import Page
    from cfaudit_export.sources.paging.query import Padding, Query, Rejection


class PageReader(Protocol):
    """Answers questions, one page each.

    Attributes:
        padding: how much wider than wanted a question must be.
        exclusive: how much narrower it may be asked to be sure not to meet a neighbour.
        habits: what the server has shown of itself.
        empty: a table of its columns without rows.
    """

    padding: Padding
    exclusive: Padding

    @property
    def habits(self) -> Habits:
        """What the server has shown of itself."""
        ...

    @property
    def empty(self) -> pa.Table:
        """A table of its columns without rows."""
        ...

    async def page(self, query: Query) -> Page | Rejection:
        """Read one page.

        Raises:
            CursorDeadError: ask again without the cursor.
        """
        ...


class CursorDeadError(Exception):
    """The cursor is not accepted any more, while the same question without it is."""
