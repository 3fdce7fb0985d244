"""Narrow terminals: no word is broken, in help, tables, answers and errors."""

from __future__ import annotations

import io
import re
import sys
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

from cfaudit_export.cli import main
from cfaudit_export.cli.app import COMMANDS
from cfaudit_sandbox import Sandbox, SandboxOptions, World

Shown = Callable[..., list[str]]
_STYLES = re.compile(r"\x1b\[[0-9;?]*[A-Za-z]")
_FAR = "/srv/exports/of/the/security/team/in/a/folder/that/is/longer/than/any/line/of/a/terminal/out"


class Terminal(io.StringIO):
    """A stream with a person behind it."""

    def isatty(self) -> bool:
        return True


@pytest.fixture(params=[80, 60])
def columns(request: pytest.FixtureRequest) -> int:
    return int(request.param)


@pytest.fixture
def shown(place: Path, columns: int, monkeypatch: pytest.MonkeyPatch) -> Shown:
    """Run a command at a terminal; return the lines of both streams."""
    monkeypatch.setenv("TERM", "xterm")
    monkeypatch.setenv("COLUMNS", str(columns))

    def run(*arguments: object) -> list[str]:
        stream = Terminal()
        with monkeypatch.context() as patch:
            patch.setattr(sys, "stdout", stream)
            patch.setattr(sys, "stderr", stream)
            main([str(one) for one in arguments])
        # The progress bar draws over its own line.
        text = _STYLES.sub("", stream.getvalue()).replace("\r\n", "\n")
        return [line.rpartition("\r")[2].rstrip() for line in text.split("\n")]

    return run


@pytest.fixture
def target(place: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[tuple[str, ...]]:
    """The options of an export with gaps."""
    with Sandbox(World(SandboxOptions(events=60, poison=("api-context=2", "null-actor=1")))) as sandbox:
        monkeypatch.setenv("CLOUDFLARE_API_TOKEN", sandbox.world.tokens["user"])
        where = ("--server-url", sandbox.mcp_url, "--account", sandbox.world.accounts[0].id, "--state-dir", "state")
        where = (*where, "-o", "sources.auditlogs.budget_calls=0", "--recover", "off")
        yield (*where, "--sink", "parquet", "-o", "sinks.parquet.path=out")


def too_long(lines: list[str], columns: int) -> list[str]:
    """Return the lines that do not fit although they could be broken between words."""
    return [line for line in lines if len(line) > columns and len(line.split()) > 2]


@pytest.mark.parametrize("command", ["", *COMMANDS])
def test_help_breaks_lines_between_words_only(
    command: str, shown: Shown, cli: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    arguments = [*([command] if command else []), "--help"]
    narrow = shown(*arguments)
    assert too_long(narrow, 80) == []
    monkeypatch.setenv("COLUMNS", "1000")
    assert " ".join(narrow).split() == cli(*arguments).out.split()


def test_answers_and_errors_break_lines_between_words_only(
    shown: Shown, columns: int, cli: Any, target: tuple[str, ...]
) -> None:
    shown("run", *target, "--since", "40d")
    plain = (("status", "--state-dir", "state"), ("gaps", "--state-dir", "state"), ("check", *target), ("plugins",))
    reads = (("report", "--data", "out", "--since", "30d"), ("timeline", "--data", "out", "--since", "30d"))
    errors = (("run", *target, "-o", f"sinks.parquet.{_FAR}=1"), ("status", "--state-dir", "state", "--max-lag", "x y"))
    for arguments in (*plain, *reads, *errors, ("plan", *target, "--since", "90d", "--slices", "3")):
        lines = shown(*arguments)
        assert too_long(lines, columns) == [], arguments
        wide = cli(*arguments)
        broken = _words(wide.out + wide.err) - _words("\n".join(lines))
        assert {word for word in broken if not _moves(word)} == set(), arguments


def _words(text: str) -> set[str]:
    return set(text.split())


def _moves(word: str) -> bool:
    """Say whether a word may be another one at the next call: a time, a length of time, free space."""
    return bool(re.search(r"\d", word)) and not re.fullmatch(r"[0-9a-f]{32},?", word)


def test_a_path_stays_in_one_piece(shown: Shown) -> None:
    [line] = [line for line in shown("status", "--state-dir", _FAR) if "srv" in line]
    assert f"'{_FAR}'" in line


def test_log_lines_are_broken_like_others_and_json_is_not(shown: Shown, columns: int, target: tuple[str, ...]) -> None:
    lines = shown("run", *target, "--since", "40d", "--log-format", "text")
    assert any("gaps remain" in line for line in lines)
    assert too_long(lines, columns) == []
    as_json = shown("run", *target, "--log-format", "json", "-v")
    assert any(line.startswith("{") and len(line) > columns for line in as_json)
