"""A server that says a token back gets it nowhere."""

from __future__ import annotations

import threading
from collections.abc import Iterator
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any

import pytest
from google.oauth2.credentials import Credentials

from cfaudit_bigquery.bounded import BoundedSession

TOKEN = "ya29.a0-of-a-test-0123456789abcdef"


class Echo(BaseHTTPRequestHandler):
    def do_GET(self) -> None:
        said = f"unknown: {self.headers['Authorization']}"
        self.send_response(200 if self.path == "/fine" else 403, said)
        self.send_header("Content-Length", str(len(said)))
        self.end_headers()
        self.wfile.write(said.encode())

    def log_message(self, *_: Any) -> None:
        """Say nothing."""


@pytest.fixture
def url() -> Iterator[str]:
    server = ThreadingHTTPServer(("127.0.0.1", 0), Echo)
    thread = threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.01})
    thread.start()
    yield f"http://127.0.0.1:{server.server_port}"
    server.shutdown()
    server.server_close()
    thread.join()


def test_an_error_comes_without_the_token_that_was_sent(url: str) -> None:
    session = BoundedSession(Credentials(TOKEN), 30)
    with session:
        assert TOKEN in session.get(f"{url}/fine").text, "it was sent"
        refused = session.get(url)
    assert refused.status_code == 403
    assert (refused.text, refused.reason) == ("unknown: Bearer ***", "unknown: Bearer ***")
