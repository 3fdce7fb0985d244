"""The snippet as it really runs, under node: what it asks, what it answers, and that it can do nothing else."""

from __future__ import annotations

import asyncio
import json
import shutil
import subprocess
from dataclasses import dataclass, field
from datetime import UTC, datetime
from pathlib import Path
from typing import Any
from urllib.parse import parse_qsl, urlsplit

import httpx2
import pytest
from hypothesis import given
from hypothesis import strategies as st

from cfaudit_export.sources.codemode import snippet
from cfaudit_export.sources.codemode.frame import read_frame
from cfaudit_export.sources.codemode.snippet import Parameters, read_code, write_code
from cfaudit_sandbox import Sandbox, SandboxOptions, World
from cfaudit_sandbox.codemode.api import ApiReply, ConnectionLostError
from cfaudit_sandbox.codemode.run import UnreadableError, run_snippet

needs_node = pytest.mark.skipif(
    shutil.which("node") is None, reason="node is not installed, so the snippet itself is NOT tested here"
)
ACCOUNT = "0123456789abcdef" * 2
QUERY = (("since", "2026-11-01T00:00:00.000Z"), ("before", "2026-11-02T00:00:00.000Z"), ("limit", "2"))

# Runs each snippet the way the server does: as an expression in a module, with a fetch that plays back replies.
HARNESS = """
const cases = JSON.parse(await new Response(process.stdin).text());
const results = [];
for (const { code, replies, account, base, token } of cases) {
  const asked = [];
  const real = globalThis.realFetch ??= globalThis.fetch;
  globalThis.fetch = async (url, options) => {
    asked.push({ url, options });
    if (base) {
      const moved = url.replace("https://api.cloudflare.com", base);
      return real(moved, { ...options, headers: { authorization: `Bearer ${token}` } });
    }
    const reply = replies[asked.length - 1];
    if (reply === "drop") throw new Error("Network connection lost.");
    return new Response(Buffer.from(reply.body, "base64"), { status: reply.status, headers: reply.headers });
  };
  delete globalThis.accountId;
  Object.defineProperty(globalThis, "accountId", {
    configurable: true,
    get() { if (account === null) throw new Error("No account selected."); return account; },
  });
  const module = `export default await (${code})();`;
  const { default: text } = await import(`data:text/javascript;base64,${Buffer.from(module).toString("base64")}`);
  results.push({ text, asked });
}
process.stdout.write(JSON.stringify(results));
"""


@dataclass(frozen=True)
class Case:
    parameters: Parameters
    replies: tuple[ApiReply | str, ...] = ()
    account: str | None = None
    base: str = ""
    token: str = ""


@dataclass(frozen=True)
class Ran:
    text: str
    asked: list[dict[str, Any]] = field(default_factory=list)


def in_node(*cases: Case) -> list[Ran]:
    import base64

    def reply(one: ApiReply | str) -> Any:
        if isinstance(one, str):
            return one
        body = base64.b64encode(one.body).decode()
        return {"status": one.status, "headers": dict(one.headers), "body": body}

    # Imports are cached by their URL, so every case gets one of its own.
    sent = [
        {
            "code": f"/* {number} */ {write_code(case.parameters)}",
            "replies": [reply(one) for one in case.replies],
            "account": case.account,
            "base": case.base,
            "token": case.token,
        }
        for number, case in enumerate(cases)
    ]
    done = subprocess.run(
        ["node", "--input-type=module", "--eval", HARNESS],
        input=json.dumps(sent),
        capture_output=True,
        text=True,
        timeout=60,
        check=False,
    )
    assert done.returncode == 0, done.stderr
    return [Ran(**one) for one in json.loads(done.stdout)]


def emulated(case: Case) -> str:
    replies = iter(case.replies)

    def account_id() -> str:
        if case.account is None:
            raise UnreadableError("No account selected.")
        return case.account

    def fetch(_account: str | None, _query: object) -> ApiReply:
        found = next(replies)
        if isinstance(found, str):
            raise ConnectionLostError
        return found

    head, bodies = asyncio.run(run_snippet(case.parameters, account_id, fetch))
    return f"{head}\n{b''.join(bodies).decode()}"


def page(*rows: object, cursor: object = None, **more: Any) -> ApiReply:
    info = {"count": len(rows)} | ({"cursor": cursor} if cursor is not None else {})
    body = {"success": True, "errors": [], "messages": [], "result": list(rows), "result_info": info} | more
    return ApiReply(200, json.dumps(body, ensure_ascii=False, separators=(",", ":")).encode())


def ask(pages: int = 5, most: int = 10_000, **changes: Any) -> Parameters:
    return Parameters(**{"account": ACCOUNT, "query": QUERY, "pages": pages, "most": most} | changes)


CASES = {
    "one page": Case(ask(), (page({"id": "a"}),)),
    "many pages": Case(ask(), (page(1, cursor="c1"), page(2, cursor="c2"), page(3))),
    "as many pages as asked": Case(ask(2), (page(1, cursor="c1"), page(2, cursor="c2"), page(3))),
    "going on from a cursor": Case(ask(1, cursor="c9"), (page(1, cursor="c1"),)),
    "empty cursor": Case(ask(), (page(1, cursor=""), page(2))),
    "no rows": Case(ask(), (page(),)),
    "unicode": Case(ask(), (page({"id": "é☕🚀\u2028\u2029\x7f'`${1}\\"}, cursor="c"), page("ü"))),
    "too large at once": Case(ask(most=10), (page({"id": "x" * 100}),)),
    "too large together": Case(ask(most=150), (page("x" * 60, cursor="c"), page("y" * 60))),
    "throttled": Case(ask(), (ApiReply(429, b'{"errors":[{"code":10429,"message":"slow"}]}', {"retry-after": "7"}),)),
    "throttled behind a page": Case(
        ask(), (page(1, cursor="c"), ApiReply(429, b"", {"ratelimit": '"default";r=0;t=9'}))
    ),
    "forbidden": Case(ask(), (ApiReply(403, b'{"errors":[]}', {"cf-ray": "8-FRA"}),)),
    "html": Case(ask(), (ApiReply(200, b"<html>oops</html>"),)),
    "empty body": Case(ask(), (ApiReply(200, b""),)),
    "server error": Case(ask(), (ApiReply(503, b"<html>down</html>" * 100),)),
    "redirect": Case(ask(), (ApiReply(302, b"", {"location": "https://example.com/"}),)),
    "lost connection": Case(ask(), ("drop",)),
    "lost connection behind a page": Case(ask(), (page(1, cursor="c"), "drop")),
    "account of the session": Case(ask(pages=0, account=None), account=ACCOUNT),
    "accounts": Case(ask(1, account=None, listing=True), (page({"id": ACCOUNT, "name": "é"}),)),
    "accounts that may not be listed": Case(ask(1, account=None, listing=True), (ApiReply(403, b'{"errors":[]}'),)),
    "no account": Case(ask(pages=0, account=None)),
}


@pytest.fixture(scope="module")
def ran() -> dict[str, Ran]:
    return dict(zip(CASES, in_node(*CASES.values()), strict=True))


@needs_node
@pytest.mark.parametrize("name", CASES)
def test_the_emulated_snippet_answers_like_the_real_one(ran: dict[str, Ran], name: str) -> None:
    assert ran[name].text == emulated(CASES[name])


@needs_node
@pytest.mark.parametrize("name", CASES)
def test_what_it_returns_is_whole_and_its_pages_are_verbatim(ran: dict[str, Ran], name: str) -> None:
    frame = read_frame(ran[name].text)
    replied = [reply.body for reply in CASES[name].replies if isinstance(reply, ApiReply)]
    assert [bytes(body) for body in frame.bodies] == replied[: len(frame.bodies)]
    assert ran[name].text.partition("\n")[0].isascii() or name == "unicode"


@needs_node
@pytest.mark.parametrize("name", CASES)
def test_it_only_gets_the_audit_log_of_the_account_or_lists_accounts(ran: dict[str, Ran], name: str) -> None:
    for request in ran[name].asked:
        url = urlsplit(request["url"])
        assert (url.scheme, url.netloc) == ("https", "api.cloudflare.com")
        log = "" if CASES[name].parameters.listing else f"/{ACCOUNT}/logs/audit"
        assert url.path == f"/client/v4/accounts{log}"
        assert request["options"] == {"method": "GET", "redirect": "manual"}


@needs_node
def test_pages_are_asked_for_one_behind_the_other(ran: dict[str, Ran]) -> None:
    cursors = [dict(parse_qsl(urlsplit(one["url"]).query)).get("cursor") for one in ran["many pages"].asked]
    assert cursors == [None, "c1", "c2"]
    (only,) = ran["going on from a cursor"].asked
    assert parse_qsl(urlsplit(only["url"]).query) == [*QUERY, ("cursor", "c9")]


@needs_node
def test_replies_of_other_forms_are_understood_or_refused() -> None:
    other = page(1, result_info={"cursors": {"after": "c1"}})
    null = ApiReply(200, b'{"success":true,"result":null,"result_info":null}')
    refused = [ApiReply(200, b'{"success":false,"result":[]}'), page(result="text"), ApiReply(200, b"null")]
    broken = ApiReply(200, b'{"result":["\xff"]}')
    after, empty, *wrong, not_utf8 = in_node(
        Case(ask(), (other, page(2))),
        Case(ask(), (null,)),
        *(Case(ask(), (reply,)) for reply in refused),
        Case(ask(), (broken,)),
    )
    assert [cursor for _, cursor in read_frame(after.text).header.pages] == ["c1", None]
    assert len(read_frame(empty.text).bodies) == 1
    for one in wrong:
        failure = read_frame(one.text).header.err
        assert failure is not None
        assert (failure.kind, failure.text) == ("body", "the reply is no page")
    failure = read_frame(not_utf8.text).header.err
    assert failure is not None
    assert failure.kind == "thrown"


@needs_node
@pytest.mark.parametrize("account", ["../user/tokens", ACCOUNT + "/x", ACCOUNT.upper(), "", "a" * 31, f"{ACCOUNT}\n"])
def test_an_account_that_is_none_is_never_put_into_the_address(account: str) -> None:
    (one,) = in_node(Case(ask(account=account), (page(1),)))
    assert one.asked == []
    failure = read_frame(one.text).header.err
    assert failure is not None
    assert "not an account id" in failure.text


NASTY = [
    "\u2028\u2029",
    "</script>",
    "`${fetch('x')}`",
    '"});fetch("https://example.com");({"',
    "'\\",
    "\ud83d",
    "a&b=c#d+e %",
]


@needs_node
def test_no_text_of_a_filter_can_become_code() -> None:
    cases = [
        Case(ask(1, query=(("actor_email", text), ("__proto__", text)), cursor=text), (page(1),)) for text in NASTY
    ]
    for text, one in zip(NASTY, in_node(*cases), strict=True):
        shown = text.replace("\ud83d", "\ufffd")
        (request,) = one.asked
        asked = parse_qsl(urlsplit(request["url"]).query, keep_blank_values=True)
        assert asked == [("actor_email", shown), ("__proto__", shown), ("cursor", shown)]


@needs_node
def test_the_real_snippet_reads_the_sandbox_s_api_like_the_emulated_one() -> None:
    end = datetime(2026, 11, 20, tzinfo=UTC)
    world = World(SandboxOptions(end_at=end, events=700, span_seconds=86_000.0, poison={"all": 90}))
    asked = ask(
        4,
        10_000_000,
        account=world.accounts[0].id,
        query=(("since", "2026-11-19"), ("before", "2026-11-21"), ("direction", "asc"), ("limit", "200")),
    )
    token = world.tokens["account"]
    with Sandbox(world) as sandbox:
        (real,) = in_node(Case(asked, base=f"{sandbox.url}/codemode", token=token))
        body = {
            "jsonrpc": "2.0",
            "id": 1,
            "method": "tools/call",
            "params": {"name": "execute", "arguments": {"code": write_code(asked)}},
        }
        headers = {"authorization": f"Bearer {token}", "accept": "application/json, text/event-stream"}
        url = f"{sandbox.codemode_url}?truncateToolResult=false"
        reply = httpx2.post(url, json=body, headers=headers).text.partition("data: ")[2]
    text = json.loads(reply)["result"]["content"][0]["text"]
    assert real.text == text
    frame = read_frame(text)
    rows = [row for body in frame.bodies for row in json.loads(bytes(body))["result"]]
    assert rows == list(world.records(world.accounts[0].id))


parameters = st.builds(
    Parameters,
    account=st.none() | st.text(),
    query=st.lists(st.tuples(st.text(), st.text())).map(tuple),
    cursor=st.none() | st.text(),
    pages=st.integers(0, 5),
    most=st.integers(0, 2**53),
    listing=st.booleans(),
)


@given(parameters)
def test_parameters_survive_the_code(asked: Parameters) -> None:
    code = write_code(asked)
    assert read_code(code) == asked
    assert len(code.splitlines()) == len(write_code(Parameters(None)).splitlines())


def test_other_code_is_not_taken_for_the_snippet() -> None:
    code = write_code(ask())
    for other in (
        "",
        "async () => 1",
        code + " ",
        code.replace("GET", "PUT"),
        code.replace('"pages":5', '"pages":f()'),
    ):
        assert read_code(other) is None


def test_the_snippet_is_ascii_and_short_enough_to_review() -> None:
    text = (Path(snippet.__file__).parent / "snippet.js").read_text("ascii")
    assert len(text.splitlines()) == 60, "the README says how many lines there are to review"
    assert text.count("fetch(") == 1
    assert "cloudflare.request" not in text
