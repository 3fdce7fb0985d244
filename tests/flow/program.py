"""The whole program in processes that are quick to start, and may be killed: see `running_children.py`."""

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

import pytest

# What may be left out of an environment that a child inherits.
FOREIGN = ("CFAUDIT_", "CLOUDFLARE_", "AWS_", "GOOGLE_", "SPLUNK_")
OUT, ERR = "stdout", "stderr"


@dataclass(frozen=True, slots=True)
class Finished:
    """How a process ended: the exit code, negative for a signal, what it said, and how many steps it took."""

    code: int
    out: str
    err: str
    steps: int | None


class Runner:
    """Runs the program in one process after the other."""

    def __init__(self, process: subprocess.Popen[str]) -> None:
        self._process = process
        self._folder = Path()

    def start(self, folder: Path, arguments: list[str], environ: dict[str, str], **when: Any) -> None:
        """Start it in a folder, which keeps what it says.

        `when` may say to kill it, by `seconds` or by `step`, counted only below a function of the sealing that `within`
        names; and that no file may grow beyond `largest_file_bytes`.
        """
        self._folder = folder
        for name in (OUT, ERR):  # it may be killed before it has opened them
            (folder / name).touch()
        order = {"folder": str(folder), "arguments": arguments, "environ": {"HOME": str(folder)} | environ}
        assert self._process.stdin
        self._process.stdin.write(
            json.dumps(dict.fromkeys(("seconds", "step", "within", "largest_file_bytes")) | order | when) + "\n"
        )
        self._process.stdin.flush()

    def end(self) -> Finished:
        """Wait until it has ended."""
        assert self._process.stdout
        line = self._process.stdout.readline()
        assert line, "the process that runs the program died"
        answer = json.loads(line)
        out, err = ((self._folder / name).read_text() for name in (OUT, ERR))
        return Finished(answer["code"], out, err, answer["steps"])

    def run(self, folder: Path, arguments: list[str], environ: dict[str, str], **when: Any) -> Finished:
        self.start(folder, arguments, environ, **when)
        return self.end()


@contextmanager
def running() -> Iterator[Runner]:
    environ = {name: value for name, value in os.environ.items() if not name.startswith(FOREIGN)}
    command = [sys.executable, str(Path(__file__).with_name("running_children.py"))]
    with subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True, env=environ) as process:
        yield Runner(process)
        assert process.stdin
        process.stdin.close()
        process.wait(timeout=30)


@pytest.fixture(scope="session")
def runner() -> Iterator[Runner]:
    with running() as one:
        yield one


@pytest.fixture(scope="session")
def other_runner() -> Iterator[Runner]:
    with running() as one:
        yield one
