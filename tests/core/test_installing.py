"""The command that adds an extra works where the program is installed."""

from __future__ import annotations

import json
import shlex
import shutil
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

from cfaudit_export.core import installing


class Installed:
    def __init__(self, url: str | None, *, editable: bool = False) -> None:
        self.said = json.dumps({"url": url, "dir_info": {"editable": editable}}) if url else None

    def read_text(self, _name: str) -> str | None:
        return self.said


@pytest.fixture
def installed(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Any:
    """Say from where the program was installed, into which environment."""
    monkeypatch.setattr(sys, "prefix", str(tmp_path))
    monkeypatch.setattr(sys, "executable", str(tmp_path / "bin" / "python"))
    monkeypatch.chdir("/")

    def set_up(url: str | None, *markers: str, editable: bool = False) -> str:
        for marker in markers:
            (tmp_path / marker).touch()
        monkeypatch.setattr(installing, "distribution", lambda _: Installed(url, editable=editable))
        return installing.install_command("analysis")

    return set_up


def test_a_clone_is_installed_again_with_the_extra(installed: Any) -> None:
    assert installed("file:///a%20b/clone").endswith("python -m pip install 'a b/clone[analysis]'")
    assert installed("file:///srv/clone", editable=True).endswith("-m pip install -e 'srv/clone[analysis]'")


def test_from_an_index_it_has_its_name(installed: Any) -> None:
    assert installed(None).endswith("python -m pip install 'cfaudit-export[analysis]'")


@pytest.mark.parametrize(
    ("marker", "begin"),
    [("pipx_metadata.json", "pipx install --force"), ("uv-receipt.toml", "uv tool install --force")],
)
def test_tools_that_keep_programs_apart_are_asked_themselves(installed: Any, marker: str, begin: str) -> None:
    assert installed("file:///srv/clone", marker) == f"{begin} 'srv/clone[analysis]'"


def test_without_pip_uv_installs_into_the_environment(installed: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(installing, "find_spec", lambda _: None)
    assert shlex.split(installed(None))[:4] == ["uv", "pip", "install", "--python"]


def git(folder: Path, *words: str) -> str:
    who = ("-c", "user.name=a", "-c", "user.email=a@example.com")
    return subprocess.run(["git", *who, *words], cwd=folder, capture_output=True, text=True, check=True).stdout.strip()


@pytest.mark.skipif(not shutil.which("git"), reason="NOT TESTED: clones; there is no git")
def test_a_clone_that_is_used_says_at_which_commit_it_is(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    clone = tmp_path / "clone"
    clone.mkdir()
    git(clone, "init", "-q")
    git(clone, "commit", "-q", "--allow-empty", "-m", "one")
    commit = git(clone, "rev-parse", "HEAD")
    monkeypatch.setattr(installing, "distribution", lambda _: Installed(clone.as_uri(), editable=True))
    assert installing.installed_commit() == commit
    git(clone, "pack-refs", "--all")
    assert installing.installed_commit() == commit
    git(clone, "worktree", "add", "-q", str(tmp_path / "other"))
    monkeypatch.setattr(installing, "distribution", lambda _: Installed((tmp_path / "other").as_uri(), editable=True))
    assert installing.installed_commit() == commit
    git(clone, "checkout", "-q", "--detach")
    assert installing._head(clone / ".git") == commit


@pytest.mark.parametrize("url", [None, "file:///nowhere"])
def test_of_anything_else_no_commit_is_said(url: str | None, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(installing, "distribution", lambda _: Installed(url, editable=True))
    assert installing.installed_commit() == ""
