"""The page for those who change the program: its tree and its reading order are those of the code."""

from __future__ import annotations

import re
from pathlib import Path

ROOT = Path(__file__).parents[2]
PAGE = (ROOT / ".github" / "CONTRIBUTING.md").read_text(encoding="utf-8")
TREE = PAGE.partition("## Where is what")[2].partition("```\n")[2].partition("```")[0]
PACKAGES = ("connector/cfaudit_export/", "connector/cfaudit_sandbox/")


def drawn() -> set[str]:
    """Return what the tree names below the packages, as paths; folders end in `/`."""
    found, above = set(), [""]
    for line in TREE.splitlines():
        name = re.match(r"( *)(\S+)", line)
        if name is None or len(name[1]) > 8:
            continue  # it goes on from the line above
        depth = len(name[1]) // 2
        above[depth:] = [name[2]]
        found.add("".join(above))
    return {path for path in found if path.startswith(PACKAGES) and path not in PACKAGES}


def rooms(package: str) -> set[str]:
    """Return every folder of modules in a package."""
    return {f"{path.parent.relative_to(ROOT)}/" for path in (ROOT / package).rglob("__init__.py")} - {package}


def test_the_tree_names_every_room_and_nothing_that_is_not_there() -> None:
    folders = {path for path in drawn() if path.endswith("/")}
    assert folders == set().union(*map(rooms, PACKAGES))
    assert [path for path in drawn() - folders if not (ROOT / f"{path}.py").is_file()] == []


def test_the_tree_names_every_module_beside_the_rooms() -> None:
    top = {f"connector/cfaudit_export/{path.stem}" for path in (ROOT / "connector/cfaudit_export").glob("*.py")}
    assert top - {"connector/cfaudit_export/__main__"} <= drawn()


def test_the_reading_order_leads_to_files() -> None:
    order = PAGE.partition("read in this order")[2].partition("Who may import whom")[0]
    named = re.findall(r"`([\w/]+\.py)`", order)
    assert len(named) > 6
    assert [name for name in named if not (ROOT / "connector/cfaudit_export" / name).is_file()] == []
