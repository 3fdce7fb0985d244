"""How far our clock is ahead of a server's, by the `Date` of its replies (RFC 9110, 6.6.1)."""

from __future__ import annotations

from collections.abc import Callable
from datetime import UTC, datetime
from email.utils import parsedate_to_datetime

import httpx2


class ServerClock:
    """Looks at the replies of a server.

    Attributes:
        ahead_seconds: how far our clock was ahead at the latest reply, to the second; 0 where no reply has said.
    """

    def __init__(self, clock: Callable[[], datetime]) -> None:
        self._clock = clock
        self.ahead_seconds = 0.0

    async def note(self, response: httpx2.Response) -> None:
        """Look at a reply, as a response hook."""
        try:
            said = parsedate_to_datetime(response.headers.get("date", ""))
        except ValueError:
            return
        at = said if said.tzinfo else said.replace(tzinfo=UTC)
        self.ahead_seconds = (self._clock() - at).total_seconds()
