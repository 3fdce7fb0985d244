"""The whole export, as its user starts it: processes over real HTTP into Parquet, compared with the server's truth."""

from __future__ import annotations

import json
from collections.abc import Callable
from datetime import UTC, datetime, timedelta
from typing import Any

from cfaudit_export.core.model import to_ms
from cfaudit_export.core.seal import sealed
from cfaudit_sandbox import Sandbox, SandboxOptions, World

DAY = 86_400.0
QUICK = ("--recover", "off", "--settle-lag", "0s")


def world_of(**options: Any) -> World:
    return World(SandboxOptions(**{"events": 2_000, "span_seconds": 20 * DAY, "ties": 0.1, "twins": 0.05, **options}))


def covered_until(place: Any, sink: str = "parquet") -> datetime:
    return place.checkpoint().sinks[sink].covered[-1].before


def test_twenty_thousand_events_arrive_once_and_later_runs_bring_only_what_is_new(
    place_of: Callable[..., Any],
) -> None:
    world = world_of(events=20_000)
    with Sandbox(world) as sandbox:
        place = place_of(sandbox, *QUICK)
        first = place.run()
        assert first.code == 0, first.err
        assert first.report["sinks"][0]["rows"] == 20_000
        place.assert_everything_is_there_once()
        assert place.staged() == []
        files = place.files()

        second = place.run()
        assert second.code == 0, second.err
        assert second.report["sinks"][0]["rows"] == 0
        assert place.files() == files

        world.grow(place.account, 50, covered_until(place), datetime.now(UTC))
        third = place.run()
        assert third.code == 0, third.err
        assert third.report["sinks"][0]["rows"] == 50
        assert third.report["sinks"][0]["late_rows"] == 0
        place.assert_everything_is_there_once()
        assert files < place.files()


def test_rebuilding_columns_adds_and_loses_no_event(place_of: Callable[..., Any]) -> None:
    world = world_of(events=1_500, span_seconds=2 * DAY, ties=0.3, twins=0.2)
    with Sandbox(world) as sandbox:
        place = place_of(sandbox, "--recover", "all", "--settle-lag", "0s")
        done = place.run()
        assert done.code == 0, done.err
        place.assert_everything_is_there_once()
        assert set(place.rows()["fidelity"].to_pylist()) == {"recovered"}
        assert place.run().report["sinks"][0]["rows"] == 0


def test_latecomers_in_the_rescan_horizon_are_delivered_once_and_their_delay_is_measured(
    place_of: Callable[..., Any],
) -> None:
    world = world_of(events=500, span_seconds=DAY)
    with Sandbox(world) as sandbox:
        place = place_of(sandbox, *QUICK)
        assert place.run().code == 0
        now, first_run_at = datetime.now(UTC), place.checkpoint().updated_at
        world.grow(place.account, 40, now - timedelta(hours=3), now - timedelta(hours=2))
        second = place.run()
        assert second.report["sinks"][0]["late_rows"] == 40
        lateness = place.checkpoint().lateness
        assert lateness.count == 40
        # Until the first run, which missed them, and not until the second, which came when it came.
        assert lateness.max_seconds <= (first_run_at - (now - timedelta(hours=3))).total_seconds()
        assert lateness.by_minutes == {360: 40}
        third = place.run()
        assert third.report["sinks"][0]["rows"] == 0
        assert place.checkpoint().lateness == lateness
        place.assert_everything_is_there_once()
        shown = json.loads(place.cli("status", "--json").out)
        assert shown[0]["lateness"]["count"] == 40


def test_a_sink_that_is_added_later_gets_all_that_the_others_have(place_of: Callable[..., Any], tmp_path: Any) -> None:
    world = world_of(events=300, span_seconds=60 * DAY)
    with Sandbox(world) as sandbox:
        place = place_of(sandbox, *QUICK)
        assert place.run("--since", "70d").code == 0
        place.assert_everything_is_there_once()
        # The new one is the same plugin under another state of the world: only its progress is new.
        path = next((place.state / "checkpoints").glob("*.json"))
        document = json.loads(path.read_text())
        document["sinks"]["older"] = document["sinks"].pop("parquet")
        del document["digest"]
        path.write_bytes(sealed(json.dumps(document, indent=2).encode()))
        again = tmp_path / "again"
        done = place.run("-o", f"sinks.parquet.path={again}")
        assert done.code == 0, done.err
        place.assert_everything_is_there_once(again)


def test_poison_is_reported_as_gaps_that_heal(place_of: Callable[..., Any]) -> None:
    world = world_of(events=400, span_seconds=DAY / 6, poison={"api-context": 3, "null-actor": 2}, ties=0.5)
    with Sandbox(world) as sandbox:
        place = place_of(sandbox, *QUICK)
        first = place.run()
        assert first.code == 65, first.err
        place.assert_everything_is_there_once()
        gaps = place.checkpoint().gaps
        assert sum(gap.rows for gap in gaps) >= 5
        for poison in world.poison(place.account):
            at_ms = poison.time_ns // 1_000_000
            assert any(to_ms(gap.window.since) <= at_ms < to_ms(gap.window.before) for gap in gaps)
        [line] = [line for line in first.logged if line["message"] == "gaps remain"]
        assert line["gaps"] == len(gaps)
        assert line["within"] == f"{str(gaps[0].window).split('/')[0]}/{str(gaps[-1].window).split('/')[1]}"
        assert f": {len(gaps)} gaps remain, with {sum(gap.rows for gap in gaps)} rows" in first.err.splitlines()[-1]

        second = place.run()
        assert second.code == 65
        assert second.report["sinks"][0]["rows"] == 0
        again = place.checkpoint().gaps
        assert sum(gap.rows for gap in again) == sum(gap.rows for gap in gaps)
        assert {gap.attempts for gap in again} == {2}
        assert [gap.first_seen_at for gap in again] == [gap.first_seen_at for gap in gaps]

        healed = world.heal(place.account, ["api-context"])
        third = place.run()
        assert third.code == 65
        assert third.report["sinks"][0]["rows"] == healed == 3
        assert third.report["sinks"][0]["late_rows"] == 0
        place.assert_everything_is_there_once()
        left = place.checkpoint().gaps
        assert sum(gap.rows for gap in left) == 2
        assert {gap.attempts for gap in left} == {3}

        world.heal(place.account)
        last = place.run()
        assert last.code == 0, last.err
        assert place.checkpoint().gaps == ()
        place.assert_everything_is_there_once()
