from __future__ import annotations

import json
import os
import re
import signal
import subprocess
import sys
from collections.abc import Callable
from importlib.metadata import version
from pathlib import Path
from typing import Any

import pytest

from cfaudit_sandbox import Sandbox, SandboxOptions, World


def test_the_version_is_the_installed_one(cli: Any) -> None:
    said = cli("--version").out
    assert re.fullmatch(rf"cfaudit-export {re.escape(version('cfaudit-export'))}( \(commit [0-9a-f]{{12}}\))?\n", said)


def test_options_without_a_command_mean_run(cli: Any) -> None:
    assert cli("--sink", "nowhere") == cli("run", "--sink", "nowhere")
    assert cli() == cli("run")


@pytest.mark.parametrize(
    ("arguments", "code", "said"),
    [
        (
            ["chek"],
            2,
            "no such command 'chek'; did you mean 'check'? (commands: demo, sandbox, init, login, logout, run, ",
        ),
        (["run", "--snk", "x"], 2, "no such option '--snk'; did you mean '--sink'? (see 'cfaudit-export run --help')"),
        (["--snk=x"], 2, "no such option '--snk'; did you mean '--sink'? (see 'cfaudit-export run --help')"),
        (["-v", "status"], 2, "the command comes first, as in 'cfaudit-export status ...'"),
        (["run", "--since"], 2, "option '--since' requires an argument"),
        (["--since", "soon"], 2, "--since: expected a time such as 'yesterday lunch'"),
        (["--account", "1"], 2, "--account: expected account ids of 32 hexadecimal digits"),
        (["-o", "sink"], 2, "-o takes KEY=VALUE"),
        (["-o", "snk=parquet"], 78, "unknown key 'snk' in -o; did you mean 'sink'?"),
        (["--config", "no.toml"], 78, "there is no settings file 'no.toml'"),
        ([], 78, "no sink is set; name one, as in --sink parquet (installed: bigquery, parquet, s3, splunk"),
        (["--sink", "parket"], 78, "no sink 'parket' is installed; did you mean 'parquet'?"),
        (["--sink", "parquet"], 78, "'sinks.parquet.path' is missing"),
        (
            ["--sink", "parquet", "-o", "sinks.parquet.pth=x"],
            78,
            "unknown key 'sinks.parquet.pth'; did you mean 'path'?",
        ),
        (
            ["--sink", "parquet", "-o", "sinks.parqet.path=x"],
            78,
            "unknown key 'sinks.parqet'; did you mean 'sinks.parquet'?",
        ),
        (
            ["--sink", "parquet", "--source", "auditlog"],
            78,
            "no source 'auditlog' is installed; did you mean 'auditlogs'?",
        ),
        (
            ["--sink", "parquet", "-o", "sinks.parquet.path=x"],
            77,
            "run: cfaudit-export login, or set CLOUDFLARE_API_TOKEN",
        ),
        (
            ["schema", "--format", "xml"],
            2,
            "--format: expected one of table, arrow, bigquery, json, sql-view, not 'xml'",
        ),
    ],
)
def test_what_is_wrong_is_said_in_one_line_with_what_to_do(
    cli: Any, arguments: list[str], code: int, said: str
) -> None:
    result = cli(*arguments)
    assert result.line.startswith("cfaudit-export: ")
    assert said in result.line
    assert result.code == code
    assert result.out == ""


def test_an_unknown_key_of_the_file_is_named(cli: Any, place: Path) -> None:
    (place / "cfaudit.toml").write_text("sinc = 'parquet'\n")
    result = cli("status")
    assert result.code == 78
    assert "unknown key 'sinc' in 'cfaudit.toml'; did you mean 'sin" in result.line


def test_flag_variable_and_file_are_heard_in_this_order(cli: Any, place: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def sink_that_is_missing(*arguments: str) -> str:
        return str(cli(*arguments).line.split("'")[1])

    (place / "cfaudit.toml").write_text('sink = "from-file"\n')
    assert sink_that_is_missing() == "from-file"
    monkeypatch.setenv("CFAUDIT_SINK", "from-variable")
    assert sink_that_is_missing() == "from-variable"
    assert sink_that_is_missing("-o", "sink=from-pair") == "from-pair"
    assert sink_that_is_missing("-o", "sink=from-pair", "--sink", "from-flag") == "from-flag"


def test_a_wrong_token_cannot_read(cli: Any, target: tuple[str, ...], monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("CLOUDFLARE_API_TOKEN", "cfut_no_such_token_anywhere")
    result = cli(*target, "--log-format", "text")
    assert result.code == 77
    assert "refuses the credential" in result.err
    assert "no_such_token" not in result.err + result.out


def test_a_missing_permission_is_named(
    cli: Any, sandbox: Sandbox, target: tuple[str, ...], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("CLOUDFLARE_API_TOKEN", sandbox.world.tokens["no_permission"])
    result = cli(*target)
    assert result.code == 77
    assert "'Account Settings: Read'" in result.err


def test_a_server_that_cannot_be_reached_is_tried_later(cli: Any, target: tuple[str, ...]) -> None:
    result = cli(*target, "--server-url", "http://127.0.0.1:9/mcp", "--max-wait", "1s")
    assert result.code == 75
    assert "'127.0.0.1:9' cannot be reached" in result.err


BROKEN_SINK = """
from dataclasses import dataclass
from cfaudit_export import SinkPlugin, hookimpl

@dataclass(frozen=True)
class Config:
    password: str = "x"

class Sink:
    def check(self): raise RuntimeError("it broke with cfut_0123456789abcdef\\x1b[2J")
    def close(self): pass

@hookimpl
def cfaudit_sinks():
    yield SinkPlugin("odd", Config, lambda config: Sink(), "breaks")
"""


def test_a_fault_of_the_program_shows_its_traceback_but_no_secret(
    process: Any,
    sandbox: Sandbox,
    token: str,
    plugin: Callable[[str, str], None],
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    plugin("oddsink", BROKEN_SINK.replace("cfut_0123456789abcdef", token))
    account = sandbox.world.accounts[0].id
    result = process("check", "--server-url", sandbox.mcp_url, "--account", account, "--sink", "odd")
    assert result.code == 70
    assert "Traceback" in result.err
    assert "RuntimeError: it broke with ***\\x1b[2J" in result.err
    said = "cfaudit-export: this is a fault in the plugin oddsink 1.0; report it to its author"
    assert result.err.splitlines()[-1].startswith(said)
    assert token not in result.err + result.out


@pytest.mark.parametrize("word", ["--nonsense", "--frobnicate", "--hello", "--x", "--all-of-it"])
def test_an_option_that_is_like_none_is_told_without_a_guess(cli: Any, word: str) -> None:
    result = cli("run", word)
    assert result.code == 2
    assert result.line == f"cfaudit-export: no such option '{word}' (see 'cfaudit-export run --help')"


@pytest.mark.parametrize(("number", "code"), [(signal.SIGINT, 130), (signal.SIGTERM, 143)])
def test_a_signal_stops_a_run_cleanly(
    place: Path, monkeypatch: pytest.MonkeyPatch, number: signal.Signals, code: int
) -> None:
    with Sandbox(World(SandboxOptions(events=100, latency_seconds=60))) as slow:
        monkeypatch.setenv("CLOUDFLARE_API_TOKEN", slow.world.tokens["user"])
        command = [sys.executable, "-m", "cfaudit_export", "--server-url", slow.mcp_url, "--sink", "parquet"]
        running = subprocess.Popen(
            [*command, "-o", "sinks.parquet.path=out", "--state-dir", "state"],
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            text=True,
        )
        assert running.stderr is not None
        assert json.loads(running.stderr.readline())["message"] == "planned"
        running.send_signal(number)
        out, err = running.communicate(timeout=30)
    assert running.returncode == code
    assert out == ""
    assert err.splitlines()[-1].startswith("cfaudit-export: stopped; finished work is saved")
    assert "Traceback" not in err


def test_handlers_of_signals_are_put_back(cli: Any) -> None:
    before = signal.getsignal(signal.SIGTERM)
    cli("--version")
    assert signal.getsignal(signal.SIGTERM) is before


@pytest.mark.parametrize(("chosen", "used"), [("", "system"), ("mimalloc", "mimalloc")])
def test_arrow_uses_the_allocator_of_the_system_unless_another_is_chosen(chosen: str, used: str) -> None:
    tell = "main(['--version']); import pyarrow; print(pyarrow.default_memory_pool().backend_name)"
    environ = {name: value for name, value in os.environ.items() if name != "ARROW_DEFAULT_MEMORY_POOL"}
    environ |= {"ARROW_DEFAULT_MEMORY_POOL": chosen} if chosen else {}
    command = [sys.executable, "-c", f"from cfaudit_export.cli import main; {tell}"]
    done = subprocess.run(command, env=environ, capture_output=True, text=True, timeout=60, check=True)
    assert done.stdout.split()[-1] == used


def test_a_process_that_ends_does_not_look_for_cycles_among_what_it_imported() -> None:
    tell = "atexit.register(lambda: print(gc.get_freeze_count() > 0))"  # called after what is registered later
    command = [
        sys.executable,
        "-c",
        f"import atexit, gc; {tell}; from cfaudit_export.cli import main; main(['--version'])",
    ]
    done = subprocess.run(command, capture_output=True, text=True, timeout=60, check=True)
    assert done.stdout.split()[-1] == "True"


def test_a_reader_that_goes_away_is_no_fault(place: Path) -> None:
    reading, writing = os.pipe()
    os.close(reading)
    command = [sys.executable, "-m", "cfaudit_export", "schema", "--format", "json"]
    done = subprocess.run(command, stdout=writing, stderr=subprocess.PIPE, text=True, timeout=60, check=False)
    os.close(writing)
    assert done.returncode != 70
    assert "Traceback" not in done.stderr


@pytest.mark.parametrize(
    ("words", "completed"),
    [
        ("pl", ["plan", "plugins"]),
        ("run --settle", ["--settle-lag"]),
        ("--settle", []),
        ("--sink x --settle", ["--settle-lag"]),
    ],
)
def test_a_shell_completes_commands_and_options(
    process: Any, monkeypatch: pytest.MonkeyPatch, words: str, completed: list[str]
) -> None:
    monkeypatch.setenv("_CFAUDIT_EXPORT_COMPLETE", "complete_bash")
    monkeypatch.setenv("COMP_WORDS", f"cfaudit-export {words}")
    monkeypatch.setenv("COMP_CWORD", str(len(words.split())))
    assert process().out.split() == completed
