"""A small world behind a real socket, and a bare HTTP client that shows every byte."""

from __future__ import annotations

import json
from collections.abc import Callable, Iterator
from contextlib import ExitStack
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from typing import Any

import httpx2
import pytest

from cfaudit_sandbox import Sandbox, SandboxOptions, World
from cfaudit_sandbox.server.control import reset

END = datetime(2026, 11, 20, tzinfo=UTC)
ACCEPT = "application/json, text/event-stream"
TOOL = "auditlogs_by_account_id"
CLIENT = {"name": "probe", "version": "1"}
META = {
    "io.modelcontextprotocol/protocolVersion": "2026-07-28",
    "io.modelcontextprotocol/clientInfo": CLIENT,
    "io.modelcontextprotocol/clientCapabilities": {},
}


class Clock:
    """A clock that stands still until it is told to move."""

    def __init__(self, at: datetime = END + timedelta(hours=1)) -> None:
        self.now = at.timestamp()

    def __call__(self) -> float:
        return self.now


@dataclass(slots=True)
class Wire:
    """Speaks to one sandbox over HTTP, without an SDK in between."""

    sandbox: Sandbox
    http: httpx2.Client
    token: str

    @property
    def world(self) -> World:
        return self.sandbox.world

    def post(self, body: object, *, path: str = "/mcp", **headers: str) -> httpx2.Response:
        """POST a JSON body; `mcp_method="x"` becomes the header `mcp-method: x`."""
        named = {name.replace("_", "-"): value for name, value in headers.items()}
        defaults = {"accept": ACCEPT, "authorization": f"Bearer {self.token}"}
        content = body if isinstance(body, bytes) else json.dumps(body).encode()
        return self.http.post(
            self.sandbox.url + path,
            content=content,
            headers={"content-type": "application/json"} | defaults | named,
        )

    def legacy(self, method: str, params: dict[str, Any] | None = None, **headers: str) -> httpx2.Response:
        return self.post(message(method, params), **headers)

    def modern(self, method: str, params: dict[str, Any] | None = None, **headers: str) -> httpx2.Response:
        named = {"mcp_protocol_version": "2026-07-28", "mcp_method": method, "accept": "application/json"}
        if params and "name" in params:
            named["mcp_name"] = params["name"]
        return self.post(message(method, {**(params or {}), "_meta": META}), **(named | headers))

    def read(self, **arguments: Any) -> dict[str, Any]:
        """Call the tool over the whole time span; return the JSON of its text."""
        whole = {"since": "2026-10-01", "before": "2026-11-21", "direction": "asc", "limit": 1000}
        reply = self.modern("tools/call", {"name": TOOL, "arguments": whole | arguments})
        body: dict[str, Any] = json.loads(reply.json()["result"]["content"][0]["text"])
        return body

    def walk(self, **arguments: Any) -> list[dict[str, Any]]:
        """Read every page and return all rows."""
        rows: list[dict[str, Any]] = []
        cursor = ""
        for _ in range(1000):
            page = self.read(**arguments, **({"cursor": cursor} if cursor else {}))
            rows += page["logs"]
            cursor = page["result_info"].get("cursor", "")
            if not cursor:
                return rows
        raise AssertionError("the walk does not end")


def message(method: str, params: dict[str, Any] | None = None, message_id: int = 1) -> dict[str, Any]:
    body: dict[str, Any] = {"jsonrpc": "2.0", "id": message_id, "method": method}
    return body | ({"params": params} if params is not None else {})


Connect = Callable[..., Wire]


@pytest.fixture
def hello() -> dict[str, Any]:
    """Return the parameters of an `initialize`."""
    return {"protocolVersion": "2025-11-25", "capabilities": {}, "clientInfo": CLIENT}


@pytest.fixture
def clock() -> Clock:
    return Clock()


@pytest.fixture
def connect(clock: Clock) -> Iterator[Connect]:
    """Start a sandbox with some options and connect to it, as the user unless another token is named."""
    with ExitStack() as stack:

        def start(*, token: str = "user", **options: Any) -> Wire:
            world = World(SandboxOptions(**({"events": 300, "end_at": END} | options)), clock)
            sandbox = stack.enter_context(Sandbox(world))
            http = stack.enter_context(httpx2.Client(timeout=10))
            return Wire(sandbox, http, world.tokens[token])

        yield start


@pytest.fixture(scope="module")
def shared() -> Iterator[Wire]:
    world = World(SandboxOptions(events=300, end_at=END), Clock())
    with Sandbox(world) as sandbox, httpx2.Client(timeout=10) as http:
        yield Wire(sandbox, http, world.tokens["user"])


@pytest.fixture
def wire(shared: Wire) -> Wire:
    """Connect to a sandbox that several tests share; its data must be left alone."""
    reset(shared.sandbox.app)
    return shared
