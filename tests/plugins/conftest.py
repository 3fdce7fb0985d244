"""What the tests of several sinks share."""

from __future__ import annotations

import dataclasses
import json
import os
import re
import select
import socket
import subprocess
import sys
import threading
import tomllib
from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager, ExitStack, contextmanager, suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest

SINKS = Path(__file__).parents[2] / "docs" / "sinks"


@dataclass(frozen=True, slots=True)
class Page:
    """The page about a sink."""

    text: str

    def section(self, title: str) -> str:
        """Return what stands below a heading, up to the next one."""
        return self.text.split(f"\n## {title}\n")[1].split("\n## ")[0]

    def blocks(self, language: str) -> list[str]:
        """Return the examples in a language."""
        return re.findall(rf"```{language}\n(.*?)```", self.text, re.DOTALL)

    def example(self) -> dict[str, Any]:
        """Return the settings of the page's example."""
        (example,) = self.blocks("toml")
        return tomllib.loads(example)

    def settings(self) -> dict[str, str]:
        """Return the keys that the page lists, with their defaults."""
        rows = re.findall(r"^\| `(\w+)` \| *`?([^`|]*?)`? *\|", self.section("Settings"), re.MULTILINE)
        assert len(dict(rows)) == len(rows), "a key is listed twice"
        return dict(rows)

    @staticmethod
    def settings_of(config: type[Any]) -> dict[str, str]:
        """Return the keys that a sink has, with their defaults as a page tells them."""
        return {field.name: _told(field) for field in dataclasses.fields(config)}


def _told(field: dataclasses.Field[Any]) -> str:
    default = field.default if field.default_factory is dataclasses.MISSING else field.default_factory()
    if default in (None, "", dataclasses.MISSING):
        return ""
    return str(default).lower() if isinstance(default, bool) else str(default)


_MOST_DRIPS = 2_000


@pytest.fixture
def dripping() -> Iterator[str]:
    """The URL of a server that answers everything a byte at a time, and is never done."""

    def serve(connection: socket.socket) -> None:
        with connection, suppress(OSError):
            connection.recv(1 << 16)
            connection.sendall(b"HTTP/1.1 200 OK\r\nX-Slow: ")
            for _ in range(_MOST_DRIPS):
                if ended.wait(0.02):
                    return
                connection.sendall(b"a")

    def accept() -> None:
        with suppress(OSError):
            while True:
                threading.Thread(target=serve, args=(listening.accept()[0],), daemon=True).start()

    ended = threading.Event()
    with socket.create_server(("127.0.0.1", 0)) as listening:
        threading.Thread(target=accept, daemon=True).start()
        yield f"http://127.0.0.1:{listening.getsockname()[1]}"
        ended.set()
        listening.shutdown(socket.SHUT_RDWR)


@pytest.fixture(scope="session")
def page_about() -> Callable[[str], Page]:
    """Return what reads the page about a sink."""
    return lambda sink: Page((SINKS / f"{sink}.md").read_text())


class Exporter:
    """Exports a made-up account in processes that may be killed, one at a time."""

    def __init__(self, process: subprocess.Popen[str]) -> None:
        self._process = process
        self.pid: int | None = None
        self._started = threading.Event()

    def start(self, order: dict[str, Any]) -> None:
        self._started.clear()
        assert self._process.stdin
        self._process.stdin.write(json.dumps({"seconds": None} | order) + "\n")
        self._process.stdin.flush()
        self.pid = self._answer()["pid"]
        self._started.set()

    def code(self) -> int:
        """Wait for the end; return the exit code, negative for a signal."""
        return int(self._answer()["code"])

    def waits_for(self, event: threading.Event) -> bool:
        """Wait until something happens in the run, or it ends; return False when it ended without."""
        assert self._process.stdout
        while not event.is_set():
            if select.select([self._process.stdout], [], [], 0.02)[0]:
                return event.is_set()
        return True

    def run(self, order: dict[str, Any]) -> int:
        self.start(order)
        return self.code()

    def signal(self, number: int) -> None:
        """Send the running process a signal; for threads of a proxy."""
        assert self._started.wait(timeout=30)
        assert self.pid
        os.kill(self.pid, number)

    def _answer(self) -> dict[str, Any]:
        assert self._process.stdout
        line = self._process.stdout.readline()
        assert line, "the exporting process died"
        answer: dict[str, Any] = json.loads(line)
        return answer


@pytest.fixture(scope="session")
def exporting_into() -> Callable[[str], AbstractContextManager[tuple[Exporter, Exporter]]]:
    """Return what starts two processes that export into a sink."""

    @contextmanager
    def start(sink: str) -> Iterator[tuple[Exporter, Exporter]]:
        command = [sys.executable, str(Path(__file__).with_name("exporting_children.py")), sink]
        with ExitStack() as stack:
            processes = [
                stack.enter_context(subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True))
                for _ in range(2)
            ]
            yield Exporter(processes[0]), Exporter(processes[1])
            for process in processes:
                assert process.stdin
                process.stdin.close()
                process.wait(timeout=30)

    return start
