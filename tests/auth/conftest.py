"""A sandbox with OAuth behind a real socket, a clock that the tests move, and servers that say what a test wants."""

from __future__ import annotations

import json
import ssl
import threading
from collections.abc import Callable, Iterator
from contextlib import ExitStack
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any

import pytest

from cfaudit_export.auth.grants import Grant
from cfaudit_export.auth.oauth import OAuthCredential
from cfaudit_export.auth.signin import SignIn, sign_in
from cfaudit_export.auth.store import GrantStore
from cfaudit_sandbox import Sandbox, SandboxOptions, World
from cfaudit_sandbox.oauth.server import OAuth
from cfaudit_sandbox.oauth.visitor import visit


class Clock:
    """A clock that stands still until it is moved; waiting moves it."""

    def __init__(self) -> None:
        self.reset()

    def reset(self) -> None:
        self.seconds = datetime(2026, 11, 20, tzinfo=UTC).timestamp()
        self.waits: list[float] = []

    def __call__(self) -> float:
        return self.seconds

    def now(self) -> datetime:
        return datetime.fromtimestamp(self.seconds, UTC)

    def sleep(self, seconds: float) -> None:
        self.waits.append(seconds)
        self.seconds += seconds

    def advance(self, **parts: float) -> None:
        self.seconds += timedelta(**parts).total_seconds()


@dataclass
class Service:
    """The emulated server, a state directory, and what was told to the person."""

    sandbox: Sandbox
    oauth: OAuth
    clock: Clock
    store: GrantStore
    state_dir: Path
    told: list[str] = field(default_factory=list)

    @property
    def url(self) -> str:
        return self.sandbox.mcp_url

    def sign_in(self, *, visitor: Callable[[str], object] = visit, **options: Any) -> Grant:
        return sign_in(
            SignIn(**({"server_url": self.url, "limit_seconds": 20} | options)),
            self.store,
            clock=self.clock.now,
            tell=self.told.append,
            open_browser=visitor,
        )

    def credential(self, **options: Any) -> OAuthCredential:
        """Make a credential as a new process would."""
        given = {"clock": self.clock.now, "sleep": self.clock.sleep} | options
        return OAuthCredential(self.store, self.url, **given)

    def kept(self) -> Grant:
        grant = self.store.find(self.url, "default")
        assert grant is not None
        return grant


@pytest.fixture(scope="session", autouse=True)
def _small_trust_store(tmp_path_factory: pytest.TempPathFactory) -> Iterator[None]:
    """Trust one certificate: every client loads the store anew, all of it takes 25 ms, and here is no TLS."""
    system = Path(ssl.get_default_verify_paths().openssl_cafile)
    with pytest.MonkeyPatch.context() as patch:
        if system.is_file():
            one = tmp_path_factory.mktemp("trust") / "one.pem"
            end = "-----END CERTIFICATE-----\n"
            one.write_text(system.read_text("utf-8").partition(end)[0] + end)
            patch.setenv("SSL_CERT_FILE", str(one))
        yield


@pytest.fixture(scope="session")
def _running() -> Iterator[tuple[Sandbox, Clock]]:
    clock = Clock()
    with Sandbox(World(SandboxOptions(events=50, end_at=clock.now()), clock)) as sandbox:
        yield sandbox, clock


@pytest.fixture
def service(_running: tuple[Sandbox, Clock], tmp_path: Path) -> Service:
    """Put another OAuth server behind the one socket."""
    sandbox, clock = _running
    clock.reset()
    oauth = sandbox.app.authorization = OAuth(sandbox.world)
    return Service(sandbox, oauth, clock, GrantStore(tmp_path), tmp_path)


@dataclass
class Scripted:
    """A server that answers from a table of `METHOD path` to status, headers and body, and notes what it was asked."""

    url: str
    pages: dict[str, tuple[int, dict[str, str], bytes]] = field(default_factory=dict)
    asked: list[tuple[str, dict[str, str], bytes]] = field(default_factory=list)

    def page(self, route: str, body: object = b"", status: int = 200, **headers: str) -> None:
        """Set an answer; in a body that is not bytes, and in headers, `{url}` becomes the server's URL."""
        content = body if isinstance(body, bytes) else json.dumps(body).replace("{url}", self.url).encode()
        named = {name.replace("_", "-"): value.replace("{url}", self.url) for name, value in headers.items()}
        self.pages[route] = (status, named, content)

    def describe(self, at: str = "/.well-known/oauth-authorization-server", **changes: object) -> None:
        """Serve an authorization server's metadata, with changes; a None leaves the entry out."""
        document = {
            "issuer": "{url}",
            "authorization_endpoint": "{url}/authorize",
            "token_endpoint": "{url}/token",
            "code_challenge_methods_supported": ["S256"],
        }
        self.page(f"GET {at}", {name: value for name, value in (document | changes).items() if value is not None})

    def routes(self) -> list[str]:
        return [route for route, _, _ in self.asked]


Script = Callable[[], Scripted]


@pytest.fixture
def script() -> Iterator[Script]:
    """Start servers with empty tables."""
    with ExitStack() as stack:
        yield lambda: stack.enter_context(_scripted())


class _scripted:  # noqa: N801 - used like a function
    def __enter__(self) -> Scripted:
        scripted = Scripted("")

        class Handler(BaseHTTPRequestHandler):
            def _answer(self) -> None:
                body = self.rfile.read(int(self.headers.get("content-length") or 0))
                route = f"{self.command} {self.path}"
                scripted.asked.append((route, {k.lower(): v for k, v in self.headers.items()}, body))
                status, headers, content = scripted.pages.get(route, (404, {}, b"nothing"))
                self.send_response(status)
                for name, value in (headers | {"content-length": str(len(content))}).items():
                    self.send_header(name, value)
                self.end_headers()
                self.wfile.write(content)

            do_GET = do_POST = _answer  # noqa: N815 - the names that the library looks for

            def log_message(self, *_args: object) -> None:
                pass

        self._server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
        self._server.daemon_threads, self._server.block_on_close = True, False
        self._thread = threading.Thread(target=self._server.serve_forever, args=(0.02,))
        self._thread.start()
        scripted.url = f"http://127.0.0.1:{self._server.server_port}"
        return scripted

    def __exit__(self, *_exc: object) -> None:
        self._server.shutdown()
        self._server.server_close()
        self._thread.join()


@pytest.fixture
def server(script: Script) -> Scripted:
    """Start a server that can be signed in to, for tests to spoil."""
    scripted = script()
    challenge = 'Bearer resource_metadata="{url}/.well-known/oauth-protected-resource/mcp"'
    scripted.page("POST /mcp", status=401, www_authenticate=challenge)
    resource = {"resource": "{url}/mcp", "authorization_servers": ["{url}"]}
    scripted.page("GET /.well-known/oauth-protected-resource/mcp", resource)
    scripted.describe()
    return scripted
