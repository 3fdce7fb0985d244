"""The pages on how the program is made: what they draw is what the code has."""

from __future__ import annotations

import re
import tomllib
from itertools import pairwise
from pathlib import Path
from types import ModuleType

import cfaudit_export.pipeline

ROOT = Path(__file__).parents[2]
DESIGN = ROOT / "docs" / "design"
ARCHITECTURE = (DESIGN / "architecture.md").read_text(encoding="utf-8")


def block(heading: str) -> list[str]:
    """Return the lines of the first block of text below a heading."""
    return ARCHITECTURE.partition(f"## {heading}\n")[2].partition("```text\n")[2].partition("```")[0].splitlines()


def test_the_flow_that_is_drawn_is_that_of_the_pipeline() -> None:
    drawn = re.findall(r"\w+", block("The flow")[0])
    steps = re.findall(r"^([a-z]+) {2,}\S", cfaudit_export.pipeline.__doc__ or "", re.MULTILINE)
    assert drawn == steps
    listed = re.findall(r"^\| `(\w+)` \|", ARCHITECTURE, re.MULTILINE)
    assert listed == steps
    # The source extracts, and a module that seals is named for what it is at work.
    folder = ROOT / "connector" / "cfaudit_export" / "pipeline"
    assert [one for one in steps if not (folder / f"{one}.py").is_file()] == ["extract", "seal"]


def test_the_layers_that_are_drawn_are_those_that_are_enforced(rules_of_imports: ModuleType) -> None:
    rules = rules_of_imports
    drawn = [[f"cfaudit_export.{name}" for name in line[:45].replace(",", " ").split()] for line in block("Layers")]
    ranks = [max(rules.RANKS[room] for room in rooms) for rooms in drawn]
    assert ranks == sorted(ranks, reverse=True)
    for above, below in pairwise(drawn):
        assert min(rules.RANKS[one] for one in above) > max(rules.RANKS[one] for one in below), (above, below)
    rooms = {room.removeprefix("cfaudit_export.") for room in rules.RANKS if room.startswith("cfaudit_export.")}
    named = {room.removeprefix("cfaudit_export.") for line in drawn for room in line}
    assert {room.partition(".")[0] for room in rooms} - {"__main__", "testing"} == {
        one.partition(".")[0] for one in named
    }


def test_files_that_the_pages_name_exist() -> None:
    for page in DESIGN.glob("*.md"):
        text = page.read_text(encoding="utf-8")
        for name in re.findall(r"`((?:tests|sources|pipeline|http|core|deploy)/[\w/.]+)`", text):
            assert (ROOT / name).exists() or (ROOT / "connector" / "cfaudit_export" / name).exists(), (page.name, name)


def test_a_decision_says_why_what_and_what_follows() -> None:
    page = (DESIGN / "decisions.md").read_text(encoding="utf-8")
    decisions = re.split(r"^## ", page, flags=re.MULTILINE)[1:]
    assert [int(one.partition(".")[0]) for one in decisions] == list(range(1, len(decisions) + 1))
    for one in decisions:
        parts = re.findall(r"^\*\*(\w+)\.\*\*", one, re.MULTILINE)
        assert parts == ["Context", "Decision", "Consequences"], one.partition("\n")[0]


def test_the_changelog_has_the_form_that_it_names() -> None:
    page = (ROOT / "docs" / "changelog.md").read_text(encoding="utf-8")
    releases = re.findall(r"^## \[(.+?)\](?: - (\d{4}-\d\d-\d\d))?$", page, re.MULTILINE)
    assert releases[0] == ("Unreleased", "")
    assert all(day for _, day in releases[1:])
    assert all(f"\n[{release}]: https://" in page for release, _ in releases)
    kinds = set(re.findall(r"^### (.+)$", page, re.MULTILINE))
    assert kinds <= {"Added", "Changed", "Deprecated", "Removed", "Fixed", "Security"}


def test_the_project_names_where_its_pages_are() -> None:
    urls = tomllib.loads((ROOT / "pyproject.toml").read_text(encoding="utf-8"))["project"]["urls"]
    assert set(urls) == {"Homepage", "Documentation", "Changelog", "Issues", "Source"}
    for name in ("Documentation", "Changelog"):
        kind, _, path = urls[name].removeprefix(urls["Source"]).partition("/main/")
        assert kind in ("/tree", "/blob")
        assert (ROOT / path).exists()
