"""docs/troubleshooting.md: each heading is the text of an error that the program has."""

from __future__ import annotations

import ast
import re
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]
PAGE = (ROOT / "docs" / "troubleshooting.md").read_text(encoding="utf-8")
HEADINGS = re.findall(r"^### (.+)$", PAGE, re.MULTILINE)


def texts() -> list[str]:
    """Every text of the program, with `...` for what is filled in."""
    found = []
    for path in (ROOT / "connector" / "cfaudit_export").rglob("*.py"):
        for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
            if isinstance(node, ast.JoinedStr):
                found.append("".join(one.value if isinstance(one, ast.Constant) else "..." for one in node.values))
            elif isinstance(node, ast.Constant) and isinstance(node.value, str):
                found.append(node.value)
    return found


TEXTS = texts()


@pytest.mark.parametrize("heading", HEADINGS)
def test_a_heading_is_an_error_of_the_program(heading: str) -> None:
    wanted = heading.rstrip(". ")
    assert any(text.rstrip(". ").startswith(wanted) for text in TEXTS), heading


def test_each_says_what_to_do_and_there_is_one_of_each() -> None:
    assert len(HEADINGS) == len(set(HEADINGS)) >= 25
    parts = re.split(r"^#{2,3} .+$", PAGE, flags=re.MULTILINE)
    assert all(len(part.split()) >= 12 for part in parts[1:] if part.strip())
