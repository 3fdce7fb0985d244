"""Rows, and the rows that filters return -> the columns that the tool cuts off. Pure; no call is made here.

A filter with one value returns the rows that have it. A row is known by its text. A text that stands once in the
window, and once among the rows of one value, has that value. Texts that stand several times are twins: what filters
say of them are counts, and each twin gets values so that all counts hold.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping
from dataclasses import dataclass, field

import pyarrow as pa
import pyarrow.compute as pc

Filter = tuple[str, str]

# Facets in the order in which they are given up when calls are short, and values in the order of how common they are:
# a facet is done when every row has a value, so the rare ones are often not asked for.
CANDIDATES: dict[str, tuple[str, ...]] = {
    "action_type": ("update", "create", "delete", "login", "view"),
    "action_result": ("success", "failure"),
    "actor_context": ("dash", "api_token", "api_key", "oauth", "origin_ca_key"),
    "actor_type": ("user", "account", "system", "cloudflare_admin"),
    "resource_scope": ("accounts", "zones", "user", "memberships"),
    "raw_method": ("POST", "PUT", "PATCH", "DELETE", "GET"),
    "raw_status_code": ("200", "201", "202", "204", "400", "403", "404", "409", "500", "502", "503"),
}


@dataclass(frozen=True, slots=True)
class FacetReading:
    """What the filters of one facet returned over a window.

    Attributes:
        facet: the filter's name.
        texts: the text of every row returned.
        values: the value it was returned for, row by row.
    """

    facet: str
    texts: pa.ChunkedArray
    values: pa.ChunkedArray


@dataclass(slots=True)
class Twins:
    """Identical rows of a window.

    Attributes:
        text: their text.
        rows: how many they are.
        counts: how many of them meet a set of filters; one filter each at first, more as they are asked for.
    """

    text: str
    rows: int
    counts: dict[frozenset[Filter], int] = field(default_factory=dict)

    def values(self, facet: str) -> list[str]:
        """Return the values of a facet that any of them has, sorted."""
        return sorted(value for filters in self.counts if len(filters) == 1 for name, value in filters if name == facet)

    def implied(self, facet: str) -> str | None:
        """Return the value, None for being without, whose counts follow from those of the others: they add up."""
        values = self.values(facet)
        counted = sum(self.counts[frozenset([(facet, value)])] for value in values)
        return values[-1] if values and counted == self.rows else None

    def split(self, facets: list[str]) -> list[str]:
        """Return the facets in which they differ, or may differ from being without."""
        return [
            facet
            for facet in facets
            if (values := self.values(facet)) and self.counts[frozenset([(facet, values[0])])] != self.rows
        ]


def single(texts: pa.ChunkedArray, reading: FacetReading) -> pa.Array:
    """Return a facet's value for each row whose text was returned exactly once; null for the others."""
    found = pa.table({"text": reading.texts, "value": reading.values}).group_by("text")
    counted = found.aggregate([("value", "count"), ("value", "min")])
    once = counted.filter(pc.equal(counted["value_count"], 1))
    at = pc.index_in(texts, value_set=once["text"].combine_chunks())
    values = once["value_min"].combine_chunks().take(at)
    return values.combine_chunks() if isinstance(values, pa.ChunkedArray) else values


def find_twins(texts: pa.ChunkedArray, readings: list[FacetReading]) -> list[Twins]:
    """Return every text that stands more than once, with what the readings say of it."""
    counted = texts.value_counts()
    several = counted.filter(pc.greater(counted.field("counts"), 1))
    twins = {entry["values"]: Twins(entry["values"], entry["counts"]) for entry in several.to_pylist()}
    known = pa.array(list(twins), pa.string())
    for reading in readings:
        mine = pc.is_in(reading.texts, value_set=known)
        pairs = zip(reading.texts.filter(mine).to_pylist(), reading.values.filter(mine).to_pylist(), strict=True)
        for (text, value), count in Counter(pairs).items():
            twins[text].counts[frozenset([(reading.facet, value)])] = count
    return list(twins.values())


def distribute(twins: Twins, facets: list[str]) -> list[dict[str, str]]:
    """Return the values of each twin, so that every count holds; a facet that stays ambiguous is left out.

    Counts of combined filters must be in `twins.counts` for the facets in which the twins differ; a combination that
    is missing makes its later facet ambiguous.
    """
    cells: list[tuple[dict[str, str | None], int]] = [({}, twins.rows)]
    for facet in facets:
        split = _split_cells(twins, cells, facet)
        if split is not None:
            cells = split
    return [
        {facet: value for facet, value in cell.items() if value is not None}
        for cell, count in cells
        for _ in range(count)
    ]


def wanted_counts(twins: Twins, facets: list[str]) -> list[frozenset[Filter]]:
    """Return the combinations of filters whose counts `distribute` lacks: pairs of values that may meet, and so on.

    What follows from other counts is not among them: of a facet that all twins have, one value.
    """
    split = twins.split(facets)
    combinations: list[frozenset[Filter]] = [frozenset()]
    for facet in split:
        values = [(facet, value) for value in twins.values(facet) if value != twins.implied(facet)]
        combinations += [filters | {value} for filters in combinations for value in values]
    return [filters for filters in combinations if len(filters) > 1 and filters not in twins.counts]


def _split_cells(
    twins: Twins, cells: list[tuple[dict[str, str | None], int]], facet: str
) -> list[tuple[dict[str, str | None], int]] | None:
    """Split each cell by a facet's values; None when a count is missing or the counts contradict each other."""
    split = []
    for cell, count in cells:
        left = count
        for value in twins.values(facet):
            part = _count(twins, {**cell, facet: value})
            if part is None or part < 0 or part > left:
                return None
            if part:
                split.append(({**cell, facet: value}, part))
            left -= part
        if left:
            split.append(({**cell, facet: None}, left))
    return split


def _count(twins: Twins, cell: Mapping[str, str | None]) -> int | None:
    """Count the twins of a cell; a facet with None means that the twin has none of its known values."""
    implied = next((facet for facet, value in cell.items() if value is None or value == twins.implied(facet)), None)
    if implied is None:
        return _lookup(twins, cell)
    rest = {facet: value for facet, value in cell.items() if facet != implied}
    total = _count(twins, rest)
    for value in twins.values(implied):
        if value == cell[implied]:
            continue
        part = _count(twins, {**rest, implied: value})
        if total is None or part is None:
            return None
        total -= part
    return total


def _lookup(twins: Twins, cell: Mapping[str, str | None]) -> int | None:
    # A value that all of them have restricts nothing.
    filters = ((facet, value) for facet, value in cell.items() if value is not None)
    telling = frozenset(one for one in filters if twins.counts.get(frozenset([one])) != twins.rows)
    return twins.rows if not telling else twins.counts.get(telling)


def facet_of(field: str) -> str | None:
    """Return the facet whose filter compares a field of a record, given as a path with dots; None for none."""
    name = field.replace(".", "_")
    return name if name in CANDIDATES else None
