"""Compacts a folder and dies at a line; `test_compact.py` runs it. Arguments: folder, then numbers on stdin.

For each number this process makes a child, which kills itself before it runs that line of `compact.py` or of what it
writes files with, counted in the order of execution, and says whether it did. It never compacts itself, so that it has
no threads when it forks.
"""

from __future__ import annotations

import os
import signal
import sys
from datetime import UTC, datetime, timedelta
from types import FrameType
from typing import Any

import cfaudit_export.analysis.files.compact
import cfaudit_export.core.durable
from cfaudit_export.analysis.files.open import open_location

NOW = datetime(2026, 12, 1, tzinfo=UTC)


def die_at_line(number: int) -> None:
    left = number

    def trace(frame: FrameType, event: str, _: Any) -> Any:
        nonlocal left
        if frame.f_code.co_filename not in {
            cfaudit_export.analysis.files.compact.__file__,
            cfaudit_export.core.durable.__file__,
        }:
            return None
        if event == "line":
            left -= 1
            if left < 0:
                os.kill(os.getpid(), signal.SIGKILL)
        return trace

    sys.settrace(trace)


def main() -> None:
    for line in sys.stdin:
        folder, number = line.rstrip("\n").split("\t")
        child = os.fork()
        if child == 0:
            place = open_location(folder)
            die_at_line(int(number))
            list(cfaudit_export.analysis.files.compact.compact(place, now=NOW, settled=timedelta()))
            os._exit(0)
        _, status = os.waitpid(child, 0)
        if os.WIFEXITED(status) and os.WEXITSTATUS(status):
            raise SystemExit("the child failed, see above")
        print("killed" if os.WIFSIGNALED(status) else "done", flush=True)


if __name__ == "__main__":
    main()
