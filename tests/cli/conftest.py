"""The command line in this process and in processes of its own, and a sandbox to talk to."""

from __future__ import annotations

import os
import subprocess
import sys
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import pytest

from cfaudit_export.app.compose import compose
from cfaudit_export.app.export import export
from cfaudit_export.cli import main
from cfaudit_export.plugin.registry import load_plugins
from cfaudit_export.settings import Settings
from cfaudit_export.stores.file import FileStore
from cfaudit_sandbox import Sandbox, SandboxOptions, World
from cfaudit_sandbox.oauth.server import OAuth

EVENTS = 300

_HANGING_SINK = """
import time
from dataclasses import dataclass
from cfaudit_export import Receipt, SinkPlugin, hookimpl

@dataclass(frozen=True)
class Config:
    pass

class Sink:
    def load(self, batch):
        {hang}
    def find(self, batch_id, window): return None
    def close(self): pass

@hookimpl
def cfaudit_sinks():
    yield SinkPlugin("hanging", Config, lambda config: Sink(), "hangs")
"""
_WAITS = 'print("loading", flush=True); time.sleep(600)'
_DEAF = """
        while True:
            try:
                print("loading", flush=True)
                time.sleep(600)
            except BaseException:
                pass
"""


@dataclass(frozen=True, slots=True)
class Result:
    """How a command ended."""

    code: int
    out: str
    err: str

    @property
    def line(self) -> str:
        """The only line on stderr."""
        [line] = self.err.splitlines()
        return line


Cli = Callable[..., Result]


@pytest.fixture
def place(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A working directory and a home in which nothing is set."""
    for variable in list(os.environ):
        if variable.startswith("CFAUDIT_") or variable == "CLOUDFLARE_API_TOKEN":
            monkeypatch.delenv(variable)
    for variable in ("HOME", "XDG_CONFIG_HOME", "XDG_STATE_HOME"):
        monkeypatch.setenv(variable, str(tmp_path / "home"))
    monkeypatch.setenv("TZ", "UTC")  # times are shown in the time zone of the machine
    here = tmp_path / "here"
    here.mkdir()
    monkeypatch.chdir(here)
    return here


@pytest.fixture
def cli(place: Path, capsys: pytest.CaptureFixture[str]) -> Cli:
    """Run a command in this process."""

    def run(*arguments: object) -> Result:
        capsys.readouterr()
        code = main([str(one) for one in arguments])
        captured = capsys.readouterr()
        return Result(code, captured.out, captured.err)

    return run


@pytest.fixture
def process(place: Path) -> Cli:
    """Run a command in a process of its own."""

    def run(*arguments: object, flags: tuple[str, ...] = ()) -> Result:
        command = [sys.executable, *flags, "-m", "cfaudit_export", *map(str, arguments)]
        done = subprocess.run(command, capture_output=True, text=True, timeout=60, check=False)
        return Result(done.returncode, done.stdout, done.stderr)

    return run


@pytest.fixture(scope="session")
def sandbox() -> Iterator[Sandbox]:
    """A server with a few hundred events of two accounts."""
    world = World(SandboxOptions(events=EVENTS, accounts=2, seed=7))
    with Sandbox(world, authorization=OAuth(world)) as running:
        yield running


@pytest.fixture
def token(sandbox: Sandbox, place: Path, monkeypatch: pytest.MonkeyPatch) -> str:
    """The token of the sandbox, in its variable."""
    monkeypatch.setenv("CLOUDFLARE_API_TOKEN", sandbox.world.tokens["user"])
    return sandbox.world.tokens["user"]


@pytest.fixture
def target(sandbox: Sandbox, token: str) -> tuple[str, ...]:
    """The options of an export from the first account of the sandbox into `out`."""
    account = sandbox.world.accounts[0].id
    source = ("--server-url", sandbox.mcp_url, "--account", account)
    return (*source, "--sink", "parquet", "-o", "sinks.parquet.path=out", "--state-dir", "state")


@dataclass(frozen=True, slots=True)
class Export:
    """What an export left: files, a checkpoint; up to when, and the six fields of the events as the server has them."""

    out: Path
    state: Path
    account: str
    until: datetime
    events: list[Mapping[str, Any]]

    @property
    def where(self) -> tuple[str, ...]:
        """The options that name it."""
        return "--data", str(self.out), "--state-dir", str(self.state)

    def since(self, since: datetime) -> list[Mapping[str, Any]]:
        """The events from a moment on."""
        return [one for one in self.events if since <= datetime.fromisoformat(one["time"]) < self.until]


@pytest.fixture(scope="session")
def exported(sandbox: Sandbox, tmp_path_factory: pytest.TempPathFactory) -> Export:
    """An export of the first account of the sandbox, to be asked and not to be changed."""
    folder = tmp_path_factory.mktemp("exported")
    account = sandbox.world.accounts[0].id
    settings = Settings(
        sink=("parquet",),
        since=datetime.fromtimestamp(sandbox.world.since, UTC),
        state_dir=folder / "state",
        sources={"auditlogs": {"server_url": sandbox.mcp_url, "budget_calls": 0}},
        sinks={"parquet": {"path": str(folder / "out")}},
    )
    environ = {"CLOUDFLARE_API_TOKEN": sandbox.world.tokens["user"]}
    assembly = compose(settings, load_plugins(environ={}), environ=environ, clock=lambda: datetime.now(UTC))
    report = export(assembly, account)
    assert (report.exit_code, report.gaps) == (0, ())
    store = FileStore(folder / "state" / "checkpoints")
    [found] = [store.load(stream_id) for stream_id in store.streams()]
    assert found
    until = found.checkpoint.sinks["parquet"].covered[-1].before
    return Export(folder / "out", folder / "state", account, until, list(sandbox.world.rows(account)))


@pytest.fixture
def plugin(place: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Callable[[str, str], None]:
    """Install a plugin of a stranger, of this name and source text, for processes."""

    def install(name: str, text: str) -> None:
        site = tmp_path / "site"
        info = site / f"{name}-1.0.dist-info"
        info.mkdir(parents=True)
        (site / f"{name}.py").write_text(text)
        (info / "METADATA").write_text(f"Metadata-Version: 2.1\nName: {name}\nVersion: 1.0\n")
        (info / "entry_points.txt").write_text(f"[cfaudit_export]\n{name} = {name}\n")
        monkeypatch.setenv("PYTHONPATH", str(site))

    return install


@pytest.fixture(params=["waits", "deaf"])
def hanging(request: pytest.FixtureRequest, plugin: Callable[[str, str], None]) -> str:
    """Install a sink that hangs when it loads: one that a signal ends, and one that listens to nothing."""
    hang = {"waits": _WAITS, "deaf": _DEAF}[request.param]
    plugin("hangingsink", _HANGING_SINK.replace("{hang}", hang.strip()))
    return str(request.param)
