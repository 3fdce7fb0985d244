"""Several accounts side by side: the same as one after the other, in less time, and as easy to stop."""

from __future__ import annotations

import json
import signal
import subprocess
import sys
import threading
import time
from collections import Counter
from collections.abc import Iterator
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import pyarrow.dataset as ds
import pytest

from cfaudit_export.api import Given, export_all, prepare
from cfaudit_sandbox import Sandbox, SandboxOptions, World

EVENTS = 30
ACCOUNTS = 6


@pytest.fixture
def six(place: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Sandbox]:
    """A server with six accounts, and the token of a user who sees all of them."""
    options = SandboxOptions(events=EVENTS, accounts=ACCOUNTS, span_seconds=86_400.0, twins=0.2, ties=0.3)
    with Sandbox(World(options)) as running:
        monkeypatch.setenv("CLOUDFLARE_API_TOKEN", running.world.tokens["user"])
        yield running


def options(sandbox: Sandbox, *more: str, to: str = "out") -> tuple[str, ...]:
    where = ("--source", "codemode", "--server-url", sandbox.codemode_url, "--state-dir", f"{to}-state")
    return (*where, "--sink", "parquet", "-o", f"sinks.parquet.path={to}", "--account", "all", *more)


def keys(folder: Path) -> Counter[str]:
    found = ds.dataset(folder, format="parquet").to_table(columns=["account_id", "event_key"])
    return Counter(map("/".join, zip(*(column.to_pylist() for column in found.columns), strict=True)))


def test_side_by_side_is_the_same_as_one_after_the_other(cli: Any, six: Sandbox, place: Path) -> None:
    one, many = options(six, "--parallel", "1", "--json"), options(six, "--parallel", "5", "--json", to="many")
    reports = [json.loads(cli("run", *each).out) for each in (one, many)]
    order = [account.id for account in six.world.accounts]
    assert [[report["stream"]["account_id"] for report in each] for each in reports] == [order, order]
    assert keys(place / "out") == keys(place / "many")
    assert keys(place / "out").total() == ACCOUNTS * EVENTS
    assert [[report["extra"]["retries"] for report in each] for each in reports] == [[0] * ACCOUNTS] * 2
    again = cli("run", *many)
    assert [one["sinks"][0]["rows"] for one in json.loads(again.out)] == [0] * ACCOUNTS
    assert keys(place / "many") == keys(place / "out")


def test_each_line_of_the_log_says_which_account_it_is_about(cli: Any, six: Sandbox) -> None:
    lines = [json.loads(line) for line in cli("run", *options(six, "-v")).err.splitlines()]
    told = {line["account"] for line in lines if line["message"] in ("planned", "window done", "batch loaded")}
    assert told == {account.id for account in six.world.accounts}
    assert not [line for line in lines if line["message"] == "planned" and "account" not in line]


def test_those_with_at_most_a_day_to_read_go_first(cli: Any, six: Sandbox) -> None:
    known = six.world.accounts[4].id
    assert cli("run", *options(six)[:-1], known).code == 0
    ended = cli("run", *options(six, "--parallel", "1"))
    order = [line["account"] for line in map(json.loads, ended.err.splitlines()) if line["message"] == "run finished"]
    rest = [account.id for account in six.world.accounts if account.id != known]
    assert order == [known, *rest]


@pytest.mark.parametrize("given", ["0", "65", "many", "-1"])
def test_how_many_at_once_is_a_number_from_1_to_64(
    cli: Any, six: Sandbox, monkeypatch: pytest.MonkeyPatch, given: str
) -> None:
    typed = cli("run", *options(six, f"--parallel={given}"))
    assert (typed.code, "a whole number from 1 to 64" in typed.err) == (2, True)
    monkeypatch.setenv("CFAUDIT_PARALLEL", given)
    found = cli("run", *options(six))
    assert (found.code, "a whole number from 1 to 64" in found.err) == (78, True)


def test_a_slice_is_for_one_account(cli: Any, six: Sandbox) -> None:
    part = ("--slice", "--since", "2d", "--until", "1d")
    refused = cli("run", *options(six, *part, "--parallel", "8"))
    assert (refused.code, "--parallel is for several accounts" in refused.err) == (2, True)
    assert cli("run", *options(six, *part, "--parallel", "1")).code == 0


def test_a_caller_from_python_that_breaks_off_ends_all_that_is_going_on(six: Sandbox, place: Path) -> None:
    flags = {"source": "codemode", "server_url": six.codemode_url, "account": ["all"], "sink": ["parquet"]}
    given = Given(None, (f"sinks.parquet.path={place / 'out'}",), {**flags, "state_dir": str(place / "state")})
    environ = {"CLOUDFLARE_API_TOKEN": six.world.tokens["user"]}
    runs = export_all(prepare(given, environ=environ, clock=lambda: datetime.now(UTC)))
    next(runs)
    runs.close()  # type: ignore[attr-defined]  # it is a generator
    for one in threading.enumerate():
        if one.name.startswith("accounts-"):  # it was told to end, and on a busy machine that may take its time
            one.join()
    assert [
        report.exit_code for report in export_all(prepare(given, environ=environ, clock=lambda: datetime.now(UTC)))
    ] == [0] * 6
    assert keys(place / "out").total() == ACCOUNTS * EVENTS
    assert max(keys(place / "out").values()) == 1


@pytest.mark.usefixtures("hanging")
def test_sinks_that_hang_are_left_within_ten_seconds_and_nothing_is_lost(cli: Any, six: Sandbox, place: Path) -> None:
    command = [sys.executable, "-m", "cfaudit_export", "run", *options(six, "--sink", "hanging")]
    running = subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True)
    assert running.stdout
    assert [running.stdout.readline() for _ in range(4)] == ["loading\n"] * 4
    running.send_signal(signal.SIGTERM)
    since = time.monotonic()
    _, err = running.communicate(timeout=30)
    assert running.returncode == 143
    assert time.monotonic() - since < 10
    assert "stopped; finished work is saved" in err.splitlines()[-1]
    assert cli("run", *options(six)).code == 0
    assert keys(place / "out").total() == ACCOUNTS * EVENTS
    assert max(keys(place / "out").values()) == 1


def test_accounts_that_wait_for_their_server_end_at_once(six: Sandbox) -> None:
    accounts = [word for account in six.world.accounts for word in ("--account", account.id)]
    away = ("--source", "codemode", "--server-url", "http://127.0.0.1:9/mcp", *accounts)
    command = [sys.executable, "-m", "cfaudit_export", "run", *options(six)[4:-2], *away]
    running = subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True)
    assert running.stderr
    assert "trying again" in running.stderr.readline()
    running.send_signal(signal.SIGINT)
    _, err = running.communicate(timeout=30)
    assert running.returncode == 130
    assert "Traceback" not in err
    assert "stopped; finished work is saved" in err.splitlines()[-1]
