"""The transport of an MCP session: what fails there is noted by request, and the SDK is told in a way that it survives.

The SDK hides status, body and Retry-After of a refused request behind one error, and an exception of the transport
takes its whole session down, with every other call in flight. So none leaves here: it becomes a note and an empty reply
of status 503. Notes are found again by the request's own method and arguments, so that calls in flight at the same
time are not confused.
"""

from __future__ import annotations

import json
from collections.abc import AsyncIterator, Callable, Mapping
from datetime import datetime
from io import BytesIO
from typing import Any, Self

import anyio
import httpx2
import msgspec

from cfaudit_export.core.escape import shown
from cfaudit_export.http.exchange import MOST_BYTES_EXTENSION, AsyncBoundedTransport
from cfaudit_export.http.retry_after import retry_after_seconds
from cfaudit_export.sources.mcp.failures import CallFailedError, failure_of, says_session_ended

# What servers say to a session that they ended. The protocol has 404 for it, the most common SDK says 400, and gateways
# say whatever their own store of sessions makes them say.
_ENDED = (400, 401, 403, 404, 410, 500)
_SESSION_HEADER = "mcp-session-id"
_OPENING = ("tools/list", "initialize", "server/discover")
# A server that does not know how to be asked for its revision should say so at once.
_DISCOVER_SECONDS = 20.0
_GOODBYE_SECONDS = 3.0


class FailedResponses(httpx2.AsyncBaseTransport):
    """Sends requests, and keeps why those that brought no reply did not."""

    def __init__(self, inner: AsyncBoundedTransport, clock: Callable[[], datetime]) -> None:
        """Build it around the transport that sends; `clock` is the time that dates of servers are compared with."""
        self._inner = inner
        self.most_bytes = inner.most_bytes
        self._clock = clock
        self._by_request: dict[str, CallFailedError] = {}
        self._most: dict[str, int] = {}  # bytes of the reply to a request, where it has a limit of its own
        self._step = ""
        self.discover_is_unheard = False  # a server was asked which revisions it knows, and has not answered

    async def __aenter__(self) -> Self:
        await self._inner.__aenter__()
        return self

    async def aclose(self) -> None:
        """Close the connections."""
        await self._inner.aclose()

    def limit_call(self, arguments: Mapping[str, Any], most_bytes: int | None) -> None:
        """Read no more than so many bytes of the replies to a call of a tool; None for as many as of others."""
        self._most.pop(_key("tools/call", arguments), None)
        if most_bytes is not None:
            self._most[_key("tools/call", arguments)] = most_bytes

    def of_call(self, arguments: Mapping[str, Any]) -> CallFailedError | None:
        """Return why a call of a tool brought no reply, None when it brought one."""
        return self._by_request.pop(_key("tools/call", arguments), None)

    def of_opening(self) -> CallFailedError | None:
        """Return why the latest step of opening a session brought no reply, None when it brought one."""
        notes = {method: self._by_request.pop(_key(method, None), None) for method in _OPENING}
        return notes.get(self._step)

    async def handle_async_request(self, request: httpx2.Request) -> httpx2.Response:
        """Send a request; failures of it are noted, and become a reply of status 503."""
        method, key = _method_and_key(request)
        self._by_request.pop(key, None)
        self._step = method if method in _OPENING else self._step
        self.discover_is_unheard |= method == "server/discover"
        if request.method == "GET" and "last-event-id" not in request.headers:
            return httpx2.Response(405)  # a stream for what the server has to say of its own accord, which is nothing
        if key in self._most:
            request.extensions = {**request.extensions, MOST_BYTES_EXTENSION: self._most[key]}
        try:
            with anyio.fail_after(_seconds_for(request, method)):
                reply = await self._inner.handle_async_request(request)
                self.discover_is_unheard &= method != "server/discover"
                if _is_stream(reply):
                    return self._streamed(reply, key)
                content = await _content(reply)
        except Exception as error:  # noqa: BLE001  # whatever it is, the table of failures knows it
            return self._noted(key, failure_of(error))
        failure = self._refusal(request, reply, content, method)
        if failure is not None and key:
            self._by_request[key] = failure
        return httpx2.Response(reply.status_code, headers=_without_length(reply), content=content)

    def _streamed(self, reply: httpx2.Response, key: str) -> httpx2.Response:
        stream = _QuietStream(reply, lambda error: self._noted(key, failure_of(error)))
        return httpx2.Response(reply.status_code, headers=reply.headers, stream=stream, extensions=reply.extensions)

    def _noted(self, key: str, failure: CallFailedError) -> httpx2.Response:
        if key:
            self._by_request[key] = failure
        return httpx2.Response(503)

    def _refusal(
        self, request: httpx2.Request, reply: httpx2.Response, content: bytes, method: str
    ) -> CallFailedError | None:
        """Return why a whole reply is none, None where it may be one."""
        status = reply.status_code
        if status < 400:
            return _rejected(reply, content) if method else None
        said = _said(content)
        names_session = said is not None and says_session_ended(said)
        return CallFailedError(
            f"HTTP {status}" + (f": {shown(said)}" if said else ""),
            status=status,
            retry_after_seconds=retry_after_seconds(reply.headers.get("retry-after"), self._clock()),
            ended_session=status in _ENDED and (_SESSION_HEADER in request.headers or names_session),
        )


class _QuietStream(httpx2.AsyncByteStream):
    """The bytes of a stream of events, which ends where it breaks."""

    def __init__(self, reply: httpx2.Response, note: Callable[[Exception], object]) -> None:
        self._reply = reply
        self._note = note

    async def __aiter__(self) -> AsyncIterator[bytes]:
        chunks = aiter(self._reply.aiter_raw())
        while True:
            try:
                chunk = await anext(chunks, None)
            except Exception as error:  # noqa: BLE001  # as above
                self._note(error)
                return
            if chunk is None:
                return
            yield chunk

    async def aclose(self) -> None:
        await self._reply.aclose()


def _seconds_for(request: httpx2.Request, method: str) -> float | None:
    if request.method == "DELETE":
        return _GOODBYE_SECONDS
    return _DISCOVER_SECONDS if method == "server/discover" else None


async def _content(reply: httpx2.Response) -> bytes:
    """Return the body; of an error's reply nothing, where it cannot be read: the status says enough."""
    try:
        body = BytesIO()  # gives its bytes away without a copy
        async for chunk in reply.aiter_raw():
            body.write(chunk)
        return body.getvalue()
    except httpx2.HTTPError:
        if reply.status_code < 400:
            raise
        return b""
    finally:
        await reply.aclose()


def _is_stream(reply: httpx2.Response) -> bool:
    kind = reply.headers.get("content-type", "").lower()
    return reply.status_code == 200 and kind.startswith("text/event-stream")


def _without_length(reply: httpx2.Response) -> list[tuple[bytes, bytes]]:
    return [
        (name, value)
        for name, value in reply.headers.raw
        if name.lower() not in {b"content-length", b"transfer-encoding"}
    ]


def _rejected(reply: httpx2.Response, content: bytes) -> CallFailedError | None:
    """Return what is odd about a reply without an error, None where nothing is, or the SDK sees to it."""
    status, kind = reply.status_code, reply.headers.get("content-type", "").lower()
    if 300 <= status < 400:
        return None
    if status != 200 or not content.strip():
        return CallFailedError(f"HTTP {status} without a reply", "odd", status=status)
    if not kind.startswith("application/json"):
        return CallFailedError(f"a reply of type '{shown(kind) or 'unknown'}', not JSON", "odd", status=status)
    try:
        msgspec.json.decode(content, type=msgspec.Raw)  # without the objects of it
    except msgspec.DecodeError:
        return CallFailedError("the reply is not JSON", "odd", status=status)
    except RecursionError as error:
        return failure_of(error)
    return None


def _method_and_key(request: httpx2.Request) -> tuple[str, str]:
    """Return the method that a request asks for, and what it is found by; both empty where no reply is awaited."""
    try:
        body = json.loads(request.content)
        if "id" not in body:
            return "", ""
        return body["method"], _key(body["method"], body.get("params", {}).get("arguments"))
    except (ValueError, KeyError, AttributeError, TypeError, httpx2.RequestNotRead):
        return "", ""


def _key(method: str, arguments: Mapping[str, Any] | None) -> str:
    return json.dumps([method, arguments], sort_keys=True)


def _said(content: bytes) -> str | None:
    """Return the words of an error's reply, as far as they are words."""
    try:
        body = json.loads(content)
    except (ValueError, RecursionError):
        return None
    if not isinstance(body, dict):
        return None
    error = body.get("error")
    said = body.get("error_description") or (error.get("message") if isinstance(error, dict) else error)
    return said if isinstance(said, str) else None
