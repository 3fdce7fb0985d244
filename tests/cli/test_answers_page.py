"""docs/answers.md: its commands are real, and what it says of them is so."""

from __future__ import annotations

import re
import shlex
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from cfaudit_export.analysis.answers.timeline import GAP, MOST_EVENTS
from cfaudit_export.analysis.files.compact import SMALL_BYTES

PAGE = (Path(__file__).parents[2] / "docs" / "answers.md").read_text(encoding="utf-8")
COMMANDS = [one for one in re.findall(r"`cfaudit-export ([^`]+)`", PAGE) if one not in ("sql", "events")]


@pytest.mark.parametrize("command", COMMANDS)
def test_its_commands_work(command: str, cli: Callable[..., Any], exported: Any, place: Path) -> None:
    where = exported.where[:2] if command == "compact" else exported.where
    more = ("--dry-run",) if command == "compact" else ()
    result = cli(*shlex.split(command), *where, *more)
    assert (result.code, bool(result.out)) == (0, command != "compact"), result.err


def test_its_numbers_are_those_of_the_program() -> None:
    assert GAP.total_seconds() == 30 * 60
    assert f"at most {MOST_EVENTS:,} events" in PAGE
    assert f"Large files ({SMALL_BYTES >> 20} MiB)" in PAGE
