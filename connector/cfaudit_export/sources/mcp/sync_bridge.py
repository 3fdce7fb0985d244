"""Async inside, sync outside: what workers produce in a portal's thread, as a generator for the caller."""

from __future__ import annotations

from collections.abc import Callable, Coroutine, Generator
from concurrent.futures import Future
from contextlib import suppress
from typing import Any, TypeVar

import anyio
from anyio.from_thread import BlockingPortal
from anyio.streams.memory import MemoryObjectSendStream

T = TypeVar("T")


def produced(
    portal: BlockingPortal,
    workers: int,
    work: Callable[[MemoryObjectSendStream[T]], Coroutine[Any, Any, None]],
    *,
    waiting: int = 1,
) -> Generator[T, None, None]:
    """Yield what `workers` tasks send, until all of them have ended.

    A caller that does not take makes them wait, once `waiting` of what they send are there to be taken. Closing the
    generator cancels them. The first error ends all of them, and is raised here once everything sent before it has
    been taken.
    """
    send, receive = anyio.create_memory_object_stream[T](waiting)

    async def all_work() -> None:
        async with send:
            try:
                async with anyio.create_task_group() as group:
                    for _ in range(workers):
                        group.start_soon(work, send)
            except BaseExceptionGroup as errors:
                raise _first(errors) from errors

    def close() -> None:
        receive.close()
        send.close()

    future: Future[None] | None = None
    try:
        future = portal.start_task_soon(all_work)
        while True:
            try:
                yield portal.call(receive.receive)  # without a name for it, which would keep it until the next one
            except anyio.EndOfStream:
                break
        future.result()
    finally:
        if future is not None:
            future.cancel()
        # Whatever ended this, and whether the work has begun or not: else the garbage collector finds them open.
        with suppress(RuntimeError):  # the portal has ended already
            portal.call(close)
        close()


def _first(errors: BaseExceptionGroup[BaseException]) -> BaseException:
    """Return the first error of a group that is none itself."""
    first = errors.exceptions[0]
    return _first(first) if isinstance(first, BaseExceptionGroup) else first
