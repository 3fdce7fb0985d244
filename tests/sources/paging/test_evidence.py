"""What pages show: nothing is taken for read that they do not, and pieces are made of nothing else."""

from __future__ import annotations

import ast
from pathlib import Path

import pyarrow as pa
import pytest
from hypothesis import given
from hypothesis import strategies as st

import cfaudit_export
from cfaudit_export.sources.auditlogs.decode import PAGE_SCHEMA
from cfaudit_export.sources.paging.counted import placed
from cfaudit_export.sources.paging.evidence import Chain, Dark, Read, joined
from cfaudit_export.sources.paging.habits import Habits
from cfaudit_export.sources.paging.page import Page
from cfaudit_export.sources.paging.query import Issue, Query, Rejection, Unreadable
from cfaudit_export.sources.paging.refused import Search, passed
from cfaudit_export.sources.paging.rows import are_all

END = 30
TIMES = st.lists(st.integers(0, END - 1), max_size=24).map(sorted)


def table(times_ms: list[int], texts: list[str] | None = None) -> pa.Table:
    columns: dict[str, list[object]] = {name: [None] * len(times_ms) for name in PAGE_SCHEMA.names}
    columns["event_time"] = [at * 1_000_000 for at in times_ms]
    columns["event_raw"] = list(texts or [f'{{"at":{at}}}' for at in times_ms])
    return pa.table(columns, schema=PAGE_SCHEMA)


def milliseconds(rows: pa.Table) -> list[int]:
    return [at.value // 1_000_000 for at in rows["event_time"]]


def test_nothing_but_the_module_of_evidence_says_that_time_was_read() -> None:
    root = Path(cfaudit_export.__file__).parent
    callers = {
        path.relative_to(root).as_posix()
        for path in (root / "sources").rglob("*.py")
        for node in ast.walk(ast.parse(path.read_text("utf-8")))
        if isinstance(node, ast.Call) and isinstance(node.func, ast.Name) and node.func.id in ("Read", "Piece")
    }
    assert callers == {"sources/paging/evidence.py"}


@given(
    times=TIMES,
    page=st.integers(1, 7),
    pages=st.integers(0, 30),
    is_backward=st.booleans(),
    is_taken_early=st.booleans(),
)
def test_a_chain_gives_the_rows_of_what_its_pages_show_and_nothing_beyond(
    *, times: list[int], page: int, pages: int, is_backward: bool, is_taken_early: bool
) -> None:
    chain = Chain(Query(0, END, page, "desc" if is_backward else "asc"))
    left = times[::-1] if is_backward else times
    parts = []
    for number in range(pages):
        mine, left = left[:page], left[page:]
        chain.add(Page(table(sorted(mine)), str(number) if left else None), ended=not left)
        if is_taken_early:
            parts += chain.take(PAGE_SCHEMA)
        if chain.ended:
            break
    reached = chain.reached
    parts += chain.take(PAGE_SCHEMA)
    parts.sort(key=lambda part: part.since_ms)
    covered = (reached, END) if is_backward else (0, reached)
    if chain.ended:
        assert covered == (0, END)
    if not parts:
        assert covered[0] == covered[1]
        return
    piece = joined(parts, PAGE_SCHEMA, 1)
    assert (piece.since_ms, piece.before_ms) == covered
    assert milliseconds(piece.rows) == [at for at in times if covered[0] <= at < covered[1]]


def test_a_piece_with_a_hole_cannot_be_made() -> None:
    first, second = Chain(Query(0, 10, 5)), Chain(Query(11, 20, 5))
    for chain in (first, second):
        chain.add(Page(table([]), None), ended=True)
    with pytest.raises(RuntimeError, match="no hole"):
        joined([*first.take(PAGE_SCHEMA), *second.take(PAGE_SCHEMA)], PAGE_SCHEMA, 2)


def test_what_a_page_leaves_out_is_dark_and_the_rest_is_read() -> None:
    chain = Chain(Query(0, END, 5))
    chain.add(Page(table([3, 5, 5, 8]), None, unreadable=(Unreadable(5, 6, 1, "too large"),)), ended=True)
    parts = chain.take(PAGE_SCHEMA)
    assert [(type(part), part.since_ms, part.before_ms, milliseconds(part.rows)) for part in parts] == [
        (Read, 0, 5, [3]),
        (Dark, 5, 6, [5, 5]),
        (Read, 6, END, [8]),
    ]


@given(times=st.lists(st.integers(0, 3), max_size=12).map(sorted), cap=st.integers(1, 8), are_distinct=st.booleans())
def test_a_page_that_is_the_same_from_both_ends_is_all_there_is(
    *, times: list[int], cap: int, are_distinct: bool
) -> None:
    rows = [(at, f"{at}/{place if are_distinct or len(set(times)) == 1 else 0}") for place, at in enumerate(times)]
    forward, backward = rows[:cap], rows[::-1][:cap]
    if len({at for at, _ in backward}) > 1:
        backward.sort(key=lambda row: row[0])  # as a page is handed on
    pages = [table([at for at, _ in page], [text for _, text in page]) for page in (forward, backward)]
    if are_all(*pages):
        assert len(rows) <= cap
    elif rows and len(rows) <= cap and are_distinct:
        pytest.fail("a whole page was not recognised")


def test_the_size_of_a_page_tells_that_it_is_the_last_one_only_beside_a_larger_one() -> None:
    habits = Habits()
    small, large = Page(table([1]), None), Page(table([1, 2, 3]), None)
    assert habits.is_last(Page(table([]), None))
    assert not habits.is_last(small)
    habits.saw(large.rows)
    assert habits.is_last(small)
    assert not habits.is_last(large)
    assert not habits.is_last(Page(small.rows, "cursor"))
    assert not habits.is_last(Page(small.rows, None, asked=1))
    long = Page(table([1], ["x" * 10_000]), None)  # fewer rows, and more bytes: it may be cut
    assert not habits.is_last(long)


def test_refused_rows_are_placed_only_if_all_of_them_are() -> None:
    dark = Dark(Unreadable(10, 20, 2, "odd"), table([10, 19]))
    parts = placed(dark, [(12, 13, 1), (15, 16, 1)])
    assert [(type(part), part.since_ms, part.before_ms, milliseconds(part.rows)) for part in parts] == [
        (Read, 10, 12, [10]),
        (Dark, 12, 13, []),
        (Read, 13, 15, []),
        (Dark, 15, 16, []),
        (Read, 16, 20, [19]),
    ]
    with pytest.raises(RuntimeError, match="add up"):
        placed(dark, [(12, 13, 1)])


def issues(*places: int, field: str = "f") -> tuple[Issue, ...]:
    return tuple(Issue(place, field, "odd") for place in places)


def test_two_refusals_laid_over_each_other_tell_how_many_refused_rows_lie_between_their_starts() -> None:
    first = issues(5, 9, 20, 21, 40)
    assert passed(first, Rejection(issues(0, 4, 15, 16, 35))) == 0
    assert passed(first, Rejection(issues(2, 13, 14, 33, 60))) == 1
    assert passed(first, Rejection(issues(0, 1, 20))) == 2
    assert passed(first, Rejection(issues(17, 99))) == 4
    assert passed(first, Rejection(issues(17, field="another"))) == 5
    assert passed(first, Page(table([]), None)) == 5


def test_nothing_refused_lies_before_the_floor_of_a_search() -> None:
    search = Search(issues(0, 1, 2, 3), low=-1, high=1000, spacing=1.0, page=1000)
    search.note(100, Rejection(issues(0, 1, 2, 3)))
    search.note(200, Rejection(issues(0, 1)))  # two of the run lie before: it is asked from its middle
    assert search.low == 200
    assert search.floor == 99
