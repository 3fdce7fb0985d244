"""A free port of this machine -> the redirect that ends a sign-in in the browser (RFC 8252, 7.3)."""

from __future__ import annotations

import html
import queue
import threading
from collections.abc import Callable
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Self
from urllib.parse import urlsplit

HOST = "127.0.0.1"
PATH = "/callback"
_PAGE = """<!doctype html><html lang="en"><meta charset="utf-8"><title>cfaudit-export</title>
<meta name="viewport" content="width=device-width"><meta name="color-scheme" content="light dark">
<body style="font:1.1rem/1.5 system-ui,sans-serif;max-width:34rem;margin:15vh auto;padding:0 1rem">
<h1 style="font-size:1.4rem">{title}</h1><p>{text}</p>
"""


class Loopback:
    """A web server on a loopback port, for one answer. It listens once it is built; close it with `with`."""

    def __init__(self, accept: Callable[[str], str | None], *, port: int = 0) -> None:
        """Listen.

        Args:
            accept: is shown the query of each call of the redirect; returns None to take it as the answer,
                or the reason to refuse it and go on waiting.
            port: which port; 0 for any free one.

        Raises:
            OSError: the port cannot be bound.
        """
        self._answers: queue.SimpleQueue[str] = queue.SimpleQueue()
        self._server = _Server((HOST, port), _handler(accept, self._answers))
        self._thread = threading.Thread(target=self._server.serve_forever, args=(0.02,), daemon=True)
        self._thread.start()

    @property
    def redirect_uri(self) -> str:
        """Return the URI to which the answer is to be sent."""
        return f"http://{HOST}:{self._server.server_port}{PATH}"

    def wait(self, limit_seconds: float) -> str | None:
        """Return the query of the answer, None when there was none in time."""
        try:
            return self._answers.get(timeout=limit_seconds)
        except queue.Empty:
            return None

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_exc: object) -> None:
        self._server.shutdown()
        self._server.server_close()
        self._thread.join()


class _Server(ThreadingHTTPServer):
    # A browser opens connections that it may never use; none of them is to hold up the answer or our end.
    daemon_threads = True
    block_on_close = False

    def handle_error(self, _request: object, _client_address: object) -> None:
        """Say nothing: the browser went away, and the traceback would show what it asked for."""


def _handler(accept: Callable[[str], str | None], answers: queue.SimpleQueue[str]) -> type[BaseHTTPRequestHandler]:
    answered = threading.Event()

    class Handler(BaseHTTPRequestHandler):
        timeout = 30.0
        server_version = "cfaudit-export"
        sys_version = ""

        def do_GET(self) -> None:
            parts = urlsplit(self.path)
            if parts.path != PATH:
                self._reply(404, "Not found", "There is nothing here.")
            elif answered.is_set():
                self._reply(410, "Already answered", "You can close this window.")
            elif (refusal := accept(parts.query)) is not None:
                self._reply(400, "This is not the answer", refusal)
            else:
                answered.set()
                self._reply(200, "Thank you", "Return to your terminal. You can close this window.")
                answers.put(parts.query)

        def do_HEAD(self) -> None:
            self._reply(200 if urlsplit(self.path).path == PATH else 404, "", "")

        def _reply(self, status: int, title: str, text: str) -> None:
            page = _PAGE.format(title=html.escape(title), text=html.escape(text)).encode()
            self.send_response(status)
            self.send_header("Content-Type", "text/html; charset=utf-8")
            self.send_header("Content-Length", str(len(page)))
            self.send_header("Cache-Control", "no-store")
            self.send_header("Referrer-Policy", "no-referrer")
            self.send_header("Content-Security-Policy", "default-src 'none'; style-src 'unsafe-inline'")
            self.end_headers()
            if self.command != "HEAD":
                self.wfile.write(page)

        def log_message(self, *_args: object) -> None:
            """Say nothing: the line would hold the authorization code."""

    return Handler
