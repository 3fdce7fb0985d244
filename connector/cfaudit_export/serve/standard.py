"""A server over stdin and stdout, for the one client that started it."""

from __future__ import annotations

import os
import signal
import threading
from collections.abc import AsyncIterator, Iterator
from contextlib import suppress
from typing import Any

import anyio
import anyio.from_thread
from anyio.streams.memory import MemoryObjectReceiveStream
from mcp.server.stdio import stdio_server

from cfaudit_export.serve.order import ServeOrder
from cfaudit_export.serve.server import build_server

_LONGEST_LINE = 4 << 20
_READ_BYTES = 64 << 10


def serve_standard(order: ServeOrder, stdin: int) -> None:
    """Serve until stdin, a file descriptor, ends, or a signal to stop comes.

    Raises:
        BrokenPipeError: the client reads no more.
    """
    anyio.run(_serve, order, stdin)


async def _serve(order: ServeOrder, stdin: int) -> None:
    built = build_server(order)
    try:
        async with anyio.create_task_group() as tasks:
            tasks.start_soon(_stop_on_signal, tasks.cancel_scope)
            lines: Any = _Lines(stdin)
            async with stdio_server(stdin=lines) as (read, write):
                await built.server.run(read, write, built.server.create_initialization_options())
            tasks.cancel_scope.cancel()
    except* BrokenPipeError as group:
        raise BrokenPipeError from group
    finally:
        built.worker.close()


async def _stop_on_signal(scope: anyio.CancelScope) -> None:
    with anyio.open_signal_receiver(signal.SIGINT, signal.SIGTERM, signal.SIGHUP) as signals:
        async for _ in signals:
            scope.cancel()
            return


class _Lines:
    """The lines of stdin. A thread of its own reads them: one that waits for a line must not keep the process.

    It reads bytes as they come, without Python's buffer, whose lock such a thread would hold when the process ends.
    """

    def __init__(self, stdin: int) -> None:
        self._stdin = stdin

    async def __aiter__(self) -> AsyncIterator[str]:
        received: MemoryObjectReceiveStream[str]
        send, received = anyio.create_memory_object_stream[str](0)
        portal = anyio.from_thread.BlockingPortal()

        def read() -> None:
            with suppress(Exception):  # the loop has ended
                for line in _split(self._stdin):
                    portal.call(send.send, line.decode("utf-8", "replace"))
                portal.call(send.aclose)

        async with portal:
            threading.Thread(target=read, name="stdin", daemon=True).start()
            async with received:
                async for line in received:
                    yield line


def _split(stdin: int) -> Iterator[bytes]:
    """Yield lines as they come; of one that is too long, its parts, none of which is a message."""
    rest = b""
    while chunk := os.read(stdin, _READ_BYTES):
        *lines, rest = (rest + chunk).split(b"\n")
        yield from lines
        if len(rest) > _LONGEST_LINE:
            yield rest
            rest = b""
    if rest:
        yield rest
