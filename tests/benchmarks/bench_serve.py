"""An assistant's questions to a server over a year of exported events: CPU of each, and memory.

    python tests/benchmarks/bench_serve.py [--events 1000000] [--runs 4] [--rounds 5] [--keep FOLDER]

Prints the CPU until `tools/list` is answered, then of each tool the CPU of server and worker together, first and warm
(the median of the rounds), and the peak memory of both. Nothing here fails a test: the numbers go into commit messages.
"""

from __future__ import annotations

import argparse
import json
import os
import statistics
import subprocess
import sys
import tempfile
import time
from pathlib import Path
from typing import Any

from bench_sql import DAY, write_year

TICKS = os.sysconf("SC_CLK_TCK")
HELLO = {"protocolVersion": "2025-06-18", "capabilities": {}, "clientInfo": {"name": "bench", "version": "1"}}
NOON = {"since": f"{DAY}T11:00:00Z", "before": f"{DAY}T13:00:00Z"}
WHOLE = {"since": f"{DAY}T00:00:00Z", "before": f"{DAY}T23:59:59Z"}
QUESTIONS: dict[str, tuple[str, dict[str, Any]]] = {
    "coverage": ("audit_coverage", {}),
    "timeline of 2 h": ("audit_timeline", NOON),
    "report of a day": ("audit_report", WHOLE),
    "findings of a day": ("audit_findings", WHOLE),
    "events of a day": ("audit_events", {**WHOLE, "where": {"action_type": "delete"}}),
    "sql over all": ("audit_sql", {"query": "SELECT actor_email, count(*) FROM audit_events GROUP BY 1"}),
    "stand-in page": ("auditlogs_by_account_id", {"since": DAY, "before": "2026-03-02", "limit": 1000}),
}


class Server:
    """A server over stdio, and what it and its worker took so far."""

    def __init__(self, folder: Path) -> None:
        command = [sys.executable, "-m", "cfaudit_export", "mcp", str(folder), "--compat", "--state-dir"]
        streams = {"stdin": subprocess.PIPE, "stdout": subprocess.PIPE, "stderr": subprocess.DEVNULL}
        self.process = subprocess.Popen([*command, str(folder / "none")], text=True, **streams)
        self.number = 0

    def ask(self, method: str, **params: Any) -> dict[str, Any]:
        self.number += 1
        message = {"jsonrpc": "2.0", "id": self.number, "method": method, "params": params}
        self.process.stdin.write(json.dumps(message) + "\n")
        self.process.stdin.flush()
        found: dict[str, Any] = json.loads(self.process.stdout.readline())
        return found["result"]

    def pids(self) -> list[int]:
        tasks = Path(f"/proc/{self.process.pid}/task").iterdir()
        return [self.process.pid, *(int(one) for task in tasks for one in (task / "children").read_text().split())]

    def cpu(self) -> float:
        fields = [Path(f"/proc/{pid}/stat").read_text().rpartition(") ")[2].split() for pid in self.pids()]
        return sum(int(one[11]) + int(one[12]) for one in fields) / TICKS

    def peak_mb(self) -> dict[str, float]:
        found = {}
        for name, pid in zip(("server", "worker"), self.pids(), strict=False):
            lines = Path(f"/proc/{pid}/status").read_text().splitlines()
            found[name] = next(int(line.split()[1]) / 1024 for line in lines if line.startswith("VmHWM"))
        return found


def measure(folder: Path, rounds: int) -> None:
    server = Server(folder)
    server.ask("initialize", **HELLO)
    server.ask("tools/list")
    print(f"{'until tools/list':24} {server.cpu():6.2f} CPU s")
    for name, (tool, arguments) in QUESTIONS.items():
        took, walls = [], []
        for _ in range(rounds + 1):
            before, started = server.cpu(), time.perf_counter()
            answer = server.ask("tools/call", name=tool, arguments=arguments)
            took.append(server.cpu() - before)
            walls.append(time.perf_counter() - started)
        size = len(answer["content"][0]["text"])
        warm = statistics.median(took[1:])
        state = "" if not answer["isError"] else answer["content"][0]["text"][:60]
        print(
            f"{name:24} {took[0]:6.2f} first, {warm:6.2f} warm CPU s, {statistics.median(walls[1:]):5.2f} s, "
            f"{size:6} B {state}"
        )
    print(", ".join(f"{name} {mb:.0f} MB" for name, mb in server.peak_mb().items()))
    server.process.stdin.close()
    server.process.wait(60)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.partition("\n")[0])
    parser.add_argument("--events", type=int, default=1_000_000)
    parser.add_argument("--runs", type=int, default=4)
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--keep", type=Path)
    given = parser.parse_args()
    with tempfile.TemporaryDirectory() as temporary:
        folder = given.keep or Path(temporary) / "year"
        if not folder.exists():
            write_year(folder, given.events, given.runs)
        measure(folder, given.rounds)


if __name__ == "__main__":
    main()
