"""HTTP exchanges with an end: total time, bytes of the reply, and settings of the machine that do not work.

Every request of this program goes through one of the two transports here. An exchange is everything from looking up
the name to the last byte of the reply; it ends after `seconds`, however slowly the peer answers. A reply is never more
than `most_bytes` once it is decompressed, where a request does not ask for less; an error's reply never more than a
megabyte. Proxies and certificates are those of the environment (`HTTPS_PROXY`, `NO_PROXY`, `SSL_CERT_FILE`,
`SSL_CERT_DIR`).
"""

from __future__ import annotations

import os
import ssl
from collections.abc import AsyncIterator, Callable, Mapping
from concurrent.futures import CancelledError
from contextlib import AsyncExitStack, ExitStack
from threading import Lock
from types import TracebackType
from typing import Any, Self

import anyio
import httpx2
from anyio.from_thread import BlockingPortal, start_blocking_portal

from cfaudit_export.core.causes import reason_of
from cfaudit_export.core.deadline import Deadline
from cfaudit_export.core.escape import shown
from cfaudit_export.errors import SettingsError
from cfaudit_export.http.content_coding import CodingError, ContentCoding

MOST_BYTES = 64_000_000
MOST_BYTES_EXTENSION = "cfaudit.most_bytes"
"""Extension of a request: the most bytes of its reply, where that is less than of others."""
_MOST_ERROR_BYTES = 1_000_000
_CONNECT_SECONDS = 15.0
_PROXY_VARIABLES = "HTTP_PROXY, HTTPS_PROXY or ALL_PROXY"
_CERTIFICATE_VARIABLES = ("SSL_CERT_FILE", "SSL_CERT_DIR")


class ReplyTooLargeError(httpx2.RemoteProtocolError):
    """A reply, decompressed, is larger than replies may be; the rest of it was not read."""


class ReplyCutError(httpx2.RemoteProtocolError):
    """A reply is compressed, and its end is missing."""


def open_client(
    seconds: float,
    *,
    headers: Mapping[str, str] | None = None,
    connect_seconds: float = _CONNECT_SECONDS,
    most_bytes: int = MOST_BYTES,
    verify: ssl.SSLContext | bool = True,
    event_hooks: Mapping[str, list[Callable[..., Any]]] | None = None,
) -> httpx2.Client:
    """Return a client for requests from a thread; it follows no redirect. Close it.

    Args:
        seconds: longest time for a whole exchange.
        headers: go along with every request.
        connect_seconds: longest time for one attempt to connect.
        most_bytes: of a reply, decompressed.
        verify: certificates to trust in the place of the environment's.
        event_hooks: as httpx2 has them.

    Raises:
        SettingsError: proxies or certificates of the environment cannot be used.
    """
    return httpx2.Client(
        transport=BoundedTransport(seconds, connect_seconds=connect_seconds, most_bytes=most_bytes, verify=verify),
        headers=dict(headers or {}),
        timeout=_timeout(seconds, connect_seconds),
        event_hooks=dict(event_hooks or {}),
    )


class AsyncBoundedTransport(httpx2.AsyncBaseTransport):
    """The transport of an `httpx2.AsyncClient` whose exchanges have an end.

    Raises, beside what any transport raises:
        httpx2.ReadTimeout: the exchange is not over in time.
        httpx2.ProxyError: the proxy, and not the server, cannot be reached.
        ReplyTooLargeError, ReplyCutError, httpx2.DecodingError: of the reply.
    """

    def __init__(
        self,
        seconds: float,
        *,
        connect_seconds: float = _CONNECT_SECONDS,
        most_bytes: int = MOST_BYTES,
        verify: ssl.SSLContext | bool = True,
    ) -> None:
        """Build it.

        Raises:
            SettingsError: proxies or certificates of the environment cannot be used.
        """
        self._seconds = seconds
        self.most_bytes = most_bytes
        self._stack = AsyncExitStack()
        # A client and no bare transport, because only a client knows the proxies of the environment.
        self._http = _inner_client(_timeout(seconds, connect_seconds), verify=verify)

    async def __aenter__(self) -> Self:
        await self._stack.enter_async_context(self._http)
        return self

    async def __aexit__(
        self,
        exc_type: type[BaseException] | None = None,
        exc_value: BaseException | None = None,
        traceback: TracebackType | None = None,
    ) -> None:
        await self.aclose()

    async def aclose(self) -> None:
        """Close the connections."""
        await self._stack.aclose()
        await self._http.aclose()

    async def handle_async_request(self, request: httpx2.Request) -> httpx2.Response:
        """Send a request; the deadline goes on while the caller reads the reply."""
        deadline = Deadline.after(self._seconds)
        request.headers["Accept-Encoding"] = "gzip, deflate"
        connecting = _Connecting(request)
        try:
            reply = await _in_time(deadline, lambda: self._http.send(request, stream=True))
        except httpx2.ConnectError as error:
            raise connecting.blamed(error) from error
        encodings = [one.strip().lower() for one in reply.headers.get("content-encoding", "").split(",") if one.strip()]
        headers = [(name, value) for name, value in reply.headers.raw if not encodings or not _is_of_coding(name)]
        most = min(self.most_bytes, request.extensions.get(MOST_BYTES_EXTENSION, self.most_bytes))
        most = min(most, _MOST_ERROR_BYTES) if reply.status_code >= 400 else most
        stream = _Body(reply, deadline, most, encodings)
        return httpx2.Response(reply.status_code, headers=headers, stream=stream, extensions=reply.extensions)


class BoundedTransport(httpx2.BaseTransport):
    """The transport of an `httpx2.Client` whose exchanges have an end; it reads replies whole.

    Exchanges run in a thread of the transport, because only there can a look-up of a name, a handshake or a read be
    cancelled. Threads may use it side by side. Raises as `AsyncBoundedTransport` does.
    """

    def __init__(
        self,
        seconds: float,
        *,
        connect_seconds: float = _CONNECT_SECONDS,
        most_bytes: int = MOST_BYTES,
        verify: ssl.SSLContext | bool = True,
    ) -> None:
        """Build it; the thread is started by the first request.

        Raises what `AsyncBoundedTransport` raises.
        """
        self._inner = AsyncBoundedTransport(
            seconds, connect_seconds=connect_seconds, most_bytes=most_bytes, verify=verify
        )
        self._stack = ExitStack()
        self._turn = Lock()
        self._portal: BlockingPortal | None = None

    def handle_request(self, request: httpx2.Request) -> httpx2.Response:
        """Send a request and read the reply."""
        request.read()
        with self._turn:
            portal = self._portal = self._portal or self._stack.enter_context(start_blocking_portal())
        exchange = portal.start_task_soon(self._exchanged, request)
        try:
            return exchange.result()
        except CancelledError:
            raise httpx2.ReadError("the client was closed", request=request) from None
        except BaseException:
            exchange.cancel()
            raise

    def close(self) -> None:
        """Close the connections and end the thread."""
        if self._portal is not None:
            self._portal.call(self._inner.aclose)
            self._portal = None
        self._stack.close()

    async def _exchanged(self, request: httpx2.Request) -> httpx2.Response:
        reply = await self._inner.handle_async_request(request)
        try:
            content = b"".join([piece async for piece in reply.aiter_raw()])
        finally:
            await reply.aclose()
        return httpx2.Response(
            reply.status_code, headers=reply.headers, stream=httpx2.ByteStream(content), extensions=reply.extensions
        )


class _Body(httpx2.AsyncByteStream):
    """The decompressed bytes of a reply, as long as it is in time and small enough."""

    def __init__(self, reply: httpx2.Response, deadline: Deadline, most_bytes: int, encodings: list[str]) -> None:
        self._reply = reply
        self._deadline = deadline
        self._most_bytes = most_bytes
        self._encodings = encodings

    async def __aiter__(self) -> AsyncIterator[bytes]:
        size = 0
        async for piece in self._decoded():
            size += len(piece)
            if size > self._most_bytes:
                raise ReplyTooLargeError(f"the reply is larger than {self._most_bytes:,} bytes")
            yield piece

    async def aclose(self) -> None:
        await self._reply.aclose()

    async def _decoded(self) -> AsyncIterator[bytes]:
        try:
            coding = ContentCoding(self._encodings)
            async for raw in self._raw():
                for piece in coding.decoded(raw):
                    yield piece
        except CodingError as error:
            raise httpx2.DecodingError(f"the reply cannot be decompressed: {error}") from None
        if coding.is_cut:
            raise ReplyCutError("the compressed reply ends early")

    async def _raw(self) -> AsyncIterator[bytes]:
        chunks = aiter(self._reply.aiter_raw())
        while (chunk := await _in_time(self._deadline, lambda: anext(chunks, None))) is not None:
            yield chunk


class _Connecting:
    """Which host a request was about to be sent to, to tell a proxy's fault from the server's."""

    def __init__(self, request: httpx2.Request) -> None:
        self._wanted = request.url.host
        self._asked: tuple[str, int] | None = None
        request.extensions = {**request.extensions, "trace": self._trace}

    async def _trace(self, name: str, info: Mapping[str, Any]) -> None:
        if name == "connection.connect_tcp.started":
            self._asked = (info["host"], info["port"])

    def blamed(self, error: httpx2.ConnectError) -> httpx2.TransportError:
        """Return the error with its reason, or one about the proxy where that is what cannot be reached."""
        reason = reason_of(error)
        if self._asked is None or self._asked[0] == self._wanted:
            return httpx2.ConnectError(reason)
        host, port = self._asked
        return httpx2.ProxyError(f"the proxy '{host}:{port}' cannot be reached: {reason}; check {_PROXY_VARIABLES}")


async def _in_time(deadline: Deadline, step: Callable[[], Any]) -> Any:
    try:
        with anyio.fail_after(deadline.left()):
            return await step()
    except TimeoutError:
        raise httpx2.ReadTimeout(f"no complete reply within {deadline.seconds:g} s") from None


def _inner_client(timeout: httpx2.Timeout, *, verify: ssl.SSLContext | bool) -> httpx2.AsyncClient:
    try:
        return httpx2.AsyncClient(timeout=timeout, verify=verify, follow_redirects=False)
    except ImportError as error:
        raise SettingsError(
            f"{_PROXY_VARIABLES} names a SOCKS proxy, which needs a library; run: pip install socksio"
        ) from error
    except OSError as error:  # an SSLError is one
        named = " and ".join(f"{name}='{os.environ[name]}'" for name in _CERTIFICATE_VARIABLES if os.environ.get(name))
        reason = error.strerror or str(error)
        raise SettingsError(
            f"the certificates to trust cannot be read ({shown(reason)}); check {named or 'SSL_CERT_FILE'}"
        ) from error
    except (ValueError, httpx2.InvalidURL) as error:
        raise SettingsError(f"{_PROXY_VARIABLES} does not name a proxy: {shown(error)}") from error


def _timeout(seconds: float, connect_seconds: float) -> httpx2.Timeout:
    return httpx2.Timeout(seconds, connect=min(seconds, connect_seconds))


def _is_of_coding(name: bytes) -> bool:
    return name.lower() in {b"content-encoding", b"content-length"}
