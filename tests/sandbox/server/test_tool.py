from __future__ import annotations

import re
from typing import Any

import pytest

from cfaudit_sandbox import SandboxAccount
from cfaudit_sandbox.server.tool import argument_error, choose_account, input_schema, instructions, read_query
from cfaudit_sandbox.server.upstream import Caller
from cfaudit_sandbox.world.query import BadQueryError

ONE = SandboxAccount("1" * 32, "One")
TWO = SandboxAccount("2" * 32, "Two")
SINGLE = Caller("user", (ONE,), ONE)
SEVERAL = Caller("user", (ONE, TWO), None)
NOBODY = Caller("user", (), None)
WINDOW = {"since": "2026-11-01", "before": "2026-11-02T00:00:00.000Z"}
PREFIX = "Input validation error: Invalid arguments for tool t: "
DATE = "Date must be in YYYY-MM-DD or ISO 8601 format with milliseconds (e.g., YYYY-MM-DDTHH:mm:ss.sssZ)"


def error(arguments: dict[str, Any], caller: Caller = SINGLE) -> str | None:
    found = argument_error("t", arguments, caller)
    assert found is None or found.startswith(PREFIX)
    return found and found.removeprefix(PREFIX)


def test_the_schema_lists_the_arguments_in_the_order_of_the_server() -> None:
    schema = input_schema(SINGLE)
    assert list(schema["properties"]) == [
        "account_name",
        "action_result",
        "action_type",
        "actor_context",
        "actor_email",
        "actor_id",
        "actor_ip_address",
        "actor_token_id",
        "actor_token_name",
        "actor_type",
        "audit_log_id",
        "raw_cf_ray_id",
        "raw_method",
        "raw_status_code",
        "raw_uri",
        "resource_id",
        "resource_product",
        "resource_type",
        "resource_scope",
        "zone_id",
        "zone_name",
        "since",
        "before",
        "direction",
        "limit",
        "cursor",
    ]
    assert schema["required"] == ["since", "before"]
    assert schema["$schema"] == "https://json-schema.org/draft/2020-12/schema"
    assert "additionalProperties" not in schema


def test_the_schema_tells_enumerations_bounds_and_patterns() -> None:
    fields = input_schema(SINGLE)["properties"]
    assert fields["action_result"]["enum"] == ["success", "failure", ""]
    assert fields["action_type"]["enum"] == ["create", "delete", "view", "update", "login"]
    assert fields["actor_context"]["enum"] == ["api_key", "api_token", "dash", "oauth", "origin_ca_key"]
    assert fields["actor_type"]["enum"] == ["cloudflare_admin", "account", "user", "system"]
    assert fields["resource_scope"]["enum"] == ["memberships", "accounts", "user", "zones"]
    assert fields["direction"]["enum"] == ["desc", "asc"]
    assert (fields["limit"]["type"], fields["limit"]["minimum"], fields["limit"]["maximum"]) == ("number", 1, 1000)
    assert fields["raw_status_code"]["type"] == "number"
    assert fields["actor_email"]["format"] == "email"
    pattern = r"^(\d{4}-\d{2}-\d{2}|(\d{4}-\d{2}-\d{2}T\d{2}:\d{2}:\d{2}\.\d{3}Z))$"
    assert fields["since"]["pattern"] == fields["before"]["pattern"] == pattern
    re.compile(fields["actor_email"]["pattern"])


def test_an_account_can_be_chosen_only_where_there_is_a_choice() -> None:
    assert "account_id" not in input_schema(SINGLE)["properties"]
    assert list(input_schema(SEVERAL)["properties"])[-1] == "account_id"
    assert list(input_schema(NOBODY)["properties"])[-1] == "account_id"


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ({"since": "2026-11-01T00:00:00Z"}, f"since: {DATE}"),
        ({"before": "2026-11-01T00:00:00.123456Z"}, f"before: {DATE}"),
        ({"before": ...}, "before: Invalid input: expected string, received undefined"),
        ({"limit": 0}, "limit: Too small: expected number to be >=1"),
        ({"limit": 1001}, "limit: Too big: expected number to be <=1000"),
        ({"limit": "5"}, "limit: Invalid input: expected number, received string"),
        ({"limit": None}, "limit: Invalid input: expected number, received null"),
        ({"limit": True}, "limit: Invalid input: expected number, received boolean"),
        ({"cursor": None}, "cursor: Invalid input: expected string, received null"),
        ({"raw_uri": ["a"]}, "raw_uri: Invalid input: expected string, received array"),
        ({"actor_email": "nobody"}, "actor_email: Invalid email address"),
        (
            {"action_type": "logout"},
            'action_type: Invalid option: expected one of "create"|"delete"|"view"|"update"|"login"',
        ),
        ({"action_result": "x"}, 'action_result: Invalid option: expected one of "success"|"failure"|""'),
        ({"direction": 1}, 'direction: Invalid option: expected one of "desc"|"asc"'),
    ],
)
def test_a_bad_argument_is_named_in_plain_text(arguments: dict[str, Any], message: str) -> None:
    given = {name: value for name, value in (WINDOW | arguments).items() if value is not ...}
    assert error(given) == message


def test_several_bad_arguments_are_named_in_the_order_of_the_schema() -> None:
    assert error({"limit": 0, "before": 5, "action_result": 1}) == (
        'action_result: Invalid option: expected one of "success"|"failure"|"", '
        "since: Invalid input: expected string, received undefined, "
        "before: Invalid input: expected string, received number, "
        "limit: Too small: expected number to be >=1"
    )


@pytest.mark.parametrize(
    "arguments",
    [
        {},
        {"no_such_filter": 5},
        {"limit": 1.5},
        {"since": "2026-13-45"},
        {"cursor": ""},
        {"action_result": ""},
        {"raw_status_code": 200},
        {"account_id": 5},
    ],
)
def test_what_the_server_does_not_check_passes(arguments: dict[str, Any]) -> None:
    assert error(WINDOW | arguments) is None


def test_the_account_argument_is_checked_where_it_is_known() -> None:
    message = "account_id: Invalid input: expected string, received number"
    assert error(WINDOW | {"account_id": 5}, SEVERAL) == message


@pytest.mark.parametrize("arguments", [{"limit": 1.5}, {"since": "2026-13-45"}, {"before": "2026-02-30"}])
def test_upstream_refuses_what_the_server_let_through(arguments: dict[str, Any]) -> None:
    with pytest.raises(BadQueryError):
        read_query(WINDOW | arguments)


def test_ten_rows_newest_first_is_what_upstream_gives_unasked() -> None:
    query = read_query(WINDOW)
    assert (query.limit, query.direction, query.cursor, query.filters) == (10, "desc", "", ())
    assert query.before_ns - query.since_ns == 86_400 * 10**9


def test_filters_are_forwarded_and_unknown_arguments_dropped() -> None:
    query = read_query(WINDOW | {"zone_name": "a", "action_result": "", "raw_status_code": 200, "zone": "b"})
    assert query.filters == (("action_result", ""), ("raw_status_code", 200), ("zone_name", "a"))


def test_a_pinned_account_wins_over_header_and_argument() -> None:
    assert choose_account(SINGLE, TWO.id, {"account_id": TWO.id}) == ONE.id


def test_the_header_wins_over_the_argument() -> None:
    assert choose_account(SEVERAL, TWO.id, {"account_id": ONE.id}) == TWO.id
    assert choose_account(SEVERAL, None, {"account_id": ONE.id}) == ONE.id


def test_an_account_that_is_missing_or_unknown_is_answered_with_the_choices() -> None:
    available = [{"id": ONE.id, "name": "One"}, {"id": TWO.id, "name": "Two"}]
    assert choose_account(SEVERAL, None, {}) == {
        "error": "account_id is required because your credentials can access multiple Cloudflare accounts. "
        "Pass account_id, or set a cf-account-id header in your MCP client configuration.",
        "available_accounts": available,
    }
    assert choose_account(SEVERAL, None, {"account_id": "ffff"}) == {
        "error": 'Account "ffff" is not one of the accounts your credentials can access.',
        "available_accounts": available,
    }
    assert choose_account(SEVERAL, "nope", {"account_id": ONE.id}) == {
        "error": 'The cf-account-id header "nope" is not one of the accounts your credentials can access.',
        "available_accounts": available,
    }
    found = choose_account(NOBODY, None, {})
    assert isinstance(found, dict)
    assert found["available_accounts"] == []


def test_the_instructions_list_the_accounts_where_there_are_several() -> None:
    assert instructions(SINGLE) is None
    assert instructions(SEVERAL) == (
        "\n\n## Your Cloudflare accounts\nYour credentials can access multiple accounts. Pass `account_id` to any "
        f"account-scoped tool to choose one:\n  - One ({ONE.id})\n  - Two ({TWO.id})\n\n"
        "To avoid passing `account_id` on every call, set a `cf-account-id` header to one of the IDs above in your "
        "MCP client configuration."
    )
