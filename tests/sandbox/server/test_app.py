"""Routing, who is let in, and what the tool answers, over real HTTP."""

from __future__ import annotations

import json
from concurrent.futures import ThreadPoolExecutor
from typing import TYPE_CHECKING, Any

import httpx2
import pytest
from starlette.responses import PlainTextResponse

from cfaudit_sandbox.server.identity import Refusal
from cfaudit_sandbox.server.upstream import Caller

if TYPE_CHECKING:
    from collections.abc import Iterator

    from starlette.requests import Request
    from starlette.responses import Response
    from tests.core.sandbox.conftest import Clock, Connect, Wire


CORS = {
    "access-control-allow-origin": "*",
    "access-control-allow-headers": "Content-Type, Accept, Authorization, MCP-Protocol-Version, Mcp-Method, "
    "Mcp-Name, cf-account-id",
    "access-control-allow-methods": "POST, OPTIONS",
    "access-control-expose-headers": "MCP-Protocol-Version",
    "access-control-max-age": "86400",
}


def answered(response: httpx2.Response) -> tuple[int, Any]:
    return response.status_code, response.json()


def rpc_error(code: int, message: str) -> dict[str, Any]:
    return {"jsonrpc": "2.0", "error": {"code": code, "message": message}, "id": None}


def test_a_foreign_host_or_origin_is_refused(wire: Wire) -> None:
    response = wire.legacy("ping", host="evil.example.com:80")
    assert answered(response) == (403, rpc_error(-32000, "Invalid Host: evil.example.com"))
    assert CORS.items() <= dict(response.headers).items()
    response = wire.legacy("ping", origin="https://evil.example.com")
    assert answered(response) == (403, rpc_error(-32000, "Invalid Origin: evil.example.com"))
    for origin in ("http://localhost:3000", "https://playground.ai.cloudflare.com"):
        assert wire.legacy("ping", origin=origin).status_code == 200
    assert wire.legacy("ping", host="auditlogs.mcp.cloudflare.com").status_code == 200


def test_a_host_can_be_allowed(connect: Connect) -> None:
    assert connect(allowed_hosts=("sandbox",)).legacy("ping", host="sandbox:8976").status_code == 200


def test_a_preflight_is_answered_without_a_token(wire: Wire) -> None:
    response = wire.http.options(wire.sandbox.mcp_url)
    assert (response.status_code, response.content) == (200, b"")
    assert CORS.items() <= dict(response.headers).items()


@pytest.mark.parametrize("path", ["/mcp", "/mcp/", "/sse", "/sse/message"])
def test_without_a_token_the_mcp_paths_ask_for_one(wire: Wire, path: str) -> None:
    response = wire.http.post(wire.sandbox.url + path, json={})
    assert answered(response) == (
        401,
        {"error": "invalid_token", "error_description": "Missing or invalid access token"},
    )
    origin = wire.sandbox.url
    assert response.headers["www-authenticate"] == (
        f'Bearer realm="OAuth", resource_metadata="{origin}/.well-known/oauth-protected-resource{path}", '
        'error="invalid_token", error_description="Missing or invalid access token"'
    )
    assert (response.headers["cache-control"], response.headers["pragma"]) == ("no-store", "no-cache")
    assert "access-control-allow-origin" not in response.headers


def test_the_scheme_of_the_header_is_case_sensitive(wire: Wire) -> None:
    assert wire.legacy("ping", authorization=f"bearer {wire.token}").status_code == 401
    assert wire.legacy("ping", authorization="Bearer").status_code == 401
    assert wire.legacy("ping", authorization=f"Bearer {wire.token} more").status_code == 200


def test_a_token_of_three_parts_goes_to_oauth_and_is_unknown_there(wire: Wire) -> None:
    response = wire.legacy("ping", authorization="Bearer a:b:c")
    assert answered(response) == (
        401,
        {"error": "invalid_token", "error_description": "Invalid access token"},
    )
    assert response.headers["www-authenticate"].endswith(' error="invalid_token"')


def test_refused_tokens_get_the_answer_of_the_probe(connect: Connect) -> None:
    wire = connect(token="forbidden")
    response = wire.legacy("ping")
    assert (response.status_code, response.json()["error"]) == (403, "insufficient_scope")
    assert 'error="insufficient_scope"' in response.headers["www-authenticate"]
    wire.sandbox.upstream.fail_next(429, where="probe")
    response = wire.legacy("ping")
    assert (response.status_code, response.headers["retry-after"]) == (429, "30")
    assert "www-authenticate" not in response.headers


@pytest.mark.parametrize("path", ["/", "/token", "/register", "/.well-known/oauth-protected-resource", "/mcp/"])
def test_with_an_api_token_every_other_path_is_not_found(wire: Wire, path: str) -> None:
    response = wire.post({}, path=path)
    assert (response.status_code, response.text) == (404, "Not Found")
    assert CORS.items() <= dict(response.headers).items()
    assert response.headers["content-type"].startswith("text/plain")


def test_unknown_paths_without_a_token_are_not_found_either(wire: Wire) -> None:
    response = wire.http.get(wire.sandbox.url + "/nowhere")
    assert (response.status_code, response.text) == (404, "404 Not Found")


@pytest.mark.parametrize("verb", ["GET", "DELETE"])
@pytest.mark.parametrize("path", ["/mcp", "/sse"])
def test_only_post_is_served(wire: Wire, verb: str, path: str) -> None:
    headers = {"authorization": f"Bearer {wire.token}"}
    response = wire.http.request(verb, wire.sandbox.url + path, headers=headers)
    assert answered(response) == (405, rpc_error(-32000, "Method not allowed."))
    assert "allow" not in response.headers
    assert CORS.items() <= dict(response.headers).items()


def test_sse_is_another_name_for_the_same_server(wire: Wire) -> None:
    assert wire.post({"jsonrpc": "2.0", "id": 1, "method": "ping"}, path="/sse").text == wire.legacy("ping").text


def test_a_body_over_four_mebibytes_is_refused(wire: Wire) -> None:
    response = wire.post(b'"' + b"x" * (4 * 1024 * 1024) + b'"')
    expected = rpc_error(-32000, "Request body too large. Maximum size is 4194304 bytes")
    assert answered(response) == (413, expected)

    def chunks() -> Iterator[bytes]:
        for _ in range(5):
            yield b"x" * 1024 * 1024

    headers = {"authorization": f"Bearer {wire.token}", "content-type": "application/json"}
    assert wire.http.post(wire.sandbox.mcp_url, content=chunks(), headers=headers).status_code == 413


def test_a_page_has_six_fields_and_an_envelope_in_a_fixed_order(wire: Wire) -> None:
    arguments = {"since": "2026-10-01", "before": "2026-11-21", "direction": "asc", "limit": 300}
    response = wire.modern("tools/call", {"name": "auditlogs_by_account_id", "arguments": arguments})
    result = response.json()["result"]
    assert list(result) == ["content", "resultType", "_meta"]
    assert list(result["content"][0]) == ["type", "text"]
    text = result["content"][0]["text"]
    account = wire.world.accounts[0].id
    body = {"logs": list(wire.world.rows(account)), "result_info": {"count": 300}}
    assert json.loads(text) == body
    order = ["description", "time", "actor_email", "actor_token_name", "product", "type"]
    assert all(list(row) == [name for name in order if name in row] for row in json.loads(text)["logs"])
    escaped = json.dumps(body, ensure_ascii=False, separators=(",", ":")).replace("\ud83d", "\\ud83d")
    assert text == escaped


def test_a_walk_over_all_pages_returns_every_row_once(connect: Connect) -> None:
    wire = connect(events=2_500, ties=0.2, twins=0.1)
    rows = list(wire.world.rows(wire.world.accounts[0].id))
    assert wire.walk(limit=97) == rows
    assert wire.walk(direction="desc", limit=1000) == rows[::-1]


@pytest.mark.parametrize(("style", "tail"), [("absent", {"count": 300}), ("empty", {"count": 300, "cursor": ""})])
def test_the_last_page_says_so_in_the_chosen_style(connect: Connect, style: str, tail: dict[str, Any]) -> None:
    assert connect(end_style=style).read()["result_info"] == tail


def test_one_refused_row_fails_the_page_and_is_named_by_its_place(connect: Connect) -> None:
    wire = connect(poison=("array-response=1",), twins=0, ties=0)
    account = wire.world.accounts[0].id
    (row,) = wire.world.poison(account)
    prefix, _, issues = wire.read()["error"].partition(": ")
    assert prefix == "Error reading audit logs"
    assert issues == (
        '[\n  {\n    "expected": "record",\n    "code": "invalid_type",\n    "path": [\n      "result",\n'
        f'      {row.index},\n      "resource",\n      "response"\n    ],\n'
        '    "message": "Invalid input: expected record, received array"\n  }\n]'
    )
    rows = list(wire.world.rows(account))
    before = wire.read(limit=row.index)
    assert before["logs"] == rows[: row.index]
    assert "error" in wire.read(limit=1, cursor=before["result_info"]["cursor"])
    other = "delete" if row.record["action"]["type"] != "delete" else "create"
    assert all(found in rows for found in wire.walk(action_type=other))
    assert wire.world.heal(account) == 1
    assert len(wire.read()["logs"]) == 300


def test_all_issues_of_all_rows_are_listed_in_order(connect: Connect) -> None:
    wire = connect(poison=("all=43",))
    account = wire.world.accounts[0].id
    issues = json.loads(wire.read()["error"].partition(": ")[2])
    places = [issue["path"][1] for issue in issues]
    assert places == sorted(places)
    assert sorted(set(places)) == [row.index for row in wire.world.poison(account)]
    wire.world.turn(zod=3)
    assert any("received" in issue for issue in json.loads(wire.read()["error"].partition(": ")[2]))


@pytest.mark.parametrize(
    ("mishap", "message"),
    [
        *[(status, "Cloudflare API request failed") for status in (400, 401, 403, 404, 429, 499)],
        *[(status, "Upstream Cloudflare API unavailable") for status in (500, 503, 530)],
        ("drop", "Network connection lost."),
        ("html", "Unexpected token '<', \"<html>oops</html>\" is not valid JSON"),
        ("empty", "Unexpected end of JSON input"),
    ],
)
def test_what_goes_wrong_upstream_is_a_tool_error(wire: Wire, mishap: Any, message: str) -> None:
    wire.sandbox.upstream.fail_next(mishap)
    assert wire.read() == {"error": f"Error reading audit logs: {message}"}
    assert "logs" in wire.read()


@pytest.mark.parametrize("arguments", [{"cursor": "garbage"}, {"since": "2026-13-45"}, {"since": "2026-11-30"}])
def test_what_upstream_cannot_use_sounds_like_any_other_failure(wire: Wire, arguments: dict[str, str]) -> None:
    assert wire.read(**arguments) == {"error": "Error reading audit logs: Cloudflare API request failed"}


def test_a_token_without_the_permission_sounds_the_same(connect: Connect) -> None:
    wire = connect(token="no_permission")
    assert wire.read() == {"error": "Error reading audit logs: Cloudflare API request failed"}


def test_bad_arguments_are_answered_in_plain_text_and_cost_no_audit_call(wire: Wire) -> None:
    arguments = {"since": "2026-10-01", "before": "2026-11-21", "limit": 0}
    result = wire.modern("tools/call", {"name": "auditlogs_by_account_id", "arguments": arguments}).json()["result"]
    assert result["isError"] is True
    assert result["content"][0]["text"] == (
        "Input validation error: Invalid arguments for tool auditlogs_by_account_id: "
        "limit: Too small: expected number to be >=1"
    )
    assert wire.sandbox.upstream.counts["audit_calls"] == 0
    assert wire.sandbox.requests.calls[-1].cost == 2


def test_a_misspelt_filter_is_dropped_and_the_answer_is_unfiltered(wire: Wire) -> None:
    assert wire.read(action_typ="delete")["result_info"]["count"] == 300
    assert wire.read(account_id="f" * 32)["result_info"]["count"] == 300


def test_with_several_accounts_one_must_be_chosen(connect: Connect) -> None:
    wire = connect(accounts=2, events=20)
    first, second = wire.world.accounts
    assert [account["id"] for account in wire.read()["available_accounts"]] == [first.id, second.id]
    assert wire.read(account_id=second.id)["logs"] == list(wire.world.rows(second.id))
    assert "is not one of" in wire.read(account_id="f" * 32)["error"]
    arguments = {"since": "2026-10-01", "before": "2026-11-21", "account_id": second.id}
    params = {"name": "auditlogs_by_account_id", "arguments": arguments}
    response = wire.modern("tools/call", params, cf_account_id=first.id)
    rows = json.loads(response.json()["result"]["content"][0]["text"])["logs"]
    assert rows == list(wire.world.rows(first.id))[:-11:-1]


def test_a_throttled_user_gets_429_with_the_seconds_to_wait(connect: Connect, clock: Clock) -> None:
    wire = connect(throttle_calls=3, throttle_seconds=60)
    assert "logs" in wire.read()
    response = wire.legacy("ping")
    assert (response.status_code, response.headers["retry-after"]) == (429, "60")
    assert response.json() == {
        "error": "temporarily_unavailable",
        "error_description": "Rate limited, try again later",
    }
    clock.now += 60
    assert wire.legacy("ping").status_code == 429, "the calls before the block still count"
    clock.now += 300
    assert "logs" in wire.read()


def test_a_throttled_audit_call_behind_a_good_probe_sounds_like_any_failure(connect: Connect) -> None:
    wire = connect(throttle_calls=2)
    assert wire.read() == {"error": "Error reading audit logs: Cloudflare API request failed"}


def test_the_edge_can_answer_with_a_page_of_its_own(wire: Wire) -> None:
    wire.sandbox.upstream.fail_next(500, where="edge")
    response = wire.legacy("ping")
    assert response.status_code == 500
    assert response.headers["content-type"].startswith("text/html")


def test_a_page_asked_again_comes_from_the_cache_until_the_log_changes(connect: Connect, clock: Clock) -> None:
    wire = connect()
    cache = wire.sandbox.app.service.cache
    assert wire.read() == wire.read()
    assert (cache.hits, cache.misses) == (1, 1)
    account = wire.world.accounts[0].id
    wire.world.add(account, [next(wire.world.records(account))])
    assert wire.read()["result_info"]["count"] == 301
    assert (cache.hits, cache.misses) == (1, 2)


def test_the_cache_stays_within_its_bound(connect: Connect) -> None:
    wire = connect(cache_bytes=20_000)
    cache = wire.sandbox.app.service.cache
    for limit in range(1, 60):
        wire.read(limit=limit)
    misses = cache.misses
    for limit in range(59, 0, -1):
        wire.read(limit=limit)
    assert 0 < cache.misses - misses < 59


def test_latency_is_spent_per_call_and_calls_do_not_wait_for_each_other(connect: Connect) -> None:
    wire = connect(latency_seconds=0.15)
    with ThreadPoolExecutor(8) as pool:
        started = [pool.submit(wire.read, limit=1) for _ in range(8)]
        replies = [reply.result() for reply in started]
    assert all(reply["result_info"]["count"] == 1 for reply in replies)
    assert wire.sandbox.requests.counts()["tool_calls"] == 8


def test_every_request_is_noted_with_what_it_cost(wire: Wire) -> None:
    wire.read(limit=3)
    wire.legacy("ping")
    wire.http.post(wire.sandbox.mcp_url)
    call, ping, stranger = wire.sandbox.requests.entries
    assert (call.method, call.tool, call.era) == ("tools/call", "auditlogs_by_account_id", "modern")
    assert (call.arguments["limit"], call.cost, call.status, call.is_error) == (3, 3, 200, False)
    assert (ping.method, ping.era, ping.cost, ping.status) == ("ping", "legacy", 2, 200)
    assert (stranger.method, stranger.era, stranger.cost, stranger.status) == ("", "", 0, 401)


def test_a_browser_is_told_why_it_was_turned_away(wire: Wire) -> None:
    response = wire.http.post(wire.sandbox.mcp_url, json={}, headers={"origin": "http://localhost:3000"})
    assert response.status_code == 401
    assert response.headers["access-control-allow-origin"] == "http://localhost:3000"
    assert response.headers["access-control-allow-headers"] == "Authorization, *"


class OneGrant:
    """An OAuth half that knows one token, and answers every path that is not MCP's."""

    def __init__(self, caller: Caller) -> None:
        self._caller = caller

    def caller(self, token: str, request: Request) -> Caller | Refusal:
        if token == "user:grant:secret":
            return self._caller
        return Refusal(401, "invalid_token", "No", in_header=True, challenge="Not here")

    async def answer(self, request: Request) -> Response:
        return PlainTextResponse(f"oauth at {request.url.path}")


def test_an_oauth_half_owns_its_tokens_and_all_other_paths(connect: Connect) -> None:
    wire = connect()
    account = wire.world.accounts[0]
    wire.sandbox.app.authorization = OneGrant(Caller("user", (account,), account))
    wire.token = "user:grant:secret"
    assert wire.read()["logs"] == list(wire.world.rows(account.id))
    assert (wire.sandbox.requests.calls[-1].cost, wire.sandbox.upstream.counts["probes"]) == (1, 0)
    refused = wire.legacy("ping", authorization="Bearer a:b:c")
    assert 'error_description="Not here"' in refused.headers["www-authenticate"]
    assert wire.http.get(f"{wire.sandbox.url}/.well-known/anything").text == "oauth at /.well-known/anything"


def test_another_server_can_be_mounted_beside(connect: Connect) -> None:
    sandbox = connect().sandbox
    sandbox.app.mounts["/other"] = PlainTextResponse("mounted")
    assert httpx2.get(f"{sandbox.url}/other/mcp").text == "mounted"
    assert httpx2.get(f"{sandbox.url}/elsewhere").status_code == 404
