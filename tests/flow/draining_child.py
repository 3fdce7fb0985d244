"""A process that exports from the URL it is given, and tells how it ended and how much memory it took at most.

Its arguments are the URL, and options of the command line beside.
"""

from __future__ import annotations

import json
import sys
import tempfile
from pathlib import Path

from cfaudit_export.cli import main


def run(url: str, *more: str) -> int:
    with tempfile.TemporaryDirectory() as folder:
        return main(
            [
                "run",
                *("--source", "auditlogs", "--server-url", url, "--sink", "parquet"),
                *("--state-dir", f"{folder}/state", "--max-wait", "0s", "--since", "1d"),
                *("-o", f"sinks.parquet.path={folder}/out", "-o", "sources.auditlogs.api_url="),
                *("-o", "sources.auditlogs.timeout_seconds=60", *more),
            ]
        )


if __name__ == "__main__":
    code = run(*sys.argv[1:])
    # Not ru_maxrss: that starts with the memory of the process that forked this one.
    status = dict(line.split(":", 1) for line in Path("/proc/self/status").read_text().splitlines())
    peak_kb = int(status["VmHWM"].split()[0])
    sys.stdout.write("\n" + json.dumps({"code": code, "peak_mb": peak_kb / 1024}) + "\n")
