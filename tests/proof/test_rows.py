"""Digests of rows: those of RFC 8785, whatever the order, the split and the writer."""

from __future__ import annotations

import hashlib
import json
import random
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import duckdb
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
import rfc8785
from hypothesis import given, settings
from hypothesis import strategies as st

from cfaudit_export import read_batch
from cfaudit_export.proof.rows import BODIES, KEPT, PLACED, body_digests, ids_sha256, leaves, rows_sha256
from cfaudit_export.schema import COLUMNS, schema
from cfaudit_export.testing import make_batch

EPOCH = datetime(1970, 1, 1, tzinfo=UTC)
ODD = '\x00\x01\b\t\n\f\r\x1f"\\/\x7f\u2028\u2029\ufeff\uffff\U0001f600é'
texts = st.text(st.characters(codec="utf-8") | st.sampled_from(ODD), max_size=12)
VALUES: dict[str, st.SearchStrategy[Any]] = {
    "string": texts,
    "json": texts,
    "int32": st.integers(-(2**31), 2**31 - 1),
    "timestamp": st.datetimes(timezones=st.just(UTC)),
}
NONCE = {"body_nonce": st.binary(max_size=32).map(bytes.hex) | st.none()}
rows = st.fixed_dictionaries({one.name: VALUES[one.kind] | st.none() for one in COLUMNS} | NONCE)


def table(some: list[dict[str, Any]]) -> pa.Table:
    return pa.Table.from_pylist(some, pa.schema([pa.field(one.name, one.type) for one in schema()]))


def plain_leaf(row: dict[str, Any]) -> bytes:
    """Return the leaf as the definition says it, with the library of others."""
    said: dict[str, Any] = {}
    nonce = bytes.fromhex(row["body_nonce"] or "")
    for name, value in row.items():
        if value is None or name in PLACED:
            continue
        if name in BODIES:
            said[name] = hashlib.sha256(nonce + value.encode()).hexdigest()
        elif isinstance(value, datetime):
            number = (value - EPOCH) // timedelta(microseconds=1)
            said[name] = number if abs(number) < 2**53 else str(number)
        else:
            said[name] = value
    return hashlib.sha256(rfc8785.dumps(said)).digest()


@settings(max_examples=30)
@given(st.lists(rows, max_size=6))
def test_a_leaf_is_the_digest_of_the_row_as_the_library_of_others_writes_it(some: list[dict[str, Any]]) -> None:
    assert leaves(table(some)) == [plain_leaf(row) for row in some]


def test_made_up_records_have_the_leaves_of_the_definition(tmp_path: Path) -> None:
    events = read_batch(make_batch(tmp_path, rows=300, shape="whole"))
    assert leaves(events) == [plain_leaf(row) for row in events.to_pylist()]


@settings(max_examples=30)
@given(st.lists(rows, min_size=1, max_size=8), st.randoms(use_true_random=False), st.integers(1, 4))
def test_no_order_and_no_split_changes_the_digest(
    some: list[dict[str, Any]], chance: random.Random, parts: int
) -> None:
    whole = rows_sha256(leaves(table(some)))
    shuffled = chance.sample(some, len(some))
    cuts = sorted(chance.choices(range(len(some) + 1), k=parts))
    pieces = [shuffled[start:end] for start, end in zip([0, *cuts], [*cuts, len(some)], strict=True)]
    chunks = pa.concat_tables([table(piece) for piece in pieces])
    assert rows_sha256(leaves(chunks)) == whole
    assert rows_sha256([leaf for piece in pieces for leaf in leaves(table(piece))]) == whole
    ids = [str(row["event_id"]) for row in some]
    assert ids_sha256(ids) == ids_sha256(chance.sample(ids, len(ids)))


@settings(max_examples=30)
@given(st.lists(rows, min_size=1, max_size=3), st.data())
def test_a_changed_value_changes_the_digest(some: list[dict[str, Any]], data: st.DataObject) -> None:
    row = data.draw(st.integers(0, len(some) - 1))
    column = data.draw(st.sampled_from([one for one in COLUMNS if one.name not in PLACED]))
    other = data.draw((VALUES[column.kind] | st.none()).filter(lambda value: value != some[row][column.name]))
    changed = [dict(one) for one in some]
    changed[row][column.name] = other
    assert rows_sha256(leaves(table(changed))) != rows_sha256(leaves(table(some)))


def test_a_row_that_is_there_twice_changes_the_digest(tmp_path: Path) -> None:
    events = read_batch(make_batch(tmp_path, rows=3))
    assert rows_sha256(leaves(pa.concat_tables([events, events]))) != rows_sha256(leaves(events))


def test_another_writer_of_parquet_changes_nothing(tmp_path: Path) -> None:
    events = read_batch(make_batch(tmp_path, rows=500, shape="whole"))
    path = tmp_path / "others.parquet"
    pq.write_table(events, path, compression="gzip", row_group_size=37, use_dictionary=False, coerce_timestamps="us")
    assert leaves(pq.read_table(path)) == leaves(events)
    duckdb.sql(f"copy (from '{path}' order by event_id) to '{tmp_path}/again.parquet'")  # our own name
    again = pq.read_table(tmp_path / "again.parquet")
    assert rows_sha256(leaves(again)) == rows_sha256(leaves(events))


def test_dictionaries_views_and_large_texts_have_the_same_leaves(tmp_path: Path) -> None:
    events = read_batch(make_batch(tmp_path, rows=50, shape="whole"))
    email = events["actor_email"]
    place = events.schema.get_field_index("actor_email")
    for other in (email.dictionary_encode(), email.cast(pa.large_string()), email.cast(pa.string_view())):
        assert leaves(events.set_column(place, "actor_email", other)) == leaves(events)


def test_a_column_of_nulls_that_was_added_later_changes_no_leaf(tmp_path: Path) -> None:
    events = read_batch(make_batch(tmp_path, rows=5))
    later = events.append_column("a_new_column", pa.nulls(5, pa.string()))
    assert leaves(later) == leaves(events)
    assert leaves(events.append_column("a_new_column", pa.array(["x"] * 5))) != leaves(events)


def test_which_batch_a_row_is_of_is_not_in_its_leaf(tmp_path: Path) -> None:
    events = read_batch(make_batch(tmp_path, rows=5))
    others = events.drop_columns([name for name in ["batch_id"] if name in events.column_names])
    assert leaves(others.append_column("batch_id", pa.array(["b"] * 5))) == leaves(events)


def test_more_rows_than_are_taken_at_once_have_their_leaves_in_order(tmp_path: Path) -> None:
    events = read_batch(make_batch(tmp_path, rows=40_000))
    found = leaves(events)
    assert len(found) == 40_000
    assert found[33_333:33_336] == leaves(events.slice(33_333, 3))


def test_the_digest_of_ids_is_one_line_of_sql(tmp_path: Path) -> None:
    events = read_batch(make_batch(tmp_path, rows=100))
    query = "select sha256(string_agg(event_id, chr(10) order by event_id)) from events"
    [(said,)] = duckdb.sql(query).fetchall()
    assert ids_sha256(events["event_id"].to_pylist()) == said


def test_a_body_may_be_withheld_where_its_digest_is_kept(tmp_path: Path) -> None:
    events = read_batch(make_batch(tmp_path, rows=20, shape="whole"))
    kept = [
        rfc8785.dumps({name: hashlib.sha256(row[name].encode()).hexdigest() for name in BODIES if row[name]}).decode()
        for row in events.to_pylist()
    ]
    erased = events
    for name in BODIES:
        place = erased.schema.get_field_index(name)
        erased = erased.set_column(place, name, pa.nulls(20, pa.string()))
    assert leaves(erased.append_column("body_sha256", pa.array(kept))) == leaves(events)
    half = [text if number % 2 else None for number, text in enumerate(kept)]
    assert leaves(erased.append_column("body_sha256", pa.array(half)))[1::2] == leaves(events)[1::2]


def test_a_kept_digest_does_not_stand_in_for_a_body_that_is_there(tmp_path: Path) -> None:
    events = read_batch(make_batch(tmp_path, rows=1, shape="whole"))
    lie = rfc8785.dumps(dict.fromkeys(BODIES, "0" * 64)).decode()
    assert leaves(events.append_column("body_sha256", pa.array([lie]))) == leaves(events)


@pytest.mark.parametrize("kept", ["", "{", "[]", "7", '{"event_raw":7}', '{"event_raw":"x"}'])
def test_kept_digests_that_are_none_count_as_nothing(tmp_path: Path, kept: str) -> None:
    events = read_batch(make_batch(tmp_path, rows=1))
    place = events.schema.get_field_index("event_raw")
    erased = events.set_column(place, "event_raw", pa.nulls(1, pa.string()))
    assert leaves(erased.append_column("body_sha256", pa.array([kept]))) == leaves(erased)


def test_behind_a_nonce_a_body_cannot_be_guessed_by_its_digest(tmp_path: Path) -> None:
    """Nor by the leaf, of which all but the body is known."""
    rows = read_batch(make_batch(tmp_path, rows=5, shape="whole"))
    at = rows.column_names.index("body_nonce")
    nonces = [f"{number:064x}" for number in range(5)]
    salted = rows.set_column(at, "body_nonce", pa.array(nonces))
    assert not {*leaves(salted)} & {*leaves(rows)}
    text = rows["event_raw"][3].as_py().encode()
    wanted = hashlib.sha256(bytes.fromhex(nonces[3]) + text).hexdigest()
    assert body_digests(salted)[3]["event_raw"] == wanted
    assert body_digests(rows)[3]["event_raw"] == hashlib.sha256(text).hexdigest()
    erased = salted.set_column(at, "body_nonce", pa.nulls(5, pa.string()))
    kept = pa.array([json.dumps(one) for one in body_digests(salted)])
    for name in BODIES:
        erased = erased.set_column(erased.column_names.index(name), name, pa.nulls(5, pa.string()))
    assert leaves(erased.append_column(KEPT, kept)) == leaves(salted)


def test_a_nonce_that_is_none_counts_as_nothing(tmp_path: Path) -> None:
    rows = read_batch(make_batch(tmp_path, rows=2, shape="whole"))
    odd = rows.set_column(rows.column_names.index("body_nonce"), "body_nonce", pa.array(["no hex", ""]))
    assert leaves(odd) == leaves(rows)
