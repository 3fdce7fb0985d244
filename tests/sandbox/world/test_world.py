from __future__ import annotations

import json
import subprocess
import sys
import uuid
from collections import Counter
from datetime import UTC, datetime, timedelta
from typing import Any

import pytest

from cfaudit_sandbox import POISON_KINDS, AuditQuery, SandboxOptions, World
from cfaudit_sandbox.world.log_segment import project
from cfaudit_sandbox.world.query import value_of
from cfaudit_sandbox.world.schema import RECORD, issues
from cfaudit_sandbox.world.text import instant

END = datetime(2026, 11, 20, tzinfo=UTC)
SIX = {"description", "time", "actor_email", "actor_token_name", "product", "type"}


def world(**options: Any) -> World:
    return World(SandboxOptions(**({"events": 2_000, "end_at": END} | options)))


def first(of: World) -> str:
    return of.accounts[0].id


def records(of: World) -> list[dict[str, Any]]:
    return list(of.records(first(of)))


def times(of: World) -> list[int]:
    return [instant(record["action"]["time"]) for record in records(of)]


def test_equal_options_give_equal_worlds_and_another_seed_another_one() -> None:
    one, same, other = world(poison=("all=20",)), world(poison=("all=20",)), world(poison=("all=20",), seed=2)
    assert (one.accounts, one.tokens, records(one)) == (same.accounts, same.tokens, records(same))
    assert one.accounts != other.accounts
    assert one.tokens != other.tokens
    assert records(one)[:5] != records(other)[:5]


def test_a_world_is_the_same_in_every_process() -> None:
    script = (
        "import datetime as d, hashlib; from cfaudit_sandbox import *;"
        "w = World(SandboxOptions(events=50, end_at=d.datetime(2026, 11, 20, tzinfo=d.UTC)));"
        "print(hashlib.sha256(repr(list(w.records(w.accounts[0].id))).encode('utf8', 'replace')).hexdigest())"
    )
    prints = {
        subprocess.run(
            [sys.executable, "-c", script], check=True, capture_output=True, env={"PYTHONHASHSEED": seed}
        ).stdout
        for seed in ("1", "2")
    }
    assert len(prints) == 1


def test_events_lie_in_the_span_in_order_and_follow_working_hours() -> None:
    of = world(events=5_000)
    found = times(of)
    assert len(found) == 5_000
    assert found == sorted(found)
    assert (END - timedelta(days=30)).timestamp() * 1e9 <= found[0]
    assert found[-1] < END.timestamp() * 1e9
    hours = Counter(datetime.fromtimestamp(at // 10**9, UTC).hour for at in found)
    assert sum(hours[hour] for hour in range(8, 18)) > 4 * sum(hours[hour] for hour in (22, 23, *range(6)))


def test_a_short_span_and_no_events_at_all_are_fine() -> None:
    of = world(events=500, span_seconds=1)
    assert max(times(of)) - min(times(of)) < 10**9
    assert records(world(events=0)) == []


def test_without_an_end_the_events_end_ten_minutes_before_the_clock() -> None:
    of = World(SandboxOptions(events=100), lambda: 1_800_000_000.5)
    assert of.before == 1_800_000_000 - 600
    assert max(times(of)) < of.before * 1e9


def test_every_documented_shape_occurs_among_the_clean_records() -> None:
    found = records(world(events=5_000))
    actors = [record.get("actor", {}) for record in found]
    resources = [record.get("resource", {}) for record in found]
    descriptions = [record["action"].get("description") for record in found]
    assert any("token" in actor for actor in actors)
    assert any("token_name" in actor for actor in actors)
    assert any("actor" not in record for record in found)
    assert any("resource" not in record for record in found)
    assert any("raw" not in record for record in found)
    assert any("cf_ray_id" not in record["raw"] for record in found if "raw" in record)
    assert {} in [record.get("zone") for record in found]
    assert any(record.get("zone") for record in found)
    assert {dict, str} <= {type(resource.get("scope")) for resource in resources}
    assert {"accounts", "zones", "user", "memberships"} <= {
        scope for resource in resources if isinstance(scope := resource.get("scope"), str)
    }
    assert any("value" in resource for resource in resources)
    assert any(":" in actor.get("ip_address", "") for actor in actors)
    assert {None, ""} <= set(descriptions)
    text = "".join(filter(None, descriptions))
    assert "\u2028" in text
    assert "\ud83d" in text
    assert "🚀" in text
    assert {record["action"]["result"] for record in found} == {"success", "failure", ""}


def test_times_have_three_digits_mostly_and_none_six_or_nine_sometimes() -> None:
    texts = [record["action"]["time"] for record in records(world(events=5_000))]
    digits = Counter(len(text.partition(".")[2]) - 1 if "." in text else len(text) for text in texts)
    assert set(digits) == {3, 6, 9, len("2026-11-20T00:00:00Z"), len("2026-11-20T00:00Z")}
    assert digits[3] > 0.98 * 5_000


def test_ids_are_unique_version_seven_uuids_of_their_millisecond() -> None:
    found = records(world())
    ids = [uuid.UUID(record["id"]) for record in found]
    assert len(set(ids)) == len(ids)
    assert {(each.version, each.variant) for each in ids} == {(7, uuid.RFC_4122)}
    assert [each.int >> 80 for each in ids] == [instant(record["action"]["time"]) // 10**6 for record in found]


def test_rows_are_the_six_fields_of_the_records() -> None:
    of = world(poison=("all=100",))
    every = records(of)
    assert [project(record) for record in every] == list(of.rows(first(of), poison=True))
    assert set().union(*of.rows(first(of))) == SIX
    refused = {row.index for row in of.poison(first(of))}
    assert list(of.rows(first(of))) == [project(record) for number, record in enumerate(every) if number not in refused]


def test_poison_comes_in_the_number_and_kinds_asked_for() -> None:
    of = world(poison=("api-context=5", "array-response=3", "missing-id"))
    found = of.poison(first(of))
    assert Counter(row.kind for row in found) == {"api-context": 5, "array-response": 3, "missing-id": 1}
    every, at = records(of), times(of)
    assert [row.record for row in found] == [every[row.index] for row in found]
    assert [row.time_ns for row in found] == [at[row.index] for row in found]
    assert {number for number, record in enumerate(every) if any(issues(RECORD, record))} == {
        row.index for row in found
    }


def test_poison_by_share_or_as_all_spreads_over_every_kind() -> None:
    for options in ({"poison": ("all=43",)}, {"poison_fraction": 43 / 2_000}, {"poison": {"all": 43}}):
        of = world(**options)
        assert {row.kind for row in of.poison(first(of))} == set(POISON_KINDS)
        assert len(POISON_KINDS) == 43


@pytest.mark.parametrize("poison", ["nonsense", "api-context=many"])
def test_poison_that_cannot_be_understood_is_named(poison: str) -> None:
    with pytest.raises(ValueError, match=poison.partition("=")[0]):
        world(poison=(poison,))


def test_more_poison_than_events_is_refused() -> None:
    with pytest.raises(ValueError, match="21 poison rows do not fit into 20 events"):
        world(events=20, poison=("all=21",))
    of = world(events=50, poison=("all=21",))
    with pytest.raises(ValueError, match="do not fit"):
        of.grow(first(of), 20, END, END + timedelta(days=1))


def test_a_growing_world_keeps_its_share_of_poison() -> None:
    of = world(events=100, poison_fraction=0.1)
    of.grow(first(of), 200, END, END + timedelta(days=1))
    assert len(of.poison(first(of))) == 10 + 20


def test_adjacent_poison_lies_in_one_run() -> None:
    of = world(poison=("all=50",), poison_placement="adjacent")
    found = [row.index for row in of.poison(first(of))]
    assert found == list(range(found[0], found[0] + 50))


def test_tied_poison_shares_its_instant_with_its_neighbours() -> None:
    of = world(poison=("api-context=30",), poison_placement="tied", ties=0, twins=0)
    at = times(of)
    for row in of.poison(first(of)):
        assert at[max(row.index - 1, 0)] == at[row.index] == at[min(row.index + 1, len(at) - 1)]


def test_twins_cannot_be_told_apart_and_have_ids_of_their_own() -> None:
    def copies(of: World) -> int:
        seen = Counter(tuple(sorted(row.items())) for row in of.rows(first(of)))
        return sum(count for count in seen.values() if count > 1)

    assert copies(world(twins=0, ties=0)) == 0
    assert 0.05 * 2_000 < copies(world(twins=0.1)) < 0.15 * 2_000
    every = records(world(twins=0.5))
    results = {tuple(sorted(project(record).items())): record["action"]["result"] for record in every}
    differing = [
        record for record in every if results[tuple(sorted(project(record).items()))] != record["action"]["result"]
    ]
    assert differing, "some twins must differ in a facet, or facet recovery has nothing to tell apart"


def test_ties_share_their_instant() -> None:
    at = Counter(times(world(ties=0.2, twins=0)))
    assert 0.15 * 2_000 < sum(count for count in at.values() if count > 1) < 0.25 * 2_000


def test_added_records_fall_into_place_behind_those_of_the_same_instant() -> None:
    of = world(events=50)
    before = records(of)
    twin = json.loads(json.dumps(before[10]))
    twin["id"] = "added"
    refused = json.loads(json.dumps(before[20])) | {"account": None}
    of.add(first(of), [refused, twin])
    after = records(of)
    assert after[11] == twin
    assert after[22] == refused
    assert len(after) == 52
    assert [(row.index, row.kind) for row in of.poison(first(of))] == [(22, "given")]
    assert len(list(of.rows(first(of)))) == 51


def test_a_world_grows_by_further_events_in_a_later_span() -> None:
    of = world(events=50)
    before = records(of)
    of.grow(first(of), 30, END, END + timedelta(days=1))
    after = records(of)
    assert after[:50] == before
    assert len(after) == 80
    assert len({record["id"] for record in after}) == 80
    assert times(of)[50] >= END.timestamp() * 1e9


@pytest.mark.parametrize("part", [0, 400])
def test_no_event_lies_outside_the_span_that_a_world_grows_by(part: int) -> None:
    of = world(events=0)
    grown = 0
    for number in range(50):
        since = END + timedelta(seconds=number, milliseconds=number, microseconds=part)
        before = since + timedelta(milliseconds=3)
        of.grow(first(of), 4, since, before)
        rows = times(of)[grown:]
        grown += 4
        assert all(to_ns(since) <= at < to_ns(before) for at in rows), number


def to_ns(at: datetime) -> int:
    return (at - datetime(1970, 1, 1, tzinfo=UTC)) // timedelta(microseconds=1) * 1_000


def test_healed_rows_become_readable_as_they_are() -> None:
    of = world(poison=("api-context=4", "array-response=3"))
    spoiled = {row.index: row.record for row in of.poison(first(of))}
    every = list(of.rows(first(of), poison=True))
    assert of.heal(first(of), ["api-context"]) == 4
    assert {row.kind for row in of.poison(first(of))} == {"array-response"}
    assert of.heal(first(of)) == 3
    assert list(of.rows(first(of))) == every
    assert [records(of)[index] for index in spoiled] == list(spoiled.values())


def test_accounts_have_logs_of_their_own() -> None:
    of = world(accounts=3, events=20)
    logs = [list(of.records(account.id)) for account in of.accounts]
    assert [{record["account"]["id"] for record in log} for log in logs] == [{account.id} for account in of.accounts]
    assert len({log[0]["id"] for log in logs}) == 3
    with pytest.raises(ValueError, match="no account"):
        list(of.records("f" * 32))


def test_a_record_can_be_found_by_each_of_its_values() -> None:
    of = world(events=300, poison=("all=43",))
    for record in records(of)[::15]:
        for name in ("audit_log_id", "raw_cf_ray_id", "raw_uri", "resource_id", "zone_id", "actor_token_name"):
            wanted = value_of(record, name)
            if isinstance(wanted, str):
                query = AuditQuery(0, 2 * 10**18, "asc", 1000, "", ((name, wanted),))
                texts = of.record_texts(first(of), of.query(first(of), query))
                assert record in [json.loads(text) for text in texts]


def test_a_million_events_are_there_at_once_and_take_little_memory() -> None:
    script = """
import json, time
from cfaudit_sandbox import AuditQuery, SandboxOptions, World
started = time.process_time()
world = World(SandboxOptions(events=1_000_000, poison=("all=100",)))
account = world.accounts[0].id
page = world.query(account, AuditQuery(0, 2 * 10**18, "asc", 1000))
built = time.process_time() - started
texts = world.record_texts(account, page)
late = world.query(account, AuditQuery(0, 2 * 10**18, "desc", 1000, "", (("action_result", "failure"),)))
status = dict(line.split(":", 1) for line in open("/proc/self/status"))
# Not ru_maxrss: that starts with the memory of the process that forked this one.
print(json.dumps([built, len(texts), len(late.rows), int(status["VmHWM"].split()[0]) / 1024]))
"""
    run = subprocess.run([sys.executable, "-c", script], check=True, capture_output=True)
    built, rows, failures, peak_mb = json.loads(run.stdout)
    assert (rows, failures) == (1000, 1000)
    assert built < 5
    assert peak_mb < 300
