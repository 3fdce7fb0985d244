"""What the tools answer: right, with the coverage on top, and with exact counts of what is left out."""

from __future__ import annotations

import json
from collections import Counter
from collections.abc import Callable, Mapping
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import pytest

from cfaudit_export.serve.archive import Archive
from cfaudit_export.serve.order import ServeOrder
from cfaudit_export.serve.tools import LEAST_BYTES, MOST_BYTES
from cfaudit_export.settings import Settings

DAY = {"since": "2026-11-18", "before": "2026-11-19"}
Ask = Callable[..., dict[str, Any]]
AT = datetime(2026, 11, 18, 12, tzinfo=UTC)


def truth(served: Any, since: str, before: str) -> list[Mapping[str, Any]]:
    """Return the rows of the sandbox in a time; ISO texts of one form compare as times do."""
    return [row for row in served.world.rows(served.account) if since <= row["time"] < before]


def test_every_answer_begins_with_what_was_exported(ask: Ask) -> None:
    for tool, arguments in (
        ("audit_coverage", {}),
        ("audit_timeline", DAY),
        ("audit_report", DAY),
        ("audit_events", DAY),
        ("audit_sql", {"query": "SELECT 1"}),
    ):
        body = ask(tool, **arguments)
        assert next(iter(body)) == "coverage"
        assert body["coverage"]["state"] == "complete", tool
        assert body["coverage"]["exported_until"] == "2026-11-20T00:55:00.000Z"
        assert "left_out" in body


def test_time_that_was_never_exported_is_not_called_quiet(ask: Ask) -> None:
    body = ask("audit_events", since="2025-01-01", before="2025-01-02")
    assert body["events"] == []
    assert body["coverage"]["state"] == "not exported"
    assert "does not mean that nothing happened" in body["coverage"]["say"]


def test_time_that_was_exported_in_part_names_the_rest(ask: Ask) -> None:
    body = ask("audit_timeline", since="2026-11-19T12:00:00Z", before="2026-11-21")
    assert body["coverage"]["state"] == "incomplete"
    assert body["coverage"]["missing"] == [{"since": "2026-11-20T00:55:00.000Z", "before": "2026-11-21T00:00:00.000Z"}]


def test_gaps_of_a_time_are_named_with_their_rows(broken: Any, asked: Callable[[ServeOrder], Ask]) -> None:
    body = asked(broken.order())("audit_coverage")
    assert body["coverage"]["state"] == "incomplete"
    named = len(body["coverage"]["gaps"]) + body["coverage"].get("more_gaps", 0)
    assert named == broken.gaps > 0


def test_without_checkpoints_the_coverage_is_unknown(by_hand: Callable[..., Ask]) -> None:
    body = by_hand({"event_time": AT})("audit_events", **DAY)
    assert body["coverage"]["state"] == "unknown"
    assert len(body["events"]) == 1


def test_coverage_counts_what_the_archive_holds(ask: Ask, served: Any) -> None:
    body = ask("audit_coverage")
    assert body["events"] == len(list(served.world.rows(served.account)))
    assert [one["account"] for one in body["accounts"]] == [served.account]
    assert body["fresh_seconds"] == 300


def test_a_timeline_has_every_event_of_its_time_once(ask: Ask, served: Any) -> None:
    body = ask("audit_timeline", **DAY, max_bytes=MOST_BYTES)
    wanted = truth(served, "2026-11-18", "2026-11-19")
    assert body["events"] == len(wanted)
    assert body["sessions_in_all"] == len(body["sessions"]) + body["left_out"].get("sessions", 0)


def test_a_timeline_is_about_the_actor_it_is_asked_for(ask: Ask, served: Any) -> None:
    actors = Counter(row.get("actor_email") for row in truth(served, "2026-11-18", "2026-11-19"))
    actor = next(name for name in actors if name)
    body = ask("audit_timeline", **DAY, actor=actor)
    assert body["events"] == actors[actor]
    assert {one["actor"] for one in body["sessions"]} == {actor}


def test_a_report_counts_events_and_those_of_the_period_before(ask: Ask, served: Any) -> None:
    body = ask("audit_report", **DAY)
    assert body["totals"]["events"] == {
        "count": len(truth(served, "2026-11-18", "2026-11-19")),
        "before": len(truth(served, "2026-11-17", "2026-11-18")),
    }


def test_the_lists_of_a_report_say_how_many_entries_they_lack(ask: Ask) -> None:
    body = ask("audit_report", since="2026-11-13", before="2026-11-20", max_bytes=MOST_BYTES)
    assert len(body["changes"]) == 10
    assert body["left_out"]["changes"] == sum(one["count"] for one in body["sensitive_changes"].values()) - 10


@pytest.mark.parametrize("order", ["newest", "oldest"])
def test_pages_of_events_hold_every_event_once(ask: Ask, served: Any, order: str) -> None:
    wanted = truth(served, "2026-11-17", "2026-11-19")
    found: list[dict[str, Any]] = []
    body = ask("audit_events", since="2026-11-17", before="2026-11-19", order=order, limit=70)
    assert body["matching"] == len(wanted)
    while True:
        found += body["events"]
        assert body["left_out"].get("events", 0) == len(wanted) - len(found)
        if "next_cursor" not in body:
            break
        body = ask("audit_events", order=order, limit=70, cursor=body["next_cursor"])
    times = [one["event_time"] for one in found]
    assert times == sorted(times, reverse=order == "newest")
    assert len({one["event_id"] for one in found}) == len(found) == len(wanted)


def test_a_page_that_is_cut_to_its_bytes_continues_behind_its_last_row(ask: Ask, served: Any) -> None:
    morning = {"since": "2026-11-18", "before": "2026-11-18T02:00:00Z"}
    wanted = truth(served, "2026-11-18", "2026-11-18T02")
    found: list[str] = []
    body = ask("audit_events", **morning, limit=200, max_bytes=LEAST_BYTES)
    while True:
        assert len(json.dumps(body, ensure_ascii=False, separators=(",", ":")).encode()) <= LEAST_BYTES
        found += [one["event_id"] for one in body["events"]]
        if "next_cursor" not in body:
            break
        body = ask("audit_events", limit=200, max_bytes=LEAST_BYTES, cursor=body["next_cursor"])
    assert len(set(found)) == len(found) == len(wanted)


def test_conditions_are_values_lists_negations_and_parts(by_hand: Callable[..., Ask]) -> None:
    actors = ("ada@example.com", "Bob@example.com", None)
    kinds = ("create", "delete", "update")
    rows = [
        {"event_time": AT + timedelta(seconds=n), "actor_email": actor, "action_type": kind, "raw_status_code": 200 + n}
        for n, (actor, kind) in enumerate(zip(actors, kinds, strict=True))
    ]
    ask = by_hand(*rows)

    def found(where: Any) -> list[str]:
        return [one["action_type"] for one in ask("audit_events", **DAY, where=where, order="oldest")["events"]]

    assert found({"action_type": "create"}) == ["create"]
    assert found({"action_type": ["create", "update"]}) == ["create", "update"]
    assert found({"action_type": {"not": ["create"]}}) == ["delete", "update"]
    assert found({"actor_email": "bob@EXAMPLE.com"}) == ["delete"]
    assert found({"actor_email": {"not": "bob@example.com"}}) == ["create", "update"]
    assert found({"actor_email": None}) == ["update"]
    assert found({"actor_email": {"contains": "B@EX"}}) == ["delete"]
    assert found({"raw_status_code": 201}) == ["delete"]
    assert found({"action_type": "create", "actor_email": None}) == []


def test_events_that_a_condition_cannot_judge_are_counted_aloud(by_hand: Callable[..., Ask]) -> None:
    rows = [{"event_time": AT, "fidelity": "trimmed"}, {"event_time": AT, "fidelity": "full"}]
    body = by_hand(*rows)("audit_events", **DAY, where={"actor_ip_address": "203.0.113.7"})
    assert body["unjudged"].startswith("1 further events may match")


def test_one_event_comes_whole_with_its_neighbours(by_hand: Callable[..., Ask]) -> None:
    rows = [{"event_time": AT + timedelta(minutes=n), "event_id": f"e{n}"} for n in range(12)]
    rows[6] |= {"resource_request": json.dumps({"content": "192.0.2.1"})}
    body = by_hand(*rows)("audit_event", event_id="e6")
    assert body["event"]["event_id"] == "e6"
    assert json.loads(body["event"]["resource_request"]) == {"content": "192.0.2.1"}
    assert [one["event_id"] for one in body["before"]] == ["e2", "e3", "e4", "e5"]
    assert [one["event_id"] for one in body["after"]] == ["e7", "e8", "e9", "e10"]


def test_an_event_and_a_step_say_what_was_changed(by_hand: Callable[..., Ask]) -> None:
    same = {"resource_id": "r1", "resource_product": "dns_records", "resource_type": "records", "action_type": "update"}
    rows = [
        {"event_time": AT - timedelta(days=9), "resource_value": json.dumps({"content": "192.0.2.1", "ttl": 300})},
        {"event_time": AT, "event_id": "e", "resource_value": json.dumps({"content": "203.0.113.9", "ttl": 300})},
    ]
    ask = by_hand(*[same | row for row in rows])
    changed = ask("audit_event", event_id="e")["changed"]
    assert changed["lines"] == ['~ content: "192.0.2.1" -> "203.0.113.9"']
    assert changed["of"] == "2026-11-09T12:00:00.000Z"
    [session] = ask("audit_timeline", **DAY)["sessions"]
    assert session["steps"][0]["event_id"] == "e"
    assert session["steps"][0]["changed"] == ['~ content: "192.0.2.1" -> "203.0.113.9"']


def test_sql_answers_columns_and_rows_and_counts_those_beyond(ask: Ask, served: Any) -> None:
    body = ask("audit_sql", query="SELECT event_id, event_time FROM audit_events ORDER BY 2", max_bytes=MOST_BYTES)
    assert body["columns"] == ["event_id", "event_time"]
    assert len(body["rows"]) + body["left_out"]["rows"] == len(list(served.world.rows(served.account)))


def test_answers_are_in_the_time_zone_that_is_asked_for(by_hand: Callable[..., Ask]) -> None:
    body = by_hand({"event_time": AT})("audit_events", when="2026-11-18 lunch", time_zone="Europe/Berlin")
    assert body["coverage"]["asked"] == {
        "since": "2026-11-18T11:30:00.000+01:00",
        "before": "2026-11-18T14:00:00.000+01:00",
    }
    assert body["events"][0]["event_time"] == "2026-11-18T13:00:00.000+01:00"
    assert "(Europe/Berlin)" in body["coverage"]["understood_as"]


def test_an_answer_is_never_larger_than_asked_for(ask: Ask) -> None:
    for tool in ("audit_timeline", "audit_report", "audit_events"):
        for most in (3_000, 9_000, 30_000):
            body = ask(tool, since="2026-11-13", before="2026-11-20", max_bytes=most)
            assert len(json.dumps(body, ensure_ascii=False, separators=(",", ":")).encode()) <= most


def test_only_a_pinned_account_exists(tmp_path: Path, by_hand: Callable[..., Ask]) -> None:
    other = "b" * 32
    rows = [{"event_time": AT, "event_id": "mine"}, {"event_time": AT, "event_id": "theirs", "account_id": other}]
    ask = by_hand(*rows, account="0f3c1e5a7b9d2468ace013579bdf2468")
    seen = [ask("audit_coverage"), ask("audit_events", **DAY), ask("audit_report", **DAY)]
    seen += [ask("audit_sql", query="SELECT * FROM audit_events"), ask("audit_sql", query="FROM stored_events")]
    assert "mine" in json.dumps(seen)
    assert other not in json.dumps(seen)
    assert "theirs" not in json.dumps(seen)


def test_a_question_can_be_about_one_account(by_hand: Callable[..., Ask]) -> None:
    rows = [{"event_time": AT, "event_id": "one"}, {"event_time": AT, "event_id": "two", "account_id": "b" * 32}]
    body = by_hand(*rows)("audit_events", **DAY, account="B" * 32)
    assert [one["event_id"] for one in body["events"]] == ["two"]


def test_new_files_are_seen_after_a_minute_and_not_before(tmp_path: Path, served: Any) -> None:
    import shutil

    folder = tmp_path / "copy"
    shutil.copytree(served.folder, folder)
    ticks = [0.0]
    order = ServeOrder(Settings(state_dir=served.state), str(folder))
    with Archive(order, lambda: datetime(2026, 11, 20, 1, tzinfo=UTC), lambda: ticks[0], lambda _: None) as archive:
        from cfaudit_export.serve.answers.holdings import answer_coverage
        from cfaudit_export.serve.archive import answered

        def count() -> int:
            found = answered(archive, lambda: answer_coverage(archive, {}))
            return int(found.facts["events"])

        whole = count()
        file = next(folder.rglob("*.parquet"))
        lost = int(
            archive.data.ask(
                "SELECT count(*) AS n FROM audit_events WHERE event_date = $day", {"day": file.parent.name[-10:]}
            )[0]["n"]
        )
        file.unlink()
        ticks[0] = 61.0
        assert count() == whole - lost
