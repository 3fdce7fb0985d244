"""Large rows -> rows that can be told from each other as well, and are small.

To rebuild columns, the rows of some forty filters are compared with those of a piece, and all of them are held at the
same time. Whether two rows are the same is all that is asked of them.
"""

from __future__ import annotations

import hashlib
from dataclasses import dataclass, replace

import pyarrow as pa
import pyarrow.compute as pc

from cfaudit_export.sources.auditlogs.reader import AuditLogsReader
from cfaudit_export.sources.paging.page import Page
from cfaudit_export.sources.paging.query import Query, Rejection

LONGEST = 1_000
"""Bytes of a row up to which it stands for itself."""


class OutOfCallsError(Exception):
    """What may be spent on a piece is spent."""


@dataclass(slots=True)
class BriefPages:
    """Asks for pages of brief rows, as long as calls may be made.

    It knows nothing of the piece they are for: a method of what holds a piece, kept there, would hold it until Python
    looks for such cycles, which it does seldom where there are few objects, however large.

    Attributes:
        reader: asks the questions.
        most_calls: calls that may be made; None for any number.
        calls: calls made so far.
    """

    reader: AuditLogsReader
    most_calls: int | None
    calls: int = 0

    def may_spend(self, calls: int) -> bool:
        """Say whether so many calls may be made."""
        return self.most_calls is None or self.calls + calls <= self.most_calls

    async def page(self, query: Query) -> Page | Rejection:
        """Ask for a page.

        Raises:
            OutOfCallsError: no more calls may be made.
        """
        if not self.may_spend(1):
            raise OutOfCallsError
        self.calls += 1
        outcome = await self.reader.page(query)
        return replace(outcome, rows=brief(outcome.rows)) if isinstance(outcome, Page) else outcome


def brief(rows: pa.Table) -> pa.Table:
    """Return rows with a digest in the place of each text that is long, and without their other columns of texts.

    Args:
        rows: with `event_raw`, and any further columns.
    """
    texts = rows["event_raw"]
    if not rows.num_rows or pc.max(pc.binary_length(texts)).as_py() <= LONGEST:
        return rows
    short = pa.array([_brief(text) for text in texts], pa.string())
    for name in rows.column_names:
        if pa.types.is_string(rows.schema.field(name).type):
            column = short if name == "event_raw" else pa.nulls(rows.num_rows, pa.string())
            rows = rows.set_column(rows.column_names.index(name), rows.schema.field(name), column)
    return rows


def _brief(text: pa.StringScalar) -> str:
    content = text.as_buffer()
    return str(text) if content.size <= LONGEST else hashlib.sha256(content).hexdigest()
