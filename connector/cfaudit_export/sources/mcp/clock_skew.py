"""How far our clock is ahead of a server's, by the `Date` of its replies (RFC 9110, 6.6.1)."""

from __future__ import annotations

from collections.abc import Callable
from datetime import datetime

import httpx2

from cfaudit_export.http.retry_after import http_date


class ServerClock:
    """Looks at the replies of a server.

    Attributes:
        ours: our clock.
        ahead_seconds: how far our clock was ahead at the latest reply, to the second; None where no reply has said.
    """

    def __init__(self, clock: Callable[[], datetime]) -> None:
        self.ours = clock
        self.ahead_seconds: float | None = None

    async def note(self, response: httpx2.Response) -> None:
        """Look at a reply, as a response hook."""
        said = http_date(response.headers.get("date", ""))
        if said is not None:
            self.ahead_seconds = (self.ours() - said).total_seconds()
