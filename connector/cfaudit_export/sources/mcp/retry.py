"""A question that brought no answer -> the same question again after a while, or the error to end with."""

from __future__ import annotations

import logging
import random
from collections.abc import Awaitable, Callable
from typing import TypeVar

from cfaudit_export.sources.mcp.budget import CallBudget
from cfaudit_export.sources.mcp.failures import CallFailedError, Kind

_LOG = logging.getLogger(__name__)
# What the servers ask for when their own look-ups are throttled.
_IDENTITY_WAIT_SECONDS = 30.0
_FIRST_SECONDS, _LONGEST_SECONDS = 0.5, 30.0

T = TypeVar("T")


class RetryPolicy:
    """What one question may take: growing, jittered delays that together stay below a total, and one new token."""

    def __init__(self, budget: CallBudget, total_seconds: float, url: str) -> None:
        """Build the policy for one question.

        Args:
            budget: waits, and counts what is waited.
            total_seconds: longest time spent on trying again; being throttled does not count, `budget` bounds it.
            url: the server, for messages.
        """
        self.renewed = False
        self._budget = budget
        self._url = url
        self._left = total_seconds
        self._lost = 0.0
        self._next = _FIRST_SECONDS
        self._looked: dict[Kind, int] = {}

    async def persist(self, cost: int, ask: Callable[[], Awaitable[T]]) -> T:
        """Ask until there is an answer; for what is asked once at the start, where a wrong name should end soon.

        The time that failed tries take counts too: a host that swallows connections is given up like any other.

        Raises:
            AccessError, ThrottledError, SourceUnavailableError, ProtocolError: there is no answer.
        """
        while True:
            began = await self._budget.acquire(cost)
            try:
                answer = await ask()
            except CallFailedError as failure:
                if failure.unknown_host:
                    raise failure.as_error(self._url) from failure
                took = self._budget.now() - began
                self._left -= took
                self._lost += took
                await self.outlast(failure)
            else:
                self._budget.served(cost)
                return answer

    async def outlast(self, failure: CallFailedError) -> None:
        """Wait until it makes sense to ask the server again, or raise that it never does."""
        if failure.kind == "throttled":
            self._budget.pause(failure.retry_after_seconds or _IDENTITY_WAIT_SECONDS, failure.sent_at)
            return
        looked = self._looked[failure.kind] = self._looked.get(failure.kind, 0) + 1
        if failure.looks is not None and looked > failure.looks:
            raise failure.as_error(self._url)
        await self.again_after(failure.detail, failure.as_error(self._url))

    async def again_after(self, why: str, last: Exception) -> None:
        """Wait a little, or raise `last` where the time for that is spent."""
        delay = self._next * random.uniform(0.5, 1.0)  # noqa: S311  # jitter, not a secret
        if delay > self._left or not self._budget.affords(self._lost + delay):
            raise last
        self._left -= delay
        self._next = min(self._next * 2, _LONGEST_SECONDS)
        self._budget.retries += 1
        _LOG.warning("call failed, trying again", extra={"reason": why, "delay_seconds": round(delay, 1)})
        await self._budget.wait(delay, "call failed")
