from __future__ import annotations

import csv
import io
import json
import os
import pty
import subprocess
import sys
from collections.abc import Callable, Iterator
from contextlib import ExitStack
from datetime import UTC, datetime, timedelta
from functools import partial
from pathlib import Path
from typing import Any

import pyarrow.dataset as ds
import pytest

from cfaudit_export.schema import COLUMNS
from cfaudit_sandbox import Sandbox, SandboxOptions, World

NAMES = [column.name for column in COLUMNS]


@pytest.fixture
def served(place: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Callable[..., Sandbox]]:
    """Start a server of a day's events; its token is in the variable."""
    with ExitStack() as stack:

        def start(**options: Any) -> Sandbox:
            world = World(SandboxOptions(**{"events": 3_000, "span_seconds": 86_400.0, **options}))
            monkeypatch.setenv("CLOUDFLARE_API_TOKEN", world.tokens["account"])
            return stack.enter_context(Sandbox(world))

        yield start


def where(sandbox: Sandbox, url: str = "") -> tuple[str, ...]:
    budget = ("-o", "sources.auditlogs.budget_calls=0")
    account = sandbox.world.accounts[0].id
    return ("--server-url", url or sandbox.mcp_url, "--account", account, "--log-format", "text", *budget)


def times(sandbox: Sandbox) -> list[str]:
    """The times of every readable row, newest first."""
    rows = sandbox.world.rows(sandbox.world.accounts[0].id)
    return sorted((iso_of(row["time"]) for row in rows), reverse=True)


def iso_of(text: str) -> str:
    return datetime.fromisoformat(text).isoformat(timespec="milliseconds")


def shown(out: str) -> list[str]:
    return [iso_of(event["event_time"]) for event in json.loads(out)]


def test_the_newest_are_shown_by_three_calls(cli: Any, served: Any) -> None:
    sandbox = served()
    result = cli("events", *where(sandbox), "--recover", "off", "--format", "json")
    assert result.code == 0
    assert shown(result.out) == times(sandbox)[:50]
    # Where they begin, the events, and the proof that these are all.
    assert sandbox.upstream.counts["audit_calls"] == 3


@pytest.mark.parametrize("source", ["auditlogs", "codemode"])
def test_more_than_a_page_is_shown_too(cli: Any, served: Any, source: str) -> None:
    sandbox = served()
    url = sandbox.mcp_url if source == "auditlogs" else sandbox.codemode_url
    asked = ("--source", source, "--recover", "off", "-n", 2_500, "--format", "json")
    result = cli("events", *where(sandbox, url), *asked)
    assert result.code == 0, result.err
    assert shown(result.out) == times(sandbox)[:2_500]


def test_what_is_asked_for_beyond_what_there_is_ends_at_the_start_of_the_period(cli: Any, served: Any) -> None:
    sandbox = served(events=20)
    assert shown(cli("events", *where(sandbox), "--format", "json").out) == times(sandbox)
    before = datetime.now(UTC) - timedelta(hours=12)
    result = cli("events", *where(sandbox), "--format", "json", "--until", before.isoformat())
    assert shown(result.out) == [at for at in times(sandbox) if at < before.isoformat()]
    assert cli("events", *where(sandbox), "--until", "40d").out == "no events\n"


def test_odd_rows_hide_no_other_and_are_named(cli: Any, served: Any) -> None:
    sandbox = served(events=300, span_seconds=3_600.0, poison=("all=86",), ties=0.5)
    result = cli("events", *where(sandbox), "--recover", "off", "-n", 60, "--format", "json")
    assert result.code == 65
    assert shown(result.out) == times(sandbox)[:60]
    lines = result.err.splitlines()
    oldest = shown(result.out)[-1]
    account = sandbox.world.accounts[0].id
    odd = [
        row for row in sandbox.world.poison(account) if row.time_ns >= datetime.fromisoformat(oldest).timestamp() * 1e9
    ]
    assert odd
    assert sum(int(line.split()[1]) for line in lines if "cannot be read" in line) >= len(odd)


def test_filters_are_those_of_a_run_and_columns_are_rebuilt(cli: Any, served: Any) -> None:
    sandbox = served(twins=0.0, ties=0.0)
    found = json.loads(cli("events", *where(sandbox), "--result", "failure", "-n", 5, "--format", "json").out)
    account = sandbox.world.accounts[0].id
    records = [one for one in sandbox.world.records(account) if one["action"].get("result") == "failure"]
    newest = sorted(records, key=lambda one: datetime.fromisoformat(one["action"]["time"]), reverse=True)[:5]
    for event, record in zip(found, newest, strict=True):
        assert event["action_type"] == record["action"]["type"]
        assert event["actor_context"] == record.get("actor", {}).get("context")
        assert event["action_result"] == "failure"
        assert event["fidelity"] == "recovered"


def test_every_format_has_the_columns_and_ids_of_an_export(cli: Any, served: Any, place: Path) -> None:
    sandbox = served(events=40)
    options = ("--recover", "off", "-n", "40")
    as_json = json.loads(cli("events", *where(sandbox), *options, "--format", "json").out)
    lines = cli("events", *where(sandbox), *options, "--format", "ndjson").out.splitlines()
    table = list(csv.DictReader(io.StringIO(cli("events", *where(sandbox), *options, "--format", "csv").out)))
    assert [list(event) for event in as_json] == [NAMES] * 40
    ids = [event["event_id"] for event in as_json]
    assert [json.loads(line)["event_id"] for line in lines] == [row["event_id"] for row in table] == ids
    cli(*where(sandbox), "--state-dir", "state", "--sink", "parquet", "-o", "sinks.parquet.path=out")
    exported = ds.dataset(place / "out", format="parquet").to_table()
    assert sorted(exported["event_id"].to_pylist()) == sorted(ids)


def test_on_a_terminal_a_row_is_a_line_of_80_columns_and_no_text_acts_on_it(
    served: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    sandbox = served(events=30)
    hostile = "\x1b[2J\u202erm -rf\x07" + "w" * 200
    [record] = [dict(one) for one in list(sandbox.world.records(sandbox.world.accounts[0].id))[:1]]
    now = datetime.now(UTC) - timedelta(minutes=1)
    record["action"] = {**record["action"], "description": hostile, "time": now.isoformat().replace("+00:00", "Z")}
    sandbox.world.add(sandbox.world.accounts[0].id, [record])
    monkeypatch.setenv("TERM", "xterm-256color")
    monkeypatch.setenv("COLUMNS", "80")
    ours, theirs = pty.openpty()
    command = [sys.executable, "-m", "cfaudit_export", "events", *where(sandbox), "-n", "20", "--recover", "off"]
    running = subprocess.Popen(command, stdout=theirs, stderr=subprocess.PIPE)
    os.close(theirs)
    seen = b""
    try:
        while piece := os.read(ours, 65_536):
            seen += piece
    except OSError:  # how the end of a pseudo terminal looks on Linux
        pass
    _, err = running.communicate(timeout=60)
    os.close(ours)
    assert running.returncode == 0, err
    text = seen.decode()
    for style in ("\x1b[1m", "\x1b[0m"):  # the heads are bold
        text = text.replace(style, "")
    lines = text.splitlines()
    assert len(lines) == 21
    assert max(map(len, lines)) <= 80
    assert "\x1b" not in text
    assert "\u202e" not in text
    assert r"\x1b[2J\u202erm" in lines[1]


@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        (("--format", "xml"), "--format: expected one of table, csv, json, ndjson, not 'xml'"),
        (("-n", "0"), "-n: expected 1 or more"),
    ],
)
def test_what_cannot_be_meant_is_said(cli: Any, place: Path, arguments: tuple[str, ...], words: str) -> None:
    result = cli("events", *arguments)
    assert result.code == 2
    assert words in result.line


def test_columns_of_the_table_can_be_chosen(served: Any, cli: Any) -> None:
    sandbox = served(events=40)
    run = partial(cli, "events", *where(sandbox), "-n", "5", "--recover", "off")
    assert run().out.splitlines()[0].split() == ["time", "who", "what", "on", "result", "credential"]
    heads, *rows = run("--columns", "time, who,event_id").out.splitlines()
    assert heads.split() == ["time", "who", "event_id"]
    assert [row.split()[-1] for row in rows] == [one["event_id"] for one in json.loads(run("--format", "json").out)]


@pytest.mark.parametrize(
    ("arguments", "said"),
    [
        (("--columns", "whom"), "--columns: no column 'whom'; did you mean 'who'? (columns: time, who, what, on,"),
        (("--columns", ", "), "--columns: name at least one column"),
        (("--columns", "who", "--format", "csv"), "--columns is for the table; other formats have all columns"),
    ],
)
def test_columns_that_cannot_be_shown_are_refused(cli: Any, arguments: tuple[str, ...], said: str) -> None:
    result = cli("events", *arguments)
    assert (result.code, said in result.line) == (2, True), result.err
