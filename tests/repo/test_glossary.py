"""The glossary: every term is used, every link to a term leads to one, and pages that explain messages link to it."""

from __future__ import annotations

import re
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]
DOCS = ROOT / "docs"
PAGE = (DOCS / "glossary.md").read_text(encoding="utf-8")
TERMS = dict(re.findall(r"^## (.+)\n\n((?:(?!##).+\n?)+)", PAGE, re.MULTILINE))
LINKING = [ROOT / "README.md", ROOT / "plugins" / "README.md", *sorted(DOCS.rglob("*.md"))]
# Other words for a term, in settings and in the code.
ALSO = {"Look-back": "rescan", "Pinned account": "pinned", "Staged batch": "staged", "Watermark": "covered until"}
ALSO |= {"Rejected row": "rejected", "Call budget": "budget_calls"}


def anchor(term: str) -> str:
    return term.lower().replace(" ", "-")


def words_of_the_program() -> str:
    files = [*(ROOT / "connector" / "cfaudit_export").rglob("*.py"), *DOCS.glob("*.md"), *DOCS.glob("reference/*.md")]
    return "\n".join(path.read_text(encoding="utf-8") for path in files if path.name != "glossary.md").lower()


def test_terms_are_in_order_and_each_has_a_sentence_or_two() -> None:
    assert len(TERMS) == PAGE.count("\n## ")
    assert list(TERMS) == sorted(TERMS, key=str.lower)
    assert [term for term, text in TERMS.items() if not 1 <= len(re.findall(r"[.?](?:\s|$)", text)) <= 4] == []


def test_every_term_is_used() -> None:
    text = words_of_the_program()
    unused = [one for one in TERMS if not re.search(rf"\b{re.escape(ALSO.get(one, one).lower())}s?\b", text)]
    assert unused == []


@pytest.mark.parametrize("page", LINKING, ids=lambda path: path.relative_to(ROOT).as_posix())
def test_links_to_terms_lead_to_terms(page: Path) -> None:
    text = page.read_text(encoding="utf-8")
    named = re.findall(r"\]\([\w./]*glossary\.md#([\w-]+)\)", text)
    named += re.findall(r"\]\(#([\w-]+)\)", text) if page.name == "glossary.md" else []
    assert [one for one in named if one not in map(anchor, TERMS)] == []


@pytest.mark.parametrize("name", ["operations.md", "delivery.md", "answers.md", "index.md", "proof.md", "../README.md"])
def test_pages_that_explain_messages_link_to_the_glossary(name: str) -> None:
    assert "glossary.md" in (DOCS / name).read_text(encoding="utf-8")
