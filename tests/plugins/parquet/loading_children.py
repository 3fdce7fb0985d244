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

import cfaudit_parquet.sink
from cfaudit_export import Batch, Stream, Window
from cfaudit_export.core.model import from_ms
from cfaudit_parquet import ParquetConfig


def die_at_step(number: int) -> None:
    """Have this process killed just before it runs the given line of `sink.py`, counted in the order of execution."""
    left = number

    def trace(frame: FrameType, event: str, _: Any) -> Any:
        nonlocal left
        if frame.f_code.co_filename != cfaudit_parquet.sink.__file__:
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
    sink = cfaudit_parquet.sink.ParquetSink(ParquetConfig(order["root"]))
    if order["step"] is not None:
        die_at_step(order["step"])
    sink.load(batch)


def run_child(order: dict[str, Any]) -> bool:
    """Load in a child, kill it after `order["seconds"]` if it still runs; return whether it was killed."""
    child = os.fork()
    if child == 0:
        load(order)
        os._exit(0)
    if order["seconds"] is not None and signal.sigtimedwait([signal.SIGCHLD], order["seconds"]) is None:
        os.kill(child, signal.SIGKILL)
    _, status = os.waitpid(child, 0)
    if os.WIFEXITED(status) and os.WEXITSTATUS(status):
        raise SystemExit("a child failed, see above")
    return os.WIFSIGNALED(status)


def main() -> None:
    signal.pthread_sigmask(signal.SIG_BLOCK, [signal.SIGCHLD])
    for line in sys.stdin:
        killed = run_child(json.loads(line))
        while signal.sigtimedwait([signal.SIGCHLD], 0) is not None:
            pass  # the signal of a child that was waited for already
        sys.stdout.write(json.dumps(killed) + "\n")
        sys.stdout.flush()


if __name__ == "__main__":
    main()
