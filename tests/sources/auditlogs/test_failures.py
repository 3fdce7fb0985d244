"""One sentence for every failure: what it was, over HTTP, with a clock that only waiting moves."""

from __future__ import annotations

import json
from collections import Counter
from collections.abc import Callable, Iterator
from contextlib import closing
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta
from typing import Any

import anyio
import pytest

from cfaudit_export.auth.token import TokenCredential
from cfaudit_export.core.model import Stream, Window, floor_ms
from cfaudit_export.errors import AccessError, SourceUnavailableError, ThrottledError
from cfaudit_export.plugin.interfaces import Extract
from cfaudit_export.plugin.records import Recover, SourceContext
from cfaudit_export.sources.auditlogs import AuditLogsConfig
from cfaudit_export.sources.auditlogs.source import AuditLogsSource
from cfaudit_export.sources.mcp.budget import CallBudget
from cfaudit_sandbox import Sandbox, SandboxOptions, World
from cfaudit_sandbox.oauth.server import OAuth

END = datetime(2026, 11, 20, tzinfo=UTC)


@dataclass
class Station:
    """A server and a client whose common time stands still unless a call waits."""

    now: float = END.timestamp()
    waits: list[float] = field(default_factory=list)
    world: World = field(init=False)
    sandbox: Sandbox = field(init=False)

    @classmethod
    def of(cls, **options: Any) -> Station:
        station = cls()
        given = {"end_at": END, "events": 3_000, "span_seconds": 86_400.0, **options}
        station.world = World(SandboxOptions(**given), clock=lambda: station.now)
        return station

    async def sleep(self, seconds: float) -> None:
        until = self.now + seconds
        await anyio.lowlevel.checkpoint()  # several may wait: time passes once for all of them
        self.waits.append(seconds)
        self.now = max(self.now, until)

    def source(self, max_wait: float | None = None, *, token: str = "account", **config: Any) -> AuditLogsSource:
        credential = TokenCredential(self.world.tokens[token])
        stream = Stream(self.world.accounts[0].id, "auditlogs")
        context = SourceContext(stream, credential, lambda: END, recover=Recover("off"), max_wait_seconds=max_wait)
        settings = {"budget_calls": 0, "server_url": self.sandbox.mcp_url, "page_size": 100, "concurrency": 4, **config}
        budget = CallBudget(settings["budget_calls"], max_wait, now=lambda: self.now, sleep=self.sleep)
        context.shared.values["budget"] = budget
        return AuditLogsSource(AuditLogsConfig(**settings), context)

    def everything(self) -> Window:
        return Window(floor_ms(datetime.fromtimestamp(self.world.since, UTC)), END)

    def read(self, found: list[Extract] | None = None, **options: Any) -> list[Extract]:
        found = [] if found is None else found
        with closing(self.source(**options)) as source:
            source.connect()
            for extract in source.extract([self.everything()]):
                found.append(extract)
        return found

    def assert_complete(self, found: list[Extract]) -> None:
        texts = (text for extract in found for text in extract.events["event_raw"].to_pylist())
        wanted = Counter(row["time"] for row in self.world.rows(self.world.accounts[0].id))
        assert Counter(json.loads(text)["time"] for text in texts) == wanted


@pytest.fixture
def station() -> Iterator[Callable[..., Station]]:
    """Start a server with these options."""
    running: list[Sandbox] = []

    def start(*, signs_in: bool = False, **options: Any) -> Station:
        made = Station.of(**options)
        made.sandbox = Sandbox(made.world, authorization=OAuth(made.world) if signs_in else None)
        made.sandbox.__enter__()
        running.append(made.sandbox)
        return made

    yield start
    for sandbox in running:
        sandbox.__exit__(None, None, None)


def test_within_the_budget_nothing_is_throttled_and_the_time_is_the_bucket_s(station: Any) -> None:
    one = station(throttle_calls=40)
    one.assert_complete(one.read(budget_calls=40, concurrency=1))
    counts = one.sandbox.upstream.counts
    assert counts["throttled"] == 0
    ideal = (counts["upstream_calls"] - 1) // 40 * 300
    assert ideal >= 300
    assert ideal <= one.now - END.timestamp() <= 1.05 * ideal


def test_where_the_budget_is_hidden_all_workers_wait_and_nothing_is_lost(station: Any) -> None:
    one = station(throttle_calls=30)
    one.assert_complete(one.read())
    waited = one.now - END.timestamp()
    blocks = (one.sandbox.upstream.counts["upstream_calls"] - one.sandbox.upstream.counts["throttled"]) // 30
    assert 300 <= waited <= 330 * (blocks + 1), "no call is made while the server blocks"


def test_a_hidden_budget_is_exceeded_once_and_then_kept(station: Any) -> None:
    one = station(throttle_calls=80)
    one.assert_complete(one.read(page_size=20, concurrency=1))
    counts = one.sandbox.upstream.counts
    assert (counts["blocks"], counts["throttled"]) == (1, 1)
    ideal = (counts["upstream_calls"] - 2) // 80 * 300
    assert 900 <= ideal <= one.now - END.timestamp() <= 1.05 * ideal


def test_a_wait_longer_than_allowed_ends_with_what_was_finished(station: Any) -> None:
    one = station(throttle_calls=50)
    found: list[Extract] = []
    with pytest.raises(ThrottledError) as caught:
        one.read(found, max_wait=60.0, budget_calls=50, piece_rows=200)
    assert caught.value.exit_code == 75
    assert "--max-wait" in str(caught.value)
    assert found, "finished pieces stay good"
    assert sum(one.waits) <= 60


def test_all_waiting_of_a_run_together_stays_below_what_is_allowed(station: Any) -> None:
    one = station()
    with closing(one.source(max_wait=20.0, retry_seconds=1_000.0)) as source:
        source.connect()
        one.world.turn(fail_rate=1.0)
        with pytest.raises(SourceUnavailableError) as caught:
            list(source.extract([one.everything()]))
    assert caught.value.exit_code == 75
    assert one.now - END.timestamp() <= 20
    assert one.waits


def test_a_server_that_fails_for_ever_is_given_up_after_the_total(station: Any) -> None:
    one = station()
    with closing(one.source(retry_seconds=30.0, concurrency=1)) as source:
        source.connect()
        one.world.turn(drop_rate=1.0)
        with pytest.raises(SourceUnavailableError):
            list(source.extract([one.everything()]))
    assert 10 < sum(one.waits) <= 30
    assert len(set(one.waits)) == len(one.waits), "delays are jittered"


@pytest.mark.parametrize("status", [500, 502, 503, "drop", "html", "empty"])
def test_what_passes_is_asked_again(station: Any, status: Any) -> None:
    one = station(events=300)
    with closing(one.source()) as source:
        source.connect()
        one.sandbox.upstream.fail_next(status, times=3)
        found = list(source.extract([one.everything()]))
    one.assert_complete(found)
    assert len(one.waits) == 3


def test_a_dead_cursor_starts_its_window_anew(station: Any) -> None:
    one = station(cursor_kind="expiring", cursor_lifetime_seconds=0.0)
    one.assert_complete(one.read())
    assert one.waits == []


def test_a_permission_lost_on_the_way_is_told_from_throttling(station: Any) -> None:
    one = station()
    found: list[Extract] = []
    with closing(one.source(piece_rows=100, concurrency=1)) as source:
        source.connect()
        pieces = source.extract([one.everything()])
        found.append(next(pieces))
        one.sandbox.upstream.fail_next(403, times=1_000)
        with pytest.raises(AccessError, match="Account Settings: Read") as caught:
            found += pieces
    assert caught.value.exit_code == 77
    assert found
    assert timedelta(seconds=one.now - END.timestamp()) >= timedelta(minutes=5), "it might have been throttling"


def blocked(one: Station, token: str = "account") -> None:
    """Let another program spend all calls of a credential, and one more."""
    while one.sandbox.upstream.probe(one.world.tokens[token]).status == 200:
        pass


LATER = {"auditlogs_generation": "0.20.9", "signs_in": True}
UNKNOWN = {"auditlogs_generation": "0.20.9", "signs_in": False}


@pytest.mark.parametrize("server", [LATER, UNKNOWN], ids=["later", "unknown"])
def test_a_block_by_another_program_is_not_taken_for_a_missing_permission(
    station: Any, server: Any, caplog: pytest.LogCaptureFixture
) -> None:
    one = station(events=300, throttle_calls=40, **server)
    with closing(one.source()) as source:
        source.connect()  # the server knows the token from now on, and looks it up no more
        blocked(one)
        found = list(source.extract([one.everything()]))
    one.assert_complete(found)
    assert 300 <= one.now - END.timestamp() <= 330
    said = [vars(record)["because"] for record in caplog.records if "waiting tells" in record.message]
    assert len(said) == 1
    assert "needs the permission 'Account Settings: Read'" in said[0]
    assert "its user's calls are spent" in said[0]


@pytest.mark.parametrize("server", [LATER, UNKNOWN], ids=["later", "unknown"])
def test_where_a_block_cannot_be_waited_for_both_causes_are_named(station: Any, server: Any) -> None:
    one = station(**server)
    with pytest.raises(ThrottledError) as caught:
        one.read(max_wait=60.0, token="no_permission")
    assert (caught.value.exit_code, caught.value.retry_after_seconds) == (75, 300)
    for words in ("'Account Settings: Read'", "calls are spent", "run again after five minutes"):
        assert words in str(caught.value)
    assert sum(one.waits) <= 60


@pytest.mark.parametrize(
    ("server", "seconds"),
    [({"signs_in": True}, (0, 10)), (LATER, (300, 330)), (UNKNOWN, (300, 330))],
    ids=["first", "later", "unknown"],
)
def test_a_missing_permission_is_told_at_once_where_the_server_would_have_named_a_block(
    station: Any, server: Any, seconds: tuple[int, int]
) -> None:
    one = station(**server)
    with pytest.raises(AccessError, match="Account Settings: Read") as caught:
        one.read(token="no_permission")
    assert "spent" not in str(caught.value)
    least, most = seconds
    assert least <= one.now - END.timestamp() <= most


def test_two_accounts_of_one_process_spend_one_budget(station: Any) -> None:
    one = station(accounts=2, events=1_500, throttle_calls=60)
    token = TokenCredential(one.world.tokens["user"])
    budget = CallBudget(60, None, now=lambda: one.now, sleep=one.sleep)
    shared = SourceContext(Stream("", "auditlogs"), token, lambda: END).shared
    shared.values["budget"] = budget
    for account in one.world.accounts:
        stream = Stream(account.id, "auditlogs")
        context = SourceContext(stream, token, lambda: END, recover=Recover("off"), shared=shared)
        config = AuditLogsConfig(server_url=one.sandbox.mcp_url, page_size=100, budget_calls=60)
        with closing(AuditLogsSource(config, context)) as source:
            source.connect()
            rows = sum(extract.events.num_rows for extract in source.extract([one.everything()]))
        assert rows == 1_500
    assert one.sandbox.upstream.counts["throttled"] == 0
    assert one.waits
