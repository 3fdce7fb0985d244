from __future__ import annotations

import json
from copy import deepcopy
from functools import cache
from typing import Any

import pytest

from cfaudit_sandbox import POISON_KINDS, SandboxOptions, World
from cfaudit_sandbox.world.poison import spoil
from cfaudit_sandbox.world.schema import EMAIL_PATTERN, RECORD, TIME_PATTERN, issues, zod3, zod4

GOOD = {
    "account": {"id": "a" * 32, "name": "Example"},
    "action": {"description": "d", "result": "success", "time": "2026-11-20T10:00:00.000Z", "type": "create"},
    "actor": {"id": "u", "context": "dash", "email": "a@example.com", "type": "user"},
    "id": "01a178bb-3161-7ca2-b8a5-1c02c505a4e6",
    "raw": {"method": "POST", "status_code": 200},
    "resource": {"id": "r", "request": {}, "response": {}, "scope": "accounts"},
    "zone": {"id": "z"},
}
TYPES = '"create"|"delete"|"view"|"update"|"login"'
CONTEXTS = ["api_key", "api_token", "dash", "oauth", "origin_ca_key"]


def changed(path: str, value: object) -> dict[str, Any]:
    record = deepcopy(GOOD)
    *way, last = path.split(".")
    target: Any = record
    for name in way:
        target = target[name]
    if value is ...:
        del target[last]
    else:
        target[last] = value
    return record


def only_issue(record: dict[str, Any], write: Any = zod4) -> dict[str, Any]:
    (issue,) = issues(RECORD, record, ("result", 7))
    return dict(write(issue))


def of_type(path: list[str], expected: str, received: str) -> dict[str, Any]:
    message = f"Invalid input: expected {expected}, received {received}"
    return {"expected": expected, "code": "invalid_type", "path": ["result", 7, *path], "message": message}


@pytest.mark.parametrize(
    ("path", "value"),
    [
        *[("action.time", f"2026-11-20T10:00{rest}Z") for rest in ("", ":00", ":00.1", ":00.123456", ":00.123456789")],
        *[(name, ...) for name in ("actor", "resource", "raw", "zone", "action.description", "resource.scope")],
        ("zone", {}),
        ("resource.scope", {"any": ["thing"]}),
        ("resource.scope", "galaxies"),
        ("action.result", ""),
        ("new_field", [None]),
        ("actor", {"token": {"id": 1, "name": None}}),
        ("id", "x" * 36),
    ],
)
def test_what_the_server_lets_pass_has_no_issue(path: str, value: object) -> None:
    assert list(issues(RECORD, changed(path, value))) == []


@pytest.mark.parametrize(
    ("path", "value", "expected", "received"),
    [
        ("resource.response", [1], "record", "array"),
        ("resource.request", "x", "record", "string"),
        ("resource.response", None, "record", "null"),
        ("resource", None, "object", "null"),
        ("raw", "GET /", "object", "string"),
        ("raw.status_code", "200", "number", "string"),
        ("raw.status_code", True, "number", "boolean"),
        ("action.description", None, "string", "null"),
        ("action.time", 1, "string", "number"),
        ("actor.email", None, "string", "null"),
        ("id", ..., "string", "undefined"),
        ("account", ..., "object", "undefined"),
        ("account.name", ..., "string", "undefined"),
    ],
)
def test_a_wrong_type_is_reported_in_the_words_of_zod_4(path: str, value: object, expected: str, received: str) -> None:
    issue = only_issue(changed(path, value))
    assert issue == of_type(path.split("."), expected, received)
    assert list(issue) == ["expected", "code", "path", "message"]


@pytest.mark.parametrize("value", ["logout", "", None, ..., 5])
def test_a_value_outside_an_enumeration_lists_the_choices(value: object) -> None:
    assert list(only_issue(changed("action.type", value)).items()) == [
        ("code", "invalid_value"),
        ("values", ["create", "delete", "view", "update", "login"]),
        ("path", ["result", 7, "action", "type"]),
        ("message", f"Invalid option: expected one of {TYPES}"),
    ]


@pytest.mark.parametrize("value", ["", "plain", "root@localhost", "jürgen@example.com", "a..b@example.com"])
def test_a_bad_address_is_reported_with_its_pattern(value: str) -> None:
    assert list(only_issue(changed("actor.email", value)).items()) == [
        ("origin", "string"),
        ("code", "invalid_format"),
        ("format", "email"),
        ("pattern", f"/{EMAIL_PATTERN}/"),
        ("path", ["result", 7, "actor", "email"]),
        ("message", "Invalid email address"),
    ]


@pytest.mark.parametrize("value", ["2026-11-20T10:00:00+00:00", "2026-11-20 10:00:00Z", "2026-02-30T10:00:00Z"])
def test_a_bad_time_is_reported_with_its_pattern(value: str) -> None:
    issue = only_issue(changed("action.time", value))
    assert (issue["format"], issue["message"]) == ("datetime", "Invalid ISO datetime")
    assert issue["pattern"] == f"/{TIME_PATTERN}/"


def test_an_id_that_is_too_long_is_reported_with_the_limit() -> None:
    assert list(only_issue(changed("id", "x" * 37)).items()) == [
        ("origin", "string"),
        ("code", "too_big"),
        ("maximum", 36),
        ("inclusive", True),
        ("path", ["result", 7, "id"]),
        ("message", "Too big: expected string to have <=36 characters"),
    ]


def test_a_bad_scope_is_reported_as_a_union_with_the_issues_of_each_branch() -> None:
    issue = only_issue(changed("resource.scope", ["accounts"]))
    assert list(issue) == ["code", "errors", "path", "message"]
    assert issue["code"] == "invalid_union"
    assert [[inner["message"] for inner in branch] for branch in issue["errors"]] == [
        ["Invalid input: expected string, received array"],
        ["Invalid input: expected record, received array"],
    ]
    assert issue["errors"][0][0]["path"] == []


def test_all_issues_of_a_record_come_in_the_order_of_the_schema() -> None:
    record = changed("actor", {"context": "api", "email": "", "type": "delegated_service"})
    record["resource"]["response"] = []
    del record["account"]
    assert [".".join(map(str, issue.path)) for issue in issues(RECORD, record)] == [
        "account",
        "actor.context",
        "actor.email",
        "actor.type",
        "resource.response",
    ]


def test_zod_3_also_says_what_it_received() -> None:
    assert only_issue(changed("actor.context", "api"), zod3) == {
        "received": "api",
        "code": "invalid_enum_value",
        "options": CONTEXTS,
        "path": ["result", 7, "actor", "context"],
        "message": "Invalid enum value. Expected 'api_key' | 'api_token' | 'dash' | 'oauth' | 'origin_ca_key', "
        "received 'api'",
    }
    assert only_issue(changed("resource.response", []), zod3) == {
        "code": "invalid_type",
        "expected": "object",
        "received": "array",
        "path": ["result", 7, "resource", "response"],
        "message": "Expected object, received array",
    }
    assert only_issue(changed("id", ...), zod3)["message"] == "Required"
    assert only_issue(changed("actor.email", ""), zod3)["validation"] == "email"


@cache
def clean_texts() -> list[str]:
    """Write a clean record of every kind of action, by all sorts of people."""
    world = World(SandboxOptions(events=2_000))
    per_kind = {record["action"].get("description"): record for record in world.records(world.accounts[0].id)}
    per_actor = {str(record.get("actor")): record for record in world.records(world.accounts[0].id)}
    return [json.dumps(record) for record in (*per_kind.values(), *per_actor.values())]


@pytest.mark.parametrize("kind", POISON_KINDS)
def test_every_kind_of_poison_spoils_every_shape_of_clean_record(kind: str) -> None:
    for text in clean_texts():
        record = json.loads(text)
        spoil(record, kind)
        found = list(issues(RECORD, record))
        assert found
        json.dumps([[zod3(issue), zod4(issue)] for issue in found])


def test_records_that_are_clean_by_construction_have_no_issue() -> None:
    world = World(SandboxOptions(events=4_000))
    assert [issue for record in world.records(world.accounts[0].id) for issue in issues(RECORD, record)] == []
