"""A task that is told to stop, and one that meets rows which cannot be read: a minute each, so not by default."""

from __future__ import annotations

import json
import signal
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pyarrow.parquet as pq
import pytest

from cfaudit_sandbox import Sandbox, SandboxOptions, World

DRIVER = str(Path(__file__).with_name("driver.py"))
pytestmark = pytest.mark.soak


def told(server: Sandbox, folder: Path) -> dict[str, str]:
    extra = {
        "state_dir": str(folder / "state"),
        "sinks.parquet.path": str(folder / "out"),
        "sources.auditlogs.budget_calls": 0,
        "sources.auditlogs.page_size": 50,
        "sources.auditlogs.concurrency": 1,
        "recover": "off",
    }
    connection = {"conn_type": "cloudflare_audit", "host": server.mcp_url, "password": server.world.tokens["account"]}
    return {"AIRFLOW_CONN_CLOUDFLARE_AUDIT_DEFAULT": json.dumps(connection | {"extra": extra})}


def ids(folder: Path) -> list[str]:
    files = sorted((folder / "out").rglob("*.parquet"))
    return [one for path in files for one in pq.read_table(path, partitioning=None)["event_id"].to_pylist()]


def test_a_task_that_is_told_to_stop_keeps_what_is_finished_and_goes_on_from_there(
    airflow: Any, tmp_path: Path
) -> None:
    with Sandbox(World(SandboxOptions(events=600, latency_seconds=0.5))) as slow:
        environ = told(slow, tmp_path)
        with airflow.start("python", DRIVER, json.dumps([{"dag": "by_hand"}]), **environ) as running:
            assert running.stdout
            until_said(running.stdout.readline, "planned")
            running.send_signal(signal.SIGTERM)
            said, _ = running.communicate(timeout=120)
        [line] = [json.loads(one.removeprefix("SAID ")) for one in said.splitlines() if one.startswith("SAID ")]
        [task] = line["tasks"]
        assert task["state"] == "failed"
        assert "the task was told to stop" in said
        [_, done], _ = airflow.steps({"dag": "by_hand"}, **environ)
    assert done["state"] == "success"
    found = ids(tmp_path)
    assert len(found) == len(set(found)) > 500


def until_said(read: Callable[[], str], word: str) -> None:
    while word not in (line := read()):
        assert line, "it ended"


def test_gaps_fail_a_task_at_once_unless_they_are_to_be_warned_of(airflow: Any, tmp_path: Path) -> None:
    with Sandbox(World(SandboxOptions(events=200, poison=("null-actor=2",)))) as poisoned:
        steps = ({"dag": "by_hand"}, {"dag": "gaps_allowed"})
        [_, fails, warns], said = airflow.steps(*steps, **told(poisoned, tmp_path))
    [task] = fails["tasks"]
    assert (task["state"], task["report"]["exit_code"]) == ("failed", 65)
    assert "windows that could not be read: 2 (exit code 65" in said
    [task] = warns["tasks"]
    assert (task["state"], task["returned"]["exit_code"]) == ("success", 65)
    assert "delivered, but not complete" in said
