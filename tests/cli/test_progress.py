"""The progress bar, on a terminal of 80 columns: nothing of it is cut off, and it shows what is left of the budget."""

from __future__ import annotations

import fcntl
import io
import os
import pty
import re
import struct
import sys
import termios
from pathlib import Path
from typing import Any

import pytest

from cfaudit_export.cli.progress import _facts, progress_bar
from cfaudit_export.cli.terminal import Terminal
from cfaudit_sandbox import Sandbox, SandboxOptions, World

COLUMNS = 80
BUDGET = 600
_CONTROL = re.compile(r"\x1b\[[0-9;?]*[a-zA-Z]")
_TIME = r" \d:\d\d:\d\d"


def rows_of(text: str) -> list[str]:
    """Return what stood in each row of the terminal, one after the other."""
    return [row for row in re.split(r"[\r\n]+", _CONTROL.sub("", text)) if row.strip()]


def on_terminal(arguments: tuple[str, ...]) -> list[str]:
    """Run the program on a terminal of its own."""
    child, terminal = pty.fork()
    if child == 0:
        os.environ["TERM"] = "xterm"
        fcntl.ioctl(sys.__stderr__.fileno(), termios.TIOCSWINSZ, struct.pack("HHHH", 24, COLUMNS, 0, 0))
        os.execv(sys.executable, [sys.executable, "-m", "cfaudit_export", *arguments])  # noqa: S606  # needs no shell
    shown = b""
    while chunk := read(terminal):
        shown += chunk
    os.close(terminal)
    _, status = os.waitpid(child, 0)
    assert os.waitstatus_to_exitcode(status) == 0, shown.decode()
    return rows_of(shown.decode())


def read(terminal: int) -> bytes:
    try:
        return os.read(terminal, 65_536)
    except OSError:  # how a terminal says that nothing writes to it any more
        return b""


def test_a_run_shows_the_calls_that_are_left_and_what_it_waits_for(
    place: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.delenv("COLUMNS", raising=False)
    with Sandbox(World(SandboxOptions(events=300, span_seconds=86_400.0, latency_seconds=0.05))) as sandbox:
        monkeypatch.setenv("CLOUDFLARE_API_TOKEN", sandbox.world.tokens["account"])
        sandbox.upstream.fail_next(503, times=2)
        source = {"server_url": sandbox.mcp_url, "page_size": 25, "piece_rows": 25, "budget_calls": BUDGET}
        settings = {f"sources.auditlogs.{key}": value for key, value in source.items()}
        options = [f"{key}={value}" for key, value in {**settings, "sinks.parquet.path": "out"}.items()]
        given = ("--account", sandbox.world.accounts[0].id, "--sink", "parquet", "--recover", "off")
        rows = on_terminal(("run", *given, *(word for one in options for word in ("-o", one))))
        spent = sandbox.upstream.counts["upstream_calls"]
    bars = [row for row in rows if row.startswith(sandbox.world.accounts[0].id[:8])]
    assert max(map(len, bars)) <= COLUMNS
    shown = [
        found for row in bars if (found := re.search(rf"% [\d,]+ events, [\d,]+/s, (\d+) calls left{_TIME}$", row))
    ]
    left = [int(found[1]) for found in shown]
    assert left == sorted(left, reverse=True)
    assert left[-1] >= BUDGET - spent - 16  # calls that failed before they got there are counted too
    assert left[-1] < left[0] < BUDGET
    waits = [row for row in bars if re.search(rf"% \d+ calls left, waiting: call failed, \d+ s{_TIME}$", row)]
    assert waits, bars


@pytest.mark.parametrize(
    ("counted", "shown"),
    [
        (
            {"events": 98_765, "calls_left": 1_200},
            r"% 98,765 events, [\d,]{7,}/s, 1,200 calls left",
        ),
        (
            {"events": 98_765_432, "calls_left": 1_200, "waiting": "budget spent, 305 s"},
            r"% 1,200 calls left, waiting: budget spent, 305 s",
        ),
        ({"events": 98_765_432, "calls_left": 1_200, "waiting": "throttled, 300 s"}, r"waiting: throttled, 300 s"),
        ({"events": 98_765_432, "calls_left": None}, r"% 98,765,432 events, [\d,]+/s"),
    ],
    ids=lambda one: str(one) if isinstance(one, str) else "",
)
def test_large_numbers_fit_too(counted: dict[str, Any], shown: str, monkeypatch: pytest.MonkeyPatch) -> None:
    class Screen(io.StringIO):
        def isatty(self) -> bool:
            return True

    screen = Screen()
    monkeypatch.setattr(sys, "stderr", screen)
    monkeypatch.setenv("COLUMNS", str(COLUMNS))
    monkeypatch.setenv("TERM", "xterm")
    with progress_bar(Terminal(), "0123456789abcdef" * 2) as listeners:
        listeners.counters(counted)
    row = rows_of(screen.getvalue())[-1]
    assert len(row) == COLUMNS
    assert re.search(rf"{shown}{_TIME}$", row), row


def test_a_wait_is_counted_down_and_never_below_nothing() -> None:
    counted = {"events": 5, "calls_left": 0, "waiting": "budget spent, 83 s", "waits_since": 1_000.0}
    assert [_facts(counted, 9.0, now).rpartition(": ")[2] for now in (1_000.0, 1_001.9, 1_083.0, 2_000.0)] == [
        "budget spent, 83 s",
        "budget spent, 82 s",
        "budget spent, 0 s",
        "budget spent, 0 s",
    ]
    assert _facts({"waiting": "the server"}, 9.0, 5.0).endswith("waiting: the server")
