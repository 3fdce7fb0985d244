from __future__ import annotations

import json
import os
import pty
import re
import subprocess
import sys
from datetime import datetime
from pathlib import Path
from typing import Any

import pyarrow.dataset as ds
import pytest

from cfaudit_export.errors import ExitCode
from cfaudit_sandbox import Sandbox, SandboxOptions, World

EVENTS = 300


def rows(folder: Path) -> int:
    return int(ds.dataset(folder, format="parquet").count_rows())


def test_a_run_delivers_and_the_next_has_nothing_new(cli: Any, target: tuple[str, ...], place: Path) -> None:
    first = cli(*target, "--since", "40d", "--json")
    [report] = json.loads(first.out)
    assert first.code == report["exit_code"] == 0
    assert report["sinks"][0]["rows"] == rows(place / "out") == EVENTS
    files = set((place / "out").rglob("*.parquet"))
    second = cli(*target, "--json")
    [report] = json.loads(second.out)
    assert second.code == 0
    assert report["sinks"][0]["rows"] == 0
    assert set((place / "out").rglob("*.parquet")) == files


def test_without_a_terminal_stderr_is_json_lines(cli: Any, target: tuple[str, ...]) -> None:
    result = cli(*target)
    lines = [json.loads(line) for line in result.err.splitlines()]
    assert result.out == ""
    assert {"planned", "batch loaded", "window done", "sealed", "run finished"} == {line["message"] for line in lines}
    assert lines[-1]["message"] == "run finished"
    assert lines[-1]["exit_code"] == 0


def test_columns_that_nobody_asked_to_rebuild_are_not_said_to_be_left_out(cli: Any, target: tuple[str, ...]) -> None:
    result = cli(*target, "--recover", "off", "--json")
    assert [report["trimmed"] for report in json.loads(result.out)] == [0]
    assert all(json.loads(line) for line in result.err.splitlines())
    assert "left out" not in cli(*target, "--recover", "off", "--since", "20d", "--log-format", "text").err


def test_as_text_a_table_says_what_each_sink_got(cli: Any, target: tuple[str, ...], sandbox: Sandbox) -> None:
    result = cli(*target, "--since", "40d", "--log-format", "text")
    *_, title, head, line = result.err.splitlines()
    assert title == f"account {sandbox.world.accounts[0].id}, {EVENTS} events read from auditlogs"
    assert head.split() == ["sink", "rows", "files", "gaps", "covered", "until"]
    name, delivered, files, gaps, until = line.split()
    assert (name, delivered, gaps) == ("parquet", str(EVENTS), "0")
    assert int(files) > 20
    assert datetime.fromisoformat(until)


def test_accounts_follow_each_other_and_one_that_fails_stops_none(
    cli: Any, target: tuple[str, ...], sandbox: Sandbox, place: Path
) -> None:
    nobody = "0" * 32
    second = sandbox.world.accounts[1].id
    result = cli("run", "--account", nobody, "--account", second, *target, "--since", "40d", "--json")
    wrong, *right = json.loads(result.out)
    assert [report["stream"]["account_id"] for report in (wrong, *right)][:2] == [nobody, second]
    assert wrong["exit_code"] == result.code == 78
    assert [report["exit_code"] for report in right] == [0, 0]
    assert rows(place / "out") == 2 * EVENTS
    assert f"account {nobody}: " in result.err


def test_without_an_account_a_token_that_sees_several_is_told_to_choose(cli: Any, sandbox: Sandbox, token: str) -> None:
    result = cli(
        "--sink", "parquet", "-o", "sinks.parquet.path=out", "--server-url", sandbox.mcp_url, "--state-dir", "state"
    )
    assert result.code == 78
    for account in sandbox.world.accounts:
        assert account.id in result.err


def test_filters_make_a_stream_of_their_own(cli: Any, target: tuple[str, ...], sandbox: Sandbox) -> None:
    account = sandbox.world.accounts[0].id
    created = sum(
        record["action"]["type"] == "create" for record in sandbox.world.records(account) if "action" in record
    )
    [report] = json.loads(cli(*target, "--since", "40d", "--action-type", "create", "--json").out)
    assert report["stream"]["filters"] == {"action_type": "create"}
    assert report["sinks"][0]["rows"] == created
    assert 0 < created < EVENTS


def test_rows_that_cannot_be_read_are_gaps_and_no_success(
    cli: Any, place: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    with Sandbox(World(SandboxOptions(events=50, poison=("null-actor=1",)))) as poisoned:
        monkeypatch.setenv("CLOUDFLARE_API_TOKEN", poisoned.world.tokens["user"])
        options = ("--server-url", poisoned.mcp_url, "--sink", "parquet", "-o", "sinks.parquet.path=out")
        result = cli(*options, "--state-dir", "state", "--since", "40d", "--log-format", "text")
    assert result.code == 65
    *_, last = result.err.splitlines()
    assert "1 gap remains, with 1 row that could not be read, between 20" in last
    assert last.endswith("; see 'cfaudit-export gaps'")
    status = cli("status", "--state-dir", "state")
    assert status.out.splitlines()[-1] == "gaps: 1; 'cfaudit-export gaps' lists them"


def test_a_plan_shows_windows_and_cost_and_fetches_nothing(
    cli: Any, target: tuple[str, ...], sandbox: Sandbox, place: Path
) -> None:
    before = sandbox.upstream.counts.get("audit_calls", 0)
    [planned] = json.loads(cli("plan", *target, "--since", "10d", "--json").out)
    assert planned["duration"] == pytest.approx(10 * 86_400 - 300, abs=120)
    estimate = planned["estimate"]
    assert estimate["probes"] == 8
    assert estimate["events_least"] <= estimate["events"] <= estimate["events_most"] <= 2_000
    assert 0 < sandbox.upstream.counts["audit_calls"] - before <= 4 * estimate["probes"]
    assert not (place / "out").exists()
    said = cli("plan", *target, "--since", "10d").out
    assert re.search(r"events: about [\d,]+ \([\d,]+ to [\d,]+, by 8 probes\)", said)
    cli(*target, "--since", "10d")
    text = cli("plan", *target, "--since", "20d").out
    assert "missing" in text
    assert "rescan" in text
    [planned] = json.loads(cli("plan", *target, "--since", "20d", "--json").out)
    estimate = planned["estimate"]
    assert estimate["events"] == pytest.approx(100, rel=0.5)
    assert estimate["calls_for_columns"] == 9 * estimate["calls"], "seven facets, and their values once a piece"
    off = json.loads(cli("plan", *target, "--since", "20d", "--json", "--recover", "off").out)[0]["estimate"]
    assert off["calls_for_columns"] == 0
    spent = ("--recover", "all", "-o", "sources.auditlogs.budget_calls=10")
    whole = json.loads(cli("plan", *target, "--since", "20d", "--json", *spent).out)[0]["estimate"]
    assert whole["minutes_of_waiting"] == 5 * ((10 * whole["calls"] - 1) // 10)


def test_a_person_sees_a_bar_and_a_table_and_no_log_lines(
    target: tuple[str, ...], place: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("TERM", "xterm-256color")
    monkeypatch.setenv("COLUMNS", "80")
    ours, theirs = pty.openpty()
    command = [sys.executable, "-m", "cfaudit_export", *target, "--since", "40d"]
    running = subprocess.Popen(command, stdout=subprocess.PIPE, stderr=theirs)
    os.close(theirs)
    seen = b""
    try:
        while piece := os.read(ours, 65_536):
            seen += piece
    except OSError:  # how the end of a pseudo terminal looks on Linux
        pass
    out, _ = running.communicate(timeout=30)
    os.close(ours)
    assert running.returncode == 0
    assert out == b""
    shown = seen.decode()
    assert "━" in shown
    assert "100%" in shown
    assert "300 events" in shown
    assert "covered until" in shown
    assert "INFO" not in shown
    assert '{"time"' not in shown


def test_a_short_answer_of_a_sink_is_in_the_exit_code(process: Any, plugin: Any, sandbox: Sandbox, token: str) -> None:
    plugin(
        "downsink",
        """
from dataclasses import dataclass
from cfaudit_export import SinkError, SinkPlugin, hookimpl

@dataclass(frozen=True)
class Config:
    pass

class Sink:
    def load(self, batch): raise SinkError("nobody answers at 'down'")
    def close(self): pass

@hookimpl
def cfaudit_sinks():
    yield SinkPlugin("down", Config, lambda config: Sink(), "is down")
""",
    )
    account = sandbox.world.accounts[0].id
    options = ("--server-url", sandbox.mcp_url, "--account", account, "--state-dir", "state")
    both = process(*options, "--sink", "down", "--sink", "parquet", "-o", "sinks.parquet.path=out", "--json")
    assert both.code == 69
    assert "cfaudit-export: sink 'down': nobody answers at 'down'" in both.err.splitlines()
    [report] = json.loads(both.out)
    down, parquet = report["sinks"]
    assert down["exit_code"] == 69
    assert parquet["exit_code"] == 0
    assert parquet["rows"] > 0


def test_slices_are_options_of_runs_that_tile_the_time_for_each_account(
    cli: Any, target: tuple[str, ...], sandbox: Sandbox, place: Path
) -> None:
    second = sandbox.world.accounts[1].id
    words = ("plan", *target, "--account", second, "--since", "2026-01-01", "--until", "2026-04-01", "--slices", "7")
    parts = json.loads(cli(*words, "--json").out)
    for account in sandbox.world.accounts:
        mine = [part for part in parts if part["account"] == account.id]
        assert [part["since"] for part in mine[1:]] == [part["until"] for part in mine[:-1]]
        assert (mine[0]["since"], mine[-1]["until"]) == ("2026-01-01T00:00:00.000Z", "2026-04-01T00:00:00.000Z")
    assert len(parts) == 14
    assert all(part["slice"] is True for part in parts)
    assert cli(*words).out.count("\n") == 15
    assert not (place / "state").exists()


def test_a_slice_needs_both_its_ends(cli: Any, target: tuple[str, ...]) -> None:
    result = cli(*target, "--slice", "--since", "3d")
    assert result.code == 78
    assert result.line == (
        "cfaudit-export: a slice needs since and until, as 'cfaudit-export plan --slices' gives them"
    )


@pytest.mark.parametrize(
    "given",
    [
        ("--rescan", "99999d"),
        ("--rescan", "999999999d"),
        ("--settle-lag", "99999d"),
        ("--since", "0001-01-01"),
        ("--since", "9999-12-31T23:59:59.999999Z"),
        ("--until", "0001-01-01T00:00:00Z"),
        ("--max-wait", "99999999d"),
        *(
            ("-o", f"sources.auditlogs.{name}={value}")
            for name in ("timeout_seconds", "retry_seconds", "budget_calls", "page_size")
            for value in ("nan", "-inf", "1e400", "-1", "99999999999999999999")
        ),
    ],
    ids=" ".join,
)
def test_no_value_of_a_setting_is_a_fault_of_the_program(
    cli: Any, target: tuple[str, ...], given: tuple[str, str]
) -> None:
    result = cli(*target, "--recover", "off", *given, "--log-format", "text")
    assert result.code in (ExitCode.OK, ExitCode.USAGE, ExitCode.SETTINGS), result.err
    assert "Traceback" not in result.err
