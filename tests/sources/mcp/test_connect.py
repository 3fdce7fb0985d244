"""A server that is away while a run begins: waited for, within limits, and told from one that does not exist."""

from __future__ import annotations

import json
import socket
import struct
import threading
import time
from collections import Counter
from collections.abc import Iterator
from contextlib import closing, suppress
from dataclasses import dataclass, field
from datetime import UTC, datetime
from functools import partial
from typing import Any

import anyio
import pytest

from cfaudit_export.auth.token import TokenCredential
from cfaudit_export.core.model import Stream, Window, floor_ms
from cfaudit_export.errors import SourceUnavailableError
from cfaudit_export.plugin.records import Recover, SourceContext
from cfaudit_export.plugin.resources import SharedResources
from cfaudit_export.sources.auditlogs import AuditLogsConfig
from cfaudit_export.sources.auditlogs.source import AuditLogsSource
from cfaudit_export.sources.codemode import CodeModeConfig
from cfaudit_export.sources.codemode.source import codemode_source
from cfaudit_export.sources.mcp.budget import CallBudget
from cfaudit_sandbox import Sandbox, SandboxOptions, World

END = datetime(2026, 11, 20, tzinfo=UTC)
EVENTS = 40
_KINDS: dict[str, tuple[Any, Any, str]] = {
    "auditlogs": (AuditLogsSource, AuditLogsConfig, ""),
    "codemode": (codemode_source, CodeModeConfig, "/codemode"),
}


@dataclass
class Night:
    """A source, a port at which its server may be or not, and waiting that takes no time."""

    source: str
    waits: list[float] = field(default_factory=list)
    slept: float = 0.0
    morning: int = 2  # after so many waits the server comes
    port: int = 0
    sandbox: Sandbox | None = None
    shared: SharedResources = field(default_factory=SharedResources)

    def __post_init__(self) -> None:
        self.world = World(SandboxOptions(end_at=END, events=EVENTS, span_seconds=3_600.0, accounts=2))
        self.place = socket.socket()  # bound and not listening, so that no other process gets the port
        self.place.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        self.place.bind(("127.0.0.1", 0))
        self.port = self.place.getsockname()[1]
        self.url = f"http://127.0.0.1:{self.port}{_KINDS[self.source][2]}/mcp"

    def dawn(self) -> Sandbox:
        self.sandbox = Sandbox(self.world, port=self.port)
        return self.sandbox.__enter__()

    def now(self) -> float:
        return time.monotonic() + self.slept

    async def sleep(self, seconds: float) -> None:
        await anyio.lowlevel.checkpoint()
        self.waits.append(seconds)
        self.slept += seconds
        if len(self.waits) == self.morning and self.sandbox is None:
            await anyio.to_thread.run_sync(self.dawn)

    def new(self, *, max_wait: float | None = None, token: str = "account", **config: Any) -> Any:
        build, settings, _ = _KINDS[self.source]
        stream = Stream(self.world.accounts[0].id, self.source)
        credential = TokenCredential(self.world.tokens[token])
        context = SourceContext(stream, credential, lambda: END, recover=Recover("off"), shared=self.shared)
        self.shared.values.setdefault("budget", CallBudget(0, max_wait, now=self.now, sleep=self.sleep))
        given = {"server_url": self.url, "budget_calls": 0, "retry_seconds": 60.0, **config}
        return build(settings(**given), context)

    def read(self, **options: Any) -> None:
        """Read, and find every event once."""
        since = floor_ms(datetime.fromtimestamp(self.world.since, UTC))
        with closing(self.new(**options)) as source:
            source.connect()
            found = [piece.events["event_raw"].to_pylist() for piece in source.extract([Window(since, END)])]
        times = Counter(json.loads(text)[self.identity] for texts in found for text in texts)
        assert times.total() == EVENTS
        assert set(times.values()) == {1}

    @property
    def identity(self) -> str:
        return "time" if self.source == "auditlogs" else "id"


@pytest.fixture(params=_KINDS)
def night(request: pytest.FixtureRequest) -> Iterator[Night]:
    """Make one for each source."""
    made = Night(request.param)
    yield made
    made.place.close()
    if made.sandbox:
        made.sandbox.__exit__(None, None, None)


def serve_resets(port: int, enough: threading.Event) -> None:
    with socket.create_server(("127.0.0.1", port)) as listener:
        listener.settimeout(0.01)
        while not enough.is_set():
            with suppress(TimeoutError):
                accepted, _ = listener.accept()
                accepted.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
                accepted.close()


def test_a_server_that_comes_late_is_waited_for(night: Night) -> None:
    night.read()
    assert len(night.waits) == 2
    assert night.waits[1] > 0.5 * night.waits[0]


def test_connections_that_are_reset_are_tried_again(night: Night, monkeypatch: pytest.MonkeyPatch) -> None:
    enough = threading.Event()
    resetting = threading.Thread(target=serve_resets, args=(night.port, enough))
    resetting.start()
    dawn = night.dawn

    def end_resets() -> Sandbox:
        enough.set()
        resetting.join()
        return dawn()

    monkeypatch.setattr(night, "dawn", end_resets)
    night.read()
    assert len(night.waits) >= 2


@pytest.mark.parametrize("status", [500, 502, 503])
def test_a_server_that_fails_while_it_starts_is_asked_again(night: Night, status: int) -> None:
    night.dawn().upstream.fail_next(status, times=5, where="edge")
    night.read()
    assert night.waits


def test_a_server_that_throttles_who_connects_is_left_alone_as_long_as_it_says(night: Night) -> None:
    night.dawn().upstream.fail_next(429, times=2, where="probe", retry_after=7)  # each connection asks twice
    night.read()
    assert 6 < sum(night.waits) <= 7


def test_a_server_that_never_comes_is_given_up_once_for_all_accounts(night: Night) -> None:
    night.morning = 0
    for account in range(3):
        with closing(night.new(retry_seconds=20.0)) as source, pytest.raises(SourceUnavailableError) as caught:
            source.connect()
        assert caught.value.exit_code == 75
        assert f"'127.0.0.1:{night.port}' cannot be reached" in str(caught.value)
        if not account:
            first = len(night.waits)
    assert 5 < sum(night.waits) <= 20
    assert len(night.waits) <= first + 2, "the next accounts do not wait as long again"
    assert len(set(night.waits)) == len(night.waits), "delays are jittered"


def test_no_more_is_waited_than_the_run_may(night: Night) -> None:
    night.morning = 0
    with closing(night.new(max_wait=3.0)) as source, pytest.raises(SourceUnavailableError, match="cannot be reached"):
        source.connect()
    assert 0 < sum(night.waits) <= 3


@pytest.mark.parametrize("limits", [{"retry_seconds": 0.7}, {"max_wait": 0.7}], ids=str)
def test_a_host_that_swallows_connections_is_given_up_in_time(night: Night, limits: dict[str, float]) -> None:
    night.morning = 0
    with (
        socket.create_server(("127.0.0.1", night.port)),
        closing(night.new(timeout_seconds=0.2, **limits)) as source,
        pytest.raises(SourceUnavailableError, match="no reply in time"),
    ):
        source.connect()
    assert len(night.waits) <= 3, "what failed tries take counts"


def unresolved(number: int, *_: Any, **__: Any) -> None:
    raise socket.gaierror(number, "no address")


def test_a_name_that_does_not_exist_is_not_waited_for(night: Night, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(socket, "getaddrinfo", partial(unresolved, socket.EAI_NONAME))
    with (
        closing(night.new(server_url="https://auditlog.example/mcp")) as source,
        pytest.raises(SourceUnavailableError, match=r"'auditlog.example' cannot be found .* check the server URL"),
    ):
        source.connect()
    assert night.waits == []


def test_names_that_cannot_be_looked_up_now_are_waited_for(night: Night, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(socket, "getaddrinfo", partial(unresolved, socket.EAI_AGAIN))
    night.morning = 0
    with (
        closing(night.new(server_url="https://auditlog.example/mcp", retry_seconds=5.0)) as source,
        pytest.raises(SourceUnavailableError, match="cannot be reached"),
    ):
        source.connect()
    assert night.waits


@pytest.mark.parametrize("night", ["auditlogs"], indirect=True)
def test_the_question_for_accounts_is_repeated_too(night: Night) -> None:
    upstream = night.dawn().upstream
    with closing(night.new(token="user")) as source:
        source.open()
        upstream.fail_next(503, times=2, where="edge")
        assert len(source.connect().accounts) == 2
    assert len(night.waits) == 2
