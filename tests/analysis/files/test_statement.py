"""SQL in, answers in every form out, errors on one line."""

from __future__ import annotations

import csv
import json
from collections.abc import Callable
from datetime import UTC, datetime
from io import BytesIO, StringIO
from pathlib import Path
from typing import Any

import pyarrow.parquet as pq
import pytest

from cfaudit_export.analysis.files.statement import answers, is_complete
from cfaudit_export.cli.formats import TEXT_FORMS, rows, shown, write_parquet
from cfaudit_export.errors import SettingsError, UsageError

NOON = datetime(2026, 11, 10, 12, 0, 0, 123_000, tzinfo=UTC)
KINDS = """SELECT 1::TINYINT AS i, 170141183460469231731687303715884105727::HUGEINT AS h, 1.5::DECIMAL(9, 2) AS d,
    'NaN'::DOUBLE AS f, TRUE AS b, NULL AS n, 'ü"\n' AS t, event_time AS e, DATE '2026-01-02' AS day,
    TIME '10:00' AS clock, [1, 2] AS l, {'a': [1.5]} AS s, MAP {'k': 1} AS m, '\\x00\\xFF'::BLOB AS x,
    INTERVAL 90 SECOND AS v, uuid '00000000-0000-0000-0000-000000000001' AS u FROM audit_events LIMIT 1"""


@pytest.fixture
def data(tmp_path: Path, store_rows: Callable[..., Path], opened: Callable[..., Any]) -> Any:
    return opened(store_rows(tmp_path, [{"event_time": NOON, "actor_email": f"u{n}@example.com"} for n in range(3)]))


def text(data: Any, query: str, form: str) -> str:
    stream = StringIO()
    for answer in answers(data, query):
        TEXT_FORMS[form](answer, stream)
    return stream.getvalue()


def test_every_kind_of_value_has_a_form(data: Any) -> None:
    [row] = json.loads(text(data, KINDS, "json"))
    assert row == {
        "i": 1,
        "h": 2**127 - 1,
        "d": 1.5,
        "f": None,
        "b": True,
        "n": None,
        "t": 'ü"\n',
        "e": "2026-11-10T12:00:00.123Z",
        "day": "2026-01-02",
        "clock": "10:00:00",
        "l": [1, 2],
        "s": {"a": [1.5]},
        "m": [["k", 1]],
        "x": "AP8=",
        "v": row["v"],
        "u": "00000000-0000-0000-0000-000000000001",
    }
    assert json.loads(text(data, KINDS, "ndjson")) == row
    [names, cells] = csv.reader(StringIO(text(data, KINDS, "csv")))
    assert names == list(row)
    assert cells[:8] == ["1", str(2**127 - 1), "1.5", "", "true", "", 'ü"\n', "2026-11-10T12:00:00.123Z"]


BREAKS = "\r\n\v\f\x1c\x1d\x1e\x85\u2028\u2029"


@pytest.mark.parametrize("form", ["csv", "raw-csv"])
def test_no_character_of_a_text_ends_a_row_of_csv(form: str, data: Any) -> None:
    """What ends a line somewhere: RFC 4180 wants such texts in quotes."""
    cells = [f"a{mark}b" for mark in BREAKS]
    columns = ", ".join(f"'a' || chr({ord(mark)}) || 'b' AS c{number}" for number, mark in enumerate(BREAKS))
    written = text(data, f"SELECT 1 AS n, NULL AS z, 'q\"' AS q, {columns}, ',' AS k", form)
    [_, row] = csv.reader(StringIO(written, newline=""))
    if form == "raw-csv":
        assert row == ["1", "", 'q"', *cells, ","]
        assert all(f',"{cell}",' in written for cell in cells)
    else:
        assert len(row) == len(cells) + 4
        assert "".join(row).replace("\n", "").isprintable()


@pytest.mark.parametrize("form", [*TEXT_FORMS])
def test_a_value_that_has_no_form_is_named_and_does_not_stop_the_next_statement(form: str, data: Any) -> None:
    for query in ("TIMESTAMPTZ 'infinity'", "TIMESTAMP_NS '2020-01-01 00:00:00.000000001'", "DATE '10000-01-01'"):
        with pytest.raises(UsageError, match=r"column 'late' cannot be shown \(.*\); cast it to VARCHAR"):
            text(data, f"SELECT {query} AS late", form)
        assert text(data, f"SELECT ({query})::VARCHAR AS late", form)


def test_answers_without_rows_are_valid_too(data: Any) -> None:
    none = "SELECT event_id, event_time FROM audit_events WHERE FALSE"
    assert json.loads(text(data, none, "json")) == []
    assert text(data, none, "ndjson") == ""
    assert text(data, none, "csv") == "event_id,event_time\n"
    stream = BytesIO()
    [answer] = answers(data, none)
    write_parquet(answer, stream)
    assert pq.read_table(stream).num_rows == 0


def test_parquet_holds_what_was_asked(data: Any) -> None:
    stream = BytesIO()
    [answer] = answers(data, "SELECT actor_email, event_time, 1 AS n, 2 AS n FROM audit_events ORDER BY ALL")
    write_parquet(answer, stream)
    table = pq.read_table(stream)
    assert table.column_names == ["actor_email", "event_time", "n", "n_2"]
    assert table["event_time"].to_pylist() == [NOON] * 3
    assert str(table.schema.field("event_time").type) == "timestamp[us, tz=UTC]"


def test_columns_of_one_name_do_not_hide_each_other(data: Any) -> None:
    assert json.loads(text(data, "SELECT 1 AS a, 2 AS a, 3 AS a_2, 4 AS a", "ndjson")) == {
        "a": 1,
        "a_2": 2,
        "a_2_2": 3,
        "a_3": 4,
    }


def test_statements_are_answered_in_order_and_may_build_on_each_other(data: Any) -> None:
    query = "CREATE TEMP TABLE mine AS FROM audit_events LIMIT 2; SELECT count(*) AS n FROM mine; SELECT 'a;b' AS t"
    found = [list(rows(answer)) for answer in answers(data, query)]
    assert found[1:] == [[[2]], [["a;b"]]]


def test_a_long_answer_is_not_held_in_memory(data: Any) -> None:
    [answer] = answers(data, "SELECT * FROM range(100_000_000)")
    first = next(rows(answer))
    assert first == [0]


@pytest.mark.parametrize(
    ("query", "message"),
    [
        ("SELEC 1", 'SQL: syntax error at or near "SELEC" (line 1)'),
        ("SELECT *\nFROM audit", "SQL: table with name audit does not exist; the events are in audit_events"),
        ("SELECT actor FROM audit_events", "SQL: referenced column"),
        ("SELECT 'a'::INT", "SQL: could not convert string 'a' to INT32"),
        ("SELECT 1;\nSELECT 1 +", 'SQL: syntax error at or near "+" (line 2)'),
        ("SELECT error('boom')", "SQL: boom"),
        ("COPY audit_events TO 'x.csv'", "SQL can read audit_events here, and no file, network or setting: "),
        ("SELECT $x", "SQL: values were not provided for the following parameters: x"),
    ],
)
def test_a_mistake_is_one_clear_line(data: Any, query: str, message: str) -> None:
    with pytest.raises(UsageError) as wrong:
        text(data, query, "ndjson")
    assert str(wrong.value).startswith(message)
    assert "\n" not in str(wrong.value)


def test_a_damaged_file_is_not_the_fault_of_the_query(data: Any, tmp_path: Path) -> None:
    [path] = tmp_path.rglob("*.parquet")
    content = bytearray(path.read_bytes())
    content[4:60] = bytes(56)
    path.write_bytes(content)
    with pytest.raises(SettingsError, match=r"\.parquet' of .* is damaged"):
        text(data, "SELECT max(event_id || event_key || actor_email) FROM audit_events", "csv")


def test_a_terminal_is_shown_csv_without_what_it_would_obey(data: Any) -> None:
    class Terminal(StringIO):
        def isatty(self) -> bool:
            return True

    stream = Terminal()
    [answer] = answers(data, "SELECT chr(27) || '[2J' AS a, 'ok' AS b")
    TEXT_FORMS["csv"](answer, stream)
    assert stream.getvalue() == "a,b\n\\x1b[2J,ok\n"
    assert text(data, "SELECT chr(27) || '[2J' AS a", "raw-csv") == "a\n\x1b[2J\n"


@pytest.mark.parametrize("start", ["=", "+", "-", "@", "\t", "\r", "＝"])  # noqa: RUF001 - spreadsheets read it so
def test_csv_has_no_formulas_unless_it_is_asked_for_as_it_is(data: Any, start: str) -> None:
    query = f"SELECT '{start}HYPERLINK(1)' AS a, -5 AS b, -0.5 AS c"
    shown = {"\t": "\\t", "\r": "\\r"}.get(start, start)
    assert text(data, query, "csv") == f"a,b,c\n'{shown}HYPERLINK(1),-5,-0.5\n"
    raw = f'"{start}HYPERLINK(1)"' if start == "\r" else f"{start}HYPERLINK(1)"
    assert text(data, query, "raw-csv").endswith(f"\n{raw},-5,-0.5\n")


def test_csv_shows_what_a_terminal_obeys_and_what_turns_text_round(data: Any) -> None:
    query = "SELECT chr(27) || '[2J' || chr(8238) || 'x' || chr(10) || 'line' AS a"
    assert text(data, query, "csv") == 'a\n"\\x1b[2J\\u202ex\nline"\n'


@pytest.mark.parametrize(
    "statement",
    [
        "CREATE OR REPLACE TEMP VIEW audit_events AS SELECT 1 AS a",
        'CREATE OR REPLACE VIEW "AUDIT_EVENTS" AS SELECT 1 AS a',
        "CREATE TABLE audit_events AS SELECT 1 AS a",
        "DROP VIEW audit_events",
        "DROP VIEW current_events",
        "EXPLAIN ANALYZE CREATE OR REPLACE TEMP VIEW audit_events AS SELECT 1 AS a",
        "BEGIN",
    ],
)
def test_the_events_cannot_be_redefined(data: Any, statement: str) -> None:
    before = text(data, "SELECT count(*) AS n FROM audit_events", "csv")
    with pytest.raises(UsageError):
        text(data, statement, "csv")
    assert text(data, "SELECT count(*) AS n FROM audit_events", "csv") == before


@pytest.mark.parametrize(
    ("typed", "complete"),
    [
        ("SELECT 1;", True),
        ("SELECT 1; ", True),
        ("SELECT 1", False),
        ("SELECT ';", False),
        ("SELECT ';'", False),
        ("SELECT 'it''s;';", True),
        ('SELECT ";" FROM x;', True),
        ("SELECT 1 -- not yet;", False),
        ("SELECT 1; -- done", True),
        ("SELECT /* ; */ 1", False),
        ("SELECT 1 /* ; */;", True),
        ("", False),
    ],
)
def test_a_statement_ends_with_a_semicolon_that_is_no_text(typed: str, complete: bool) -> None:  # noqa: FBT001 - given by the parametrization
    assert is_complete(typed) is complete


def test_a_null_is_an_empty_cell_and_a_list_is_json() -> None:
    assert (shown(None), shown([1, "ü"]), shown("x"), shown(1.5)) == ("", '[1, "ü"]', "x", "1.5")
