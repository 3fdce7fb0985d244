"""Many calls of every kind, right and wrong: none is lost, and memory does not grow."""

from __future__ import annotations

import json
import random
import subprocess
from pathlib import Path
from typing import Any

import pytest

HELLO = {"protocolVersion": "2025-06-18", "capabilities": {}, "clientInfo": {"name": "soak", "version": "1"}}
DAYS = [f"2026-11-{day}" for day in range(13, 20)]


def questions(draw: random.Random) -> tuple[str, dict[str, Any], bool]:
    """Return a tool, arguments, and whether it is to be refused."""
    since, before = sorted(draw.sample(DAYS, 2))
    period = {"since": since, "before": before}
    calls: list[tuple[str, dict[str, Any], bool]] = [
        ("audit_coverage", {}, False),
        ("audit_timeline", period, False),
        ("audit_report", period, False),
        ("audit_findings", period, False),
        ("audit_events", {**period, "where": {"action_type": "delete"}, "limit": draw.randint(1, 200)}, False),
        ("audit_sql", {"query": "SELECT actor_email, count(*) FROM audit_events GROUP BY 1"}, False),
        ("audit_sql", {"query": "SELECT * FROM audit_events"}, False),
        ("audit_event", {"event_id": "none"}, True),
        ("audit_events", {"since": "yesterdy"}, True),
        ("audit_events", {"sinc": "1h"}, True),
        ("audit_sql", {"query": "SELECT * FROM read_csv('/etc/passwd')"}, True),
        ("audit_sql", {"query": "SELECT list(i) FROM range(1000000000) t(i)"}, True),
        ("auditlogs_by_account_id", {**period, "limit": 1000}, False),
        ("auditlogs_by_account_id", {"since": "2020-01-01", "before": "2020-01-02"}, True),
    ]
    return draw.choice(calls)


def lines_of(path: Path) -> list[str]:
    """Return the lines of a file about a thread or process; none if that has ended since it was listed."""
    try:
        return path.read_text().splitlines()
    except (FileNotFoundError, ProcessLookupError):
        return []


def memory_mb(server: int) -> float:
    """Return what the server and its worker hold in memory now: threads, and workers too, may end meanwhile."""
    tasks = [path / "children" for path in Path(f"/proc/{server}/task").iterdir()]
    # The children of a thread that ends become those of another, which may be read after it.
    pids = {server, *(int(one) for task in tasks for line in lines_of(task) for one in line.split())}
    lines = [line for pid in pids for line in lines_of(Path(f"/proc/{pid}/status"))]
    return sum(int(line.split()[1]) / 1024 for line in lines if line.startswith("VmRSS"))


@pytest.mark.skipif(not Path("/proc/self/status").exists(), reason="NOT TESTED: memory, on this system")
@pytest.mark.parametrize(
    "calls", [pytest.param(60, id="short"), pytest.param(20_000, id="long", marks=pytest.mark.soak)]
)
def test_mixed_calls_are_all_answered_and_memory_does_not_grow(served: Any, calls: int) -> None:
    draw = random.Random(7)
    command = [*served.command, "--compat"]
    streams = {"stdin": subprocess.PIPE, "stdout": subprocess.PIPE, "stderr": subprocess.DEVNULL}
    with subprocess.Popen(command, text=True, **streams) as server:
        try:
            assert server.stdin
            assert server.stdout

            def ask(number: int, method: str, params: dict[str, Any]) -> dict[str, Any]:
                message = {"jsonrpc": "2.0", "id": number, "method": method, "params": params}
                server.stdin.write(json.dumps(message) + "\n")
                server.stdin.flush()
                found: dict[str, Any] = json.loads(server.stdout.readline())
                assert found["id"] == number
                return found["result"]

            ask(0, "initialize", HELLO)
            held: list[float] = []
            for number in range(1, calls + 1):
                tool, arguments, is_refused = questions(draw)
                answer = ask(number, "tools/call", {"name": tool, "arguments": arguments})
                assert answer["isError"] == is_refused, (tool, arguments, answer["content"][0]["text"][:300])
                held.append(memory_mb(server.pid))
            warm = max(held[calls // 3 : calls // 2])
            assert max(held[calls // 2 :]) < warm * 1.15 + 40, held[:: max(calls // 20, 1)]
            assert max(held) < 600
        finally:
            server.kill()
