"""The built-in sources keep the contract, over HTTP against the sandbox."""

from __future__ import annotations

import json
import socket
from collections import Counter
from collections.abc import Callable, Iterator
from datetime import UTC, datetime, timedelta
from typing import Any

import pytest

from cfaudit_export.auth.token import TokenCredential
from cfaudit_export.core.model import Stream, Window, floor_ms
from cfaudit_export.plugin.records import Recover, SourceContext
from cfaudit_export.sources.auditlogs import AuditLogsConfig
from cfaudit_export.sources.auditlogs.source import AuditLogsSource
from cfaudit_export.sources.codemode import CodeModeConfig
from cfaudit_export.sources.codemode.source import RecordSource, codemode_source
from cfaudit_export.sources.rest import RestConfig
from cfaudit_export.sources.rest.source import rest_source
from cfaudit_export.testing import SourceContract, SourceTarget
from cfaudit_sandbox import Sandbox, SandboxOptions, World
from cfaudit_sandbox.world.text import js

END = datetime(2026, 11, 20, tzinfo=UTC)
HOUR = timedelta(hours=1)


@pytest.fixture(scope="module")
def sandbox() -> Iterator[Sandbox]:
    options = SandboxOptions(end_at=END, events=600, span_seconds=86_400.0, ties=0.3, twins=0.2)
    with Sandbox(World(options)) as running:
        yield running


@pytest.fixture(scope="module")
def empty() -> Iterator[Sandbox]:
    with Sandbox(World(SandboxOptions(end_at=END, events=0))) as running:
        yield running


@pytest.fixture
def nowhere() -> Iterator[str]:
    with socket.socket() as silent:
        silent.bind(("127.0.0.1", 0))  # bound and not listening: connections are refused
        yield f"http://127.0.0.1:{silent.getsockname()[1]}/mcp"


def six_fields(world: World) -> Counter[str]:
    rows = (json.dumps(row, ensure_ascii=False, separators=(",", ":")) for row in world.rows(world.accounts[0].id))
    # A lone surrogate travels as its escape.
    return Counter(row.encode("utf-8", "backslashreplace").decode() for row in rows)


def records(world: World) -> Counter[str]:
    return Counter(map(js, world.records(world.accounts[0].id)))


def auditlogs(sandbox: Sandbox, token: str = "account", **config: Any) -> AuditLogsSource:
    given = {"server_url": sandbox.mcp_url, "budget_calls": 0, "retry_seconds": 0.5, "page_size": 25, "piece_rows": 50}
    context = context_of(sandbox, "auditlogs", token)
    return AuditLogsSource(AuditLogsConfig(**{**given, "concurrency": 2, **config}), context)


def codemode(sandbox: Sandbox, token: str = "account", **config: Any) -> RecordSource:
    given = {"server_url": sandbox.codemode_url, "budget_calls": 0, "retry_seconds": 0.5, "page_size": 25}
    context = context_of(sandbox, "codemode", token)
    more = {"pages_per_call": 1, "piece_rows": 50, "concurrency": 2}
    return codemode_source(CodeModeConfig(**{**given, **more, **config}), context)


def rest(sandbox: Sandbox, token: str = "account", **config: Any) -> RecordSource:
    given = {"server_url": sandbox.rest_url, "budget_calls": 0, "retry_seconds": 0.5, "page_size": 25}
    return rest_source(
        RestConfig(**{**given, "piece_rows": 50, "concurrency": 2, **config}), context_of(sandbox, "rest", token)
    )


def context_of(sandbox: Sandbox, source: str, token: str) -> SourceContext:
    stream = Stream(sandbox.world.accounts[0].id, source)
    credential = TokenCredential(sandbox.world.tokens.get(token, token))
    return SourceContext(stream, credential, lambda: END, recover=Recover("off"))


def target_of(
    build: Callable[..., Any], truth: Callable[[World], Counter[str]], sandbox: Sandbox, empty: Sandbox, nowhere: str
) -> SourceTarget:
    since = floor_ms(datetime.fromtimestamp(sandbox.world.since, UTC))
    return SourceTarget(
        new_source=lambda: build(sandbox),
        other_source=lambda: build(sandbox, page_size=170, piece_rows=400, concurrency=1),
        window=Window(since - HOUR, END + HOUR),
        truth=lambda: truth(sandbox.world),
        reads=lambda: sandbox.upstream.counts.get("audit_calls", 0),
        empty_source=lambda: build(empty),
        refused_source=lambda: build(sandbox, token="no-such-token"),
        unreachable_source=lambda: build(sandbox, server_url=nowhere),
    )


class TestAuditLogs(SourceContract):
    @pytest.fixture
    def target(self, sandbox: Sandbox, empty: Sandbox, nowhere: str) -> SourceTarget:
        return target_of(auditlogs, six_fields, sandbox, empty, nowhere)


class TestCodeMode(SourceContract):
    @pytest.fixture
    def target(self, sandbox: Sandbox, empty: Sandbox, nowhere: str) -> SourceTarget:
        return target_of(codemode, records, sandbox, empty, nowhere)


class TestRest(SourceContract):
    @pytest.fixture
    def target(self, sandbox: Sandbox, empty: Sandbox, nowhere: str) -> SourceTarget:
        return target_of(rest, records, sandbox, empty, nowhere)


@pytest.mark.parametrize("truth", [six_fields, records])
def test_the_events_hold_text_in_many_scripts(sandbox: Sandbox, truth: Any) -> None:
    assert any(not text.isascii() for text in truth(sandbox.world))
