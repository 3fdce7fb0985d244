"""Exports started from Python: observers of runs are told for every caller."""

from __future__ import annotations

import logging
from collections.abc import Iterator
from datetime import UTC, datetime
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from threading import Thread
from typing import Any

import pytest

from cfaudit_export.api import Assembly, Given, export_all, logging_through, prepare
from cfaudit_export.errors import AccessError
from cfaudit_sandbox import Sandbox, SandboxOptions, World

EVENTS = 40


@pytest.fixture(scope="module")
def sandbox() -> Iterator[Sandbox]:
    with Sandbox(World(SandboxOptions(events=EVENTS, accounts=2, span_seconds=7_200.0))) as running:
        yield running


@pytest.fixture
def monitor() -> Iterator[tuple[str, list[str]]]:
    """A service that is pinged: its URL, and what it heard."""
    heard: list[str] = []

    class Handler(BaseHTTPRequestHandler):
        def do_GET(self) -> None:
            heard.append(self.path)
            self.send_response(200)
            self.send_header("Content-Length", "0")
            self.end_headers()

        def log_message(self, *_: object) -> None:
            pass

    with ThreadingHTTPServer(("127.0.0.1", 0), Handler) as server:
        thread = Thread(target=server.serve_forever, kwargs={"poll_interval": 0.01})
        thread.start()
        yield f"http://127.0.0.1:{server.server_port}/p", heard
        server.shutdown()
        thread.join()


def workshop_of(sandbox: Sandbox, folder: Path, token: str | None = "user", **flags: Any) -> Assembly:
    pairs = [f"sinks.parquet.path={folder / 'out'}", *(f"{name}={value}" for name, value in flags.items())]
    given = Given(
        None,
        pairs,
        {
            "server_url": sandbox.mcp_url,
            "account": ["all"],
            "sink": ["parquet"],
            "state_dir": str(folder / "state"),
            "settle_lag": "0s",
        },
    )
    environ = {"CLOUDFLARE_API_TOKEN": sandbox.world.tokens[token]} if token else {}
    return prepare(given, environ=environ, clock=lambda: datetime.now(UTC), is_run=True)


def test_metrics_and_the_monitor_are_told_of_runs_from_python(
    sandbox: Sandbox, tmp_path: Path, monitor: tuple[str, list[str]]
) -> None:
    url, heard = monitor
    file = tmp_path / "cfaudit.prom"
    reports = list(export_all(workshop_of(sandbox, tmp_path, ping_url=url, metrics_file=file)))
    assert [report.exit_code for report in reports] == [0, 0]
    assert heard == ["/p/start", "/p"]
    text = file.read_text()
    assert all(f'account="{account.id}"' in text for account in sandbox.world.accounts)


def test_a_run_that_cannot_begin_and_one_that_is_broken_off_are_failures_for_the_monitor(
    sandbox: Sandbox, tmp_path: Path, monitor: tuple[str, list[str]]
) -> None:
    url, heard = monitor
    with pytest.raises(AccessError):
        workshop_of(sandbox, tmp_path, token=None, ping_url=url)
    assert heard == ["/p/start", "/p/77"]
    runs = export_all(workshop_of(sandbox, tmp_path, ping_url=url))
    assert next(runs).exit_code == 0
    runs.close()  # type: ignore[attr-defined]  # it is a generator
    assert heard[2:] == ["/p/start", "/p/fail"]


def test_a_run_beside_the_regular_ones_is_not_observed(
    sandbox: Sandbox, tmp_path: Path, monitor: tuple[str, list[str]]
) -> None:
    url, heard = monitor
    assembly = workshop_of(sandbox, tmp_path, ping_url=url, metrics_file=tmp_path / "cfaudit.prom")
    assert len(list(export_all(assembly, observed=False))) == 2
    assert (heard, (tmp_path / "cfaudit.prom").exists()) == ([], False)


def test_the_log_of_a_caller_has_the_end_of_each_run_and_no_line_for_each_request(
    sandbox: Sandbox, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    lines: list[str] = []
    with caplog.at_level(logging.INFO), logging_through(lambda _level, text: lines.append(text)):
        list(export_all(workshop_of(sandbox, tmp_path)))
    ended = [line for line in lines if line.startswith("run finished ")]
    named = {account.id for line in ended for account in sandbox.world.accounts if account.id in line}
    assert (len(ended), named) == (2, {account.id for account in sandbox.world.accounts})
    assert "HTTP Request" not in caplog.text
