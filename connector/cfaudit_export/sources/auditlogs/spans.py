"""A piece with rejected rows -> intervals of it, each of which fits one page and can be asked for by itself."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass

import pyarrow as pa

from cfaudit_export.sources.paging.query import Query

Hole = tuple[int, int, int]
"""Where rejected rows are, `[since, before)` in milliseconds, and how many."""
_Stand = tuple[int, int, int, int]
# Nothing stands within so many milliseconds of a cut, whatever the ends of a question include.
_APART_MS = 4


@dataclass(frozen=True, slots=True)
class Interval:
    """Milliseconds `[since, before)` that fit into one page; nothing else is near enough to be in its answer.

    Attributes:
        since_ms: its first millisecond.
        before_ms: the first one after it.
        rows: its readable rows.
        holes: where its rejected rows are, ascending.
    """

    since_ms: int
    before_ms: int
    rows: pa.Table
    holes: tuple[Hole, ...]

    @property
    def rejected(self) -> int:
        """Return how many rejected rows there are."""
        return sum(count for _, _, count in self.holes)

    def halves(self) -> tuple[Interval, ...]:
        """Return two intervals of about as many rows; one where it cannot be cut."""
        stands = _stands(self.rows, self.holes)
        first, *more = _cut(self.rows, stands, len(stands) // 2)
        if not more:
            return (first,)
        rest = sum(one.rows.num_rows for one in more)
        holes = tuple(hole for one in more for hole in one.holes)
        return first, Interval(more[0].since_ms, self.before_ms, self.rows.slice(self.rows.num_rows - rest), holes)


def intervals(plain: Query, exclusive: Query, rows: pa.Table, rejected: Iterable[Hole]) -> tuple[Interval, ...]:
    """Return intervals that hold all rows of a piece; none where the piece cannot be cut so.

    Args:
        plain: the question for the whole piece, that covers all of it.
        exclusive: the same, that reaches nowhere beyond it.
        rows: the readable rows, ascending.
        rejected: where rejected rows are, and how many; ascending.
    """
    least, most = plain.since_ms + plain.padding.since_ms, plain.before_ms + min(exclusive.padding.before_ms, 0)
    if not plain.padding.learned:
        least, most = plain.since_ms + _APART_MS, plain.before_ms - _APART_MS
    # Of a long stretch it does not matter where exactly the question begins.
    within = [
        (max(one[0], least), min(one[1], most), one[2]) if one[1] - one[0] > 2 * _APART_MS else one for one in rejected
    ]
    stands = _stands(rows, within)
    if not stands or any(not count for _, _, count, _ in stands):
        return ()
    if stands[0][0] < least or max(before for _, before, _, _ in stands) > most:
        return ()  # what stands at an end cannot be asked for without what is beyond it
    cut = tuple(_cut(rows, stands, plain.limit // 2))
    return cut if all(one.rows.num_rows + one.rejected <= plain.limit for one in cut) else ()


def _cut(rows: pa.Table, stands: Sequence[_Stand], most: int) -> Iterator[Interval]:
    readable = 0
    for run in _runs(stands, most):
        mine = sum(is_readable for *_, is_readable in run)
        holes = tuple((since, before, number) for since, before, number, is_readable in run if not is_readable)
        yield Interval(run[0][0], max(before for _, before, _, _ in run), rows.slice(readable, mine), holes)
        readable += mine


def _stands(rows: pa.Table, rejected: Iterable[Hole]) -> list[_Stand]:
    """Return what stands where, rows and rejected rows, by time."""
    times = (at // 1_000_000 for at in rows["event_time"].cast(pa.int64()).to_pylist())
    return sorted([(at, at + 1, 1, 1) for at in times] + [(*hole, 0) for hole in rejected])


def _runs(stands: Sequence[_Stand], most: int) -> Iterator[list[_Stand]]:
    """Cut where something is far enough from what comes before it, in runs of not much more than `most` rows."""
    run: list[_Stand] = []
    rows, end = 0, 0
    for stand in stands:
        if run and rows >= most and stand[0] - end >= _APART_MS:
            yield run
            run, rows = [], 0
        run.append(stand)
        rows += stand[2]
        end = max(end, stand[1])
    yield run
