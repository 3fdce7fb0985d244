from __future__ import annotations

import json
import os
import re
import signal
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import httpx2
import pyarrow.dataset as ds
import pytest


@contextmanager
def sandbox(*arguments: str) -> Iterator[subprocess.Popen[str]]:
    """Run a sandbox; it is stopped at the end, also when the test fails before."""
    command = [sys.executable, "-m", "cfaudit_export", "sandbox", "--events", "10", "--accounts", "2", *arguments]
    with subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True) as running:
        try:
            yield running
        finally:
            running.kill()


def test_the_demo_leaves_real_rows_and_says_what_arrived(cli: Any, place: Path) -> None:
    result = cli("demo", "--events", "200")
    assert result.code == 0
    assert result.out == ""
    table = ds.dataset(place / "demo" / "parquet", format="parquet").to_table()
    assert table.num_rows == len(set(table["event_id"].to_pylist())) == 200
    assert "exported 200 events" in result.err
    assert "WARNING" not in result.err
    assert "read back: 200 rows" in result.err
    spent = re.search(r"cost (\d+) of the 1,200 API calls that Cloudflare allows", result.err)
    assert spent
    assert 0 < int(spent[1]) < 300
    assert re.search(r"product\s+events\s+actor\s+events", result.err)
    assert str(place / "demo") in result.err
    assert "cfaudit-export status --state-dir demo/state" in result.err
    [stream] = json.loads(cli("status", "--state-dir", "demo/state", "--json").out)
    assert stream["sinks"]["parquet"]["rows"] == 200


def test_a_second_demo_replaces_the_first(cli: Any, place: Path) -> None:
    cli("demo", "--events", "50")
    (place / "demo" / "notes.txt").write_text("mine")
    result = cli("demo", "--events", "60", "--seed", "2")
    assert result.code == 0
    assert ds.dataset(place / "demo" / "parquet", format="parquet").count_rows() == 60
    assert (place / "demo" / "notes.txt").read_text() == "mine"


def test_a_folder_of_somebody_else_is_left_alone(cli: Any, place: Path) -> None:
    (place / "demo" / "parquet").mkdir(parents=True)
    (place / "demo" / "parquet" / "precious").write_text("mine")
    result = cli("demo")
    assert result.code == 2
    assert "'demo' is not empty and not a former demo; name another folder with --dir" in result.line
    assert (place / "demo" / "parquet" / "precious").read_text() == "mine"


def test_a_demo_without_events_is_no_fault(cli: Any) -> None:
    result = cli("demo", "--events", "0")
    assert result.code == 0
    assert "exported 0 events" in result.err


def test_the_demo_does_not_hear_settings_of_real_exports(
    cli: Any, place: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (place / "cfaudit.toml").write_text("unknown = 1\n")
    monkeypatch.setenv("CFAUDIT_SERVER_URL", "http://127.0.0.1:9/mcp")
    monkeypatch.setenv("CLOUDFLARE_API_TOKEN", "cfut_of_a_real_account")
    assert cli("demo", "--events", "20").code == 0
    assert not (place / "home").exists()


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM])
def test_the_sandbox_serves_until_it_is_stopped(place: Path, number: signal.Signals) -> None:
    with sandbox("--json") as running:
        assert running.stdout is not None
        text = ""
        while not text.endswith("\n}\n"):
            line = running.stdout.readline()
            assert line
            text += line
        ready = json.loads(text)
        assert len(ready["accounts"]) == 2
        assert ready["codemode_url"] == f"{ready['url']}/codemode/mcp"
        assert httpx2.get(f"{ready['url']}/sandbox/stats").json()["requests"] == 0
        running.send_signal(number)
        _, err = running.communicate(timeout=30)
    assert running.returncode == 0
    assert err == ""


def test_the_sandbox_prints_a_command_that_works(place: Path, cli: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    # Where the program is not on the path, the command names the interpreter instead.
    monkeypatch.setenv("PATH", str(Path(sys.executable).parent), prepend=os.pathsep)
    with sandbox() as running:
        assert running.stderr is not None
        text = ""
        while "--state-dir" not in text:
            line = running.stderr.readline()
            assert line
            text += line
        pasted = text[text.index("CLOUDFLARE_API_TOKEN=") :].replace("\\\n", " ").split()
        monkeypatch.setenv(*pasted[0].split("="))
        assert pasted[1] == "cfaudit-export"
        result = cli(*pasted[2:])
        running.send_signal(signal.SIGINT)
        running.communicate(timeout=30)
    assert result.code == 0
    assert list((place / "out").rglob("*.parquet"))


@pytest.mark.parametrize(
    ("arguments", "said"),
    [
        (["--zod", "5"], "--zod: expected one of 3, 4, not '5'"),
        (["--events", "many"], "--events: expected a whole number, not 'many'"),
        (["--twins", "often"], "--twins: expected a number, not 'often'"),
        (["--fail-rate", "2"], "fail_rate is a share between 0 and 1, not 2"),
        (["--latency", "quick"], "--latency: expected a duration such as"),
        (["--end-at", "soon"], "--end-at: expected a time such as"),
        (["--poison", "nonsense=1"], "no poison is named 'nonsense'"),
        (["--host", "203.0.113.1"], "cannot listen on 203.0.113.1:0"),
    ],
)
def test_a_knob_that_cannot_be_turned_so_is_named(cli: Any, arguments: list[str], said: str) -> None:
    result = cli("sandbox", *arguments)
    assert result.code == 2
    assert said in result.line
