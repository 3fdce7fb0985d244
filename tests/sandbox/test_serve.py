from __future__ import annotations

import json
import signal
import socket
import subprocess
import sys
from typing import TYPE_CHECKING, Any

import httpx2
import pytest

from cfaudit_sandbox import RUNTIME_KNOBS, Sandbox, SandboxOptions, World

if TYPE_CHECKING:
    from tests.core.sandbox.conftest import Wire

SCRIPT = """
from cfaudit_sandbox import SandboxOptions, World, serve
serve(World(SandboxOptions(events=10)), on_ready=lambda sandbox: print(sandbox.url, flush=True))
print("stopped", flush=True)
"""


def control(wire: Wire, path: str, body: object | None = None) -> tuple[int, dict[str, Any]]:
    url = f"{wire.sandbox.url}/sandbox{path}"
    response = wire.http.get(url) if body is None else wire.http.post(url, json=body)
    return response.status_code, response.json()


@pytest.mark.parametrize("stop", [signal.SIGINT, signal.SIGTERM])
def test_a_server_in_the_foreground_stops_cleanly_when_told(stop: signal.Signals) -> None:
    with subprocess.Popen(
        [sys.executable, "-W", "error", "-c", SCRIPT], stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True
    ) as process:
        assert process.stdout is not None
        url = process.stdout.readline().strip()
        assert httpx2.get(f"{url}/sandbox/stats").status_code == 200
        process.send_signal(stop)
        output, errors = process.communicate(timeout=20)
    assert (process.returncode, output, errors) == (0, "stopped\n", "")


def test_a_sandbox_serves_until_it_is_left() -> None:
    with Sandbox(World(SandboxOptions(events=10))) as sandbox:
        assert sandbox.mcp_url == f"{sandbox.url}/mcp"
        assert httpx2.get(f"{sandbox.url}/sandbox/stats").status_code == 200
        url = sandbox.url
    with pytest.raises(httpx2.ConnectError):
        httpx2.get(url)


def test_an_address_that_is_taken_is_reported() -> None:
    with socket.create_server(("127.0.0.1", 0)) as taken:
        sandbox = Sandbox(World(SandboxOptions(events=1)), port=taken.getsockname()[1])
        with pytest.raises(OSError, match="in use"):
            sandbox.__enter__()


def test_the_statistics_count_calls_by_sort(wire: Wire) -> None:
    wire.read()
    wire.read()
    wire.sandbox.upstream.fail_next(500)
    wire.read()
    status, stats = control(wire, "/stats")
    assert status == 200
    assert stats["requests"] == stats["tool_calls"] == stats["audit_calls"] == 3
    assert (stats["probes"], stats["upstream_calls"], stats["cost"]) == (6, 8, 9)
    assert (stats["tool_errors"], stats["throttled"], stats["status 200"]) == (1, 0, 3)
    assert (stats["cache_hits"], stats["cache_misses"]) == (1, 1)


def test_the_world_is_described_for_other_processes(wire: Wire) -> None:
    _, world = control(wire, "/world")
    assert world["accounts"] == [{"id": wire.world.accounts[0].id, "name": wire.world.accounts[0].name}]
    assert world["tokens"] == wire.world.tokens
    assert (world["since"], world["before"]) == (wire.world.since, wire.world.before)


def test_knobs_turn_while_the_server_runs_and_reset_turns_them_back(wire: Wire) -> None:
    assert control(wire, "/knobs", {"fail_rate": 1.0, "page_cap": 5}) == (200, {"ok": True})
    assert "unavailable" in wire.read()["error"]
    assert control(wire, "/knobs", {"fail_rate": 0.0})[0] == 200
    assert wire.read()["result_info"]["count"] == 5
    assert control(wire, "/reset", {}) == (200, {"ok": True})
    assert control(wire, "/stats")[1]["requests"] == 0
    assert wire.read()["result_info"]["count"] == 300


def test_failures_can_be_ordered(wire: Wire) -> None:
    assert control(wire, "/fail-next", {"status": 429, "times": 2})[0] == 200
    assert ["error" in wire.read() for _ in range(3)] == [True, True, False]
    assert control(wire, "/fail-next", {"status": 429, "where": "probe", "retry_after": 3})[0] == 200
    assert wire.legacy("ping").headers["retry-after"] == "3"


@pytest.mark.parametrize(
    ("path", "body", "word"),
    [
        ("/knobs", {"events": 5}, "events"),
        ("/knobs", {"fail_rate": 7}, "fail_rate"),
        ("/knobs", {"fail_rate": "much"}, "fail_rate"),
        ("/knobs", [], "object"),
        ("/fail-next", {"status": 200}, "200"),
        ("/fail-next", {"where": "moon"}, "moon"),
        ("/fail-next", {"tiems": 2}, "tiems"),
        ("/fail-next", {"times": "x"}, "times"),
        ("/fail-next", {"status": "drop", "where": "edge"}, "edge"),
    ],
)
def test_what_cannot_be_done_is_refused_with_the_reason(wire: Wire, path: str, body: object, word: str) -> None:
    status, answer = control(wire, path, body)
    assert status == 400
    assert word in answer["error"]


def test_unknown_control_paths_are_not_found(wire: Wire) -> None:
    assert control(wire, "/nothing")[0] == 404
    assert wire.http.post(f"{wire.sandbox.url}/sandbox/knobs", content=b"{").status_code == 400


def test_the_runtime_knobs_are_options() -> None:
    options = json.loads(json.dumps({name: getattr(SandboxOptions(), name) for name in RUNTIME_KNOBS}))
    World(SandboxOptions(events=1)).turn(**options)


@pytest.mark.parametrize(
    "options",
    [{"events": -1}, {"twins": 1.5}, {"page_cap": 0}, {"latency_seconds": -1}, {"fail_rate": -0.1}],
)
def test_options_out_of_range_are_refused_by_name(options: dict[str, Any]) -> None:
    (name,) = options
    with pytest.raises(ValueError, match=name):
        SandboxOptions(**options)
