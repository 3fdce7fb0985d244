"""What no file of this repository may hold."""

from __future__ import annotations

import re
import subprocess
from collections.abc import Iterator
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]
IGNORED = {".git", ".venv", "__pycache__", ".mypy_cache", ".pytest_cache", ".ruff_cache", ".hypothesis", "demo"}


def files() -> Iterator[Path]:
    """Yield what git keeps; without git all files that are not made by tools."""
    listed = subprocess.run(["git", "ls-files", "-z"], cwd=ROOT, capture_output=True, text=True, check=False)
    if listed.returncode == 0 and listed.stdout:
        found = (ROOT / name for name in listed.stdout.rstrip("\0").split("\0"))
    else:
        found = (path for path in ROOT.rglob("*") if not IGNORED & {*path.relative_to(ROOT).parts})
    yield from (path for path in sorted(found) if path.is_file())


TEXTS = {
    path.relative_to(ROOT): path.read_text(encoding="utf-8") for path in files() if path.suffix not in {".gz", ".png"}
}
PYTHON = {path: text for path, text in TEXTS.items() if path.suffix == ".py"}


def lines(pattern: str, texts: dict[Path, str] = TEXTS) -> list[str]:
    """The lines that match, as `path:number: line`."""
    search = re.compile(pattern).search
    return [
        f"{path}:{number}: {line}"
        for path, text in texts.items()
        for number, line in enumerate(text.split("\n"), 1)
        if search(line)
    ]


def test_there_are_files_to_look_at() -> None:
    assert {Path("README.md"), Path("pyproject.toml"), Path("tests/repo/test_hygiene.py")} <= TEXTS.keys()


def test_no_path_of_somebodys_machine() -> None:
    # Where `deploy` installs the program is everyone's.
    assert lines(r"(?<![\w.~}])/(?:home|root|Users|work|opt)/(?!cfaudit-export\b)\w") == []


def test_no_leftover_of_a_merge() -> None:
    assert lines(r"^(?:<{7}|>{7}|\|{7}) ") == []


def test_lines_end_as_on_posix_and_without_blanks() -> None:
    assert [path for path, text in TEXTS.items() if "\r\n" in text] == []
    assert lines(r"[ \t]+$") == []
    assert [path for path, text in TEXTS.items() if text and not text.endswith("\n")] == []


def test_an_exception_from_a_rule_gives_its_reason() -> None:
    assert lines(r"#\s*(?:noqa: [A-Z]+\d+(?:, ?[A-Z]+\d+)*|type: ignore\[[\w, -]+\])\s*$", PYTHON) == []
    assert lines(r"#\s*(?:noqa|type: ignore)\s*$", PYTHON) == []


@pytest.mark.parametrize("name", ["run"])
def test_scripts_can_be_run(name: str) -> None:
    assert (ROOT / ".ci" / name).stat().st_mode & 0o111
