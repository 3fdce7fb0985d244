"""The pictures of the documentation: there, small, shown, and of commands that exist."""

from __future__ import annotations

import importlib.util
import re
import sys
import xml.etree.ElementTree as ET
from pathlib import Path
from types import ModuleType
from typing import Any

import pytest

from cfaudit_export.cli.app import COMMANDS, _load

ROOT = Path(__file__).parents[2]
FOLDER = ROOT / "docs" / "pictures"
SMALL = 150_000


@pytest.fixture(scope="module")
def pictures() -> ModuleType:
    spec = importlib.util.spec_from_file_location("docs_pictures", ROOT / "docs" / "pictures.py")
    assert spec
    assert spec.loader
    module = importlib.util.module_from_spec(spec)
    sys.modules[spec.name] = module
    spec.loader.exec_module(module)
    return module


def test_each_is_there_small_and_shown_on_a_page(pictures: ModuleType) -> None:
    kept = {path.name: path.stat().st_size for path in FOLDER.iterdir()}
    assert kept.keys() == pictures.names(), "run: python docs/generate.py --pictures"
    assert {name: size for name, size in kept.items() if size > SMALL} == {}
    pages = [ROOT / "README.md", *(ROOT / "docs").rglob("*.md")]
    shown = {name for page in pages for name in re.findall(r"pictures/([\w.-]+\.(?:svg|png))", page.read_text("utf-8"))}
    assert shown == kept.keys()


def test_each_command_of_a_picture_exists_with_its_options(pictures: ModuleType) -> None:
    for one in (*pictures.TERMINALS, *pictures.PAGES):
        name, *arguments = one.command
        assert name in COMMANDS, f"{one.name} shows a command that is gone"
        built: Any = _load(name).build(name)
        known = {flag for parameter in built.params for flag in parameter.opts}
        assert {argument for argument in arguments if argument.startswith("-")} <= known, one.name


def test_drawings_are_whole_and_load_nothing_from_elsewhere() -> None:
    for path in FOLDER.glob("*.svg"):
        text = path.read_text(encoding="utf-8")
        ET.fromstring(text)  # noqa: S314  # our own file
        assert not re.search(r"@import|@font-face|url\((?!#)|(?:href|src)=.https?:", text), path.name


def test_terminals_show_no_token(pictures: ModuleType) -> None:
    for one in pictures.TERMINALS:
        assert "cfut_" not in (FOLDER / f"{one.name}.svg").read_text(encoding="utf-8")
