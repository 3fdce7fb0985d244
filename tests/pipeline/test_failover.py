"""`source = "auto"`: which source reads a stream, and how the other one goes on when its server is gone."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, replace
from datetime import UTC, datetime, timedelta
from typing import Any

import pytest
from starlette.responses import PlainTextResponse

from cfaudit_export.app.compose import Assembly, compose
from cfaudit_export.app.export import export
from cfaudit_export.core.model import RunReport
from cfaudit_export.errors import ExitCode
from cfaudit_export.plugin.registry import load_plugins
from cfaudit_export.settings import Settings
from cfaudit_sandbox.codemode.app import CODEMODE_PREFIX

PATHS = {"codemode": CODEMODE_PREFIX, "auditlogs": "/mcp"}
AWAY = "http://127.0.0.1:9/mcp"


def workshop_of(rig: Any, *, token: str = "account", **more: Any) -> Assembly:
    known = {"budget_calls": 0, "retry_seconds": 1.0, "page_size": 25, "piece_rows": 25, "concurrency": 1}
    urls = {"auditlogs": rig.sandbox.mcp_url, "codemode": rig.sandbox.codemode_url}
    settings = Settings(
        sink=("parquet",),
        sinks={"parquet": {"path": str(rig.root / "out")}},
        sources={name: {"server_url": url, **known, **more.pop(name, {})} for name, url in urls.items()},
        recover={"mode": "off"},
        settle_lag=timedelta(0),
        state_dir=rig.root,
        **more,
    )
    environ = {"CLOUDFLARE_API_TOKEN": rig.world.tokens[token]}
    return compose(settings, load_plugins(environ={}), environ=environ, clock=lambda: rig.now)


def run(rig: Any, account: str | None = None, **more: Any) -> RunReport:
    return export(workshop_of(rig, **more), rig.stream.account_id if account is None else account)


@dataclass
class Door:
    """Stands before a server of the sandbox, and answers itself after so many requests."""

    behind: Any
    status: int
    open_for: int = 0
    asked: int = 0

    async def __call__(self, scope: Any, receive: Any, send: Any) -> None:
        self.asked += 1
        if self.asked > self.open_for:
            await PlainTextResponse("not here any more", self.status)(scope, receive, send)
        else:
            await self.behind(scope, receive, send)


def close_door(rig: Any, source: str, status: int = 404, open_for: int = 0) -> Door:
    """Let the server of a source be gone after so many requests."""
    app, path = rig.sandbox.app, PATHS[source]
    mounted = app.mounts.get(path)
    if mounted is None:  # the usual server has no mount of its own

        async def mounted(scope: Any, receive: Any, send: Any) -> None:
            others, app.mounts = app.mounts, {}
            try:
                await app(scope, receive, send)
            finally:
                app.mounts = others

    app.mounts[path] = door = Door(mounted, status, open_for)
    return door


def moment(record: dict[str, Any]) -> datetime:
    at = datetime.fromisoformat(record["action"]["time"])
    return at.astimezone(UTC) if at.tzinfo else at.replace(tzinfo=UTC)


def assert_everything_once(rig: Any) -> set[str]:
    """Compare what was exported with the truth; return the sources that brought it."""
    rows, records = rig.rows(), list(rig.world.records(rig.stream.account_id))
    assert len({row["event_key"] for row in rows}) == len(rows), "an event was delivered twice"
    assert sorted(row["event_time"] for row in rows) == sorted(map(moment, records))
    return {row["source"] for row in rows}


def test_a_stream_that_begins_is_read_as_whole_records(rig_of: Callable[..., Any]) -> None:
    rig = rig_of(events=100)
    report = run(rig)
    assert (report.exit_code, report.stream.source) == (0, "codemode")
    assert rig.checkpoint().stream.source == "codemode"
    assert assert_everything_once(rig) == {"codemode"}


@pytest.mark.parametrize("why", ["gone", "tool"])
def test_where_the_preferred_source_cannot_be_used_the_other_one_reads_and_stays(
    rig_of: Callable[..., Any], why: str
) -> None:
    rig = rig_of(events=60)
    door = close_door(rig, "codemode") if why == "gone" else None
    first = run(rig, **({"codemode": {"tool": "perform"}} if why == "tool" else {}))
    assert (first.exit_code, first.stream.source) == (0, "auditlogs")
    assert assert_everything_once(rig) == {"auditlogs"}
    if door:
        door.open_for = 1_000_000
    again = run(rig)
    assert (again.exit_code, again.stream.source) == (0, "auditlogs"), "the choice is kept"


@pytest.mark.parametrize(
    ("first", "how", "account"),
    [("codemode", 404, None), ("codemode", 410, ""), ("codemode", "drift", None), ("auditlogs", 404, None)],
)
def test_the_other_source_goes_on_where_a_server_is_gone_in_the_midst_of_a_run(
    rig_of: Callable[..., Any], first: str, how: int | str, account: str | None
) -> None:
    rig = rig_of(events=150, ties=0.4, twins=0.2)
    if first == "auditlogs":
        rig.now -= timedelta(hours=12)
        run(rig, source="auditlogs")
        rig.now += timedelta(hours=12)
    if isinstance(how, int):
        close_door(rig, first, how, open_for=9 if first == "codemode" else 5)
        report = run(rig, account)
    else:
        assembly = workshop_of(rig)
        half = replace(assembly, request=replace(assembly.request, until=rig.now - timedelta(hours=12)))
        assert half.otherwise
        assert export(half, rig.stream.account_id).exit_code == 0
        rig.sandbox.codemode.isolates.spoil.append(('"action"', '"deed"'))
        report = run(rig, account)
    other = {"codemode": "auditlogs", "auditlogs": "codemode"}[first]
    assert (report.exit_code, report.error, report.stream.source) == (0, None, other)
    assert f"source '{first}' is unavailable" in report.extra["failover"]
    assert assert_everything_once(rig) == {"codemode", "auditlogs"}
    assert [sink.rows for sink in report.sinks] == [report.sinks[0].rows]
    quiet = run(rig)
    assert (quiet.exit_code, quiet.stream.source, quiet.extra.get("failover")) == (0, other, None)
    assert len(list(rig.store.streams())) == 1


def test_an_account_that_the_other_server_does_not_name_is_not_exported_again_under_another_name(
    rig_of: Callable[..., Any],
) -> None:
    rig = rig_of(events=150)
    close_door(rig, "codemode", open_for=9)
    assert run(rig, "").stream.source == "auditlogs", "within the run it is known"
    assert_everything_once(rig)
    unnamed = run(rig, "")
    assert unnamed.exit_code == ExitCode.SETTINGS
    assert unnamed.error
    assert f"use --account {rig.stream.account_id}" in unnamed.error
    assert len(list(rig.store.streams())) == 1


def test_what_both_sources_did_is_in_one_report(rig_of: Callable[..., Any]) -> None:
    rig = rig_of(events=150)
    close_door(rig, "codemode", open_for=9)
    report = run(rig)
    assert sum(sink.rows for sink in report.sinks) == len(rig.rows()) == 150
    assert report.calls >= report.windows >= 150 // 25


def test_a_server_that_is_away_is_no_reason_to_change(rig_of: Callable[..., Any]) -> None:
    rig = rig_of(events=40)
    away = run(rig, codemode={"server_url": AWAY})
    assert (away.exit_code, list(rig.store.streams())) == (ExitCode.TRY_AGAIN, [])
    assert run(rig).stream.source == "codemode"
    rig.sandbox.upstream.fail_next(503, times=50)
    failed = run(rig)
    assert (failed.exit_code, failed.extra.get("failover")) == (ExitCode.TRY_AGAIN, None)
    assert rig.checkpoint().stream.source == "codemode"


def test_where_both_are_gone_the_error_names_both_and_the_choice_stays(rig_of: Callable[..., Any]) -> None:
    rig = rig_of(events=40)
    assert run(rig).exit_code == 0
    for source in PATHS:
        close_door(rig, source)
    report = run(rig)
    assert report.exit_code == ExitCode.PROTOCOL
    assert report.error
    assert "source 'codemode' is unavailable" in report.error
    assert "source 'auditlogs' failed too" in report.error
    assert rig.checkpoint().stream.source == "codemode"


def test_a_source_that_is_named_gives_way_to_none(rig_of: Callable[..., Any]) -> None:
    rig = rig_of(events=40)
    assert run(rig, source="codemode").exit_code == 0
    close_door(rig, "codemode")
    assert run(rig, source="codemode").exit_code == ExitCode.PROTOCOL
    assert run(rig, source="auditlogs").exit_code == 0
    assert run(rig).stream.source == "auditlogs", "what is named once is the choice from then on"
