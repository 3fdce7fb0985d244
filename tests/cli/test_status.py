from __future__ import annotations

import json
from dataclasses import replace
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import pytest

from cfaudit_export.auth.grants import Grant
from cfaudit_export.auth.registration import Client
from cfaudit_export.auth.store import GrantStore
from cfaudit_sandbox import Sandbox


def test_before_the_first_run_there_is_nothing(cli: Any) -> None:
    result = cli("status", "--state-dir", "state")
    assert result.code == 0
    assert result.out == "nothing exported yet; no checkpoints under 'state'\n"
    assert cli("status", "--state-dir", "state", "--json").out == "[]\n"


def test_it_tells_how_far_each_stream_and_sink_is_without_server_or_token(
    cli: Any, target: tuple[str, ...], sandbox: Sandbox, monkeypatch: pytest.MonkeyPatch
) -> None:
    second = sandbox.world.accounts[1].id
    assert cli("run", *target, "--account", second, "--since", "40d").code == 0
    monkeypatch.delenv("CLOUDFLARE_API_TOKEN")
    streams = json.loads(cli("status", "--state-dir", "state", "--json").out)
    assert {stream["stream"]["account_id"] for stream in streams} == {one.id for one in sandbox.world.accounts}
    for stream in streams:
        sink = stream["sinks"]["parquet"]
        assert sink["rows"] == 300
        assert sink["intents"] == sink["holes"] == stream["gaps"] == []
        assert sink["covered_until"] == sink["covered"][-1]["before"]
        assert 299 < sink["lag_seconds"] < 400
        assert "seen" not in sink
    text = cli("status", "--state-dir", "state").out
    for stream in streams:
        assert f"account {stream['stream']['account_id']}, auditlogs (stream {stream['stream']['id']})" in text
    assert text.count("covered until") == 2


def test_what_was_never_read_in_between_is_a_hole(cli: Any, target: tuple[str, ...]) -> None:
    for since, until in (("20d", "15d"), ("10d", "5d")):
        assert cli(*target, "--since", since, "--until", until).code == 0
    [stream] = json.loads(cli("status", "--state-dir", "state", "--json").out)
    [hole] = stream["sinks"]["parquet"]["holes"]
    length = datetime.fromisoformat(hole["before"]) - datetime.fromisoformat(hole["since"])
    assert length.days == 5 or length.total_seconds() == pytest.approx(5 * 86_400, abs=60)


def test_a_damaged_checkpoint_is_named_and_the_others_are_shown(cli: Any, target: tuple[str, ...], place: Path) -> None:
    cli(*target)
    damaged = place / "state" / "checkpoints" / f"{'0' * 16}.json"
    damaged.write_text("{")
    result = cli("status", "--state-dir", "state")
    assert result.code == 78
    assert damaged.name in result.line
    assert "parquet" in result.out


def test_slices_are_shown_as_long_as_their_time_is_lent(cli: Any, target: tuple[str, ...]) -> None:
    parts = json.loads(cli("plan", *target, "--since", "20d", "--until", "10d", "--slices", "2", "--json").out)
    options = [("--since", part["since"], "--until", part["until"], "--slice") for part in parts]
    cli(*target, *options[0])
    down = ("-o", "sinks.parquet.path=" + "x" * 300)  # no such folder can be made
    assert cli(*target, *options[1], *down).code != 0
    main, part = sorted(json.loads(cli("status", "--state-dir", "state", "--json").out), key=lambda one: one["leased"])[
        ::-1
    ]
    window = {"since": parts[1]["since"], "before": parts[1]["until"]}
    assert main["leased"] == [part["stream"]["slice"]] == [window]
    text = cli("status", "--state-dir", "state").out
    assert f"leased to slice {window['since']}/{window['before']}, until a run of it has finished" in text
    assert f", slice {window['since']}/{window['before']} (stream " in text
    assert cli(*target, *options[1]).code == 0
    [stream] = json.loads(cli("status", "--state-dir", "state", "--json").out)
    assert (stream["leased"], stream["sinks"]["parquet"]["holes"]) == ([], [])


def test_a_sign_in_that_was_refused_for_good_is_remembered(
    cli: Any, target: tuple[str, ...], sandbox: Sandbox, place: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    assert cli("run", *target).code == 0
    monkeypatch.delenv("CLOUDFLARE_API_TOKEN")
    now = datetime.now(UTC)
    refused = Grant(
        issuer="https://as.example",
        resource=sandbox.mcp_url,
        profile="default",
        audience=sandbox.mcp_url,
        client=Client(id="me", registered_at=now),
        token_endpoint="https://as.example/token",
        access_token="access-secret",
        signed_in_at=now,
        renewed_at=now,
        grant_expires_at=now + timedelta(days=20),
    )
    store, where = GrantStore(place / "state"), ("--state-dir", "state", "--server-url", sandbox.mcp_url)
    store.add(refused)
    assert cli("status", *where).code == 0
    assert cli("status", "--check", *where).code == 0
    store.update(replace(refused, refused_at=now, refusal="invalid_grant"))
    shown = cli("status", *where)
    assert shown.code == 77
    assert "was refused on" in shown.err
    assert "cfaudit-export login" in shown.err
    checked = cli("status", "--check", *where)
    assert checked.code == 2
    assert checked.out.startswith("CRITICAL - the sign-in at")
    assert "access-secret" not in shown.err + checked.out
