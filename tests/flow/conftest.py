"""An export as its user sees it: a process, a folder of Parquet files, a checkpoint; and the truth to compare with."""

from __future__ import annotations

import importlib.util
import json
import os
import re
import subprocess
import sys
from collections import Counter
from collections.abc import Callable
from dataclasses import dataclass, field
from datetime import datetime
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from cfaudit_export.cli import main
from cfaudit_export.core.model import Checkpoint
from cfaudit_export.stores.document import decode
from cfaudit_sandbox import Sandbox, World
from cfaudit_sandbox.oauth.visitor import visit

COLUMNS = {
    "event_time": "time",
    "action_description": "description",
    "resource_product": "product",
    "resource_type": "type",
    "actor_email": "actor_email",
    "actor_token_name": "actor_token_name",
}
SECONDS = 60


def _load(name: str) -> Any:
    """Import a module beside this one; test folders are not packages."""
    spec = importlib.util.spec_from_file_location(f"flow_{name}", Path(__file__).with_name(f"{name}.py"))
    assert spec
    assert spec.loader
    module = importlib.util.module_from_spec(spec)
    sys.modules[spec.name] = module
    spec.loader.exec_module(module)
    return module


counterparts = _load("destinations").counterparts
_PROGRAM = _load("program")
runner, other_runner = _PROGRAM.runner, _PROGRAM.other_runner
_SURROGATE = re.compile("[\ud800-\udfff]")


@dataclass(frozen=True, slots=True)
class Ended:
    """How a process ended."""

    code: int
    out: str
    err: str

    @property
    def report(self) -> Any:
        [report] = json.loads(self.out)
        return report

    @property
    def logged(self) -> list[dict[str, Any]]:
        return [json.loads(line) for line in self.err.splitlines() if line.startswith("{")]


@dataclass(frozen=True)
class Place:
    """A machine that exports the first account of a sandbox into Parquet."""

    sandbox: Sandbox
    root: Path
    more: tuple[str, ...] = ()
    environ: dict[str, str] = field(default_factory=dict)

    @property
    def world(self) -> World:
        return self.sandbox.world

    @property
    def account(self) -> str:
        return self.world.accounts[0].id

    @property
    def state(self) -> Path:
        return self.root / "state"

    @property
    def out(self) -> Path:
        return self.root / "out"

    def command(self, *more: str, sinks: tuple[str, ...] = ("parquet",)) -> list[str]:
        where = [word for sink in sinks for word in ("--sink", sink)]
        return [
            *("-m", "cfaudit_export", "run", *where, "-o", f"sinks.parquet.path={self.out}", "--json"),
            *("--server-url", self.sandbox.mcp_url, "--state-dir", str(self.state), "--account", self.account),
            *("-o", "sources.auditlogs.budget_calls=0", *self.more, *more),
        ]

    def environment(self) -> dict[str, str]:
        kept = {name: value for name, value in os.environ.items() if not name.startswith(("CFAUDIT_", "CLOUDFLARE_"))}
        token = self.world.tokens["account"]
        return {**kept, "HOME": str(self.root), "CLOUDFLARE_API_TOKEN": token, **self.environ}

    def start(self, *more: str, before: tuple[str, ...] = (), **options: Any) -> subprocess.Popen[str]:
        """Start an export; `before` stands between the interpreter and the program."""
        command = [sys.executable, *before, *self.command(*more)]
        return subprocess.Popen(
            command,
            env=self.environment(),
            cwd=self.root,
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            text=True,
            **options,
        )

    def run(self, *more: str, sinks: tuple[str, ...] = ("parquet",), **options: Any) -> Ended:
        return self.ask(*self.command(*more, sinks=sinks), **options)

    def here(self, capsys: pytest.CaptureFixture[str], *more: str, name: str = "run") -> Ended:
        """Run a command in this process, which is quicker; its variables are those of this process."""
        capsys.readouterr()
        code = main([name, *self.command(*more)[3:]])
        captured = capsys.readouterr()
        return Ended(code, captured.out, captured.err)

    def cli(self, *arguments: str) -> Ended:
        """Run another command on the same state."""
        return self.ask("-m", "cfaudit_export", *arguments, "--state-dir", str(self.state))

    def sign_in(self, url: str, *more: str) -> Ended:
        """Sign in without a browser on this machine: a person opens the URL elsewhere, and pastes where they ended."""
        where = ("--server-url", url, "--state-dir", str(self.state), *more)
        process = subprocess.Popen(
            [sys.executable, "-m", "cfaudit_export", "login", "--no-browser", *where],
            env=self.environment(),
            cwd=self.root,
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            text=True,
        )
        assert process.stderr
        said = []
        while (line := process.stderr.readline()) and not line.startswith("http"):
            said.append(line)
        assert line, "".join(said)
        out, err = process.communicate(visit(line.strip(), arrive=False) + "\n", timeout=SECONDS)
        return Ended(process.returncode, out, "".join((*said, line, err)))

    def ask(self, *arguments: str, **options: Any) -> Ended:
        done = subprocess.run(
            [sys.executable, *arguments],
            env=self.environment(),
            cwd=self.root,
            capture_output=True,
            text=True,
            timeout=SECONDS,
            check=False,
            **options,
        )
        return Ended(done.returncode, done.stdout, done.stderr)

    def checkpoint(self) -> Checkpoint:
        [path] = (self.state / "checkpoints").glob("*.json")
        return decode(path.read_bytes(), stream_id=path.stem, where=str(path))

    def files(self, out: Path | None = None) -> set[Path]:
        return set((out or self.out).rglob("*.parquet"))

    def rows(self, out: Path | None = None) -> pa.Table:
        tables = [pq.read_table(path, partitioning=None) for path in sorted(self.files(out))]
        return pa.concat_tables(tables) if tables else pa.table({name: [] for name in ("event_id", "event_raw")})

    def staged(self) -> list[Path]:
        return [path for path in (self.state / "staging").rglob("*") if path.is_file()]

    def assert_everything_is_there_once(self, out: Path | None = None) -> None:
        """Compare what was exported with what the server would give, byte for byte and column by column."""
        rows = self.rows(out)
        wanted = list(self.world.rows(self.account))
        assert Counter(rows["event_raw"].to_pylist()) == Counter(map(text_of, wanted))
        assert len(set(rows["event_id"].to_pylist())) == len(wanted)
        if wanted:
            columns = (rows[name].to_pylist() for name in COLUMNS)
            assert Counter(zip(*columns, strict=True)) == Counter(map(_six, wanted))


def text_of(row: dict[str, Any]) -> str:
    # A lone surrogate travels as its escape.
    return json.dumps(row, ensure_ascii=False, separators=(",", ":")).encode("utf-8", "backslashreplace").decode()


def _six(row: dict[str, Any]) -> tuple[Any, ...]:
    time, description, *rest = (row.get(key) for key in COLUMNS.values())
    # An absent description arrives as an empty text; a column cannot hold a lone surrogate, `event_raw` keeps it.
    texts = (description or None, *rest)
    return datetime.fromisoformat(time), *(text and _SURROGATE.sub("\ufffd", text) for text in texts)


@pytest.fixture
def place_of(tmp_path: Path) -> Callable[..., Place]:
    """Make the machine of a sandbox."""

    def make(sandbox: Sandbox, *more: str, name: str = "machine", **environ: str) -> Place:
        root = tmp_path / name
        root.mkdir()
        return Place(sandbox, root, more, environ)

    return make
