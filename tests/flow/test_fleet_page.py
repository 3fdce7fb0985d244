"""The ways to spread a backfill that docs/fleet.md shows, as they stand there."""

from __future__ import annotations

import json
import os
import re
import subprocess
import sys
from collections import Counter
from collections.abc import Iterator
from pathlib import Path

import pyarrow.dataset as ds
import pytest
import yaml

from cfaudit_sandbox import Sandbox, SandboxOptions, World

PAGE = Path(__file__).parents[2] / "docs" / "fleet.md"
EVENTS = 200


@pytest.fixture
def sandbox() -> Iterator[Sandbox]:
    with Sandbox(World(SandboxOptions(events=EVENTS, span_seconds=60 * 86_400.0))) as running:
        yield running


@pytest.fixture
def environ(sandbox: Sandbox, tmp_path: Path) -> dict[str, str]:
    """A folder with settings, and the program on the path."""
    program = tmp_path / "bin" / "cfaudit-export"
    program.parent.mkdir()
    program.write_text(f'#!/bin/sh\nexec {sys.executable} -m cfaudit_export "$@"\n')
    program.chmod(0o755)
    (tmp_path / "cfaudit.toml").write_text(
        f"""
source = "codemode"
server_url = "{sandbox.codemode_url}"
sink = ["parquet"]
state_dir = "{tmp_path / "state"}"
[sinks.parquet]
path = "{tmp_path / "out"}"
[budget]
store = "checkpoint"
"""
    )
    kept = {name: value for name, value in os.environ.items() if not name.startswith(("CFAUDIT_", "CLOUDFLARE_"))}
    path = f"{program.parent}:{kept['PATH']}"
    return {**kept, "PATH": path, "HOME": str(tmp_path), "CLOUDFLARE_API_TOKEN": sandbox.world.tokens["account"]}


def blocks(kind: str) -> list[str]:
    return re.findall(rf"```{kind}\n(.*?)```", PAGE.read_text(), re.DOTALL)


def stored(folder: Path) -> Counter[str]:
    return Counter(ds.dataset(folder, format="parquet").to_table(columns=["event_key"])["event_key"].to_pylist())


def test_processes_of_one_machine_export_each_event_once(tmp_path: Path, environ: dict[str, str]) -> None:
    [script] = [one for one in blocks("sh") if "xargs" in one]
    script = script.replace("--slices auto", "--slices 3")  # so few events are worth one
    done = subprocess.run(["sh", "-ec", script], cwd=tmp_path, env=environ, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    assert len(json.loads((tmp_path / "slices.json").read_text())) == 3
    found = stored(tmp_path / "out")
    assert (found.total(), max(found.values())) == (EVENTS, 1)


@pytest.mark.soak
def test_pods_of_an_indexed_job_export_each_event_once(
    sandbox: Sandbox, tmp_path: Path, environ: dict[str, str]
) -> None:
    [manifest] = map(yaml.safe_load, blocks("yaml"))
    spec = manifest["spec"]
    [container] = spec["template"]["spec"]["containers"]
    [script] = container["args"]
    events = [record["action"]["time"] for record in sandbox.world.records(sandbox.world.accounts[0].id)]
    ends = min(events)[:10], max(events)[:10]
    script = script.replace("2026-08-01", ends[0]).replace("2026-11-01", ends[1]).replace("24", "3")
    pods = [
        subprocess.Popen([*container["command"], script], cwd=tmp_path, env=environ | {"JOB_COMPLETION_INDEX": str(at)})
        for at in range(3)
    ]
    assert [one.wait() for one in pods] == [0] * 3
    found = stored(tmp_path / "out")
    wanted = sum(ends[0] <= at[:10] < ends[1] for at in events)
    assert (found.total(), max(found.values())) == (wanted, 1)


def planned(folder: Path, environ: dict[str, str], *more: str) -> list[dict[str, str]]:
    command = ["cfaudit-export", "plan", "--slices", "auto", "--json", *more]
    done = subprocess.run(command, cwd=folder, env=environ, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    found: list[dict[str, str]] = json.loads(done.stdout)
    return found


def test_so_few_events_are_worth_one_slice(tmp_path: Path, environ: dict[str, str]) -> None:
    assert len(planned(tmp_path, environ, "--since", "40d")) == 1


@pytest.mark.soak
def test_slices_are_as_many_as_are_worth_it_and_the_newest_is_first(tmp_path: Path, environ: dict[str, str]) -> None:
    with Sandbox(World(SandboxOptions(events=60_000, span_seconds=10 * 86_400.0))) as dense:
        environ["CLOUDFLARE_API_TOKEN"] = dense.world.tokens["account"]
        few = ("-o", "sources.codemode.budget_calls=12")  # looking takes eight; 54 are 23 minutes
        parts = planned(tmp_path, environ, "--since", "9d", "--server-url", dense.codemode_url, *few)
    assert len(parts) == 2
    assert parts[0]["since"] == parts[1]["until"], "they tile the time, newest first"
