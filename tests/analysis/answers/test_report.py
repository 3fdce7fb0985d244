"""Reports against the same numbers worked out in plain Python from the sandbox's truth."""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Callable, Iterable
from datetime import date, datetime, timedelta
from pathlib import Path
from typing import Any
from zoneinfo import ZoneInfo

import pytest

from cfaudit_export.analysis.answers.coverage import Coverage
from cfaudit_export.analysis.answers.facts import Outcome, Ranked, Report
from cfaudit_export.analysis.answers.question import Question
from cfaudit_export.analysis.answers.report import make_report
from cfaudit_export.core.model import EPOCH, Window

BERLIN = ZoneInfo("Europe/Berlin")
PERIOD = Window(datetime.fromisoformat("2026-11-12T23:00Z"), datetime.fromisoformat("2026-11-19T23:00Z"))
SORTS = (
    ("members", r"(^|[^a-z])(member|members|membership|memberships|invites?|roles?|user_groups?)([^a-z]|$)"),
    ("tokens", r"(^|[^a-z])(token|tokens|api_?keys?)([^a-z]|$)"),
    ("access", r"^access([^a-z]|$)|(^|[^a-z])(policy|policies)([^a-z]|$)"),
    ("dns", r"(^|[^a-z])dns(sec)?([^a-z]|$)"),
)

Row = dict[str, Any]


def known(value: Any) -> str:
    return str(value).strip() if value is not None and str(value).strip() else "unknown"


def action_of(row: Row) -> str:
    is_login = re.fullmatch(r"\s*(log|sign)[ -]?in\s*", row.get("action_description") or "", re.IGNORECASE)
    return "login" if is_login else known(row.get("action_type"))


def actor_of(row: Row) -> tuple[str, str | None]:
    token = row.get("actor_token_name") or row.get("actor_token_id")
    for kind, name in (
        ("email", row.get("actor_email")),
        ("id", row.get("actor_id")),
        ("token", token),
        ("type", row.get("actor_type")),
    ):
        if name:
            return kind, name
    return "unknown", None


def credential_of(row: Row) -> tuple[str, str | None]:
    token = row.get("actor_token_name") or row.get("actor_token_id")
    return row.get("actor_context") or ("api_token" if token else "unknown"), token


def sort_of(row: Row) -> str | None:
    action = action_of(row)
    if action in ("login", "view"):
        return None
    thing = "/".join(part for part in (row.get("resource_product"), row.get("resource_type")) if part is not None)
    for name, pattern in SORTS:
        if re.search(pattern, thing.lower()):
            return name
    says_delete = re.match(r"(delete|remove|revoke|destroy)", row.get("action_description") or "", re.IGNORECASE)
    return "deletes" if action == "delete" or (action == "unknown" and says_delete) else None


def outcome_of(rows: Iterable[Row]) -> Outcome:
    results = Counter(known(row.get("action_result")) for row in rows)
    success, failure, unknown = (results.pop(name, 0) for name in ("success", "failure", "unknown"))
    return Outcome(success, failure, sum(results.values()), unknown)


def within(rows: Iterable[Row], window: Window) -> list[Row]:
    return [row for row in rows if window.since <= row["event_time"] < window.before]


def counted(found: Iterable[Ranked]) -> dict[str | None, int]:
    return {one.name: one.events.count for one in found if one.events.count}


def make(data: Any, *, complete: bool | None = None, **asked: Any) -> Report:
    question = Question(PERIOD, zone="Europe/Berlin", **asked)
    streams: tuple[Any, ...] = ()
    coverage = Coverage(PERIOD, streams, () if complete else data.accounts, "" if complete else "no checkpoint")
    return make_report(data, question, coverage=coverage, coverage_before=coverage, now=PERIOD.before)


@pytest.fixture(scope="module", params=["export", "trimmed", "whole"])
def both(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, list[Row]]:
    """A folder of files, and the rows that are in it."""
    if request.param == "export":
        return request.getfixturevalue("exported").folder, request.getfixturevalue("recovered_rows")
    rows = request.getfixturevalue(f"{request.param}_rows")
    return request.getfixturevalue("store_rows")(tmp_path_factory.mktemp(request.param), rows), rows


@pytest.fixture
def report(both: tuple[Path, list[Row]], opened: Callable[..., Any]) -> Report:
    return make(opened(both[0], Window(EPOCH, PERIOD.before)))


@pytest.fixture
def rows(both: tuple[Path, list[Row]]) -> list[Row]:
    return within(both[1], PERIOD)


@pytest.fixture
def rows_before(both: tuple[Path, list[Row]]) -> list[Row]:
    return within(both[1], Window(PERIOD.since - PERIOD.duration, PERIOD.since))


def test_totals_and_their_change(report: Report, rows: list[Row], rows_before: list[Row]) -> None:
    totals = report.totals
    assert len(rows) > 500
    assert not report.incomparable
    for change, count in (
        (totals.events, len),
        (totals.failures, lambda these: outcome_of(these).failures),
        (totals.actors, lambda these: len({actor_of(row) for row in these} - {("unknown", None)})),
        (totals.sign_ins, lambda these: sum(action_of(row) == "login" for row in these)),
    ):
        assert (change.count, change.before) == (count(rows), count(rows_before))
    assert totals.outcome == outcome_of(rows)
    assert counted(totals.actions) == Counter(map(action_of, rows))
    assert counted(totals.credentials) == Counter(credential_of(row)[0] for row in rows)
    assert {one.name: one.events.before for one in totals.actions} == {
        name: Counter(map(action_of, rows_before))[name] for name in {action_of(row) for row in rows + rows_before}
    }
    assert counted(totals.fidelity) == Counter(row["fidelity"] for row in rows)
    assert totals.repeated == 0


def test_days_and_hours_are_local(report: Report, rows: list[Row]) -> None:
    local = [row["event_time"].astimezone(BERLIN) for row in rows]
    days = Counter(at.date() for at in local)
    failed = Counter(at.date() for at, row in zip(local, rows, strict=True) if row.get("action_result") == "failure")
    first = date(2026, 11, 13)
    assert [(one.day, one.events, one.failures) for one in report.days] == [
        (day, days[day], failed[day]) for day in (first + timedelta(days=at) for at in range(7))
    ]
    assert {(one.day, one.hour): one.events for one in report.heat} == Counter((at.date(), at.hour) for at in local)


def test_actors_products_and_types(report: Report, rows: list[Row], rows_before: list[Row]) -> None:
    by_actor = {actor: [row for row in rows if actor_of(row) == actor] for actor in map(actor_of, rows)}
    earlier = Counter(map(actor_of, rows_before))
    assert {(one.actor.kind, one.actor.name) for one in report.actors} == set(by_actor)
    for one in report.actors:
        mine = by_actor[one.actor.kind, one.actor.name]
        actions = Counter(map(action_of, mine))
        assert (one.events.count, one.events.before) == (len(mine), earlier[one.actor.kind, one.actor.name])
        assert (one.creates, one.updates, one.deletes, one.unknown) == tuple(
            actions[name] for name in ("create", "update", "delete", "unknown")
        )
        assert one.other == len(mine) - one.creates - one.updates - one.deletes - one.unknown
        assert one.outcome == outcome_of(mine)
    counts = [one.events.count for one in report.actors]
    assert counts == sorted(counts, reverse=True)
    assert counted(report.products) == Counter(row["resource_product"] or None for row in rows)
    assert counted(report.types) == Counter(row["resource_type"] or None for row in rows)


def test_credentials_with_first_last_and_new_use(report: Report, both: tuple[Path, list[Row]], rows: list[Row]) -> None:
    past = {(actor_of(row), credential_of(row)) for row in both[1] if row["event_time"] < PERIOD.since}
    used: dict[Any, list[datetime]] = {}
    for row in rows:
        used.setdefault((actor_of(row), credential_of(row)), []).append(row["event_time"])
    found = {
        ((one.actor.kind, one.actor.name), (one.credential.kind, one.credential.name)): one
        for one in report.credentials
    }
    assert set(found) == set(used)
    for key, times in used.items():
        one = found[key]
        first, last = (end.replace(microsecond=end.microsecond) for end in (min(times), max(times)))
        assert (one.events, one.first, one.last, one.is_new) == (len(times), first, last, key not in past)


def test_newcomers_and_sign_ins(report: Report, both: tuple[Path, list[Row]], rows: list[Row]) -> None:
    past = [row for row in both[1] if row["event_time"] < PERIOD.since]
    new = {row["resource_product"] for row in rows} - {row["resource_product"] for row in past} - {None, ""}
    assert {one.name for one in report.new_products or ()} == new
    actors = {actor_of(row) for row in rows} - {actor_of(row) for row in past} - {("unknown", None)}
    assert len(report.new_actors or ()) == len(actors)
    logins = [row for row in rows if action_of(row) == "login"]
    assert {(one.actor.kind, one.actor.name): one.events for one in report.sign_ins} == Counter(map(actor_of, logins))
    for one in report.sign_ins:
        mine = [row for row in logins if actor_of(row) == (one.actor.kind, one.actor.name)]
        assert one.outcome == outcome_of(mine)
        assert set(one.addresses) == {row.get("actor_ip_address") for row in mine} - {None}


def test_sensitive_changes(report: Report, rows: list[Row]) -> None:
    expected = Counter(sort for row in rows if (sort := sort_of(row)))
    assert counted(report.sensitive) == expected
    assert len(report.changes) == min(sum(expected.values()), 500)
    latest = sorted((row for row in rows if sort_of(row)), key=lambda row: row["event_time"], reverse=True)
    assert [one.time for one in report.changes] == [row["event_time"] for row in latest[:500]]
    assert all(one.by_description <= (one.action == "unknown") for one in report.changes)


def test_the_parts_add_up(report: Report) -> None:
    events = report.totals.events.count
    for parts in (
        [one.events for one in report.days],
        [one.events for one in report.heat],
        [one.events.count for one in report.actors],
        [one.events.count for one in report.products],
        [one.events.count for one in report.types],
        [one.events for one in report.credentials],
        [one.events.count for one in report.totals.actions],
    ):
        assert sum(parts) == events


def test_filters_and_accounts_leave_out_the_rest(both: tuple[Path, list[Row]], opened: Callable[..., Any]) -> None:
    data = opened(both[0], Window(EPOCH, PERIOD.before))
    report = make(data, filters={"actor_email": "DEPLOY@example.com", "resource_product": "workers"})
    mine = [
        row
        for row in within(both[1], PERIOD)
        if row["actor_email"] == "deploy@example.com" and row["resource_product"] == "workers"
    ]
    assert mine
    assert report.totals.events.count == len(mine)
    assert {one.actor.name for one in report.actors} == {"deploy@example.com"}
    assert len(report.changes) == sum(sort_of(row) is not None for row in mine)
    assert make(data, accounts=data.accounts).totals.events.count == len(within(both[1], PERIOD))
    assert make(data, accounts=("f" * 32,)).totals.events.count == 0
