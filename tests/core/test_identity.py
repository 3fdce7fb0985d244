"""Identity: the same events get the same keys, however they are read."""

from __future__ import annotations

import hashlib
from collections import Counter
from datetime import UTC, datetime, timedelta
from random import Random

import pyarrow as pa
import pytest
from hypothesis import given
from hypothesis import strategies as st

from cfaudit_export.core.identity import event_keys

ACCOUNT = "0" * 32
NAMES = ("action_description", "resource_product", "resource_type", "actor_email", "actor_token_name")
text = st.none() | st.sampled_from(["", "a", "b", "1:a", "-", ",", "é", "\U0001f600"])
row = st.tuples(st.integers(0, 3), *[text] * len(NAMES))


def table(rows: list[tuple]) -> pa.Table:
    times = pa.array([number * 1_000_000 for number, *_ in rows], pa.int64()).cast(pa.timestamp("ns", tz="UTC"))
    columns = [pa.array([values[at + 1] for values in rows], pa.string()) for at in range(len(NAMES))]
    return pa.table([times, *columns], names=["event_time", *NAMES])


def keys(rows: list[tuple], account: str = ACCOUNT) -> list[str]:
    return event_keys(account, table(rows)).to_pylist()


def netstring(value: str | None) -> str:
    return f"{len(value.encode())}:{value}" if value else "-"


@given(st.lists(row, max_size=12))
def test_a_key_is_the_hash_that_the_documentation_describes(rows: list[tuple]) -> None:
    # An independent, row by row reading of the module's docstring.
    seen: Counter[tuple] = Counter()
    expected = []
    for number, description, product, kind, email, token in rows:
        parts = tuple(
            netstring(part) for part in (ACCOUNT, str(number * 1_000_000), description, product, kind, email, token)
        )
        canonical = ",".join([*parts, netstring(str(seen[parts]))])
        seen[parts] += 1
        expected.append(hashlib.sha256(canonical.encode()).hexdigest()[:32])
    assert keys(rows) == expected


@given(st.lists(row, max_size=12), st.randoms())
def test_the_order_of_reading_makes_no_difference_to_the_keys_of_an_account(rows: list[tuple], random: Random) -> None:
    shuffled = rows[:]
    random.shuffle(shuffled)
    assert sorted(keys(rows)) == sorted(keys(shuffled))


@given(st.lists(row, max_size=12), st.integers(0, 4))
def test_windows_that_do_not_split_a_time_give_the_same_keys_as_one_reading(rows: list[tuple], cut: int) -> None:
    early = [values for values in rows if values[0] < cut]
    late = [values for values in rows if values[0] >= cut]
    assert sorted(keys(rows)) == sorted([*keys(early), *keys(late)])


@given(st.lists(row, min_size=1, max_size=12))
def test_no_two_events_share_a_key(rows: list[tuple]) -> None:
    assert len(set(keys(rows))) == len(rows)


def test_a_late_twin_gets_a_key_of_its_own_and_leaves_the_first_ones_alone() -> None:
    twin = (1, "a", "b", "c", "d", "e")
    before, after = keys([twin, twin]), keys([twin, twin, twin])
    assert after[:2] == before
    assert after[2] not in before


def test_an_absent_value_and_an_empty_one_are_the_same_but_a_dash_is_not() -> None:
    absent, empty, dash = ((1, value, "p", "t", "e", "k") for value in (None, "", "-"))
    assert keys([absent]) == keys([empty]) != keys([dash])


def test_accounts_do_not_share_keys() -> None:
    event = (1, "a", "b", "c", "d", "e")
    assert keys([event]) != keys([event], account="1" * 32)


@pytest.mark.parametrize("unit", ["s", "ms", "us", "ns"])
def test_the_precision_in_which_a_time_is_given_does_not_matter(unit: str) -> None:
    at = datetime(2026, 11, 20, tzinfo=UTC) + timedelta(seconds=5)
    times = pa.array([at], pa.timestamp(unit, tz="UTC"))
    nanoseconds = pa.array([at], pa.timestamp("ns", tz="UTC"))
    assert event_keys(ACCOUNT, pa.table({"event_time": times})) == event_keys(
        ACCOUNT, pa.table({"event_time": nanoseconds})
    )


def test_the_token_name_of_the_six_field_source_wins_over_the_record_s() -> None:
    base = table([(1, "a", "b", "c", "d", "flat")])
    whole = base.set_column(5, "actor_token_name", pa.array(["nested"])).append_column(
        "key_token_name", pa.array(["flat"])
    )
    assert event_keys(ACCOUNT, whole) == event_keys(ACCOUNT, base)


def test_no_events_have_no_keys() -> None:
    assert keys([]) == []
