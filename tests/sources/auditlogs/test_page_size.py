"""How many rows a page is asked for: soon as many as fit, never more than bearable, and no question without end."""

from __future__ import annotations

from itertools import pairwise

from hypothesis import given, settings
from hypothesis import strategies as st

from cfaudit_export.sources.auditlogs.page_size import COMFORT_BYTES, PageSize
from cfaudit_export.sources.paging.query import MOST_ROWS

SIZES = st.integers(1, 6_000_000)


def best(row_bytes: int) -> int:
    return min(max(COMFORT_BYTES // row_bytes, 1), MOST_ROWS)


@settings(max_examples=200)
@given(st.lists(SIZES, max_size=4), SIZES)
def test_after_one_page_of_equal_rows_the_next_one_is_as_large_as_is_comfortable(
    before: list[int], row_bytes: int
) -> None:
    size = PageSize()
    for earlier in before:
        size.saw(size.rows, size.rows * earlier)
    size.saw(size.rows, size.rows * row_bytes)
    assert size.rows == best(row_bytes)
    size.saw(size.rows, size.rows * row_bytes)
    assert size.rows == best(row_bytes), "and it stays"


@settings(max_examples=200)
@given(st.lists(st.tuples(st.integers(0, MOST_ROWS), st.integers(0, 100_000_000)), max_size=20))
def test_whatever_comes_a_question_is_for_one_row_at_least_and_for_no_more_than_the_tool_gives(
    pages: list[tuple[int, int]],
) -> None:
    size = PageSize()
    for rows, reply_bytes in pages:
        known = size.rows
        size.saw(rows, reply_bytes)
        assert 1 <= size.rows <= MOST_ROWS
        assert rows or size.rows == known, "a page without rows tells nothing"


@settings(max_examples=200)
@given(st.integers(1, MOST_ROWS), st.integers(1, 2_000_000))
def test_replies_that_are_too_large_lead_to_one_that_fits_in_few_questions(asked: int, fit: int) -> None:
    """A server gives replies up to so many rows, and fails beyond."""
    size = PageSize()
    size.rows = asked
    questions = [size.rows]
    while questions[-1] > fit and size.shrink(questions[-1]):
        questions.append(size.rows)
    assert questions[-1] <= fit
    assert len(questions) <= 6, "each is a quarter of the one before"
    assert all(more > less for more, less in pairwise(questions))


def test_a_single_row_that_is_too_large_ends_the_search() -> None:
    size = PageSize()
    assert not size.shrink(1)
    assert size.rows == 1
    size.saw(1, 200)
    assert size.rows == MOST_ROWS, "and it grows again behind it"


def test_workers_that_are_refused_for_the_same_question_shrink_it_once() -> None:
    size = PageSize()
    assert [size.shrink(64), size.shrink(64)] == [True, True]
    assert size.rows == 16


@settings(max_examples=200)
@given(SIZES, st.integers(1, 16))
def test_with_large_rows_fewer_pages_are_on_their_way_and_none_is_read_that_would_not_fit(
    row_bytes: int, workers: int
) -> None:
    size = PageSize()
    assert size.at_once(workers) == workers, "nothing is known yet"
    size.saw(10, 10 * row_bytes)
    assert 1 <= size.at_once(workers) <= workers
    assert (size.at_once(workers) - 1) * size.rows * row_bytes <= 2 * COMFORT_BYTES
    assert size.at_once(workers) == workers or size.rows * row_bytes * workers > COMFORT_BYTES
    assert PageSize.most_bytes(1) is None, "a single row may have what any reply may"
    assert COMFORT_BYTES < (PageSize.most_bytes(2) or 0) <= 4 * COMFORT_BYTES
