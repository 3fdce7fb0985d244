"""The source against the sandbox, over HTTP: whole records, every one once, whatever the server does."""

from __future__ import annotations

import json
from collections import Counter
from collections.abc import Iterator
from contextlib import contextmanager
from datetime import UTC, datetime, timedelta
from typing import Any

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from cfaudit_export.auth.token import TokenCredential
from cfaudit_export.core.intervals import union
from cfaudit_export.core.model import Stream, Window, floor_ms
from cfaudit_export.errors import AccessError, ProtocolError, SettingsError, SourceUnavailableError
from cfaudit_export.plugin.interfaces import Extract
from cfaudit_export.plugin.records import SourceContext
from cfaudit_export.sources.codemode import CodeModeConfig
from cfaudit_export.sources.codemode.columns import time_ms
from cfaudit_export.sources.codemode.source import RecordSource, codemode_source
from cfaudit_sandbox import Sandbox, SandboxOptions, World
from cfaudit_sandbox.world.text import js

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
    **config: Any,
) -> Iterator[RecordSource]:
    with Sandbox(world) as served:
        stream = Stream(world.accounts[0].id if account is None else account, "codemode", filters)
        context = SourceContext(stream, TokenCredential(world.tokens[token]), lambda: END)
        config = {"budget_calls": 0, "server_url": url or served.codemode_url, "retry_seconds": 5.0, **config}
        source = codemode_source(CodeModeConfig(**config), context)
        try:
            source.connect()
            yield source
        finally:
            source.close()


def read(world: World, **options: Any) -> list[Extract]:
    with opened(world, **options) as source:
        return list(source.extract([everything(world)]))


def truth(world: World, number: int = 0) -> Counter[str]:
    return Counter(map(js, world.records(world.accounts[number].id)))


def rows_of(extracts: list[Extract]) -> Counter[str]:
    return Counter(text for extract in extracts for text in extract.events["event_raw"].to_pylist())


def assert_complete(world: World, extracts: list[Extract]) -> None:
    assert rows_of(extracts) == truth(world)
    assert union(*(extract.window for extract in extracts)) == (everything(world),)
    assert not any(extract.gaps for extract in extracts)


@pytest.mark.parametrize(
    "options",
    [
        {},
        {"codemode_generation": "B"},
        {"modern": False},
        {"poison": {"all": 300}},
        {"page_cap": 50, "cursor_kind": "offset", "end_style": "empty", "ties": 0.3, "twins": 0.2},
        {"since_inclusive": False, "before_inclusive": False, "ties": 0.3, "twins": 0.2},
        {"end_style": "extra-page"},
        {"cursor_kind": "expiring", "cursor_lifetime_seconds": 0.0},
        {"events": 0},
        {"events": 1},
    ],
    ids=lambda options: ",".join(options) or "plain",
)
@pytest.mark.parametrize("page_size", [1000, 100])
def test_every_record_arrives_once_and_as_it_is(options: dict, page_size: int) -> None:
    world = world_of(**options)
    assert_complete(world, read(world, page_size=page_size, piece_rows=300))


def test_columns_are_those_of_the_record() -> None:
    world = world_of(events=3000)
    got = {
        row["event_id"]: row for extract in read(world) for row in extract.events.drop_columns("event_time").to_pylist()
    }
    for record in world.records(world.accounts[0].id):
        row, actor, resource = got[record["id"]], record.get("actor", {}), record.get("resource", {})
        assert row["fidelity"] == "full"
        assert json.loads(row["event_raw"]) == record
        token = actor.get("token", {})
        assert row["actor_token_id"] == (token.get("id") or actor.get("token_id"))
        assert row["actor_token_name"] == (token.get("name") or actor.get("token_name"))
        assert row["key_token_name"] == actor.get("token_name")
        for name in ("request", "response", "value"):
            assert json.loads(row[f"resource_{name}"] or "null") == resource.get(name)
        assert row["raw_status_code"] == record.get("raw", {}).get("status_code")
        assert row["zone_name"] == record.get("zone", {}).get("name")


def test_several_pages_come_with_one_call_once_the_server_proves_quick() -> None:
    world = world_of(events=4000)
    with Sandbox(world) as sandbox, opened(world, url=sandbox.codemode_url, page_size=20) as source:
        extracts = list(source.extract([everything(world)]))
        calls = [seen for seen in sandbox.requests.calls if seen.tool == "execute"]
        pages = sum(seen.cost for seen in calls)
    assert_complete(world, extracts)
    assert len(calls) < 0.6 * pages
    assert max(seen.cost for seen in calls) == 5
    assert pages <= 1.2 * 200 + 2
    assert sum(extract.calls for extract in extracts) <= 1.2 * 200 + 2


@pytest.mark.parametrize("sizes", [(1_000_000,) * 14, (11_000_000, 3)], ids=["fourteen of one", "one of eleven"])
def test_records_of_megabytes_arrive_whole(sizes: tuple[int, ...]) -> None:
    world = world_of(events=500)
    account = world.accounts[0]
    large = [
        {
            "account": {"id": account.id, "name": account.name},
            "action": {"type": "update", "result": "success", "time": f"2026-11-19T12:00:{number:02d}.5Z"},
            "id": f"large-{number}",
            "resource": {"product": "r", "type": "t", "response": ["é☕" * (size // 5)]},
        }
        for number, size in enumerate(sizes)
    ]
    world.add(account.id, large)
    assert_complete(world, read(world))


LARGE = "record 'huge-{}': larger than the 12,000,000 bytes that a reply may have"


def huge(number: int, time: str) -> dict[str, Any]:
    return {"action": {"time": time}, "id": f"huge-{number}", "resource": {"value": "x" * 13_000_000}}


def test_an_event_too_large_for_a_reply_becomes_a_gap_and_all_others_arrive() -> None:
    world = world_of(events=40)
    account = world.accounts[0].id
    readable = truth(world)
    neighbour = {"action": {"time": "2026-11-19T12:00:00.5006Z"}, "id": "neighbour"}
    world.add(account, [huge(1, "2026-11-19T12:00:00.5005Z"), neighbour, huge(2, "2026-11-19T12:00:00.5007Z")])
    world.add(account, [huge(3, "2026-11-19T23:59:59.999Z")])
    extracts = read(world)
    assert rows_of(extracts) == readable + Counter([js(neighbour)])
    assert union(*(extract.window for extract in extracts)) == (everything(world),)
    gaps = sorted((gap for extract in extracts for gap in extract.gaps), key=lambda gap: gap.window)
    assert [(str(gap.window), gap.rows, gap.reason) for gap in gaps] == [
        ("2026-11-19T12:00:00.500Z/2026-11-19T12:00:00.501Z", 2, LARGE.format(1)),
        ("2026-11-19T23:59:59.999Z/2026-11-20T00:00:00.000Z", 1, LARGE.format(3)),
    ]


@pytest.mark.parametrize("others", [0, 9])
def test_an_event_may_have_what_a_reply_may_have_though_pages_are_smaller(others: int) -> None:
    world = world_of(events=others)
    large = huge(1, "2026-11-19T12:00:00.500Z") | {"resource": {"value": "x" * 11_000_000}}
    world.add(world.accounts[0].id, [large])
    assert_complete(world, read(world))


def test_an_event_too_large_for_a_reply_and_without_a_time_is_found_by_its_id_or_said_so() -> None:
    assert time_ms(None, "019a0000-1234-7000-8000-000000000000") == 0x019A00001234
    assert time_ms(None, "huge") is None


def test_a_server_that_cuts_replies_off_is_read_in_smaller_pages(caplog: pytest.LogCaptureFixture) -> None:
    world = world_of(codemode_generation="G0", events=400)
    assert_complete(world, read(world))
    warned = [record.getMessage() for record in caplog.records if record.levelname == "WARNING"]
    assert warned == ["the server cuts long replies off; reading smaller pages, which takes more calls"]


def test_a_server_that_cuts_replies_off_leaves_out_no_more_than_an_event_that_is_larger() -> None:
    world = world_of(codemode_generation="G0", events=60)
    readable, account = truth(world), world.accounts[0].id
    large = {"action": {"time": "2026-11-19T12:00:00.500Z"}, "id": "large", "resource": {"value": "x" * 30_000}}
    world.add(account, [large])
    extracts = read(world)
    assert rows_of(extracts) == readable
    [gap] = [gap for extract in extracts for gap in extract.gaps]
    assert (gap.rows, "record 'large': larger than the" in gap.reason) == (1, True)


def test_a_probe_notices_that_replies_are_cut_off(caplog: pytest.LogCaptureFixture) -> None:
    with opened(world_of(codemode_generation="G0", events=400)) as source:
        source.probe()
    assert "the server cuts long replies off" in caplog.text


def test_a_server_that_cuts_even_the_smallest_reply_off_is_refused() -> None:
    world = world_of(events=40)
    with Sandbox(world) as sandbox:
        sandbox.codemode.isolates.spoil.append(('"v":1', '"v": --- TRUNCATED ---'))
        with (
            opened(world, url=sandbox.codemode_url) as source,
            pytest.raises(ProtocolError, match="cut off .*truncateToolResult"),
        ):
            source.probe()


def test_the_first_generation_is_good_enough_for_a_quiet_account() -> None:
    world = world_of(codemode_generation="G0", events=10)
    assert_complete(world, read(world))


def test_a_reply_changed_on_its_way_is_refused() -> None:
    world = world_of(events=200)
    with Sandbox(world) as sandbox:
        sandbox.codemode.isolates.spoil.append(("terraform@example.com", "[email]"))
        with (
            opened(world, url=sandbox.codemode_url) as source,
            pytest.raises(ProtocolError, match="changed in transit"),
        ):
            list(source.extract([everything(world)]))


def test_the_switch_that_keeps_replies_whole_is_put_on_any_url() -> None:
    world = world_of(events=300)
    with Sandbox(world) as sandbox:
        url = f"{sandbox.codemode_url}?a=b&truncateToolResult=true"
        with opened(world, url=url) as source:
            assert_complete(world, list(source.extract([everything(world)])))


@pytest.mark.parametrize("mishap", ["fail_rate", "drop_rate", "html_rate"])
def test_passing_faults_of_the_api_lose_nothing(mishap: str) -> None:
    world = world_of(**{mishap: 0.2})
    assert_complete(world, read(world, page_size=250, retry_seconds=60.0))


@pytest.mark.parametrize(
    "fault",
    [
        "Error: Worker exceeded CPU time limit.",
        "Error: Serialized RPC arguments or return values are limited to 32MiB, but the size of this value was: 4E7.",
        "Cloudflare API error: GET /accounts/{account_id}/logs/audit returned HTTP 503.",
    ],
)
def test_faults_of_the_sandbox_are_outlived_by_asking_for_less(fault: str) -> None:
    world = world_of(events=3000)
    with Sandbox(world) as sandbox, opened(world, url=sandbox.codemode_url, concurrency=1, page_size=500) as source:
        sandbox.codemode.isolates.faults.extend([fault] * 2)
        assert_complete(world, list(source.extract([everything(world)])))


@pytest.mark.parametrize(
    ("status", "words"),
    [(401, "refuses the credential"), (403, "Account Settings: Read"), (400, "injected 400")],
)
def test_what_does_not_pass_ends_the_run_and_is_named(status: int, words: str) -> None:
    world = world_of()
    with Sandbox(world) as sandbox, opened(world, url=sandbox.codemode_url) as source:
        sandbox.upstream.fail_next(status, times=9)
        with pytest.raises(ProtocolError if status == 400 else AccessError, match=words):
            list(source.extract([everything(world)]))


def test_a_throttled_call_is_repeated_when_the_server_says_so_and_pages_already_read_are_kept() -> None:
    world = world_of(events=1000)
    with Sandbox(world) as sandbox, opened(world, url=sandbox.codemode_url, page_size=100) as source:
        pieces = source.extract([everything(world)])
        sandbox.upstream.fail_next(429, times=3, retry_after=0)
        assert_complete(world, list(pieces))


def test_a_fault_behind_pages_costs_none_of_them() -> None:
    world = world_of(events=1000)
    with Sandbox(world) as sandbox, opened(world, url=sandbox.codemode_url, page_size=50, concurrency=1) as source:
        pieces = source.extract([everything(world)])
        sandbox.world.turn(fail_rate=0.3)
        assert_complete(world, list(pieces))
        read_pages = sum(seen.cost for seen in sandbox.requests.calls)
    failed = sandbox.upstream.counts["audit_calls"] - read_pages
    assert failed == 0
    assert read_pages <= 1.7 * 20 + 5  # every failure costs its own call, and no page is read twice


def test_a_server_that_keeps_failing_is_said_so_in_time() -> None:
    with pytest.raises(SourceUnavailableError, match="HTTP 5"):
        read(world_of(fail_rate=1.0), retry_seconds=0.3)


@pytest.mark.parametrize(("token", "words"), [("expired", "check the token"), ("forbidden", "Account Settings: Read")])
def test_a_bad_credential_fails_at_connect_and_says_what_to_do(token: str, words: str) -> None:
    with pytest.raises(AccessError, match=words), opened(world_of(), token=token):
        pass


def test_a_missing_permission_is_named_by_the_probe() -> None:
    with (
        opened(world_of(), token="no_permission") as source,
        pytest.raises(AccessError, match="Account Settings: Read"),
    ):
        source.probe()


@pytest.mark.parametrize("generation", ["A", "B", "G0"])
def test_the_account_of_an_account_token_need_not_be_named(generation: str) -> None:
    world = world_of(events=10, accounts=2, codemode_generation=generation)
    with opened(world, account="") as source:
        assert source.connect().account_id == world.accounts[0].id
        assert rows_of(list(source.extract([everything(world)]))) == truth(world)


@pytest.mark.parametrize("generation", ["A", "G0"])
def test_several_accounts_without_a_choice_are_listed(generation: str) -> None:
    world = world_of(accounts=3, codemode_generation=generation)
    with pytest.raises(SettingsError) as caught, opened(world, token="user", account=""):
        pass
    assert all(f"{account.id} ({account.name})" in str(caught.value) for account in world.accounts)


def test_the_chosen_account_is_the_one_that_is_read() -> None:
    world = world_of(accounts=3, events=200)
    with opened(world, token="user", account=world.accounts[1].id) as source:
        assert rows_of(list(source.extract([everything(world)]))) == truth(world, 1)


def test_an_account_that_is_none_is_never_sent() -> None:
    with pytest.raises(SettingsError, match="32 hex digits"), opened(world_of(), account="../user/tokens"):
        pass


@pytest.mark.parametrize("name", ["actor_email", "raw_status_code", "resource_product", "actor_token_name"])
def test_filters_are_applied_by_the_server(name: str) -> None:
    world = world_of()
    everyone = read(world)
    column = Counter(value for extract in everyone for value in extract.events[name].to_pylist() if value is not None)
    value, count = column.most_common(2)[1]
    assert sum(rows_of(read(world, filters=((name, str(value)),))).values()) == count


def test_product_category_is_a_filter_too() -> None:
    world = world_of()
    found = rows_of(read(world, filters=(("product_category", "workers"),)))
    assert found.total() > 0
    assert {json.loads(text)["resource"]["product"] for text in found} == {"workers"}


def test_a_prefixed_tool_is_found_behind_a_gateway() -> None:
    world = world_of(tool_prefix="Cloudflare_", events=100)
    assert_complete(world, read(world))


def test_another_server_is_said_to_be_one() -> None:
    world = world_of(events=10)
    with (
        Sandbox(world) as sandbox,
        pytest.raises(ProtocolError, match="no tool 'execute'"),
        opened(world, url=sandbox.mcp_url),
    ):
        pass


def test_closing_the_iterator_stops_the_workers() -> None:
    world = world_of(latency_seconds=0.02)
    with opened(world, page_size=20, piece_rows=20) as source:
        pieces = source.extract([everything(world)])
        next(pieces)
        pieces.close()
        assert sum(extract.events.num_rows for extract in source.extract([everything(world)])) == 2000


def test_progress_counts_pages_as_calls_of_the_budget() -> None:
    told: list[dict] = []
    world = world_of()
    with Sandbox(world) as sandbox:
        stream = Stream(world.accounts[0].id, "codemode")
        context = SourceContext(stream, TokenCredential(world.tokens["account"]), lambda: END, told.append)
        source = codemode_source(CodeModeConfig(server_url=sandbox.codemode_url, budget_calls=600), context)
        assert source.connect().calls_per_page == 1
        list(source.extract([everything(world)]))
        source.close()
        pages = sum(seen.cost for seen in sandbox.requests.calls)
    assert told[-1]["events"] == 2000
    assert told[-1]["calls_left"] == 600 - pages


@settings(max_examples=12, deadline=None, suppress_health_check=list(HealthCheck))
@given(
    seed=st.integers(0, 10_000),
    events=st.integers(1, 120),
    span=st.sampled_from([0.02, 1.0, 600.0]),
    ties=st.sampled_from([0.0, 0.9]),
    edges=st.tuples(st.booleans(), st.booleans()),
    page_size=st.sampled_from([3, 20, 1000]),
    cursor=st.sampled_from(["keyset", "offset"]),
)
def test_small_dense_worlds_are_read_completely(
    seed: int, events: int, span: float, ties: float, edges: tuple, page_size: int, cursor: str
) -> None:
    world = world_of(
        seed=seed,
        events=events,
        span_seconds=span,
        poison={"all": events // 3},
        ties=ties,
        twins=ties / 2,
        since_inclusive=edges[0],
        before_inclusive=edges[1],
        cursor_kind=cursor,
    )
    assert_complete(world, read(world, page_size=page_size))
