"""What workers send, and how much of it waits for a caller that is busy."""

from __future__ import annotations

from contextlib import closing

import anyio
import pytest
from anyio.from_thread import start_blocking_portal
from anyio.streams.memory import MemoryObjectSendStream

from cfaudit_export.sources.mcp.sync_bridge import produced


@pytest.mark.parametrize("waiting", [1, 4])
def test_workers_go_on_until_so_many_wait_as_may(waiting: int) -> None:
    sent: list[int] = []

    async def work(send: MemoryObjectSendStream[int]) -> None:
        for number in range(100):
            await send.send(number)
            sent.append(number)

    with start_blocking_portal() as portal, closing(produced(portal, 1, work, waiting=waiting)) as items:
        assert next(items) == 0
        portal.call(anyio.wait_all_tasks_blocked)
        assert sent == list(range(1 + waiting))
        assert list(items) == list(range(1, 100))
