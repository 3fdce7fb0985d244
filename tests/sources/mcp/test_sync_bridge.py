"""What workers send, and how much of it waits for a caller that is busy."""

from __future__ import annotations

import gc
from contextlib import closing, suppress

import anyio
import pytest
from anyio.from_thread import start_blocking_portal
from anyio.streams.memory import MemoryObjectReceiveStream, MemoryObjectSendStream

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


@pytest.mark.parametrize(
    "how", ["the portal has ended before", "the portal ends first", "closed at once", "a worker fails"]
)
def test_no_stream_is_left_open(how: str) -> None:
    async def work(send: MemoryObjectSendStream[int]) -> None:
        await send.send(1)
        if how == "a worker fails":
            raise ZeroDivisionError
        await anyio.sleep_forever()

    before = open_streams()
    with suppress(ZeroDivisionError, RuntimeError), start_blocking_portal() as portal:
        if how == "the portal has ended before":
            portal.call(portal.stop)
        items = produced(portal, 2, work)
        for _ in items:
            if how != "a worker fails":
                break
        if how == "the portal ends first":
            raise ZeroDivisionError
        items.close()
    items.close()
    assert open_streams() == before


def open_streams() -> int:
    streams = (one for one in gc.get_objects() if isinstance(one, (MemoryObjectReceiveStream, MemoryObjectSendStream)))
    return sum(not one._closed for one in streams)
