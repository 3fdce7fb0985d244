"""Columns fit into a line, and words stay whole while that is possible."""

from __future__ import annotations

from hypothesis import given
from hypothesis import strategies as st
from rich.cells import cell_len

from cfaudit_export.analysis.render.widths import widths

cells = st.lists(st.text("abc dé☕", max_size=40), min_size=1, max_size=4)


def test_a_table_that_fits_is_left_as_it_is() -> None:
    assert widths([["actor", "ada@example.com"], ["n", "12"]], 80) == [15, 2]


def test_texts_of_many_words_give_way_first() -> None:
    columns = [["2026-11-20"], ["dana.whitfield@example.com"], ["one two three four five six seven eight nine ten"]]
    assert widths(columns, 60) == [10, 26, 22]


def test_long_words_are_broken_where_nothing_else_helps() -> None:
    assert widths([["x" * 100], ["short"]], 40) == [34, 5]


def test_too_many_columns_do_not_fit() -> None:
    assert widths([["something long"]] * 20, 80) is None
    assert widths([["x"]] * 41, 80) is None


@given(columns=st.lists(cells, min_size=1, max_size=12), room=st.integers(20, 120))
def test_what_fits_fits_and_no_column_is_wider_than_its_texts(columns: list[list[str]], room: int) -> None:
    found = widths(columns, room)
    if found is not None:
        assert sum(found) + len(columns) - 1 <= room
        for width, column in zip(found, columns, strict=True):
            assert width <= max(map(cell_len, column))
