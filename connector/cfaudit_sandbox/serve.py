"""A world behind a socket: `Sandbox` serves it from a thread, `serve` until the process is told to stop."""

from __future__ import annotations

import signal
import socket
import threading
from collections.abc import Callable
from email.utils import formatdate
from typing import TYPE_CHECKING, Self

import uvicorn
from uvicorn.protocols.http.h11_impl import H11Protocol

from cfaudit_sandbox.codemode.app import CODEMODE_PREFIX, CodeModeApp
from cfaudit_sandbox.server.api import API_PREFIX, Api
from cfaudit_sandbox.server.app import Authorization, SandboxApp
from cfaudit_sandbox.server.edge import TRANSPORT

if TYPE_CHECKING:
    import asyncio
    from types import FrameType, TracebackType

    from starlette.types import ASGIApp, Message, Receive, Scope, Send

    from cfaudit_sandbox.server.requests import RequestLog
    from cfaudit_sandbox.server.upstream import Upstream
    from cfaudit_sandbox.world.world import World

_BACKLOG = 512
_STOP_SECONDS = 10.0
_POLL_SECONDS = 0.005


class Sandbox:
    """A running sandbox, as a context manager. Leaving it stops the server and waits for its thread."""

    def __init__(
        self,
        world: World,
        *,
        host: str = "127.0.0.1",
        port: int = 0,
        authorization: Authorization | None = None,
    ) -> None:
        self.world = world
        self.app = SandboxApp(world, authorization=authorization, hosts=(host,))
        self.codemode = CodeModeApp(self.app)
        self.app.mounts |= self.codemode.mounts()
        self.app.mounts[API_PREFIX] = Api(self.app.upstream)
        self._address = (host, port)
        self._server: uvicorn.Server | None = None
        self._thread: threading.Thread | None = None

    @property
    def url(self) -> str:
        """The origin, such as `http://127.0.0.1:8976`."""
        host, port = self._address
        return f"http://[{host}]:{port}" if ":" in host else f"http://{host}:{port}"

    @property
    def mcp_url(self) -> str:
        """The URL of the Audit Logs server."""
        return f"{self.url}/mcp"

    @property
    def codemode_url(self) -> str:
        """The URL of the code-mode server."""
        return f"{self.url}{CODEMODE_PREFIX}/mcp"

    @property
    def rest_url(self) -> str:
        """The URL of the API that holds the log."""
        return f"{self.url}{CODEMODE_PREFIX}/client/v4"

    @property
    def requests(self) -> RequestLog:
        """What clients have asked so far."""
        return self.app.requests

    @property
    def upstream(self) -> Upstream:
        """The emulated Cloudflare API, to plan failures."""
        return self.app.upstream

    def __enter__(self) -> Self:
        """Listen, and serve from a thread; from here on connections are accepted.

        Raises:
            OSError: the address is taken or not ours.
        """
        listener = _listen(*self._address)
        self._address = (self._address[0], listener.getsockname()[1])
        self._server = _server(_Dated(self.app, self.world.clock))
        self._thread = threading.Thread(
            target=self._server.run, kwargs={"sockets": [listener]}, name="sandbox", daemon=True
        )
        self._thread.start()
        while not self._server.started and self._thread.is_alive():
            self._thread.join(_POLL_SECONDS)
        if not self._server.started:
            raise RuntimeError("the sandbox did not start")
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        """Stop serving."""
        assert self._server is not None  # noqa: S101 - entered before left
        assert self._thread is not None  # noqa: S101 - as above
        self._server.should_exit = True
        self._thread.join(_STOP_SECONDS)
        if self._thread.is_alive():
            raise RuntimeError("the sandbox did not stop in time")


def serve(
    world: World,
    host: str = "127.0.0.1",
    port: int = 0,
    *,
    on_ready: Callable[[Sandbox], None] | None = None,
    authorization: Authorization | None = None,
) -> None:
    """Serve a world until Ctrl-C or SIGTERM, then return. Call it from the main thread.

    Args:
        world: what to serve.
        host: the address to listen on.
        port: the port; 0 chooses a free one.
        on_ready: called once connections are accepted, with the sandbox that knows its URL.
        authorization: the OAuth half of the server.

    Raises:
        OSError: the address is taken or not ours.
    """
    stop = threading.Event()

    def stop_serving(_signal: int, _frame: FrameType | None) -> None:
        stop.set()

    before = {name: signal.signal(name, stop_serving) for name in (signal.SIGINT, signal.SIGTERM)}
    try:
        with Sandbox(world, host=host, port=port, authorization=authorization) as sandbox:
            if on_ready is not None:
                on_ready(sandbox)
            stop.wait()
    finally:
        for name, handler in before.items():
            signal.signal(name, handler)


def _listen(host: str, port: int) -> socket.socket:
    family = socket.AF_INET6 if ":" in host else socket.AF_INET
    # asyncio switches off the delay of small packets only where the protocol is spelled out.
    listener = socket.socket(family, socket.SOCK_STREAM, socket.IPPROTO_TCP)
    try:
        listener.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        listener.bind((host, port))
        listener.listen(_BACKLOG)
    except OSError:
        listener.close()
        raise
    return listener


class _Dated:
    """Puts the time of the world on every answer, instead of that of this machine."""

    def __init__(self, app: SandboxApp, clock: Callable[[], float]) -> None:
        self._app = app
        self._clock = clock

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        async def send_dated(message: Message) -> None:
            if message["type"] == "http.response.start":
                message["headers"] = [*message["headers"], (b"date", formatdate(self._clock(), usegmt=True).encode())]
            await send(message)

        await self._app(scope, receive, send_dated)


class _Connection(H11Protocol):
    """Hands its transport to the application, which may have to end a connection in a bad way."""

    def connection_made(self, transport: asyncio.Transport) -> None:  # type: ignore[override]  # as the base class
        super().connection_made(transport)
        served: ASGIApp = self.app

        async def with_transport(scope: Scope, receive: Receive, send: Send) -> None:
            scope["extensions"] = {**scope.get("extensions", {}), TRANSPORT: transport}
            await served(scope, receive, send)

        self.app = with_transport


def _server(app: _Dated) -> uvicorn.Server:
    config = uvicorn.Config(
        app,
        http=_Connection,
        lifespan="off",
        ws="none",
        access_log=False,
        log_config=None,
        log_level="warning",
        proxy_headers=False,
        server_header=False,
        date_header=False,
        backlog=_BACKLOG,
        # Clients that wait out a throttle keep their connection.
        timeout_keep_alive=600,
        timeout_graceful_shutdown=1,
    )
    return uvicorn.Server(config)
