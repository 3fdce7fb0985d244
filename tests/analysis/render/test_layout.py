"""Columns and texts fit into a line, and words stay whole."""

from __future__ import annotations

from hypothesis import given
from hypothesis import strategies as st
from rich.cells import cell_len

from cfaudit_export.analysis.render.layout import blocks, folded, widths

cells = st.lists(st.text("abc dé☕", max_size=40), min_size=1, max_size=4)


def test_a_table_that_fits_is_left_as_it_is() -> None:
    assert widths([["actor", "ada@example.com"], ["n", "12"]], 80) == [15, 2]


def test_texts_of_many_words_give_way_first() -> None:
    columns = [["2026-11-20"], ["dana.whitfield@example.com"], ["one two three four five six seven eight nine ten"]]
    assert widths(columns, 60) == [10, 26, 22]


def test_no_column_is_narrower_than_its_longest_word() -> None:
    assert widths([["x" * 32], ["short"]], 40) == [32, 5]
    assert widths([["x" * 36], ["short"]], 40) is None


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


def test_a_row_without_room_is_a_block_of_lines_and_empty_cells_are_left_out() -> None:
    rows = [("out/a", "two words here", ""), ("out/b", "", "7")]
    assert list(blocks(("file", "why", "n"), rows, 14)) == [
        "file  out/a",
        "why   two\n      words\n      here",
        "",
        "file  out/b",
        "n     7",
    ]


def test_a_text_in_quotes_is_one_word() -> None:
    assert folded("see 'cfaudit-export gaps' and say so", 20) == "see\n  'cfaudit-export gaps'\n  and say so"
    assert folded("Cloudflare's rows, the sink's reason", 20) == "Cloudflare's rows,\n  the sink's reason"


@given(text=st.text("ab '☕", max_size=80), room=st.integers(1, 60), indent=st.integers(0, 8))
def test_a_folded_text_has_the_same_words_on_lines_that_fit(text: str, room: int, indent: int) -> None:
    lines = folded(text, room, indent=indent).split("\n")
    assert " ".join(lines).split() == text.split()
    for line in lines:
        assert cell_len(line) <= room or len(line.split()) == 1 or line.count("'") >= 2 or len(lines) == 1
