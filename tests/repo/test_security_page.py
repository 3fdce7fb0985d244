"""The table of the security page: every attack names tests, and they exist."""

from __future__ import annotations

import ast
import re
from pathlib import Path

ROOT = Path(__file__).parents[2]
PAGE = (ROOT / "docs" / "security.md").read_text(encoding="utf-8")
ROWS = [line.strip("|").split(" | ") for line in PAGE.splitlines() if line.startswith("| ")][1:]


def test_every_attack_says_what_happens_and_names_a_test_that_exists() -> None:
    assert len(ROWS) > 25
    for attack, _happens, tests in ROWS:
        named = re.findall(r"`([\w/]+\.py)::(test_\w+)`", tests)
        assert named, attack
        for file, test in named:
            tree = ast.parse((ROOT / "tests" / file).read_text(encoding="utf-8"))
            assert test in {one.name for one in ast.walk(tree) if isinstance(one, ast.FunctionDef)}, (attack, test)


def test_every_test_of_the_adversary_that_is_about_an_attack_is_in_the_table() -> None:
    """A file of attacks that the page does not name would not be found by a reader of the page."""
    for path in (ROOT / "tests" / "adversary").glob("test_*.py"):
        assert f"adversary/{path.name}::" in PAGE
