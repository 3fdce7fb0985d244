"""`audit_sql`: one SELECT over the events."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from cfaudit_export.analysis.files.statement import select
from cfaudit_export.core.model import MILLISECOND, Window, floor_ms
from cfaudit_export.serve.answers.draft import AnswerDraft
from cfaudit_export.serve.answers.period import at_zone, head, usual_end
from cfaudit_export.serve.answers.wording import text, told
from cfaudit_export.serve.archive import Archive
from cfaudit_export.serve.tools import MOST_EVENTS

# Rows may be large: a few at a time are turned into values of Arrow.
_BATCH_ROWS = 256


def answer_sql(archive: Archive, arguments: Mapping[str, Any]) -> AnswerDraft:
    """Answer the tool; rows beyond the most that are shown are counted.

    Raises:
        UsageError: it is not one SELECT, or wrong.
        CfauditError: the data cannot be read, or the question takes more memory than it may.
    """
    data, now = archive.data, archive.now
    since = floor_ms(data.first) if data.first else now - MILLISECOND
    before = max(usual_end(archive, archive.accounts()), since + MILLISECOND)
    what = at_zone(archive, arguments.get("time_zone"), Window(since, before))
    found = select(data, arguments["query"], _BATCH_ROWS)
    names = [text(one) for one in found.columns.names]
    rows: list[list[Any]] = []
    total = 0
    for batch in found.batches:
        total += batch.num_rows
        if len(rows) < MOST_EVENTS:
            some = batch.slice(0, MOST_EVENTS - len(rows))
            rows += [told(list(one.values()), what.zone) for one in some.to_pylist()]
    facts = {"columns": names, "types": [str(one) for one in found.columns.types]}
    return AnswerDraft(head(archive, what), facts, {"rows": rows}, {"rows": total}, len(rows))
