"""The source against the sandbox, over HTTP: every readable row once, every other one in a gap."""

from __future__ import annotations

import json
from collections import Counter
from collections.abc import Iterator
from contextlib import contextmanager
from datetime import UTC, datetime, timedelta
from typing import Any, Literal

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from cfaudit_export.auth.token import TokenCredential
from cfaudit_export.core.intervals import contains, union
from cfaudit_export.core.model import Stream, Window, floor_ms, from_ms
from cfaudit_export.errors import AccessError, ProtocolError, SettingsError
from cfaudit_export.plugin.interfaces import Extract
from cfaudit_export.plugin.records import Recover, SourceContext
from cfaudit_export.sources.auditlogs import AuditLogsConfig
from cfaudit_export.sources.auditlogs.source import AuditLogsSource
from cfaudit_sandbox import Sandbox, SandboxOptions, World

END = datetime(2026, 11, 20, tzinfo=UTC)


def world_of(**options: Any) -> World:
    return World(SandboxOptions(**{"end_at": END, "events": 2000, "span_seconds": 86400.0, **options}))


def everything(world: World) -> Window:
    hour = timedelta(hours=1)
    return Window(floor_ms(datetime.fromtimestamp(world.since, UTC)) - hour, END + hour)


@contextmanager
def opened(
    world: World,
    *,
    token: str = "account",
    account: str | None = None,
    filters: tuple = (),
    url: str = "",
    recover: Literal["auto", "off", "all"] = "off",
    **config: Any,
) -> Iterator[AuditLogsSource]:
    with Sandbox(world) as sandbox:
        stream = Stream(world.accounts[0].id if account is None else account, "auditlogs", filters)
        context = SourceContext(stream, TokenCredential(world.tokens[token]), lambda: END, recover=Recover(recover))
        config = {"budget_calls": 0, "server_url": url or sandbox.mcp_url, "retry_seconds": 5.0, **config}
        source = AuditLogsSource(AuditLogsConfig(**config), context)
        try:
            source.connect()
            yield source
        finally:
            source.close()


def read(world: World, **options: Any) -> list[Extract]:
    with opened(world, **options) as source:
        return list(source.extract([everything(world)]))


def text_of(row: dict) -> str:
    # A lone surrogate travels as its escape.
    return json.dumps(row, ensure_ascii=False, separators=(",", ":")).encode("utf-8", "backslashreplace").decode()


def truth(world: World) -> Counter[str]:
    return Counter(map(text_of, world.rows(world.accounts[0].id)))


def rows_of(extracts: list[Extract]) -> Counter[str]:
    return Counter(text for extract in extracts for text in extract.events["event_raw"].to_pylist())


def assert_complete(world: World, extracts: list[Extract]) -> None:
    missing = truth(world) - rows_of(extracts)
    assert not rows_of(extracts) - truth(world)
    hidden = [gap.window for extract in extracts for gap in extract.gaps if "could not be separated" in gap.reason]
    # A row between two odd ones of its millisecond that shares every facet with them cannot be read; it is said so.
    for text in missing:
        assert contains(hidden, datetime.fromisoformat(json.loads(text)["time"])), text
    assert union(*(extract.window for extract in extracts)) == (everything(world),)
    gaps = [gap for extract in extracts for gap in extract.gaps]
    for poison in world.poison(world.accounts[0].id):
        at = from_ms(poison.time_ns // 1_000_000)
        assert any(gap.window.since <= at < gap.window.before for gap in gaps), poison.kind
    assert all(gap.reason for gap in gaps)


@pytest.mark.parametrize(
    "options",
    [
        {},
        {"page_cap": 50, "cursor_kind": "offset", "end_style": "empty", "ties": 0.3, "twins": 0.2},
        {"since_inclusive": False, "before_inclusive": False, "ties": 0.3, "twins": 0.2},
        {"end_style": "extra-page"},
        {"cursor_kind": "expiring", "cursor_lifetime_seconds": 0.0},
        {"modern": False},
        {"events": 0},
        {"events": 1},
    ],
    ids=lambda options: ",".join(options) or "plain",
)
@pytest.mark.parametrize("page_size", [1000, 100])
def test_every_row_arrives_once_whatever_the_server_s_habits_are(options: dict, page_size: int) -> None:
    world = world_of(**options)
    extracts = read(world, page_size=page_size, piece_rows=300)
    assert_complete(world, extracts)
    assert not any(extract.gaps for extract in extracts)


@pytest.mark.parametrize("placement", ["random", "adjacent", "tied"])
@pytest.mark.parametrize("edges", [(True, True), (False, True), (True, False), (False, False)], ids=str)
def test_rows_around_poison_arrive_once_and_every_poison_row_is_a_gap(placement: str, edges: tuple) -> None:
    world = world_of(
        poison={"all": 12},
        poison_placement=placement,
        events=600,
        ties=0.4,
        since_inclusive=edges[0],
        before_inclusive=edges[1],
        seed=7,
    )
    assert_complete(world, read(world, page_size=100))


def test_the_older_form_of_the_validation_error_is_understood() -> None:
    world = world_of(poison={"all": 10}, zod=3)
    assert_complete(world, read(world))


DENSE = given(
    seed=st.integers(0, 10_000),
    events=st.integers(1, 120),
    span=st.sampled_from([0.02, 1.0, 600.0]),
    poison=st.integers(0, 25),
    placement=st.sampled_from(["random", "adjacent", "tied"]),
    ties=st.sampled_from([0.0, 0.9]),
    edges=st.tuples(st.booleans(), st.booleans()),
    page_size=st.sampled_from([3, 20, 1000]),
    cursor=st.sampled_from(["keyset", "offset"]),
)


def assert_read_completely(events: int, poison: int, ties: float, edges: tuple, page_size: int, **world: Any) -> None:
    dense = world_of(
        seed=world["seed"],
        events=events,
        span_seconds=world["span"],
        poison={"all": min(poison, events)},
        poison_placement=world["placement"],
        ties=ties,
        twins=ties / 2,
        since_inclusive=edges[0],
        before_inclusive=edges[1],
        cursor_kind=world["cursor"],
    )
    assert_complete(dense, read(dense, page_size=page_size))


@settings(max_examples=6, deadline=None, suppress_health_check=list(HealthCheck))
@DENSE
def test_small_dense_worlds_are_read_completely(**world: Any) -> None:
    assert_read_completely(**world)


@pytest.mark.soak
@settings(max_examples=500, deadline=None, suppress_health_check=list(HealthCheck))
@DENSE
def test_hundreds_of_small_dense_worlds_are_read_completely(**world: Any) -> None:
    assert_read_completely(**world)


@pytest.mark.parametrize(
    "world",
    [
        # Hardly a readable row among odd ones, to learn with what the ends include.
        {"seed": 27, "events": 27, "span": 0.02, "poison": 25, "placement": "random", "ties": 0.0},
        {"seed": 4097, "events": 28, "span": 600.0, "poison": 24, "placement": "tied", "ties": 0.9},
    ],
)
@pytest.mark.parametrize("edges", [(True, True), (False, True)])
def test_readable_rows_among_nothing_but_odd_ones_are_found(world: dict[str, Any], edges: tuple[bool, bool]) -> None:
    assert_read_completely(**world, edges=edges, page_size=1000, cursor="keyset")


def test_rows_before_a_refused_one_are_read_where_what_ends_include_is_in_doubt() -> None:
    world: dict[str, Any] = {"seed": 0, "events": 19, "span": 0.02, "poison": 3, "placement": "random", "ties": 0.0}
    assert_read_completely(**world, edges=(False, False), page_size=20, cursor="keyset")


def test_rows_before_a_refused_one_are_read_though_equal_ones_end_the_page_before() -> None:
    world: dict[str, Any] = {"seed": 0, "events": 19, "span": 0.02, "poison": 3, "placement": "random", "ties": 0.9}
    assert_read_completely(**world, edges=(False, False), page_size=3, cursor="keyset")


def test_equal_rows_of_one_millisecond_are_all_where_only_later_pages_are_larger() -> None:
    end = datetime(2026, 12, 1, 9, 44, tzinfo=UTC)
    world = world_of(end_at=end, seed=11, events=60, span_seconds=18_000.0, ties=0.4, twins=0.2)
    times = Counter(datetime.fromisoformat(record["action"]["time"]) for record in world.records(world.accounts[0].id))
    first = min(times)
    assert times[first] > 2, "rows that the window has alone"
    window = Window(first - timedelta(days=1), first + timedelta(hours=2))
    with opened(world, page_size=25) as source:
        extracts = list(source.extract([window]))
    assert [gap for extract in extracts for gap in extract.gaps] == []
    assert sum(extract.events.num_rows for extract in extracts) == times[first]


def test_one_poison_row_costs_no_more_than_thirty_extra_calls() -> None:
    clean, odd = (
        world_of(events=20_000, span_seconds=30 * 86400.0),
        world_of(events=20_000, span_seconds=30 * 86400.0, poison={"api-context": 1}),
    )
    calls = [sum(extract.calls for extract in read(world, concurrency=1)) for world in (clean, odd)]
    assert calls[1] - calls[0] <= 30


def test_clean_data_costs_little_more_than_its_full_pages() -> None:
    world = world_of(events=20_000)
    assert sum(extract.calls for extract in read(world)) <= 1.2 * 20 + 2


def test_latecomers_that_shift_an_offset_cursor_are_not_read_twice() -> None:
    now = [END.timestamp()]
    options = SandboxOptions(
        end_at=END, events=3000, span_seconds=86400.0, cursor_kind="offset", late_fraction=0.2, late_max_seconds=7200.0
    )
    world = World(options, clock=lambda: now[0])
    account = world.accounts[0].id
    visible = Counter(map(text_of, world.rows(account)))
    with opened(world, page_size=50, concurrency=1, piece_rows=200) as source:
        extracts = []
        for extract in source.extract([everything(world)]):
            extracts.append(extract)
            now[0] += 600  # more events become visible before the cursor, in every piece
    got = rows_of(extracts)
    every = truth(world)
    assert got.total() > visible.total() * 0.9
    assert not got - every, "a row was delivered more often than it exists"
    assert not visible - got, "a row that was visible from the start is missing"


def test_filters_are_applied_by_the_server() -> None:
    world = world_of()
    email = Counter(row.get("actor_email") for row in world.rows(world.accounts[0].id)).most_common(2)[1][0]
    extracts = read(world, filters=(("actor_email", email),))
    assert rows_of(extracts) == Counter(
        {k: n for k, n in truth(world).items() if json.loads(k).get("actor_email") == email}
    )


def test_a_filter_that_the_tool_lacks_is_refused_because_it_would_be_ignored() -> None:
    with (
        pytest.raises(ProtocolError, match="product_category"),
        opened(world_of(), filters=(("product_category", "x"),)),
    ):
        pass


def test_a_prefixed_tool_is_found_behind_a_gateway() -> None:
    world = world_of(tool_prefix="Cloudflare_")
    assert_complete(world, read(world))


@pytest.mark.parametrize(
    ("token", "error", "words"),
    [
        ("expired", AccessError, "check the token"),
        ("forbidden", AccessError, "User Details: Read"),
    ],
)
def test_a_bad_credential_fails_at_connect_and_says_what_to_do(token: str, error: type, words: str) -> None:
    with pytest.raises(error, match=words), opened(world_of(), token=token):
        pass


def test_a_path_that_is_no_mcp_server_is_said_so() -> None:
    with (
        Sandbox(world_of()) as sandbox,
        pytest.raises(ProtocolError, match="server URL"),
        opened(world_of(), url=f"{sandbox.url}/nowhere"),
    ):
        pass


def test_a_token_never_travels_in_clear_text() -> None:
    with pytest.raises(SettingsError, match="https"), opened(world_of(), url="http://192.0.2.1/mcp"):
        pass


def test_several_accounts_without_a_choice_are_listed() -> None:
    world = world_of(accounts=3)
    with pytest.raises(SettingsError) as caught, opened(world, token="user", account=""):
        pass
    assert all(account.id in str(caught.value) for account in world.accounts)


def test_the_chosen_account_is_the_one_that_is_read() -> None:
    world = world_of(accounts=3, events=200)
    second = world.accounts[1].id
    with opened(world, token="user", account=second) as source:
        extracts = list(source.extract([everything(world)]))
    assert rows_of(extracts) == Counter(map(text_of, world.rows(second)))


def test_an_account_that_the_credential_cannot_use_is_refused() -> None:
    world = world_of(accounts=3)
    with pytest.raises(SettingsError, match="cannot use account"), opened(world, token="user", account="f" * 32):
        pass


@pytest.mark.parametrize("mishap", ["fail_rate", "drop_rate", "html_rate"])
def test_passing_faults_of_the_server_lose_nothing(mishap: str, monkeypatch: pytest.MonkeyPatch) -> None:
    world = world_of(**{mishap: 0.2})
    assert_complete(world, read(world, page_size=100, retry_seconds=60.0))


def test_closing_the_iterator_stops_the_workers() -> None:
    world = world_of(latency_seconds=0.05)
    with opened(world, page_size=20, piece_rows=20) as source:
        pieces = source.extract([everything(world)])
        next(pieces)
        pieces.close()
        assert sum(extract.events.num_rows for extract in source.extract([everything(world)])) == 2000


def test_progress_is_told() -> None:
    told: list[dict] = []
    world = world_of()
    with Sandbox(world) as sandbox:
        stream = Stream(world.accounts[0].id, "auditlogs")
        context = SourceContext(
            stream, TokenCredential(world.tokens["account"]), lambda: END, told.append, Recover("off")
        )
        source = AuditLogsSource(AuditLogsConfig(server_url=sandbox.mcp_url, budget_calls=600), context)
        source.connect()
        list(source.extract([everything(world)]))
        source.close()
    assert told[-1]["events"] == 2000
    assert told[-1]["calls_left"] == 600 - 2 * told[-1]["calls"]
