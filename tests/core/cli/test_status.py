from __future__ import annotations

import json
from datetime import datetime
from pathlib import Path
from typing import Any

import pytest

from cfaudit_export.sandbox import Sandbox


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
    main, part = sorted(json.loads(cli("status", "--state-dir", "state", "--json").out), key=lambda one: one["lent"])[
        ::-1
    ]
    window = {"since": parts[1]["since"], "before": parts[1]["until"]}
    assert main["lent"] == [part["stream"]["slice"]] == [window]
    text = cli("status", "--state-dir", "state").out
    assert f"lent to slice {window['since']}/{window['before']}, until a run of it has finished" in text
    assert f", slice {window['since']}/{window['before']} (stream " in text
    assert cli(*target, *options[1]).code == 0
    [stream] = json.loads(cli("status", "--state-dir", "state", "--json").out)
    assert (stream["lent"], stream["sinks"]["parquet"]["holes"]) == ([], [])
