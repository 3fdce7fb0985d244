"""Sessions of requests, which libraries bring along, whose replies have an end: requests limits each silence alone."""

from __future__ import annotations

from typing import Any, TypeVar

import requests
from requests.adapters import HTTPAdapter

MOST_REPLY_BYTES = 4_000_000
"""The most bytes of a reply, decompressed: many times the largest of a service that is asked through such a session."""
_PIECE_BYTES = 1 << 16

S = TypeVar("S", bound=requests.Session)


def bound(session: S, most_bytes: int = MOST_REPLY_BYTES) -> S:
    """Let no reply to a session be larger than `most_bytes`, and return the session."""
    for scheme in ("https://", "http://"):
        session.mount(scheme, BoundedAdapter(most_bytes))
    return session


class BoundedAdapter(HTTPAdapter):
    """Reads replies whole, up to a size.

    Raises, beside what any adapter raises:
        requests.exceptions.ContentDecodingError: a reply is larger; the rest of it was not read.
    """

    def __init__(self, most_bytes: int) -> None:
        """Build it."""
        super().__init__()
        self._most_bytes = most_bytes

    def send(self, request: requests.PreparedRequest, *arguments: Any, **options: Any) -> requests.Response:
        """Send a request and read its reply to the end; as `HTTPAdapter.send`."""
        reply = super().send(request, *arguments, **options)
        content = bytearray()
        for piece in reply.iter_content(_PIECE_BYTES):
            content += piece
            if len(content) > self._most_bytes:
                reply.close()
                raise requests.exceptions.ContentDecodingError(f"the reply is larger than {self._most_bytes:,} bytes")
        reply._content = bytes(content)  # noqa: SLF001  # the library has no other way
        return reply
