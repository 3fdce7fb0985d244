"""Rows are let go with their piece: no source keeps them until Python looks for cycles, which may be late."""

from __future__ import annotations

import gc
from collections.abc import Iterator
from contextlib import closing
from datetime import UTC, datetime, timedelta
from typing import Any

import pyarrow as pa
import pytest

from cfaudit_export.auth.token import TokenCredential
from cfaudit_export.core.model import Stream, Window, iso
from cfaudit_export.plugin.records import Recover, SourceContext
from cfaudit_export.sources.auditlogs import AuditLogsConfig
from cfaudit_export.sources.auditlogs.source import AuditLogsSource
from cfaudit_export.sources.codemode import CodeModeConfig
from cfaudit_export.sources.codemode.source import codemode_source
from cfaudit_sandbox import Sandbox, SandboxOptions, World

END = datetime(2026, 11, 20, tzinfo=UTC)
WINDOW = Window(END - timedelta(days=1), END)
EVENTS, ROW_BYTES = 400, 10_000


@pytest.fixture
def sandbox() -> Iterator[Sandbox]:
    world = World(SandboxOptions(end_at=END, events=1))
    account = world.accounts[0].id
    model = next(world.records(account))

    def record(number: int) -> dict[str, Any]:
        action = {**model["action"], "time": iso(WINDOW.since + timedelta(seconds=9 * number))}
        return model | {"id": f"{number}", "action": {**action, "description": f"{number:010}" * (ROW_BYTES // 10)}}

    world.add(account, [record(number) for number in range(EVENTS)])
    with Sandbox(world) as running:
        yield running


@pytest.fixture
def no_cycles_are_found() -> Iterator[None]:
    gc.collect()
    gc.disable()
    try:
        yield
    finally:
        gc.enable()


def source_of(sandbox: Sandbox, name: str) -> Any:
    stream = Stream(sandbox.world.accounts[0].id, name)
    credential = TokenCredential(sandbox.world.tokens["account"])
    context = SourceContext(stream, credential, lambda: END, recover=Recover("all"))
    given = {"budget_calls": 0, "piece_rows": 20, "page_size": 20, "concurrency": 1}
    if name == "codemode":
        return codemode_source(CodeModeConfig(server_url=sandbox.codemode_url, pages_per_call=1, **given), context)
    return AuditLogsSource(AuditLogsConfig(server_url=sandbox.mcp_url, **given), context)


@pytest.mark.usefixtures("no_cycles_are_found")
@pytest.mark.parametrize("name", ["auditlogs", "codemode"])
def test_memory_of_rows_does_not_grow_with_the_pieces_that_were_delivered(sandbox: Sandbox, name: str) -> None:
    before, held, rows = pa.total_allocated_bytes(), list[int](), 0
    with closing(source_of(sandbox, name)) as source:
        source.connect()
        for extract in source.extract([WINDOW]):
            rows += extract.events.num_rows
            del extract
            held.append(pa.total_allocated_bytes() - before)
    assert rows == EVENTS
    assert len(held) >= EVENTS // 20
    assert max(held) <= 8 * 20 * ROW_BYTES, "some pieces are on their way"
