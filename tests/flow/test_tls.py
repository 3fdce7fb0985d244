"""Whose word is taken for who a server is, and which way requests go: TLS with a CA of our own, and a real proxy."""

from __future__ import annotations

import select
import socket
import socketserver
import threading
from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager
from functools import partial
from pathlib import Path
from typing import Any

import pytest
import trustme
import uvicorn
from starlette.responses import RedirectResponse

from cfaudit_sandbox import Sandbox, SandboxOptions, World
from cfaudit_sandbox.oauth.server import OAuth

NAME = "auditlogs.example.test"  # no resolver knows it
EVENTS = 200


@pytest.fixture(scope="module")
def authority() -> trustme.CA:
    return trustme.CA()


@pytest.fixture
def sandbox() -> Iterator[Sandbox]:
    world = World(SandboxOptions(events=EVENTS, allowed_hosts=(NAME,)))
    with Sandbox(world, authorization=OAuth(world)) as sandbox:
        yield sandbox


@contextmanager
def served(app: Any, authority: trustme.CA, folder: Path, *names: str) -> Iterator[int]:
    """Serve an application over TLS, with a certificate for names; yield the port."""
    certificate = folder / "server.pem"
    authority.issue_cert(*names).private_key_and_cert_chain_pem.write_to_path(certificate)
    listener = socket.create_server(("127.0.0.1", 0))
    config = uvicorn.Config(
        app, lifespan="off", ws="none", log_config=None, log_level="critical", ssl_certfile=certificate
    )
    server = uvicorn.Server(config)
    thread = threading.Thread(target=server.run, kwargs={"sockets": [listener]})
    thread.start()
    try:
        yield listener.getsockname()[1]
    finally:
        server.should_exit = True
        thread.join(30)


class Proxy(socketserver.ThreadingTCPServer):
    """A proxy that knows CONNECT only, and one server behind all names."""

    daemon_threads = True
    block_on_close = False

    def __init__(self, port: int) -> None:
        super().__init__(("127.0.0.1", 0), Tunnel)
        self.behind = ("127.0.0.1", port)
        self.asked: list[str] = []


class Tunnel(socketserver.StreamRequestHandler):
    server: Proxy

    def handle(self) -> None:
        method, target, _ = self.rfile.readline().decode().split()
        while self.rfile.readline().strip():
            pass
        self.server.asked.append(f"{method} {target}")
        if method != "CONNECT":
            self.wfile.write(b"HTTP/1.1 405 Method Not Allowed\r\n\r\n")
            return
        self.wfile.write(b"HTTP/1.1 200 Connection established\r\n\r\n")
        with socket.create_connection(self.server.behind) as other:
            pairs = {self.connection: other, other: self.connection}
            while True:
                for ready in select.select(list(pairs), [], [], 60)[0]:
                    data = ready.recv(65_536)
                    if not data:
                        return
                    pairs[ready].sendall(data)


@pytest.fixture
def proxy_to() -> Iterator[Callable[[int], tuple[Proxy, str]]]:
    with ExitStack() as stack:

        def start(port: int) -> tuple[Proxy, str]:
            proxy = stack.enter_context(Proxy(port))
            thread = threading.Thread(target=proxy.serve_forever, args=(0.02,))
            thread.start()
            stack.callback(thread.join)
            stack.callback(proxy.shutdown)
            return proxy, f"http://127.0.0.1:{proxy.server_address[1]}"

        yield start


@pytest.fixture
def ca_file(authority: trustme.CA, tmp_path: Path) -> str:
    authority.cert_pem.write_to_path(tmp_path / "ca.pem")
    return str(tmp_path / "ca.pem")


@pytest.fixture
def export(
    sandbox: Sandbox, place_of: Any, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> Callable[..., tuple[Any, Callable[..., Any]]]:
    """Make a machine that exports from a URL with some environment, and a way to run commands on it in this process."""
    for name in ("HTTP_PROXY", "HTTPS_PROXY", "ALL_PROXY", "NO_PROXY", "SSL_CERT_FILE", "SSL_CERT_DIR"):
        monkeypatch.delenv(name, raising=False)
        monkeypatch.delenv(name.lower(), raising=False)

    def make(url: str, **environ: str) -> tuple[Any, Callable[..., Any]]:
        place = place_of(sandbox, "--recover", "off", "--server-url", url, **environ)
        for name, value in place.environment().items():
            monkeypatch.setenv(name, value)
        return place, partial(place.here, capsys, "--max-wait", "1s")

    return make


def test_the_authority_in_ssl_cert_file_is_trusted_and_a_stranger_s_is_not(
    sandbox: Sandbox, authority: trustme.CA, ca_file: str, export: Any, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    with served(sandbox.app, authority, tmp_path, "127.0.0.1") as port:
        place, command = export(f"https://127.0.0.1:{port}/mcp")
        refused = command()
        assert refused.code == 78
        assert "certificate" in refused.err.lower()
        assert not sandbox.requests.entries
        monkeypatch.setenv("SSL_CERT_FILE", ca_file)
        assert command().code == 0
        place.assert_everything_is_there_once()


def test_a_certificate_for_another_name_is_refused(
    sandbox: Sandbox, authority: trustme.CA, ca_file: str, export: Any, tmp_path: Path
) -> None:
    with served(sandbox.app, authority, tmp_path, NAME) as port:
        _, command = export(f"https://127.0.0.1:{port}/mcp", SSL_CERT_FILE=ca_file)
        refused = command()
        assert refused.code == 78
        assert "certificate" in refused.err.lower()
        assert not sandbox.requests.entries


def test_the_proxy_of_the_environment_is_the_way_to_the_server(
    sandbox: Sandbox, authority: trustme.CA, ca_file: str, export: Any, proxy_to: Any, tmp_path: Path
) -> None:
    with served(sandbox.app, authority, tmp_path, NAME) as port:
        proxy, url = proxy_to(port)
        place, command = export(f"https://{NAME}/mcp", SSL_CERT_FILE=ca_file, HTTPS_PROXY=url)
        ended = command()
        assert ended.code == 0, ended.err
        place.assert_everything_is_there_once()
        assert set(proxy.asked) == {f"CONNECT {NAME}:443"}


def test_a_sign_in_and_its_renewals_go_by_tls_and_proxy_too(
    sandbox: Sandbox, authority: trustme.CA, ca_file: str, export: Any, proxy_to: Any, tmp_path: Path
) -> None:
    with served(sandbox.app, authority, tmp_path, "127.0.0.1") as port:
        proxy, proxy_url = proxy_to(port)
        url = f"https://127.0.0.1:{port}/mcp"
        environ = {"SSL_CERT_FILE": ca_file, "HTTPS_PROXY": proxy_url, "CLOUDFLARE_API_TOKEN": ""}
        place, command = export(url, **environ)
        signed_in = place.sign_in(url)
        assert signed_in.code == 0, signed_in.err
        assert len(proxy.asked) >= 2  # discovery and registration, then the code
        sandbox.app.authorization.dash.kill()
        before = len(proxy.asked)
        assert command().code == 0
        place.assert_everything_is_there_once()
        assert sandbox.app.authorization.refreshes == 1
        assert set(proxy.asked[before:]) == {f"CONNECT 127.0.0.1:{port}"}


def test_a_server_that_is_excepted_from_the_proxy_is_reached_without(
    sandbox: Sandbox, authority: trustme.CA, ca_file: str, export: Any, proxy_to: Any, tmp_path: Path
) -> None:
    with served(sandbox.app, authority, tmp_path, "127.0.0.1") as port:
        proxy, url = proxy_to(port)
        environ = {"SSL_CERT_FILE": ca_file, "HTTPS_PROXY": url, "NO_PROXY": "127.0.0.1"}
        _, command = export(f"https://127.0.0.1:{port}/mcp", **environ)
        assert command().code == 0
        assert not proxy.asked


@pytest.mark.parametrize("status", [301, 302, 307, 308])
def test_no_credential_follows_a_redirect_to_another_origin(
    sandbox: Sandbox, authority: trustme.CA, ca_file: str, export: Any, tmp_path: Path, status: int
) -> None:
    (tmp_path / "other").mkdir()
    with served(sandbox.app, authority, tmp_path / "other", "127.0.0.1") as other:
        moved = RedirectResponse(f"https://127.0.0.1:{other}/mcp", status)
        with served(moved, authority, tmp_path, "127.0.0.1") as port:
            _, command = export(f"https://127.0.0.1:{port}/mcp", SSL_CERT_FILE=ca_file)
            refused = command()
            assert refused.code == 76
            assert f"https://127.0.0.1:{other}/mcp" in refused.err
            assert not sandbox.requests.entries


def test_a_token_goes_by_plain_http_to_this_machine_only_unless_that_is_asked_for(
    sandbox: Sandbox, export: Any, proxy_to: Any
) -> None:
    proxy, url = proxy_to(1)
    _, command = export("http://auditlogs.example.test/mcp", HTTP_PROXY=url)
    refused = command()
    assert refused.code == 78
    assert "--insecure-http" in refused.err
    assert not proxy.asked
    command("--insecure-http")
    assert proxy.asked[0] == "POST http://auditlogs.example.test/mcp"
