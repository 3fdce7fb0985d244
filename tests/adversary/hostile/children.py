"""A process that runs the whole program in children, one at a time; `program.py` talks to it in JSON lines.

It has all modules that children need, and runs nothing itself: so it has no threads when it forks.
"""

from __future__ import annotations

import json
import os
import resource
import signal
import sys
import time
from importlib import import_module
from pathlib import Path
from typing import Any

import botocore.loaders
import botocore.session

from cfaudit_export.cli import main as run_program

WARM = (
    "anyio._backends._asyncio",
    "duckdb",
    "httpcore2",
    "platformdirs.unix",
    "pyarrow.dataset",
    "truststore",
    "cfaudit_export.analysis.answers.report",
    "cfaudit_export.app.fallback",
    "cfaudit_export.cli.app",
    "cfaudit_export.cli.run",
    "cfaudit_export.plugin.registry",
    "cfaudit_export.sources.auditlogs.source",
    "cfaudit_export.sources.codemode.source",
    "cfaudit_parquet.sink",
    "cfaudit_splunk.sink",
)

HANGING_SECONDS = 180
"""A child that takes so long ends by SIGALRM."""


def memory_mb(kind: str) -> float:
    """Return the memory of this process: `VmRSS` now, `VmHWM` at most."""
    status = dict(line.split(":", 1) for line in Path("/proc/self/status").read_text().splitlines())
    return int(status[kind].split()[0]) / 1024


def live(order: dict[str, Any], answer: int) -> None:
    os.environ.update(order["environ"])
    os.chdir(order["folder"])
    os.umask(0)
    for number, name in ((1, "stdout"), (2, "stderr")):
        os.dup2(os.open(name, os.O_WRONLY | os.O_CREAT | os.O_TRUNC, 0o600), number)
    if "file_bytes" in order:  # beyond it a write fails, as on a full disk
        resource.setrlimit(resource.RLIMIT_FSIZE, (order["file_bytes"], order["file_bytes"]))
    if "files" in order:
        resource.setrlimit(resource.RLIMIT_NOFILE, (order["files"], order["files"]))
    if "memory_mb" in order:  # as much more than it has already
        most = int(memory_mb("VmSize") + order["memory_mb"]) << 20
        resource.setrlimit(resource.RLIMIT_AS, (most, most))
    exec(order.get("first", ""), {})  # noqa: S102  # what a test has written
    Path("/proc/self/clear_refs").write_text("5")  # the peak begins anew
    signal.setitimer(signal.ITIMER_REAL, HANGING_SECONDS)
    before, since = memory_mb("VmRSS"), time.monotonic()
    code = run_program(order["arguments"])
    seconds, peak = time.monotonic() - since, memory_mb("VmHWM")
    sys.stdout.flush()
    told = {"peak_mb": peak, "grown_mb": peak - before, "seconds": seconds}
    os.write(answer, json.dumps(told).encode())
    os._exit(code)


def say(told: dict[str, Any]) -> None:
    sys.stdout.write(json.dumps(told) + "\n")
    sys.stdout.flush()


def run_child(order: dict[str, Any]) -> None:
    reading, writing = os.pipe()
    since = time.monotonic()
    child = os.fork()
    if child == 0:
        try:
            live(order, writing)
        finally:
            os._exit(70)
    os.close(writing)
    say({"pid": child})
    _, status = os.waitpid(child, 0)
    with os.fdopen(reading, "rb") as pipe:
        told = pipe.read()
    measured = json.loads(told) if told else {"peak_mb": 0, "grown_mb": 0, "seconds": time.monotonic() - since}
    say({"code": os.waitstatus_to_exitcode(status), **measured})


def main() -> None:
    for name in WARM:
        import_module(name)
    loader = botocore.loaders.create_loader()
    botocore.session.create_loader = lambda *_: loader
    for name in ("service-2", "endpoint-rule-set-1", "paginators-1"):
        loader.load_service_model("s3", name)
    for line in sys.stdin:
        run_child(json.loads(line))


if __name__ == "__main__":
    main()
