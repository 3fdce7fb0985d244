"""The README: what it lists is what the program has, and every command in it works on a clean machine."""

from __future__ import annotations

import os
import re
import shutil
import signal
import subprocess
import sys
import tomllib
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path

import pytest

from cfaudit_export.plugin.registry import load_plugins
from cfaudit_sandbox import Sandbox, SandboxOptions, World

ROOT = Path(__file__).parents[2]
README = (ROOT / "README.md").read_text(encoding="utf-8")
CONTRIBUTING = (ROOT / ".github" / "CONTRIBUTING.md").read_text(encoding="utf-8")
CI = (ROOT / ".ci" / "run").read_text(encoding="utf-8")
DOCS = ROOT / "docs"
PAGES = [
    ROOT / "README.md",
    ROOT / ".github" / "CONTRIBUTING.md",
    ROOT / "plugins" / "README.md",
    *sorted(DOCS.glob("*.md")),
]
EVENTS = 400
# Pages whose commands are run after those of the README, in the folder that these made.
FOLLOWING = ("sources.md", "gaps-and-columns.md", "sandbox.md", "sinks/parquet.md")


def section(text: str, title: str) -> str:
    """The part of a page below a heading of the second level."""
    found = re.search(rf"^## {re.escape(title)}\n(.*?)(?=^## |\Z)", text, re.MULTILINE | re.DOTALL)
    assert found, f"there is no section '{title}'"
    return found[1]


def rows(text: str) -> list[list[str]]:
    """The rows of the first table in a text, without its head."""
    lines = re.search(r"(?:^\|.*\n)+", text, re.MULTILINE)
    assert lines, "there is no table"
    return [[cell.strip() for cell in line.strip("|").split(" | ")] for line in lines[0].splitlines()[2:]]


def blocks(text: str) -> Iterator[tuple[str, str]]:
    """Yield each fenced block that names a language: the language, the text."""
    yield from re.findall(r"^```(\w+)\n(.*?)^```$", text, re.MULTILINE | re.DOTALL)


def test_it_can_be_read_in_one_go() -> None:
    assert README.count("\n") <= 150


def test_the_sinks_are_those_that_are_installed() -> None:
    ours = [name for name, offer in load_plugins().sinks.items() if offer.distribution == "cfaudit-export"]
    listed = [re.findall(r"`(\w+)`", row[0])[0] for row in rows(section(README, "Sinks"))]
    assert sorted(listed) == sorted(ours)


def test_the_sources_are_those_that_are_installed() -> None:
    listed = [row[0].removeprefix("| ") for row in rows((DOCS / "sources.md").read_text(encoding="utf-8"))]
    assert listed == [f"`{name}`" for name in load_plugins(environ={}).sources]


def test_ci_runs_exactly_the_test_command() -> None:
    [command] = [text for language, text in blocks(section(README, "Tests")) if language == "sh"]
    assert command.count("\n") == 1
    assert f"\n{command.strip()} || failed=1\n" in CI


def test_ci_runs_the_checks_of_contributing() -> None:
    [(_, checks)] = [block for block in blocks(section(CONTRIBUTING, "Three commands")) if "mypy" in block[1]]
    for command in checks.strip().split(" && "):
        assert f"\n{command} || failed=1\n" in CI


def anchor(heading: str) -> str:
    return re.sub(r"[^\w\- ]", "", heading.lower()).replace(" ", "-")


@pytest.mark.parametrize("page", PAGES, ids=lambda page: page.name)
def test_every_link_leads_somewhere(page: Path) -> None:
    links = [link for link in re.findall(r"\]\(([^)]+)\)", page.read_text(encoding="utf-8")) if "://" not in link]
    for link in links:
        path, _, fragment = link.partition("#")
        target = (page.parent / path) if path else page
        assert target.exists(), link
        if fragment and target.suffix == ".md":  # of a picture it says in which colours it is shown
            headings = re.findall(r"^#+ (.*)$", target.read_text(encoding="utf-8"), re.MULTILINE)
            assert fragment in map(anchor, headings), link


@dataclass
class Machine:
    """A user's account on a machine with nothing but Python, and a clone of this repository."""

    home: Path
    clone: Path
    environ: dict[str, str] = field(default_factory=dict)

    def __post_init__(self) -> None:
        kept = {name: os.environ[name] for name in os.environ if not name.startswith(("CFAUDIT_", "CLOUDFLARE_"))}
        for variable in ("VIRTUAL_ENV", "PYTHONPATH", "XDG_CONFIG_HOME", "XDG_STATE_HOME", "COLUMNS"):
            kept.pop(variable, None)
        venv = self.home / "cfaudit" / ".venv" / "bin"
        path = f"{venv}{os.pathsep}{kept.get('PATH', os.defpath)}"
        # pip keeps what it has downloaded in the home folder of the user who runs the tests.
        cache = os.environ.get("PIP_CACHE_DIR", str(Path("~/.cache/pip").expanduser()))
        self.environ = {**kept, "HOME": str(self.home), "PATH": path, "PIP_CACHE_DIR": cache, "PIP_NO_COMPILE": "1"}

    @property
    def folder(self) -> Path:
        """Where the user is: in the folder of the export, once there is one."""
        export = self.home / "cfaudit"
        return export if export.is_dir() else self.home

    def run(self, script: str, *, folder: Path | None = None, **environ: str) -> str:
        """Run a script as it stands in the README; return what it said."""
        done = subprocess.run(
            ["sh", "-e", "-c", script],
            cwd=folder or self.folder,
            env={**self.environ, **environ},
            stdin=subprocess.DEVNULL,
            capture_output=True,
            text=True,
            timeout=1_800,
            check=False,
        )
        assert done.returncode == 0, f"{script}\nended with {done.returncode}\n{done.stdout}{done.stderr}"
        return done.stdout + done.stderr

    def serve(self, script: str) -> None:
        """Run a command that serves until Ctrl-C, and press that when it says so."""
        with subprocess.Popen(
            ["sh", "-c", f"exec {script}"],
            cwd=self.folder,
            env=self.environ,
            stdin=subprocess.DEVNULL,
            stderr=subprocess.PIPE,
            text=True,
        ) as server:
            assert server.stderr
            said = ""
            while "Ctrl-C stops" not in said and (line := server.stderr.readline()):
                said += line
            server.send_signal(signal.SIGINT)
            rest = server.stderr.read()
            assert (server.wait(30), "Ctrl-C stops" in said) == (0, True), said + rest

    def read(self, script: str) -> str:
        """Run Python that reads the export, with the libraries of this environment."""
        done = subprocess.run(
            [sys.executable, "-c", script], cwd=self.folder, capture_output=True, text=True, timeout=600, check=False
        )
        assert done.returncode == 0, f"{script}\n{done.stderr}"
        return done.stdout


@pytest.fixture
def machine(tmp_path: Path) -> Iterator[Machine]:
    clone = tmp_path / "clone"
    for name in ("connector", "plugins"):
        shutil.copytree(ROOT / name, clone / name, ignore=shutil.ignore_patterns("__pycache__"))
    for name in ("pyproject.toml", "README.md", "LICENSE"):
        shutil.copy(ROOT / name, clone)
    (tmp_path / "home").mkdir()
    with Sandbox(World(SandboxOptions(events=EVENTS))) as sandbox:
        made = Machine(tmp_path / "home", clone)
        made.environ["CFAUDIT_SOURCES__AUDITLOGS__SERVER_URL"] = sandbox.mcp_url
        made.environ["CFAUDIT_SOURCES__CODEMODE__SERVER_URL"] = sandbox.codemode_url
        made.environ["CLOUDFLARE_API_TOKEN"] = sandbox.world.tokens["user"]
        yield made


def test_every_command_works_on_a_clean_machine(machine: Machine) -> None:
    found = [text for text in blocks(README) if text[1] not in section(README, "Tests")]
    (_, first), (_, four), (_, settings), *rest = found
    said = machine.run(first, folder=machine.clone)
    assert "exported 5,000 events" in said
    assert list((machine.clone / "demo").rglob("*.parquet"))
    assert "Audit report" in (machine.clone / "demo" / "report.html").read_text()

    # A person who pastes the four commands has no settings, no folder and no program yet.
    assert not [path for path in machine.home.rglob("*") if "cfaudit" in path.name]
    said = machine.run(four, folder=machine.clone)
    folder = machine.home / "cfaudit"
    assert said.count("ok  ") >= 4
    assert tomllib.loads((folder / "cfaudit.toml").read_text()) == tomllib.loads(settings)
    for private in ("cfaudit.toml", "token"):
        assert (folder / private).stat().st_mode & 0o077 == 0
    del machine.environ["CLOUDFLARE_API_TOKEN"]  # from here on the token is where the settings say

    more = [block for page in FOLLOWING for block in blocks((DOCS / page).read_text(encoding="utf-8"))]
    outputs = [_follow(machine, language, text) for language, text in [*rest, *more]]

    assert {language for language, _ in found} == {"sh", "toml", "cron"}
    assert '"exit_code": 0' in (folder / "export.log").read_text()
    assert (folder / "report.html").exists()
    assert f"{EVENTS}\n" in outputs


def _follow(machine: Machine, language: str, text: str) -> str:
    """Do what a block says; return what came out."""
    if language == "python":
        return machine.read(text)
    if language == "cron":
        *times, command = text.strip().split(maxsplit=5)
        assert len(times) == 5
        return machine.run(command, folder=machine.home, PATH="/usr/bin:/bin")
    if language != "sh":  # a part of a file, or of a statement
        return ""
    if "cfaudit-export sandbox" in text:
        machine.serve(text.strip())
        return ""
    return machine.run(text)
