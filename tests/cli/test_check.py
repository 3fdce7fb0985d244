from __future__ import annotations

import json
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from cfaudit_sandbox import Sandbox, SandboxOptions, World


def test_a_good_setup_is_ok_line_by_line_and_nothing_is_written(
    cli: Any, target: tuple[str, ...], sandbox: Sandbox, place: Path
) -> None:
    result = cli("check", *target)
    assert result.code == 0
    lines = result.out.splitlines()
    assert all(line.startswith("ok      ") for line in lines)
    assert sandbox.world.accounts[0].id in lines[0]
    assert "by user token, 3 upstream calls a page" in lines[0]
    assert all(account.id in lines[1] and account.name in lines[1] for account in sandbox.world.accounts)
    assert any("sink 'parquet'" in line for line in lines)
    assert not list(place.rglob("*.parquet"))


def test_a_missing_permission_fails_and_the_sink_is_checked_all_the_same(
    cli: Any, target: tuple[str, ...], sandbox: Sandbox, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("CLOUDFLARE_API_TOKEN", sandbox.world.tokens["no_permission"])
    result = cli("check", *target)
    assert result.code == 77
    [failed] = [line for line in result.out.splitlines() if line.startswith("failed")]
    assert "'Account Settings: Read'" in failed
    assert "ok      sink 'parquet'" in result.out


def test_where_a_permission_may_be_missing_the_answer_comes_at_once_and_names_what_else_it_may_be(
    cli: Any, target: tuple[str, ...], monkeypatch: pytest.MonkeyPatch
) -> None:
    with Sandbox(World(SandboxOptions(events=9))) as unknown:  # it has no metadata that would tell what it is
        monkeypatch.setenv("CLOUDFLARE_API_TOKEN", unknown.world.tokens["no_permission"])
        began = time.monotonic()
        where = ("--server-url", unknown.mcp_url, "--account", unknown.world.accounts[0].id)
        result = cli("check", *where, *target[4:])
    assert time.monotonic() - began < 60, "a block lasts five minutes"
    assert result.code == 75
    [failed] = [line for line in result.out.splitlines() if line.startswith("failed")]
    assert "'Account Settings: Read'" in failed
    assert "calls are spent" in failed


def test_a_sink_that_cannot_write_fails(cli: Any, target: tuple[str, ...], place: Path) -> None:
    (place / "out").write_text("a file where a folder should be")
    result = cli("check", *target)
    assert result.code in (69, 78)
    assert [line for line in result.out.splitlines() if line.startswith("failed  sink 'parquet'")]


@pytest.mark.parametrize("command", ["check", "run", "plan", "status"])
def test_a_state_folder_that_cannot_be_is_a_wrong_setting(
    command: str, cli: Any, target: tuple[str, ...], place: Path
) -> None:
    (place / "file").write_text("a file where a folder should be")
    options = () if command == "status" else target
    result = cli(command, *options, "--state-dir", "file/state")
    assert result.code == 78
    assert "a part of the path is a file, not a folder; set another path (--state-dir)" in result.out + result.err


def test_a_state_folder_that_can_be_read_but_not_written_fails(cli: Any, target: tuple[str, ...]) -> None:
    result = cli("check", *target, "--state-dir", "/proc/state")
    assert result.code in (75, 78)
    [failed] = [line for line in result.out.splitlines() if line.startswith("failed")]
    assert failed.startswith("failed  state folder: cannot use '/proc/state': ")


_STORE = """
from contextlib import contextmanager
from dataclasses import dataclass
from cfaudit_export import CheckpointStorePlugin, SettingsError, hookimpl

@dataclass(frozen=True)
class Config:
    pass

class Store:
    def load(self, stream_id): return None
    def save(self, checkpoint, *, expected): raise SettingsError("this place can only be read")
    @contextmanager
    def hold(self, stream_id):
        raise SettingsError("this place can only be read")
        yield
    def streams(self): return []

@hookimpl
def cfaudit_checkpoint_stores():
    yield CheckpointStorePlugin("reading", Config, lambda config, folder: Store(), "reads")
"""


def test_a_checkpoint_store_that_can_only_be_read_fails(
    target: tuple[str, ...], plugin: Callable[[str, str], None]
) -> None:
    plugin("readingstore", _STORE)
    command = [sys.executable, "-m", "cfaudit_export", "check", *target, "-o", "checkpoint.store=reading"]
    result = subprocess.run(command, capture_output=True, text=True, check=False, timeout=120)
    assert result.returncode == 78
    assert "failed  checkpoint: this place can only be read" in result.stdout


def test_findings_as_json(cli: Any, target: tuple[str, ...]) -> None:
    findings = json.loads(cli("check", *target, "--json").out)
    assert [finding["exit_code"] for finding in findings] == [0] * len(findings)
    assert {"what", "exit_code", "said"} == set(findings[0])
    named = [finding["what"] for finding in findings]
    assert named == ["source 'auditlogs'", "accounts", "reading", "checkpoint", "state folder", "sink 'parquet'"]


def test_an_unreachable_server_fails_but_not_the_sink(cli: Any, target: tuple[str, ...]) -> None:
    result = cli("check", *target, "--server-url", "http://127.0.0.1:9/mcp")
    assert result.code == 75
    assert result.out.startswith("failed  source 'auditlogs': '127.0.0.1:9' cannot be reached")
    assert "ok      sink 'parquet'" in result.out


def test_another_destination_is_seen_before_a_run(cli: Any, target: tuple[str, ...], place: Path) -> None:
    assert cli("run", *target).code == 0
    moved = cli("check", *target, "-o", "sinks.parquet.path=elsewhere")
    assert moved.code == 78
    [failed] = [line for line in moved.out.splitlines() if line.startswith("failed")]
    assert failed.startswith("failed  checkpoint: sink 'parquet' has delivered to")
    assert "--adopt-destination" in failed
    assert cli("run", *target, "-o", "sinks.parquet.path=elsewhere").code == 78
    assert cli("check", *target).code == 0
