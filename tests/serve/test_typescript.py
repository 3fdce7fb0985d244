"""Clients that are not of our SDK: the TypeScript SDK of either era, and the inspector's command line.

They are installed by npm, which takes a minute: pytest -m versions tests/serve/test_typescript.py
"""

from __future__ import annotations

import json
import os
import shutil
import subprocess
from pathlib import Path
from typing import Any

import pytest

from cfaudit_export.schema import COLUMNS
from cfaudit_export.serve.prompts import PROMPTS

NPM, NODE = shutil.which("npm"), shutil.which("node")
PACKAGES = ("@modelcontextprotocol/sdk@1", "@modelcontextprotocol/client@2", "@modelcontextprotocol/inspector@2")
pytestmark = pytest.mark.versions


@pytest.fixture(scope="module")
def packages(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Install the clients; without npm they are not tried."""
    if not (NPM and NODE):
        pytest.skip("NOT TESTED: the TypeScript SDK; install it with: apt-get install nodejs npm")
    folder = tmp_path_factory.mktemp("npm")
    (folder / "package.json").write_text('{"name": "talk", "private": true, "type": "module"}')
    quiet = ("--no-audit", "--no-fund", "--loglevel=error")
    subprocess.run([NPM, "install", *quiet, *PACKAGES], cwd=folder, check=True, timeout=1_800)
    shutil.copy(Path(__file__).with_name("talk.mjs"), folder)
    return folder


def talk(packages: Path, *arguments: str) -> dict[str, Any]:
    assert NODE
    done = subprocess.run(
        [NODE, "talk.mjs", *arguments], cwd=packages, capture_output=True, text=True, check=False, timeout=300
    )
    assert done.returncode == 0, done.stderr
    found: dict[str, Any] = json.loads(done.stdout)
    return found


@pytest.mark.parametrize("era", ["legacy", "modern"])
@pytest.mark.parametrize("transport", ["stdio", "http"])
def test_the_typescript_sdk_finds_and_asks_all_there_is(
    packages: Path, served: Any, serving: Any, era: str, transport: str
) -> None:
    if transport == "stdio":
        found = talk(packages, era, "-", *served.command)
    else:
        with serving(served) as web:
            found = talk(packages, era, web.url)
    assert "audit_findings" in found["tools"]
    assert (found["state"], found["events"]) == ("complete", 3)
    assert "did you mean 'since'?" in found["refused"]
    assert found["prompts"] == len(PROMPTS)
    assert '"yesterday lunch"' in found["prompt"]
    assert found["columns"] == len(COLUMNS)


def test_the_inspector_lists_and_calls_tools(packages: Path, served: Any) -> None:
    def inspect(*arguments: str) -> dict[str, Any]:
        command = [str(packages / "node_modules" / ".bin" / "mcp-inspector"), "--cli", *served.command, *arguments]
        done = subprocess.run(
            command, capture_output=True, text=True, check=False, timeout=300, cwd=packages, env=dict(os.environ)
        )
        assert done.returncode == 0, done.stderr
        found: dict[str, Any] = json.loads(done.stdout)
        return found

    assert "audit_report" in {one["name"] for one in inspect("--method", "tools/list")["tools"]}
    call = ("--method", "tools/call", "--tool-name", "audit_events")
    answer = inspect(
        *call, "--tool-arg", "since=2026-11-18", "--tool-arg", "before=2026-11-19", "--tool-arg", "limit=2"
    )
    assert len(answer["structuredContent"]["events"]) == 2
