"""Many accounts, over HTTP: all of a credential, and each for itself."""

from __future__ import annotations

import json
from collections.abc import Iterator
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import pyarrow.dataset as ds
import pytest
from prometheus_client.parser import text_string_to_metric_families

from cfaudit_sandbox import Sandbox, SandboxOptions, World

EVENTS = 40


@pytest.fixture
def three(place: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Sandbox]:
    """A server with three accounts, and the token of a user who sees all of them."""
    with Sandbox(World(SandboxOptions(events=EVENTS, accounts=3, span_seconds=86_400.0))) as running:
        monkeypatch.setenv("CLOUDFLARE_API_TOKEN", running.world.tokens["user"])
        yield running


def options(sandbox: Sandbox, account: str = "all") -> tuple[str, ...]:
    where = ("--server-url", sandbox.mcp_url, "--sink", "parquet", "-o", "sinks.parquet.path=out")
    return (*where, "--state-dir", "state", "--account", account, "--recover", "off")


def rows(folder: Path) -> dict[str, int]:
    table = ds.dataset(folder, format="parquet").to_table(columns=["account_id"])
    return {one["values"]: one["counts"] for one in table["account_id"].value_counts().to_pylist()}


def ids(sandbox: Sandbox) -> list[str]:
    return [account.id for account in sandbox.world.accounts]


def test_all_accounts_of_the_credential_are_exported_and_a_table_has_a_row_for_each(
    cli: Any, three: Sandbox, place: Path
) -> None:
    result = cli("run", *options(three), "--log-format", "text")
    assert result.code == 0
    assert rows(place / "out") == dict.fromkeys(ids(three), EVENTS)
    *_, head, first, second, third = result.err.splitlines()
    assert head.split() == ["account", "events", "rows", "gaps", "covered", "until", "exit", "why"]
    assert [line.split()[0] for line in (first, second, third)] == ids(three)
    assert {tuple(line.split()[1:4]) for line in (first, second, third)} == {(str(EVENTS), str(EVENTS), "0")}


@pytest.mark.parametrize(("parallel", "sessions"), [("1", 1), ("2", 3)])
def test_a_session_for_each_that_reads_and_one_question_about_accounts_serve_all_of_them(
    cli: Any, three: Sandbox, parallel: str, sessions: int
) -> None:
    assert cli("run", *options(three), "--parallel", parallel).code == 0
    asked = [seen.method for seen in three.requests.entries]
    assert asked.count("tools/list") == sessions
    assert asked.count("initialize") + asked.count("server/discover") <= 2 * sessions


def test_an_account_that_fails_stops_no_other_and_the_report_says_which(cli: Any, three: Sandbox, place: Path) -> None:
    first, second, third = ids(three)
    assert cli("run", *options(three, second)).code == 0
    [path] = (place / "state" / "checkpoints").glob("*.json")
    path.write_text("{")
    result = cli("run", *options(three), "--json")
    assert result.code == 78
    reports = json.loads(result.out)
    assert {report["stream"]["account_id"]: report["exit_code"] for report in reports} == {
        first: 0,
        second: 78,
        third: 0,
    }
    assert rows(place / "out") == dict.fromkeys(ids(three), EVENTS)
    last = json.loads(result.err.splitlines()[-1])
    assert (last["message"], last["accounts"], last["failed"], last["exit_code"]) == (
        "all accounts finished",
        3,
        [second],
        78,
    )


def test_plan_check_and_status_cope_with_all_accounts(cli: Any, three: Sandbox) -> None:
    plans = json.loads(cli("plan", *options(three), "--json").out)
    assert [plan["stream"]["account_id"] for plan in plans] == ids(three)
    findings = json.loads(cli("check", *options(three), "--json").out)
    assert [one["exit_code"] for one in findings] == [0] * len(findings)
    assert [one["what"] for one in findings].count("reading") == 3
    assert cli("run", *options(three)).code == 0
    [one] = json.loads(cli("status", "--state-dir", "state", "--json", "--account", ids(three)[1]).out)
    assert one["stream"]["account_id"] == ids(three)[1]
    assert len(json.loads(cli("status", "--state-dir", "state", "--json", "--account", "all").out)) == 3
    assert cli("status", "--check", "--state-dir", "state", "--account", "all").code == 0


def test_a_plan_of_an_account_that_fails_leaves_those_of_the_others(cli: Any, three: Sandbox) -> None:
    nobody = "0" * 32
    result = cli("plan", *options(three, nobody), "--account", ids(three)[0], "--json")
    assert result.code == 78
    assert [plan["stream"]["account_id"] for plan in json.loads(result.out)] == ids(three)[:1]
    assert f"account {nobody}: " in result.err


def test_a_token_of_one_account_is_all_it_sees(
    cli: Any, three: Sandbox, place: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("CLOUDFLARE_API_TOKEN", three.world.tokens["account"])
    api = f"sources.auditlogs.api_url={three.url}/client/v4"
    result = cli("run", *options(three), "-o", api, "--json")
    assert result.code == 0
    [report] = json.loads(result.out)
    assert report["stream"]["account_id"] == ids(three)[0]
    assert rows(place / "out") == {ids(three)[0]: EVENTS}


def test_events_of_a_pinned_token_are_not_taken_for_those_of_two_accounts(
    cli: Any, three: Sandbox, place: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("CLOUDFLARE_API_TOKEN", three.world.tokens["account"])
    first, second, _ = ids(three)
    result = cli("run", *options(three, first), "--account", second)
    assert result.code == 78
    assert "the credential belongs to one account" in result.err
    assert rows(place / "out") == {first: EVENTS}
    known = cli("run", *options(three, second), "-o", f"sources.auditlogs.api_url={three.url}/client/v4")
    assert known.code == 78
    assert f"the credential belongs to account {first}" in known.err


def test_a_mistyped_account_that_no_server_knows_is_not_exported_from_its_beginning(
    cli: Any, three: Sandbox, place: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("CLOUDFLARE_API_TOKEN", three.world.tokens["account"])
    first, mistyped, _ = ids(three)
    done = cli("run", *options(three, first), "--log-format", "text")
    assert done.code == 0
    assert "account not verified" in done.err
    assert f"account {first} (not verified), {EVENTS} events" in done.err
    assert f"account {first} (not verified: the server names no account)" in cli("check", *options(three, first)).out
    wrong = cli("run", *options(three, mistyped))
    assert wrong.code == 78
    assert f"use --account {first}" in wrong.err
    assert "--trust-account" in wrong.err
    assert rows(place / "out") == {first: EVENTS}
    vouched = cli("run", *options(three, mistyped), "--trust-account")
    assert vouched.code == 0
    assert "account not verified" not in vouched.err
    assert rows(place / "out") == {first: EVENTS, mistyped: EVENTS}


def test_an_account_that_the_api_confirms_is_verified(
    cli: Any, three: Sandbox, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("CLOUDFLARE_API_TOKEN", three.world.tokens["account"])
    api = f"sources.auditlogs.api_url={three.url}/client/v4"
    assert "not verified" not in cli("check", *options(three, ids(three)[0]), "-o", api).out


def unnamed(sandbox: Sandbox, *more: str) -> tuple[str, ...]:
    """Return the options of a run that names no account."""
    here = ("--sink", "parquet", "-o", "sinks.parquet.path=out", "--state-dir", "state", "--recover", "off")
    return ("run", *here, "--settle-lag", "0s", "-o", f"sources.codemode.server_url={sandbox.codemode_url}", *more)


@pytest.fixture
def pinned(cli: Any, place: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Sandbox]:
    """A server, and what was exported of its one account without its id."""
    options = SandboxOptions(events=EVENTS, span_seconds=7_200.0, poison={"api-context": 3}, ties=0.4, twins=0.2)
    with Sandbox(World(options)) as running:
        monkeypatch.setenv("CLOUDFLARE_API_TOKEN", running.world.tokens["account"])
        assert cli(*unnamed(running, "--server-url", running.mcp_url)).code == 65
        assert rows(place / "out") == {"pinned": EVENTS - 3}
        yield running


def keys(folder: Path) -> list[str]:
    found = ds.dataset(folder, format="parquet").to_table(columns=["event_key"])["event_key"].to_pylist()
    assert len(set(found)) == len(found)
    return found


@pytest.mark.parametrize(
    "how", [("--source", "codemode"), ("--fill-gaps-from", "codemode")], ids=["moves", "is filled"]
)
def test_an_account_without_a_name_goes_on_by_another_source_and_no_event_is_there_twice(
    cli: Any, pinned: Sandbox, place: Path, how: tuple[str, ...]
) -> None:
    more = ("--account", "pinned", *how, "-o", f"sources.auditlogs.server_url={pinned.mcp_url}")
    done = cli(*unnamed(pinned, *more))
    assert done.code == 0, done.err
    assert len(keys(place / "out")) == EVENTS
    assert rows(place / "out") == {"pinned": EVENTS}


def test_an_account_without_a_name_keeps_it_where_the_server_begins_to_tell_the_id(
    cli: Any, pinned: Sandbox, place: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    told = ("--server-url", pinned.mcp_url, "-o", f"sources.auditlogs.api_url={pinned.url}/client/v4")
    assert cli(*unnamed(pinned, *told, "--account", "pinned")).code == 65
    monkeypatch.setenv("CLOUDFLARE_API_TOKEN", pinned.world.tokens["user"])  # its tool takes the account
    assert cli(*unnamed(pinned, "--server-url", pinned.mcp_url, "--account", "pinned")).code == 65
    assert rows(place / "out") == {"pinned": EVENTS - 3}


@pytest.mark.parametrize("source", ["auditlogs", "codemode"])
def test_an_account_whose_id_turns_up_later_is_not_exported_again_unasked(
    cli: Any, pinned: Sandbox, place: Path, source: str
) -> None:
    [account] = ids(pinned)
    urls = ("-o", f"sources.auditlogs.server_url={pinned.mcp_url}")
    told = (*urls, "--source", source, "-o", f"sources.auditlogs.api_url={pinned.url}/client/v4")
    stopped = cli(*unnamed(pinned, *told))
    assert stopped.code == 78
    assert f"if it is '{account}', use --account pinned" in stopped.err
    assert rows(place / "out") == {"pinned": EVENTS - 3}
    wanted = cli(*unnamed(pinned, *told, "--account", account))
    assert wanted.code in (0, 65)
    assert "an account was exported before without its id" in wanted.err
    assert rows(place / "out")[account] >= EVENTS - 3
    assert "without its id" not in cli(*unnamed(pinned, *told)).err, "it is settled now"


def test_slices_of_an_account_without_a_name_can_be_run(cli: Any, pinned: Sandbox) -> None:
    where = ("--server-url", pinned.mcp_url, *unnamed(pinned)[1:])
    parts = json.loads(cli("plan", *where, "--since", "3h", "--slices", "2", "--json").out)
    assert [part["account"] for part in parts] == ["pinned", "pinned"]
    for part in parts:
        done = cli("run", *where, "--account", "pinned", "--since", part["since"], "--until", part["until"], "--slice")
        assert done.code in (0, 65), done.err


@pytest.fixture
def crowd(place: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Sandbox]:
    """A server with more accounts than it lists."""
    with Sandbox(World(SandboxOptions(events=2, accounts=23, span_seconds=3_600.0))) as running:
        monkeypatch.setenv("CLOUDFLARE_API_TOKEN", running.world.tokens["user"])
        yield running


def test_accounts_that_the_server_does_not_list_are_said_to_be_possible(cli: Any, crowd: Sandbox, place: Path) -> None:
    result = cli("run", *options(crowd), "--json")
    assert result.code == 0
    assert len(json.loads(result.out)) == 20
    assert "the server lists no more accounts than these, whether there are more or not" in result.err


def test_accounts_that_only_the_api_knows_are_missed_aloud(cli: Any, crowd: Sandbox, place: Path) -> None:
    result = cli("run", *options(crowd), "-o", f"sources.auditlogs.api_url={crowd.url}/client/v4", "--json")
    assert result.code == 78
    codes = {report["stream"]["account_id"]: report["exit_code"] for report in json.loads(result.out)}
    assert codes == dict.fromkeys(ids(crowd)[:20], 0) | dict.fromkeys(ids(crowd)[20:], 78)
    assert result.err.count("export this one with an account token of its own") == 3
    assert rows(place / "out") == dict.fromkeys(ids(crowd)[:20], 2)


def test_all_goes_with_no_other_account(cli: Any, three: Sandbox) -> None:
    result = cli("run", *options(three), "--account", ids(three)[0])
    assert result.code == 2
    assert "or 'all', not" in result.err


def test_the_metrics_file_has_every_account(cli: Any, three: Sandbox, place: Path) -> None:
    assert cli("run", *options(three), "--metrics-file", "cfaudit.prom").code == 0
    families = {one.name: one for one in text_string_to_metric_families((place / "cfaudit.prom").read_text())}
    rows_of = {sample.labels["account"]: sample.value for sample in families["cfaudit_rows"].samples}
    assert rows_of == dict.fromkeys(ids(three), EVENTS)
    covered = [sample.value for sample in families["cfaudit_covered_timestamp_seconds"].samples]
    settled = (datetime.now(UTC) - timedelta(minutes=5)).timestamp()
    assert all(settled - 120 < at <= settled for at in covered)
