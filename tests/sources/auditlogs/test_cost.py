"""The cost of a page: learned from a server that remembers who calls, and never less than what a block disproved."""

from __future__ import annotations

import logging
from collections.abc import Iterator
from contextlib import closing, contextmanager
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta
from typing import Any

import pytest

from cfaudit_export.auth.token import TokenCredential
from cfaudit_export.core.model import Stream, Window, floor_ms
from cfaudit_export.plugin.records import Recover, SourceContext
from cfaudit_export.plugin.resources import SharedResources
from cfaudit_export.sources.auditlogs import AuditLogsConfig
from cfaudit_export.sources.auditlogs.source import AuditLogsSource
from cfaudit_export.sources.mcp.budget import CallBudget
from cfaudit_sandbox import Sandbox, SandboxOptions, World
from cfaudit_sandbox.oauth.dash import OAuthKnobs
from cfaudit_sandbox.oauth.dialect import AUDITLOGS
from cfaudit_sandbox.oauth.server import OAuth
from cfaudit_sandbox.server.app import NoAuthorization

END = datetime(2026, 11, 20, tzinfo=UTC)
EVENTS, ROWS, BUDGET = 300, 10, 30
METADATA = "/.well-known/oauth-authorization-server"


@dataclass
class Place:
    """A server, a clock that only waiting moves, and how many pages were read between the waits."""

    generation: str = "today"
    options: dict[str, Any] = field(default_factory=dict)
    now: float = END.timestamp()
    pages: list[int] = field(default_factory=list)

    def __post_init__(self) -> None:
        given = {"end_at": END, "events": EVENTS, "auditlogs_generation": self.generation, **self.options}
        self.world = World(SandboxOptions(**given), clock=lambda: self.now)
        self.sandbox = Sandbox(self.world, authorization=OAuth(self.world))
        self.shared = SharedResources()
        self.shared.values["budget"] = CallBudget(BUDGET, None, now=lambda: self.now, sleep=self.sleep)

    async def sleep(self, seconds: float) -> None:
        self.now += seconds
        self.pages.append(self.sandbox.upstream.counts["audit_calls"] - sum(self.pages))

    @contextmanager
    def source(self, token: str = "user", **config: Any) -> Iterator[AuditLogsSource]:
        stream = Stream(self.world.accounts[0].id, "auditlogs")
        credential = TokenCredential(self.world.tokens[token])
        context = SourceContext(stream, credential, lambda: END, recover=Recover("off"), shared=self.shared)
        given: dict[str, Any] = {
            "server_url": self.sandbox.mcp_url,
            "page_size": ROWS,
            "concurrency": 1,
            "retry_seconds": 5.0,
        }
        with closing(AuditLogsSource(AuditLogsConfig(**given | config), context)) as source:
            yield source

    def read(self, token: str = "user") -> int:
        """Read everything; return how many events that were."""
        since = floor_ms(datetime.fromtimestamp(self.world.since, UTC))
        with self.sandbox, self.source(token) as source:
            source.connect()
            window = Window(since, END + timedelta(hours=1))
            return sum(extract.events.num_rows for extract in source.extract([window]))

    @property
    def questions(self) -> list[tuple[int, int]]:
        """Status and upstream cost of each request for the metadata."""
        return [(seen.status, seen.cost) for seen in self.sandbox.requests.entries if seen.path == METADATA]


@pytest.mark.parametrize(
    ("generation", "token", "first", "next_one"),
    [
        ("today", "user", 8, 10),
        ("0.20.9", "user", 28, None),
        ("next", "account", 29, None),
    ],
)
def test_as_many_pages_are_read_in_a_window_as_the_budget_pays_for_and_none_is_refused(
    generation: str, token: str, first: int, next_one: int | None
) -> None:
    place = Place(generation, {"throttle_calls": BUDGET})
    assert place.read(token) == EVENTS
    assert place.sandbox.upstream.counts["throttled"] == 0
    assert place.pages[:2] == ([first] if next_one is None else [first, next_one])
    assert place.questions == [(200, 0)]


def test_an_old_server_that_looks_like_a_new_one_blocks_once_and_is_believed(
    caplog: pytest.LogCaptureFixture,
) -> None:
    place = Place(options={"throttle_calls": 2 * BUDGET})
    place.sandbox.app.authorization = OAuth(place.world, dialect=AUDITLOGS["0.20.9"])
    with caplog.at_level(logging.INFO):
        assert place.read() == EVENTS
    assert place.sandbox.upstream.counts["blocks"] == 1
    assert max(place.pages[1:]) <= BUDGET // 3
    said = [record.message for record in caplog.records if "counting" in record.message]
    assert said == [
        "the server seems to remember who calls: counting one upstream call a page",
        "throttled within the budget: counting the highest cost of each call from now on",
    ]


def test_the_server_is_asked_once_in_a_process_and_what_a_block_disproved_is_not_assumed_again() -> None:
    place = Place("0.20.9")
    with place.sandbox:
        for cost in (1, 3):
            with place.source() as source:
                assert source.connect().calls_per_page == cost
            place.shared.values["budget"].pause(1.0)
    assert place.questions == [(200, 0)]


@pytest.mark.parametrize(
    "config", [{"budget_calls": 599}, {"budget_calls": 0}, {"headers": {"X-Gateway-Key": "PATH"}}], ids=str
)
def test_with_a_budget_of_one_s_own_or_through_a_gateway_nothing_is_asked(
    config: dict[str, Any],
) -> None:
    place = Place("next")
    with place.sandbox, place.source(**config) as source:
        assert source.connect().calls_per_page == 3
    assert not place.questions


@pytest.mark.parametrize(
    "authorization",
    [
        lambda world: OAuth(world, OAuthKnobs(names_itself=True), AUDITLOGS["today"]),
        lambda world: OAuth(world, OAuthKnobs(openid_only=True)),
        lambda _world: NoAuthorization(),
    ],
    ids=["one sign only", "elsewhere", "no metadata"],
)
def test_anything_less_than_both_signs_leaves_the_highest_cost(authorization: Any) -> None:
    place = Place("0.20.9")
    place.sandbox.app.authorization = authorization(place.world)
    with place.sandbox, place.source() as source:
        assert source.connect().calls_per_page == 3
    assert len(place.questions) == 1
