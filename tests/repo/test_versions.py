"""The bounds of pyproject.toml hold: the program works on the lowest versions it asks for, and on each Python.

An environment takes half a minute, so these tests are started by hand: pytest -m versions. `.ci/run` tries the lowest
versions.
"""

from __future__ import annotations

import json
import os
import shutil
import subprocess
import sys
import tomllib
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]
PROJECT = tomllib.loads((ROOT / "pyproject.toml").read_text(encoding="utf-8"))["project"]
UV = Path(sys.executable).with_name("uv")
PYTHONS = [line.rpartition(" ")[2] for line in PROJECT["classifiers"] if "Python :: 3." in line]
SECONDS = 600
LIBRARIES = ("boto3", "duckdb", "google.cloud.bigquery", "isal.igzip", "jinja2", "keyring", "vl_convert")
OWN = ("cfaudit_s3.store", "cfaudit_bigquery.sink", "cfaudit_splunk.sink", "cfaudit_export.metrics.otlp")

pytestmark = pytest.mark.versions


def done(folder: Path, *command: str | Path) -> str:
    environ = {name: value for name, value in os.environ.items() if not name.startswith(("CFAUDIT_", "CLOUDFLARE_"))}
    environ |= {"HOME": str(folder), "UV_CACHE_DIR": os.environ.get("UV_CACHE_DIR", str(Path.home() / ".cache" / "uv"))}
    ended = subprocess.run(
        list(map(str, command)), cwd=folder, env=environ, capture_output=True, text=True, timeout=SECONDS, check=False
    )
    assert ended.returncode == 0, ended.stdout + ended.stderr
    return ended.stdout


def smoke(folder: Path, python: str, *how: str) -> None:
    """Install the program with all extras into an environment of its own, and use each part of it once."""
    done(folder, UV, "venv", "--quiet", "--no-python-downloads", "--python", python, "env")
    interpreter, program = folder / "env" / "bin" / "python", folder / "env" / "bin" / "cfaudit-export"
    done(folder, UV, "pip", "install", "--quiet", "--python", interpreter, *how, f"{ROOT}[all]")
    done(folder, interpreter, "-c", f"import {', '.join((*LIBRARIES, *OWN))}")
    for command in ((), ("run",), ("sandbox",)):
        assert "Usage: cfaudit-export" in done(folder, program, *command, "--help")
    assert json.loads(done(folder, program, "plugins", "--json"))["broken"] == []
    done(folder, program, "demo", "--events", "200", "--dir", "demo")
    data = ("--data", "demo/parquet", "--state-dir", "demo/state")
    assert "200" in done(folder, program, "sql", *data, "SELECT count(*) AS n FROM audit_events")
    for question in (("report", "--html", "report.html"), ("report",), ("timeline",)):
        done(folder, program, *question, *data, "--since", "40d")


def interpreter_of(version: str) -> str:
    """Return the interpreter itself; what is found first may be a script that knows where it is, or that it is not."""
    found = shutil.which(f"python{version}")
    command = [found or "", "-c", "import sys; print(sys.executable)"]
    asked = subprocess.run(command, capture_output=True, text=True, check=False) if found else None
    if asked is None or asked.returncode:
        pytest.skip(f"python{version} is not installed")
    return asked.stdout.strip()


def test_it_works_on_the_lowest_versions_that_it_asks_for(tmp_path: Path) -> None:
    smoke(tmp_path, sys.executable, "--resolution", "lowest-direct")


@pytest.mark.parametrize("version", PYTHONS)
def test_it_works_on_each_python_that_it_is_for(tmp_path: Path, version: str) -> None:
    smoke(tmp_path, interpreter_of(version))
