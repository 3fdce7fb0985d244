"""The whole program in children of a process that has its modules already, measured: how long, how much memory."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

FOREIGN = ("CFAUDIT_", "CLOUDFLARE_", "AWS_", "GOOGLE_", "SPLUNK_", "OTEL_")


@dataclass(frozen=True, slots=True)
class Ended:
    """How a child ended.

    Attributes:
        code: exit code; negative for a signal.
        out, err: what it said.
        peak_mb: the most memory that it had.
        grown_mb: how much of it came since it began.
        seconds: how long it took.
    """

    code: int
    out: str
    err: str
    peak_mb: float
    grown_mb: float
    seconds: float


class Program:
    """Runs the program in one child after the other."""

    def __init__(self, process: subprocess.Popen[str]) -> None:
        self._process = process

    def start(self, folder: Path, arguments: list[str], environ: dict[str, str], **surroundings: Any) -> None:
        """Start it in a folder, with a umask of 000.

        `surroundings` may have limits of the process (`files`, `file_bytes`, `memory_mb`), and Python code that is run
        `first`.
        """
        order = {"folder": str(folder), "arguments": arguments, "environ": {"HOME": str(folder)} | environ}
        assert self._process.stdin
        self._process.stdin.write(json.dumps(order | surroundings) + "\n")
        self._process.stdin.flush()

    def pid(self) -> int:
        """Return the number of the child's process; asked once after `start`."""
        assert self._process.stdout
        return int(json.loads(self._process.stdout.readline())["pid"])

    @staticmethod
    def kill(child: int, number: int) -> None:
        """Send a signal to a child."""
        os.kill(child, number)

    def end(self, folder: Path) -> Ended:
        """Wait until it has ended."""
        assert self._process.stdout
        line = self._process.stdout.readline()
        assert line, "the process that runs the program died"
        told = json.loads(line)
        out, err = ((folder / name).read_text(errors="replace") for name in ("stdout", "stderr"))
        return Ended(out=out, err=err, **told)

    def run(self, folder: Path, arguments: list[str], environ: dict[str, str], **surroundings: Any) -> Ended:
        """Run it to its end."""
        self.start(folder, arguments, environ, **surroundings)
        self.pid()
        return self.end(folder)


@contextmanager
def running() -> Iterator[Program]:
    """Start the process that runs it."""
    environ = {
        name: value
        for name, value in os.environ.items()
        if not name.startswith(FOREIGN) and not name.lower().endswith("_proxy")
    }
    command = [sys.executable, str(Path(__file__).with_name("children.py"))]
    with subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True, env=environ) as process:
        yield Program(process)
        assert process.stdin
        process.stdin.close()
        process.wait(timeout=30)
