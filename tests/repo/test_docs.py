"""The documentation site: it builds without a warning, and what it says of the code is made from the code."""

from __future__ import annotations

import importlib
import importlib.util
import re
import subprocess
import sys
from pathlib import Path
from types import ModuleType

import pytest

from cfaudit_export.settings import OPTIONS

ROOT = Path(__file__).parents[2]
DOCS = ROOT / "docs"
README = (ROOT / "README.md").read_text(encoding="utf-8")


@pytest.fixture(scope="module")
def generate() -> ModuleType:
    spec = importlib.util.spec_from_file_location("docs_generate", DOCS / "generate.py")
    assert spec
    assert spec.loader
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


def test_the_reference_is_what_the_code_says(generate: ModuleType) -> None:
    made = generate.pages()
    kept = {path.name: path.read_text(encoding="utf-8") for path in generate.FOLDER.iterdir()}
    assert sorted(kept) == sorted(made)
    for name, page in made.items():
        assert kept[name] == page, f"run: python docs/generate.py, as {name} is not what the code says"


def test_the_page_of_the_api_has_every_public_module_and_name(
    generate: ModuleType, rules_of_imports: ModuleType
) -> None:
    public = {rules_of_imports.DOOR, *rules_of_imports.PUBLIC}
    assert set(generate.PUBLIC) == public, "name each public module in PUBLIC of docs/generate.py"
    for module in generate.PUBLIC:
        for name in getattr(importlib.import_module(module), "__all__", ()):
            assert re.search(rf"\b{name}\b", generate.pages()["api.md"]), f"{module}.{name}"


def test_every_option_is_in_the_reference_under_all_its_names(generate: ModuleType) -> None:
    page = generate.pages()["settings.md"]
    for option in OPTIONS:
        assert all(f"`{name}`" in page for name in (option.key, option.variable, *option.flags))


def test_the_first_steps_are_those_of_the_readme_which_are_tested() -> None:
    tested = set(re.findall(r"^```sh\n(.*?)^```$", README, re.MULTILINE | re.DOTALL))
    page = (DOCS / "index.md").read_text(encoding="utf-8")
    blocks = re.findall(r"^```sh\n(.*?)^```$", page, re.MULTILINE | re.DOTALL)
    assert blocks
    assert set(blocks) <= tested


def test_every_page_is_in_the_navigation() -> None:
    nav = (ROOT / "mkdocs.yml").read_text(encoding="utf-8").partition("\nnav:\n")[2]
    pages = {path.relative_to(DOCS).as_posix() for path in DOCS.rglob("*.md")}
    assert pages - set(re.findall(r": (\S+\.md)$", nav, re.MULTILINE)) == set()


def test_the_site_builds_without_a_warning(tmp_path: Path) -> None:
    command = [sys.executable, "-W", "ignore", "-m", "mkdocs", "build", "--strict", "--site-dir", str(tmp_path)]
    built = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, timeout=300, check=False)
    assert built.returncode == 0, built.stderr
    page = (tmp_path / "deploy" / "index.html").read_text(encoding="utf-8")
    assert "SystemCallFilter" in page
    assert "concurrencyPolicy" in page
    public = (tmp_path / "reference" / "api" / "index.html").read_text(encoding="utf-8")
    assert 'id="cfaudit_export.Sink.load"' in public
    from_elsewhere = re.findall(r'<(?:script|link|img)[^>]+(?:src|href)="https?://[^"]+"', page)
    assert from_elsewhere == []
