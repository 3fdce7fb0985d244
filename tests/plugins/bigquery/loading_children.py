"""A process that loads batches in children and lets them die; `conftest.py` talks to it, one JSON line each way.

It never loads anything itself, so that it has no threads when it forks.
"""

from __future__ import annotations

import json
import os
import signal
import sys
from pathlib import Path
from types import FrameType
from typing import Any

import cfaudit_bigquery.sink
from cfaudit_bigquery import BigQueryConfig
from cfaudit_export import Batch, Stream, Window
from cfaudit_export.core.model import from_ms

COUNTED = {str(Path(cfaudit_bigquery.__file__).with_name(name)) for name in ("attempts.py", "service.py", "sink.py")}


def die_at_step(number: int) -> None:
    """Have this process killed just before it runs the given line of the plugin, counted in the order of execution.

    Only lines are counted between which something happens elsewhere.
    """
    left = number

    def trace(frame: FrameType, event: str, _: Any) -> Any:
        nonlocal left
        name = frame.f_code.co_filename
        if name not in COUNTED:
            return None
        if event == "line":
            left -= 1
            if left < 0:
                os.kill(os.getpid(), signal.SIGKILL)
        return trace

    sys.settrace(trace)


def load(order: dict[str, Any]) -> None:
    since, before = order["window"]
    batch = Batch(
        order["batch_id"],
        Stream(order["account_id"], order["source"]),
        Window(from_ms(since), from_ms(before)),
        order["rows"],
        Path(order["path"]),
        "",
    )
    sink = cfaudit_bigquery.sink.BigQuerySink(BigQueryConfig(**order["config"]))
    if order["step"] is not None:
        die_at_step(order["step"])
    sink.load(batch)


def run_child(order: dict[str, Any]) -> bool:
    """Load in a child; kill it after `order["seconds"]`, or when a line arrives, if it still runs; say if it was."""
    child = os.fork()
    if child == 0:
        load(order)
        os._exit(0)
    if order["on_word"]:
        sys.stdin.readline()
        os.kill(child, signal.SIGKILL)
    if order["seconds"] is not None and signal.sigtimedwait([signal.SIGCHLD], order["seconds"]) is None:
        os.kill(child, signal.SIGKILL)
    _, status = os.waitpid(child, 0)
    if os.WIFEXITED(status) and os.WEXITSTATUS(status):
        raise SystemExit("a child failed, see above")
    return os.WIFSIGNALED(status)


def main() -> None:
    signal.pthread_sigmask(signal.SIG_BLOCK, [signal.SIGCHLD])
    while line := sys.stdin.readline():
        killed = run_child(json.loads(line))
        while signal.sigtimedwait([signal.SIGCHLD], 0) is not None:
            pass  # the signal of a child that was waited for already
        sys.stdout.write(json.dumps(killed) + "\n")
        sys.stdout.flush()


if __name__ == "__main__":
    main()
