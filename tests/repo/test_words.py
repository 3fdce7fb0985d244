"""Words that a reader has to read twice are in no text: pages, help, errors, logs, docstrings, comments."""

from __future__ import annotations

import ast
import io
import re
import tokenize
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]
ODD = re.compile(
    r"\b(?:whoever|(?:no|some|every|any)body|at last|all the same|would else|is learnt|cannot be had|want of"
    r"|sets? aside|setting aside|odd rows?|'s words|(?:is|are|time|to be) lent|lent to)\b"
    r"|(?:Raises|Returns|Arguments): as\b",
    re.IGNORECASE,
)
PAGES = [ROOT / "README.md", ROOT / "plugins" / "README.md", ROOT / "pyproject.toml", ROOT / "mkdocs.yml"]
PAGES += [path for folder in ("docs", ".github") for path in sorted((ROOT / folder).rglob("*.md"))]
PAGES += [path for path in sorted((ROOT / "deploy").rglob("*")) if path.is_file()]
Texts = Callable[[str], Iterator[tuple[int, str]]]


def odd(where: str, texts: Iterator[tuple[int, str]]) -> list[str]:
    return [f"{where}:{line}: {found[0]}" for line, text in texts for found in [ODD.search(text)] if found]


def strings(code: str) -> Iterator[tuple[int, str]]:
    """Yield every text of a module: docstrings, messages, help, log events, and parts of them."""
    for node in ast.walk(ast.parse(code)):
        if isinstance(node, ast.Constant) and isinstance(node.value, str):
            yield node.lineno, " ".join(node.value.split())


def docstrings(code: str) -> Iterator[tuple[int, str]]:
    """Yield the docstring of a module, and of all that it defines."""
    documented = (ast.Module, ast.ClassDef, ast.FunctionDef, ast.AsyncFunctionDef)
    for node in ast.walk(ast.parse(code)):
        if isinstance(node, documented) and (text := ast.get_docstring(node)):
            yield node.body[0].lineno, " ".join(text.split())


def comments(code: str) -> Iterator[tuple[int, str]]:
    """Yield every comment, those of lines that follow each other as one."""
    first, text, last = 0, "", 0
    for token in tokenize.generate_tokens(io.StringIO(code).readline):
        if token.type != tokenize.COMMENT:
            continue
        line = token.start[0]
        if line != last + 1:
            yield first, text
            first, text = line, ""
        text, last = f"{text} {token.string.lstrip('# ')}", line
    yield first, text


def modules(*folders: str) -> Iterator[tuple[str, str]]:
    for folder in folders:
        for path in sorted((ROOT / folder).rglob("*.py")):
            yield path.relative_to(ROOT).as_posix(), path.read_text(encoding="utf-8")


@pytest.mark.parametrize("texts", [strings, comments])
def test_the_program_is_in_plain_words(texts: Texts) -> None:
    assert [one for where, code in modules("connector", "plugins", "docs") for one in odd(where, texts(code))] == []


@pytest.mark.parametrize("texts", [docstrings, comments])
def test_what_tests_say_of_themselves_is_in_plain_words(texts: Texts) -> None:
    # Not their other strings, which are data, and the words that must not come.
    assert [one for where, code in modules("tests") for one in odd(where, texts(code))] == []


def test_pages_and_files_of_settings_are_in_plain_words() -> None:
    found = []
    for path in PAGES:
        lines = path.read_text(encoding="utf-8").splitlines()
        pairs = (f"{line} {following.strip()}" for line, following in zip(lines, [*lines[1:], ""], strict=True))
        found += odd(path.relative_to(ROOT).as_posix(), iter(enumerate(pairs, 1)))
    assert found == []


def test_odd_words_are_found_wherever_a_text_can_be() -> None:
    code = '"""Nobody."""\nx = f"{y} is for want of calls"\n# it is set\n# aside\ndef f():\n    """Is\n    lent."""\n'
    assert odd("", strings(code)) == [":1: Nobody", ":2: want of", ":6: Is lent"]
    assert odd("", docstrings(code)) == [":1: Nobody", ":6: Is lent"]
    assert odd("", comments(code)) == [":3: set aside"]
