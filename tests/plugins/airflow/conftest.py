"""A real Airflow in an environment of its own, and DAGs run in it against a sandbox."""

from __future__ import annotations

import json
import os
import shutil
import subprocess
import sys
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from threading import Thread
from typing import Any

import pytest

from cfaudit_sandbox import Sandbox, SandboxOptions, World

ROOT = Path(__file__).parents[3]
HERE = Path(__file__).parent
EXAMPLES = ROOT / "plugins" / "cfaudit_airflow" / "example_dags"
SECONDS = 1500  # only so that nothing hangs for ever; on an idle machine it takes a tenth


@dataclass(frozen=True)
class Airflow:
    """An Airflow: its folder, and the variables under which its programs run."""

    home: Path
    environ: dict[str, str]

    def start(self, *command: str, **environ: str) -> subprocess.Popen[str]:
        """Start a program of its environment."""
        program = self.home / "venv" / "bin" / command[0]
        return subprocess.Popen(
            [str(program), *command[1:]],
            env=self.environ | environ,
            cwd=self.home,
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            text=True,
        )

    def run(self, *command: str, **environ: str) -> str:
        """Run a program of its environment; return what it said."""
        with self.start(*command, **environ) as running:
            said, _ = running.communicate(timeout=SECONDS)
        assert running.returncode == 0, said
        return said

    def steps(self, *steps: dict[str, Any], **environ: str) -> tuple[list[Any], str]:
        """Run DAGs; return what became of each, behind what DAGs there are, and the log of all."""
        said = self.run("python", str(HERE / "driver.py"), json.dumps(steps), **environ)
        lines = [line.removeprefix("SAID ") for line in said.splitlines() if line.startswith("SAID ")]
        return [json.loads(line) for line in lines], said


@pytest.fixture(scope="session")
def airflow(tmp_path_factory: pytest.TempPathFactory) -> Airflow:
    """Install Airflow and this project into a new environment; skip with the installer's last word if that fails."""
    home = tmp_path_factory.mktemp("airflow")
    uv = shutil.which("uv", path=f"{Path(sys.executable).parent}{os.pathsep}{os.environ.get('PATH', '')}")
    python = home / "venv" / "bin" / "python"
    install = [
        uv or "uv",
        "pip",
        "install",
        "--quiet",
        "--python",
        str(python),
        "--editable",
        f"{ROOT}[airflow,analysis]",
    ]
    for command in ([uv or "uv", "venv", "--quiet", "--python", sys.executable, str(home / "venv")], install):
        try:
            done = subprocess.run(command, capture_output=True, text=True, check=False, timeout=SECONDS)
        except OSError as error:
            pytest.skip(f"Airflow cannot be installed: {error}")
        if done.returncode:
            *_, last = done.stderr.strip().splitlines() or ["no word"]
            pytest.skip(f"Airflow cannot be installed: {last}")
    kept = {
        name: text for name, text in os.environ.items() if not name.startswith(("AIRFLOW_", "CFAUDIT_", "CLOUDFLARE_"))
    }
    (home / "dags").mkdir()
    for folder in (EXAMPLES, HERE / "dags"):
        for path in folder.glob("[a-z]*.py"):
            shutil.copy(path, home / "dags")
    own = {
        "AIRFLOW_HOME": str(home),
        "HOME": str(home),
        "PATH": f"{home / 'venv' / 'bin'}{os.pathsep}{kept.get('PATH', os.defpath)}",
        "AIRFLOW__CORE__LOAD_EXAMPLES": "false",
        "AIRFLOW__CORE__DAGS_FOLDER": str(home / "dags"),
        "AIRFLOW__DATABASE__SQL_ALCHEMY_CONN": f"sqlite:///{home / 'airflow.db'}",
        "NO_COLOR": "1",
    }
    return Airflow(home, kept | own)


@pytest.fixture(scope="session")
def sandbox() -> Iterator[Sandbox]:
    """A server with a few hundred events of two accounts, up to one hour ago."""
    with Sandbox(World(SandboxOptions(events=300, accounts=2, seed=7))) as running:
        yield running


class SaysBack(BaseHTTPRequestHandler):
    """Refuses everything, and says the credential back so often that every cut of the text goes through one."""

    def answer(self) -> None:
        self.rfile.read(int(self.headers.get("Content-Length", 0)))
        body = json.dumps({"error": self.headers.get("Authorization", "").removeprefix("Bearer ") * 50}).encode()
        self.send_response(403)
        self.send_header("Content-Type", "application/json")
        self.send_header("Content-Length", str(len(body)))
        self.end_headers()
        self.wfile.write(body)

    do_GET = do_POST = do_DELETE = answer  # noqa: N815  # the names are the library's

    def log_message(self, *_: object) -> None:
        """Say nothing."""


@pytest.fixture(scope="session")
def says_back() -> Iterator[str]:
    """Return the URL of a server that says the credential back."""
    with ThreadingHTTPServer(("127.0.0.1", 0), SaysBack) as server:
        Thread(target=server.serve_forever, daemon=True).start()
        yield f"http://127.0.0.1:{server.server_port}/mcp"
        server.shutdown()


@pytest.fixture(scope="session")
def connections(sandbox: Sandbox) -> Callable[..., dict[str, str]]:
    """Return connections to the sandbox as Airflow takes them from the environment, exporting into a folder."""

    def make(folder: Path, **more: Any) -> dict[str, str]:
        extra = {
            "state_dir": str(folder / "state"),
            "sinks.parquet.path": str(folder / "out"),
            "metrics_file": str(folder / "cfaudit.prom"),
            "sources": {"auditlogs": {"budget_calls": 0}},
            "account": [account.id for account in sandbox.world.accounts],
            **more,
        }
        told = {"conn_type": "cloudflare_audit", "host": sandbox.mcp_url, "password": sandbox.world.tokens["user"]}
        return {
            "AIRFLOW_CONN_CLOUDFLARE_AUDIT_DEFAULT": json.dumps(told | {"extra": extra}),
            "AIRFLOW_CONN_REFUSED": json.dumps(told | {"extra": extra, "password": "cfut_" + "0" * 40}),
        }

    return make
