"""What a monitor hears, over HTTP."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator
from contextlib import suppress
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from threading import Event, Thread

import pytest

from cfaudit_export.app.ping import pinging
from cfaudit_export.errors import AccessError, ExitCode, SettingsError


def pinged(url: str | None, work: Callable[[], int]) -> int:
    """Do the work and return its exit code, and let the monitor know."""
    with pinging(url) as codes:
        code = work()
        codes.append(ExitCode(code))
    return code


@dataclass
class Monitor:
    """A service that is pinged."""

    url: str
    status: int = 200
    location: str = ""
    is_silent: bool = False
    drips: bool = False
    over: Event = field(default_factory=Event)
    heard: list[str] = field(default_factory=list)


@pytest.fixture
def monitor() -> Iterator[Monitor]:
    class Handler(BaseHTTPRequestHandler):
        def do_GET(self) -> None:
            found.heard.append(self.path)
            if found.is_silent:
                found.over.wait(30)
            with suppress(OSError):
                while found.drips and not found.over.wait(0.05):
                    self.wfile.write(b"x")
            self.send_response(found.status)
            self.send_header("Content-Length", "0")
            if found.location:
                self.send_header("Location", found.location)
            self.end_headers()

        def log_message(self, *_: object) -> None:
            pass

    server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
    found = Monitor(f"http://127.0.0.1:{server.server_port}/ping/5ec2e7")
    thread = Thread(target=server.serve_forever, kwargs={"poll_interval": 0.01})
    thread.start()
    yield found
    found.over.set()
    server.shutdown()
    thread.join()
    server.server_close()


@pytest.fixture(autouse=True)
def _on_a_busy_machine(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("cfaudit_export.app.ping._SECONDS", 60.0)


@pytest.mark.parametrize(("code", "path"), [(0, ""), (65, "/65"), (75, "/75")])
def test_a_run_is_told_when_it_starts_and_with_its_exit_code(monitor: Monitor, code: int, path: str) -> None:
    assert pinged(monitor.url, lambda: code) == code
    assert monitor.heard == ["/ping/5ec2e7/start", f"/ping/5ec2e7{path}"]


def test_a_query_and_a_slash_at_the_end_of_the_url_stay_right(monitor: Monitor) -> None:
    pinged(f"{monitor.url}/?rid=1", lambda: 69)
    assert monitor.heard == ["/ping/5ec2e7/start?rid=1", "/ping/5ec2e7/69?rid=1"]


def test_what_keeps_a_run_from_starting_is_told_too(monitor: Monitor) -> None:
    def fail() -> int:
        raise AccessError("no credential")

    with pytest.raises(AccessError):
        pinged(monitor.url, fail)
    assert monitor.heard[1:] == ["/ping/5ec2e7/77"]


@pytest.mark.parametrize("error", [KeyboardInterrupt, RuntimeError])
def test_an_end_without_exit_code_is_a_failure(monitor: Monitor, error: type[BaseException]) -> None:
    def fail() -> int:
        raise error

    with pytest.raises(error):
        pinged(monitor.url, fail)
    assert monitor.heard[1:] == ["/ping/5ec2e7/fail"]


def test_no_redirect_is_followed_and_a_refusal_changes_nothing(
    monitor: Monitor, caplog: pytest.LogCaptureFixture
) -> None:
    monitor.status, monitor.location = 302, "/elsewhere"
    assert pinged(monitor.url, lambda: 0) == 0
    assert monitor.heard == ["/ping/5ec2e7/start", "/ping/5ec2e7"]
    assert [vars(record)["status"] for record in caplog.records] == [302, 302]
    assert "5ec2e7" not in caplog.text


def test_a_monitor_that_is_down_or_hangs_is_not_waited_for(
    monitor: Monitor, caplog: pytest.LogCaptureFixture, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("cfaudit_export.app.ping._SECONDS", 1.0)
    monitor.is_silent = True
    since = time.monotonic()
    assert pinged(monitor.url, lambda: 0) == 0
    assert time.monotonic() - since < 20, "and not when the monitor answers"
    monkeypatch.setattr("cfaudit_export.app.ping._SECONDS", 60.0)
    assert pinged("http://127.0.0.1:9/x", lambda: 65) == 65
    assert [vars(record)["error"] for record in caplog.records].count("ConnectError") == 2


def test_a_monitor_that_drips_neither_stops_nor_delays_the_work(
    monitor: Monitor, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("cfaudit_export.app.ping._SECONDS", 1.0)
    monitor.drips = True
    since = time.monotonic()
    assert pinged(monitor.url, lambda: 0) == 0
    assert time.monotonic() - since < 20, "and not when the monitor has had enough"


def test_a_machine_without_usable_certificates_is_no_reason_not_to_export(
    monitor: Monitor, caplog: pytest.LogCaptureFixture, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("SSL_CERT_FILE", "/nowhere/ca.pem")
    assert pinged(monitor.url, lambda: 0) == 0
    assert [vars(record)["error"] for record in caplog.records] == ["SettingsError"] * 2


@pytest.mark.parametrize("url", ["http://monitor.example/5ec2e7", "https://me:5ec2e7@monitor.example/", "5ec2e7"])
def test_a_url_that_would_give_the_secret_away_is_refused_before_anything_is_done(url: str) -> None:
    with pytest.raises(SettingsError, match="ping_url must start with https://") as caught:
        pinged(url, lambda: pytest.fail("it was run"))
    assert "5ec2e7" not in str(caught.value)


def test_without_a_monitor_there_is_just_the_work() -> None:
    assert pinged(None, lambda: 75) == 75
