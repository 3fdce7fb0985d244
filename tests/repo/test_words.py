"""Words that a reader has to read twice are in no text that users see: pages, help, errors, logs."""

from __future__ import annotations

import ast
import re
from collections.abc import Iterator
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]
ODD = re.compile(
    r"\b(?:whoever|(?:no|some|every|any)body|at last|all the same|would else|is learnt|cannot be had|for want of)\b",
    re.IGNORECASE,
)
PAGES = [ROOT / "README.md", ROOT / "plugins" / "README.md"]
PAGES += [path for folder in ("docs", ".github") for path in sorted((ROOT / folder).rglob("*.md"))]


def odd(where: str, texts: Iterator[tuple[int, str]]) -> list[str]:
    return [f"{where}:{line}: {found[0]}" for line, text in texts for found in [ODD.search(text)] if found]


def shown(tree: ast.Module) -> Iterator[tuple[int, str]]:
    """Yield every text of a module but its docstrings: messages, help, log events, and parts of them."""
    documented = (ast.Module, ast.ClassDef, ast.FunctionDef, ast.AsyncFunctionDef)
    owners = [node for node in ast.walk(tree) if isinstance(node, documented)]
    described = {id(one.value) for owner in owners for one in owner.body if isinstance(one, ast.Expr)}
    for node in ast.walk(tree):
        if isinstance(node, ast.Constant) and isinstance(node.value, str) and id(node) not in described:
            yield node.lineno, " ".join(node.value.split())


@pytest.mark.parametrize("folder", ["connector", "plugins"])
def test_texts_of_the_program_are_in_plain_words(folder: str) -> None:
    found = [
        one
        for path in sorted((ROOT / folder).rglob("*.py"))
        for one in odd(path.relative_to(ROOT).as_posix(), shown(ast.parse(path.read_text(encoding="utf-8"))))
    ]
    assert found == []


def test_pages_are_in_plain_words() -> None:
    found = []
    for path in PAGES:
        lines = path.read_text(encoding="utf-8").splitlines()
        pairs = (f"{line} {following}" for line, following in zip(lines, [*lines[1:], ""], strict=True))
        found += odd(path.relative_to(ROOT).as_posix(), iter(enumerate(pairs, 1)))
    assert found == []


def test_what_is_odd_is_found_in_any_text_and_in_no_comment() -> None:
    code = '"""Nobody."""\nraise Error(f"{x} is for want of calls")  # whoever\ndef f():\n    """At last."""\n'
    assert [line for line, text in shown(ast.parse(code)) if ODD.search(text)] == [2]
