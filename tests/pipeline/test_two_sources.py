"""One log, two sources: a stream goes on by the other one, and what one cannot read is read by the other."""

from __future__ import annotations

import os
from collections import Counter
from collections.abc import Callable
from datetime import UTC, datetime, timedelta
from typing import Any

import pytest

from cfaudit_export.app.compose import compose
from cfaudit_export.app.export import export
from cfaudit_export.core.model import MILLISECOND, Checkpoint, RunReport, Window, iso
from cfaudit_export.errors import ExitCode, SettingsError
from cfaudit_export.plugin.registry import load_plugins
from cfaudit_export.settings import Settings
from cfaudit_sandbox.world.text import js

HOUR = timedelta(hours=1)
DAY = timedelta(days=1)


def settings_of(rig: Any, source: str = "auditlogs", fill: str | None = None, **more: Any) -> Settings:
    known = {"budget_calls": 0, "retry_seconds": 1.0}
    urls = {"auditlogs": rig.sandbox.mcp_url, "codemode": rig.sandbox.codemode_url}
    given = {
        "sink": ("parquet",),
        "sinks": {"parquet": {"path": str(rig.root / "out")}},
        "sources": {name: {"server_url": url, **known, **more.pop(name, {})} for name, url in urls.items()},
        "recover": {"mode": "off"},
        "settle_lag": timedelta(0),
        **more,
    }
    return Settings(source=source, fill_gaps_from=fill, state_dir=rig.root, **given)


def run(
    rig: Any, source: str = "auditlogs", fill: str | None = None, *, token: str = "account", **more: Any
) -> RunReport:
    environ = {"CLOUDFLARE_API_TOKEN": rig.world.tokens[token]}
    assembly = compose(
        settings_of(rig, source, fill, **more), load_plugins(environ={}), environ=environ, clock=lambda: rig.now
    )
    return export(assembly, rig.stream.account_id)


def checkpoint_of(rig: Any) -> Checkpoint:
    return rig.checkpoint()


def moment(record: dict[str, Any]) -> datetime:
    at = datetime.fromisoformat(record["action"]["time"])
    return at.astimezone(UTC) if at.tzinfo else at.replace(tzinfo=UTC)


def assert_every_event_once(rig: Any, *, lacking: int = 0) -> list[dict[str, Any]]:
    """Compare what was exported with the records of the account, whichever source brought them."""
    rows, records = rig.rows(), list(rig.world.records(rig.stream.account_id))
    assert len({row["event_key"] for row in rows}) == len(rows), "an event was delivered twice"
    times, truth = Counter(row["event_time"] for row in rows), Counter(map(moment, records))
    assert times <= truth
    assert (truth - times).total() == lacking
    whole = Counter(row["event_raw"] for row in rows if row["source"] == "codemode")
    assert whole <= Counter(map(js, records))
    return rows


ODD_ROWS = 8
ODD = {"events": 100, "ties": 0.5, "twins": 0.3, "poison": {"all": ODD_ROWS}, "poison_placement": "tied"}


@pytest.mark.parametrize(("first", "second"), [("auditlogs", "codemode"), ("codemode", "auditlogs")])
def test_a_stream_goes_on_by_another_source_and_back_without_doubling_an_event(
    rig_of: Callable[..., Any], first: str, second: str
) -> None:
    rig = rig_of(events=400, ties=0.5, twins=0.3)
    for turn, source in enumerate((first, second, first)):
        report = run(rig, source)
        assert report.exit_code == ExitCode.OK, report.error
        fresh = 400 if not turn else 40
        assert report.sinks[0].rows == fresh
        assert (report.windows > 0) == bool(report.events)
        assert_every_event_once(rig)
        rig.grow(30, rig.now, rig.now + HOUR)
        rig.grow(10, rig.now - HOUR, rig.now)  # latecomers: the other source must tell them from what is there
        rig.now += HOUR
    assert checkpoint_of(rig).stream.source == first
    assert len(checkpoint_of(rig).sinks["parquet"].covered) == 1
    assert {row["source"] for row in rig.rows()} == {"auditlogs", "codemode"}


def test_the_move_is_told_once_and_is_no_change_of_the_tool(rig: Any, caplog: pytest.LogCaptureFixture) -> None:
    caplog.set_level("INFO")
    run(rig)
    for _ in range(2):
        run(rig, "codemode")
    told = [record.message for record in caplog.records if "another source" in record.message]
    assert told == ["continuing where another source stopped"]
    assert not any("tool has changed" in record.message for record in caplog.records)


def test_gaps_of_the_first_source_close_when_the_stream_moves_to_one_that_reads_them(rig_of: Any) -> None:
    rig = rig_of(**ODD)
    assert run(rig).exit_code == ExitCode.INCOMPLETE
    assert_every_event_once(rig, lacking=ODD_ROWS)
    rig.now += HOUR
    for _ in range(30):
        if run(rig, "codemode").exit_code == ExitCode.OK:
            break
        rig.now += DAY
    assert checkpoint_of(rig).gaps == ()
    assert_every_event_once(rig)


def test_what_the_first_source_cannot_read_is_read_by_the_second_within_the_run(rig_of: Any) -> None:
    rig = rig_of(**ODD)
    report = run(rig, fill="codemode")
    assert report.exit_code == ExitCode.OK, report.error
    assert report.gaps == ()
    rows = assert_every_event_once(rig)
    by_source = Counter((row["source"], row["fidelity"]) for row in rows)
    assert by_source["codemode", "full"] >= ODD_ROWS
    assert set(by_source) == {("codemode", "full"), ("auditlogs", "trimmed")}
    for _ in range(2):
        rig.now += 2 * HOUR
        rig.grow(80, rig.now - HOUR, rig.now)
        assert run(rig, fill="codemode").sinks[0].rows == 80
    assert_every_event_once(rig)


def test_a_gap_that_another_source_fills_is_not_narrowed_first_and_is_remembered_as_short_as_can_be(
    rig_of: Any,
) -> None:
    rig = rig_of(events=300, ties=0.0, poison={"array-response": 8})
    report = run(rig, fill="codemode")
    assert (report.exit_code, report.gaps) == (ExitCode.OK, ())
    assert report.calls <= 7 * 8 + 4
    assert {one.window.duration for one in checkpoint_of(rig).sinks["parquet"].seen.refilled} == {MILLISECOND}
    assert_every_event_once(rig)


def test_an_event_too_large_for_codemode_is_a_gap_until_the_other_source_fills_it(rig_of: Any) -> None:
    rig = rig_of(events=20)
    at = rig.now - 2 * HOUR
    huge = next(iter(rig.world.records(rig.stream.account_id))) | {"id": "huge"}
    huge["action"] = {**huge["action"], "time": iso(at)}
    huge["resource"] = {**huge["resource"], "response": {"text": "x" * 13_000_000}}
    rig.world.add(rig.stream.account_id, [huge])
    report = run(rig, "codemode")
    assert (report.exit_code, report.error) == (ExitCode.INCOMPLETE, None)
    [gap] = checkpoint_of(rig).gaps
    assert (gap.window, gap.rows) == (Window(at, at + timedelta(milliseconds=1)), 1)
    assert_every_event_once(rig, lacking=1)
    assert run(rig, "codemode", "auditlogs").exit_code == ExitCode.OK
    assert_every_event_once(rig)


def test_old_gaps_are_filled_when_a_second_source_is_named_later(rig_of: Any) -> None:
    rig = rig_of(events=300, ties=0.5, twins=0.3, poison={"all": 5}, poison_placement="tied")
    run(rig)
    rig.now += 3 * DAY
    run(rig)
    assert checkpoint_of(rig).gaps
    while checkpoint_of(rig).gaps:
        before = len(checkpoint_of(rig).gaps)
        rig.now += 7 * DAY
        run(rig, fill="codemode")
        assert len(checkpoint_of(rig).gaps) < before
    assert_every_event_once(rig)


@pytest.mark.parametrize(
    "trouble",
    [
        {"codemode": {"server_url": "http://127.0.0.1:9/mcp"}},
        {"codemode": {"tool": "nothing"}},
        {"codemode": {"headers": {"X-Key": "NO_SUCH_VARIABLE"}}},
    ],
    ids=["down", "no tool", "settings"],
)
def test_a_second_source_that_fails_leaves_the_gaps_and_all_else_is_delivered(
    rig_of: Any, caplog: pytest.LogCaptureFixture, trouble: dict[str, Any]
) -> None:
    rig = rig_of(**ODD)
    report = run(rig, fill="codemode", **trouble)
    assert report.exit_code == ExitCode.INCOMPLETE
    assert report.error is None
    assert_every_event_once(rig, lacking=ODD_ROWS)
    assert [one.levelname for one in caplog.records if one.message == "gaps cannot be filled"] == ["WARNING"]
    rig.now += HOUR
    while run(rig, fill="codemode").exit_code != ExitCode.OK:
        rig.now += DAY
    assert_every_event_once(rig)


def test_a_second_source_that_fails_on_the_way_leaves_what_it_did_not_read(rig_of: Any) -> None:
    rig = rig_of(**ODD)
    box = rig.sandbox.codemode.isolates.api
    answered = 0

    def fail_later(caller: Any, account_id: str, parameters: Any) -> Any:
        nonlocal answered
        answered += 1
        if answered > 6:
            rig.sandbox.upstream.fail_next(403)
        return original(caller, account_id, parameters)

    original, box.answer = box.answer, fail_later
    report = run(rig, fill="codemode", codemode={"concurrency": 1})
    box.answer = original
    assert report.exit_code == ExitCode.INCOMPLETE
    left = sum(gap.rows for gap in report.gaps)
    assert 0 < left < ODD_ROWS
    assert_every_event_once(rig, lacking=left)
    while run(rig, fill="codemode").exit_code != ExitCode.OK:
        rig.now += DAY
    assert_every_event_once(rig)


DOWN = {"codemode": {"server_url": "http://127.0.0.1:9/mcp", "retry_seconds": 0.1}}


def test_what_was_filled_stays_so_while_the_second_source_is_away(rig_of: Any) -> None:
    rig = rig_of(**ODD | {"span_seconds": 3 * 3600.0})
    assert run(rig, fill="codemode").exit_code == ExitCode.OK
    for _ in range(4):  # meets the rejected rows again, until they are behind the horizon
        rig.now += 2 * HOUR
        report = run(rig, fill="codemode", **DOWN)
        assert (report.exit_code, report.gaps, report.sinks[0].rows) == (ExitCode.OK, (), 0)
    rig.now += DAY
    assert run(rig, fill="codemode").sinks[0].rows == 0
    assert {row["fidelity"] for row in assert_every_event_once(rig)} == {"full", "trimmed"}
    seen = checkpoint_of(rig).sinks["parquet"].seen
    assert (seen.gaps, seen.refilled) == ((), ())


def test_an_odd_latecomer_beside_what_was_filled_is_a_gap_all_the_same(rig_of: Any) -> None:
    rig = rig_of(events=40, span_seconds=3600.0, poison={"api-context": 2})
    assert run(rig, fill="codemode").exit_code == ExitCode.OK
    account = rig.stream.account_id
    odd = [record for record in rig.world.records(account) if record.get("actor", {}).get("context") == "api"]
    late = [{**record, "id": f"late-{number}", "zone": {"name": "late.example"}} for number, record in enumerate(odd)]
    rig.world.add(account, late)
    rig.now += HOUR
    report = run(rig, fill="codemode", **DOWN)
    assert report.exit_code == ExitCode.INCOMPLETE
    assert len(report.gaps) == 2
    for _ in range(3):
        rig.now += 3 * HOUR
        run(rig, fill="codemode", **DOWN)
    for _ in range(2):  # a run tries a few old gaps only
        rig.now += DAY
        report = run(rig, fill="codemode")
    assert report.exit_code == ExitCode.OK
    assert len([row for row in rig.rows() if row["fidelity"] != "shadow"]) == 42
    assert_every_event_once(rig)


def test_a_gap_of_a_whole_window_is_filled_piece_by_piece(rig_of: Any) -> None:
    rig = rig_of(events=400, poison={"api-context": 400})
    report = run(rig, fill="codemode", codemode={"piece_rows": 50, "page_size": 50})
    assert report.exit_code == ExitCode.OK
    assert {row["source"] for row in assert_every_event_once(rig)} == {"codemode"}


def test_a_second_source_without_a_credential_stops_nothing_but_the_filling(
    rig_of: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    rig = rig_of(**ODD)
    sources = {"auditlogs": {"headers": {"Authorization": "GATEWAY"}}}
    monkeypatch.setenv("GATEWAY", f"Bearer {rig.world.tokens['account']}")
    settings = settings_of(rig, fill="codemode", **sources)
    assembly = compose(settings, load_plugins(environ={}), environ=os.environ, clock=lambda: rig.now)
    report = export(assembly, rig.stream.account_id)
    assert report.error is None
    assert report.exit_code == ExitCode.INCOMPLETE
    assert_every_event_once(rig, lacking=ODD_ROWS)


@pytest.mark.parametrize("names", [("auditlogs", "auditlogs"), ("codemode", "codemode")])
def test_a_source_cannot_fill_its_own_gaps(rig: Any, names: tuple[str, str]) -> None:
    with pytest.raises(SettingsError, match="cannot fill gaps"):
        run(rig, *names)


def test_a_filter_that_the_second_source_lacks_is_refused_before_anything_is_read(rig: Any) -> None:
    with pytest.raises(SettingsError, match="'auditlogs' cannot filter by 'product_category'"):
        run(rig, "codemode", "auditlogs", filters={"product_category": "workers"})


def test_a_row_that_the_second_source_reads_at_once_casts_no_shadow(rig_of: Any) -> None:
    rig = rig_of(events=60, span_seconds=3600.0, poison={"array-response": 3})
    assert run(rig, fill="codemode", recover={"mode": "all"}).exit_code == ExitCode.OK
    assert {row["fidelity"] for row in assert_every_event_once(rig)} == {"recovered", "full"}


@pytest.mark.parametrize("how", [{"fill": "codemode"}, {"source": "codemode"}])
def test_what_another_source_reads_takes_the_place_of_its_shadow(rig_of: Any, how: dict[str, str]) -> None:
    rig = rig_of(events=60, span_seconds=3600.0, poison={"array-response": 3})
    run(rig, recover={"mode": "all"})
    shadows = {row["event_id"] for row in rig.rows() if row["fidelity"] == "shadow"}
    assert len(shadows) == 3
    assert run(rig, **how).exit_code == ExitCode.OK
    rows = rig.rows()
    assert {row["replaces"] for row in rows if row["fidelity"] == "full"} == shadows
    assert len(rows) == 63
