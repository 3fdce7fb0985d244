"""Events that stand for rows which could not be read, and the rows that replace them later.

A shadow is named by its millisecond and its number there, and by nothing else (`identity.shadow_key`). So the keys
that a sink has of a gap say which shadows it has, whatever was known of them when they were delivered.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping
from dataclasses import replace
from datetime import datetime, timedelta
from itertools import count, takewhile

import pyarrow as pa
import pyarrow.compute as pc

from cfaudit_export.core.identity import shadow_key
from cfaudit_export.core.intervals import intersect
from cfaudit_export.core.model import MILLISECOND, Gap, Seen, SeenWindow, Window
from cfaudit_export.pipeline.dedup.seen import packed, split, within
from cfaudit_export.schema import SHADOW

# Shadows stand in gaps of a millisecond. Gaps that touch are one in the memory of a sink; longer ones have none.
_LONGEST_GAP = timedelta(seconds=10)

HeldShadows = Mapping[datetime, tuple[str, ...]]
"""Ids of the shadows that a sink has, by millisecond."""


def name_shadows(gaps: Iterable[Gap], table: pa.Table) -> tuple[Gap, ...]:
    """Return the gaps with the ids of the shadows that stand for their rows."""
    shadows = table.filter(pc.equal(table["fidelity"], SHADOW))
    if not shadows.num_rows:
        return tuple(gaps)
    return tuple(replace(gap, shadows=tuple(within(shadows, [gap.window])["event_id"].to_pylist())) for gap in gaps)


def held_shadows(seen: Seen, account_id: str, window: Window) -> HeldShadows:
    """Return what a sink has of shadows in a window."""
    found: dict[datetime, tuple[str, ...]] = {}
    for gap in seen.gaps:
        keys = split(gap.keys)
        for inside in intersect([gap.window], [window]) if gap.window.duration <= _LONGEST_GAP else ():
            for at in _milliseconds(inside):
                found[at] = tuple(_had(keys, (shadow_key(account_id, at, number) for number in count())))
    return {at: names for at, names in found.items() if names}


def remaining_shadows(held: HeldShadows, rows: pa.Table, gaps: Iterable[Gap]) -> HeldShadows:
    """Return the shadows that still stand for a row that cannot be read, by what a reading of their window brought.

    Where the reading cast shadows of its own there are just as many; else a gap says how many rows it has, or all.
    """
    gaps = tuple(gaps)
    return {at: names[: _still_odd(at, rows, gaps, len(names))] for at, names in held.items()}


def replace_shadows(new: pa.Table, held: HeldShadows, remaining: HeldShadows) -> pa.Table:
    """Say in `replaces` of new events which shadows they take the place of: those that do not remain."""
    replaces: dict[int, str] = {}
    for at, names in held.items():
        mine = pc.and_(_is_at(new, at), pc.not_equal(new["fidelity"], SHADOW))
        replaces.update(zip(pc.indices_nonzero(mine).to_pylist(), names[len(remaining[at]) :], strict=False))
    if not replaces:
        return new
    column = pa.array([replaces.get(row) for row in range(new.num_rows)], pa.string())
    return new.set_column(new.schema.get_field_index("replaces"), new.schema.field("replaces"), column)


def keep_shadows(gaps: Iterable[SeenWindow], remaining: HeldShadows) -> tuple[SeenWindow, ...]:
    """Return the entries of gaps with the keys of shadows that remain, though this reading cast none of its own."""
    kept = []
    for gap in gaps:
        had = split(gap.keys)
        inside = (names for at, names in remaining.items() if gap.window.since <= at < gap.window.before)
        more = (key for names in inside for key in map(packed, names) if key not in had)
        kept.append(replace(gap, keys=gap.keys + "".join(more)))
    return tuple(kept)


def _had(keys: set[str], names: Iterable[str]) -> Iterator[str]:
    return takewhile(lambda name: packed(name) in keys, names)


def _still_odd(at: datetime, rows: pa.Table, gaps: tuple[Gap, ...], most: int) -> int:
    here = [gap.rows or most for gap in gaps if gap.window.since <= at < gap.window.before]
    cast: int = pc.sum(pc.and_(_is_at(rows, at), pc.equal(rows["fidelity"], SHADOW))).as_py() or 0
    return min(cast or sum(here), most) if here else 0


def _is_at(rows: pa.Table, at: datetime) -> pa.ChunkedArray:
    times = rows["event_time"]
    since, before = (pa.scalar(end, times.type) for end in (at, at + MILLISECOND))
    return pc.and_(pc.greater_equal(times, since), pc.less(times, before))


def _milliseconds(window: Window) -> Iterator[datetime]:
    at = window.since
    while at < window.before:
        yield at
        at += MILLISECOND
