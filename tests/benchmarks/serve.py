"""Serve a sandbox for a benchmark: prints its URL and a token, then serves until it is terminated.

python tests/benchmarks/serve.py events=200000 latency_seconds=0.15
python tests/benchmarks/serve.py token=user accounts=1000
"""

from __future__ import annotations

import json
import signal
import sys
import threading
from datetime import datetime

from cfaudit_sandbox import Sandbox, SandboxOptions, World


def main() -> None:
    options, kind = {}, "account"
    for argument in sys.argv[1:]:
        name, _, value = argument.partition("=")
        if name == "token":
            kind = value
            continue
        options[name] = datetime.fromisoformat(value) if name == "end_at" else json.loads(value)
    stopped = threading.Event()
    signal.signal(signal.SIGTERM, lambda *_: stopped.set())
    world = World(SandboxOptions(cache_bytes=1 << 30, **options))
    with Sandbox(world) as sandbox:
        print(sandbox.mcp_url, world.tokens[kind], flush=True)
        stopped.wait()


if __name__ == "__main__":
    main()
