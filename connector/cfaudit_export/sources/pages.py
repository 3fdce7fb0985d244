"""What a walk needs of whoever reads pages for it, the same in every source that walks."""

from __future__ import annotations

from typing import TYPE_CHECKING, Protocol

if TYPE_CHECKING:
    from cfaudit_export.sources.auditlogs.contract import Edges, Query, Rejection
    from cfaudit_export.sources.auditlogs.decode import Page


class PageReader(Protocol):
    """Answers questions, one page each.

    Attributes:
        edges: how much wider than wanted a question must be.
        tight: how much narrower it may be asked to be sure not to meet a neighbour.
    """

    edges: Edges
    tight: Edges

    async def page(self, query: Query) -> Page | Rejection:
        """Read one page.

        Raises:
            CursorDeadError: ask again without the cursor.
        """
        ...
