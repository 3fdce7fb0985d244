"""A piece of trimmed rows -> the same with columns rebuilt, by reading it again through disjoint filters."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from itertools import accumulate

import pyarrow as pa

from cfaudit_export.core.filters import AUDITLOGS_FILTERS
from cfaudit_export.plugin.records import Recover
from cfaudit_export.sources.auditlogs.capabilities import ToolCapabilities
from cfaudit_export.sources.auditlogs.prefetch import FilterPrefetch
from cfaudit_export.sources.auditlogs.reader import AuditLogsReader
from cfaudit_export.sources.auditlogs.rebuild import Rebuild, typed
from cfaudit_export.sources.mcp.budget import CallBudget
from cfaudit_export.sources.paging.evidence import Piece
from cfaudit_export.sources.paging.facets import CANDIDATES, Filter
from cfaudit_export.sources.paging.query import Query

_REJECTED_CALLS = 6  # that a facet costs because of rejected rows, as a rule
LEAST_CALLS = 40
"""Calls without which there is no use in beginning."""


@dataclass(frozen=True, slots=True)
class Recovered:
    """Columns rebuilt for a piece.

    Attributes:
        columns: by name, one value a row; null where nothing is certain.
        complete: False when facets were not asked for: call budget exhausted.
        calls: tool calls it took.
        shadows: what is certain of unreadable rows, as `Extract.shadows`.
    """

    columns: dict[str, pa.Array]
    complete: bool
    calls: int
    shadows: pa.Table | None = None


async def recover(
    reader: AuditLogsReader,
    budget: CallBudget,
    piece: Piece,
    ahead: FilterPrefetch,
    *,
    policy: Recover,
    page_size: int,
    filters: Sequence[Filter],
    kept: float,
) -> Recovered:
    """Rebuild what the policy and the budget allow.

    Args:
        reader: asks the questions.
        budget: knows what is left of the budget.
        piece: the rows, complete for their interval.
        ahead: what was read of filters for earlier pieces of the same walk.
        policy: what to rebuild.
        page_size: rows per page.
        filters: the stream's own filters; what they fix needs no reading.
        kept: share of the budget that is left for what else is to be read.
    """
    listed = {name: values for name, values in policy.values.items() if name in AUDITLOGS_FILTERS}
    wanted = reader.capabilities.candidates({**CANDIDATES, **listed})
    given = dict(filters)
    facets = [name for name in wanted if name not in given and name not in reader.further]
    if policy.mode == "off" or not (piece.rows.num_rows or piece.unreadable):
        return Recovered({}, complete=policy.mode != "off", calls=0)
    spare = budget.spare(kept) if policy.mode == "auto" else None
    pages = -(-piece.rows.num_rows // page_size) + min(len(piece.unreadable), _REJECTED_CALLS)
    costs = {facet: reader.cost * (pages + len(wanted[facet])) for facet in facets}
    affordable = _affordable(costs, spare)
    plain = Query(piece.since_ms, piece.before_ms, page_size, filters=tuple(filters), padding=reader.padding)
    work = Rebuild(reader, plain, piece, ahead, None if spare is None else spare // reader.cost)
    facets = await work.read(affordable, wanted)
    whole = len(facets) == len(costs)
    await work.tell_twins_apart(facets)
    columns = work.columns(facets)
    for name, value in given.items():
        if name in wanted:
            columns[name] = typed(name, pa.repeat(pa.scalar(value), piece.rows.num_rows))

    def may_spend(calls: int) -> bool:
        return whole and work.may_spend(calls)

    shadows = await work.shadows({name: wanted[name] for name in facets}, may_spend)
    return Recovered(columns, whole, work.calls, shadows)


def pages_per_page(capabilities: ToolCapabilities, page_size: int, piece_rows: int) -> int:
    """Return how many pages rebuilding costs for each page of a large piece, at most."""
    facets = capabilities.candidates(CANDIDATES)
    return len(facets) + -(-sum(map(len, facets.values())) * page_size // max(piece_rows, page_size))


def _affordable(costs: dict[str, int], spare: int | None) -> list[str]:
    """Return the first facets that fit into what may be spent."""
    if spare is None:
        return list(costs)
    sums = accumulate(costs.values())
    return [facet for facet, total in zip(costs, sums, strict=True) if total <= spare]
