from __future__ import annotations

import json
from collections.abc import Iterator
from datetime import UTC, datetime
from functools import cache
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from cfaudit_sandbox import AuditQuery, SandboxOptions, World
from cfaudit_sandbox.world.query import FILTERS, BadQueryError
from cfaudit_sandbox.world.text import instant

END = datetime(2026, 11, 20, tzinfo=UTC)
ALWAYS = (0, 2 * 10**18)


def build(clock: Any = None, **options: Any) -> World:
    settings_ = SandboxOptions(**({"events": 300, "end_at": END} | options))
    return World(settings_, clock or (lambda: END.timestamp() + 3600))


def walk(world: World, query: AuditQuery) -> Iterator[list[dict[str, Any]]]:
    """Read page after page of whole records."""
    account = world.accounts[0].id
    for _ in range(10_000):
        page = world.query(account, query)
        yield [json.loads(text) for text in world.record_texts(account, page)]
        if not page.cursor:
            return
        query = AuditQuery(query.since_ns, query.before_ns, query.direction, query.limit, page.cursor, query.filters)
    raise AssertionError("the walk does not end")


def read(world: World, query: AuditQuery) -> list[dict[str, Any]]:
    return [record for page in walk(world, query) for record in page]


def naive_value(record: dict[str, Any], name: str) -> object:
    """Find what a filter compares with, written out once more without the sandbox's tables."""

    def part(name_of_part: str) -> dict[str, Any]:
        value = record.get(name_of_part)
        return value if isinstance(value, dict) else {}

    token = part("actor").get("token") or {}
    special = {
        "audit_log_id": record.get("id"),
        "actor_token_id": token.get("id") or part("actor").get("token_id"),
        "actor_token_name": token.get("name") or part("actor").get("token_name"),
        "raw_cf_ray_id": part("raw").get("cf_ray_id"),
    }
    if name in special:
        return special[name]
    group, _, key = name.partition("_")
    return part(group).get(key)


@cache
def mixed(**options: Any) -> World:
    """Build a world with everything in it that makes paging hard: poison, ties, twins, two strands."""
    world = build(poison=("all=86",), ties=0.2, twins=0.1, **options)
    account = world.accounts[0].id
    world.add(account, list(world.records(account))[::7])
    return world


MIXED = mixed()
EVERY = list(MIXED.records(MIXED.accounts[0].id))
VALUES = {
    name: sorted({value for record in EVERY if isinstance(value := naive_value(record, name), str | int)}, key=str)
    for name in FILTERS
}


@st.composite
def filters(draw: st.DrawFn) -> tuple[tuple[str, str | float], ...]:
    names = draw(st.lists(st.sampled_from(FILTERS), max_size=3, unique=True))
    return tuple((name, draw(st.sampled_from([*VALUES[name], "no such value"]))) for name in names)


@given(
    chosen=filters(),
    edges=st.tuples(st.sampled_from(EVERY), st.sampled_from(EVERY)),
    direction=st.sampled_from(["asc", "desc"]),
    limit=st.integers(1, 60),
    inclusive=st.tuples(st.booleans(), st.booleans()),
    kind=st.sampled_from(["keyset", "offset", "expiring"]),
)
@settings(max_examples=150, deadline=None)
def test_a_walk_returns_what_a_plain_loop_over_all_records_finds(
    chosen: Any, edges: Any, direction: Any, limit: int, inclusive: tuple[bool, bool], kind: str
) -> None:
    since, before = sorted(instant(record["action"]["time"]) for record in edges)
    world = mixed(since_inclusive=inclusive[0], before_inclusive=inclusive[1], cursor_kind=kind)
    expected = [
        record
        for record in EVERY
        if since <= (at := instant(record["action"]["time"])) <= before
        and (inclusive[0] or at != since)
        and (inclusive[1] or at != before)
        and all(naive_value(record, name) == wanted for name, wanted in chosen)
    ]
    found = read(world, AuditQuery(since, before, direction, limit, "", chosen))
    assert found == (expected if direction == "asc" else expected[::-1])


def test_the_positive_values_of_a_filter_partition_the_log() -> None:
    results = [
        read(MIXED, AuditQuery(*ALWAYS, "asc", 1000, "", (("action_result", value),)))
        for value in VALUES["action_result"]
    ]
    lacking = [record for record in EVERY if "result" not in record["action"]]
    assert sum(map(len, results)) + len(lacking) == len(EVERY)
    assert all(results)


def test_a_filter_by_an_allowed_context_does_not_find_the_context_that_was_not_recorded() -> None:
    world = build(poison=("api-context=20",))
    account = world.accounts[0].id
    for context in ("api_key", "api_token", "dash", "oauth", "origin_ca_key"):
        found = read(world, AuditQuery(*ALWAYS, "asc", 1000, "", (("actor_context", context),)))
        assert {record["actor"]["context"] for record in found} <= {context}
    assert len(world.poison(account)) == 20


def test_a_page_never_holds_more_rows_than_the_cap_and_still_leads_on() -> None:
    world = build(page_cap=7)
    pages = list(walk(world, AuditQuery(*ALWAYS, "asc", 1000)))
    assert {len(page) for page in pages[:-1]} == {7}
    assert sum(map(len, pages)) == 300


@pytest.mark.parametrize(("style", "last"), [("absent", [None]), ("empty", [""]), ("extra-page", [True, None])])
def test_the_last_page_ends_in_the_chosen_style(style: str, last: list[object]) -> None:
    world = build(end_style=style)
    account = world.accounts[0].id
    page = world.query(account, AuditQuery(*ALWAYS, "asc", 300))
    ends: list[object] = []
    while page.cursor:
        ends.append(True)
        page = world.query(account, AuditQuery(*ALWAYS, "asc", 300, page.cursor))
        assert page.rows == []
    assert [*ends, page.cursor] == last


def test_rows_that_arrive_during_a_walk_shift_an_offset_cursor_but_not_a_key() -> None:
    repeated = {}
    for kind in ("offset", "keyset"):
        world = build(cursor_kind=kind, twins=0)
        account = world.accounts[0].id
        newest = list(world.records(account))[-5:]
        pages = walk(world, AuditQuery(*ALWAYS, "desc", 100))
        found = next(pages)
        world.add(account, [record | {"id": f"new-{number}"} for number, record in enumerate(newest)])
        found += [record for page in pages for record in page]
        ids = [record["id"] for record in found]
        repeated[kind] = len(ids) - len(set(ids))
    assert repeated == {"offset": 5, "keyset": 0}


def test_an_expiring_cursor_works_for_its_lifetime_only() -> None:
    now = END.timestamp() + 3600
    world = build(lambda: now, cursor_kind="expiring", cursor_lifetime_seconds=60)
    account = world.accounts[0].id
    cursor = world.query(account, AuditQuery(*ALWAYS, "asc", 10)).cursor
    assert cursor
    now += 60
    assert world.query(account, AuditQuery(*ALWAYS, "asc", 10, cursor)).rows
    now += 1
    with pytest.raises(BadQueryError):
        world.query(account, AuditQuery(*ALWAYS, "asc", 10, cursor))


@pytest.mark.parametrize("cursor", ["!", "abc", "MTIz", "Ñ", "x" * 500])
def test_a_cursor_that_was_never_given_out_is_refused(cursor: str) -> None:
    world = build()
    with pytest.raises(BadQueryError):
        world.query(world.accounts[0].id, AuditQuery(*ALWAYS, "asc", 10, cursor))


def test_a_window_that_ends_before_it_starts_is_refused() -> None:
    world = build()
    with pytest.raises(BadQueryError):
        world.query(world.accounts[0].id, AuditQuery(5, 4))


def test_late_events_are_seen_when_their_delay_is_over() -> None:
    now = END.timestamp()
    world = build(lambda: now, span_seconds=3600, late_fraction=0.3, late_max_seconds=600)
    account = world.accounts[0].id
    everything = {record["id"] for record in world.records(account)}
    early = [record["id"] for record in read(world, AuditQuery(*ALWAYS, "asc", 1000))]
    assert early == [record["id"] for record in world.records(account) if record["id"] in set(early)]
    assert 0 < len(everything) - len(early) < 0.3 * 300
    assert len(list(world.rows(account, visible=True))) == len(early)
    epoch = world.epoch(account)
    now += 600
    assert world.epoch(account) != epoch
    assert {record["id"] for record in read(world, AuditQuery(*ALWAYS, "desc", 7))} == everything


def test_events_that_lie_ahead_of_the_clock_come_into_sight_with_it() -> None:
    now = END.timestamp() - 15 * 86_400
    world = build(lambda: now)
    half = read(world, AuditQuery(*ALWAYS, "asc", 1000))
    assert 0 < len(half) < 300
    assert all(instant(record["action"]["time"]) <= now * 1e9 for record in half)
    now = END.timestamp()
    assert len(read(world, AuditQuery(*ALWAYS, "asc", 1000))) == 300
