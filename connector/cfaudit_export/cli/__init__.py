"""The command line; the only place that prints, and that ends the process with an exit code.

app       arguments in, exit code out
command   a function and its options -> a command
shell     what a command works with
help      how `--help` looks
streams   stdin, stdout, stderr
terminal  what people see
progress  the bar
The other files hold the commands; a new one is a function there and a line in `app.COMMANDS`.
"""

from __future__ import annotations

import atexit
import gc
import os
import signal
from collections.abc import Sequence

_GC_THRESHOLD = 100_000


def main(arguments: Sequence[str] | None = None) -> int:
    """Run `cfaudit-export` and return its exit code."""
    _tune()
    try:
        from cfaudit_export.cli.app import main as run_main
    except KeyboardInterrupt:  # from here on `app` listens
        return 128 + signal.SIGINT
    return run_main(arguments)


def _tune() -> None:
    """Set the process up for what it does, before anything is imported."""
    # Imports make objects by the hundred thousand, which stay: looking for cycles after every 700 of them is a fifth
    # of a start.
    gc.set_threshold(_GC_THRESHOLD)
    # A process that ends looks once more, at all that was imported, which takes as long again.
    atexit.register(gc.freeze)
    # Arrow's own allocator keeps for itself what was freed, the system's less so; an allocator set by the user stays.
    os.environ.setdefault("ARROW_DEFAULT_MEMORY_POOL", "system")
