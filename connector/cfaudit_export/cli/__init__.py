"""The command line; the only place that prints, and that ends the process with an exit code.

app       arguments in, exit code out
command   a function and its options -> a command
help      how `--help` looks
terminal  what people see
progress  the bar
The other files hold the commands; a new one is a function there and a line in `app.COMMANDS`.
"""

from __future__ import annotations

from collections.abc import Sequence


def main(arguments: Sequence[str] | None = None) -> int:
    """Run `cfaudit-export` and return its exit code."""
    from cfaudit_export.cli.app import main as run_main

    return run_main(arguments)
