"""The table of what can go wrong with a request, row by row, in any nesting."""

from __future__ import annotations

import socket
import ssl
from collections.abc import Callable

import anyio
import httpx2
import pytest
from mcp import MCPError
from mcp_types import ErrorData

from cfaudit_export.errors import AccessError, CfauditError, ExitCode, ProtocolError
from cfaudit_export.http.exchange import ReplyCutError, ReplyTooLargeError
from cfaudit_export.sources.mcp.failures import LOOKS, CallFailedError, Kind, failure_of, says_session_ended


def rpc(code: int, message: str = "it failed") -> MCPError:
    return MCPError.from_error_data(ErrorData(code=code, message=message))


def caused(error: Exception, cause: Exception) -> Exception:
    error.__cause__ = cause
    return error


ROWS: list[tuple[Exception, Kind]] = [
    (httpx2.ConnectError("All connection attempts failed"), "retry"),
    (httpx2.ConnectTimeout("slow"), "retry"),
    (httpx2.ReadTimeout("slow"), "retry"),
    (httpx2.WriteTimeout("slow"), "retry"),
    (httpx2.PoolTimeout("slow"), "retry"),
    (httpx2.ReadError("reset"), "retry"),
    (httpx2.WriteError("reset"), "retry"),
    (httpx2.CloseError("reset"), "retry"),
    (httpx2.RemoteProtocolError("peer closed connection without sending complete message body"), "retry"),
    (httpx2.DecodingError("incorrect header check"), "retry"),
    (httpx2.ProxyError("the proxy 'p:1' cannot be reached"), "retry"),
    (httpx2.ProxyError("407 Proxy Authentication Required"), "settings"),
    (ReplyCutError("the compressed reply ends early"), "retry"),
    (ReplyTooLargeError("the reply is larger than 9 bytes"), "too_large"),
    (httpx2.LocalProtocolError("odd header"), "protocol"),
    (httpx2.InvalidURL("odd"), "protocol"),
    (httpx2.StreamClosed(), "retry"),
    (caused(httpx2.ConnectError("x"), ssl.SSLCertVerificationError(1, "certificate has expired")), "settings"),
    (caused(httpx2.ConnectError("x"), socket.gaierror(socket.EAI_NONAME, "unknown")), "retry"),
    (ssl.SSLError(1, "record layer failure"), "retry"),
    (anyio.ClosedResourceError(), "retry"),
    (anyio.BrokenResourceError(), "retry"),
    (anyio.EndOfStream(), "retry"),
    (TimeoutError(), "retry"),
    (ConnectionResetError(104, "reset"), "retry"),
    (rpc(-32001, "Request 'tools/call' timed out"), "retry"),
    (rpc(-32000, "SSE stream ended without a response"), "retry"),
    (rpc(-32603, "Internal error"), "retry"),
    (rpc(-32700, "Failed to parse JSON response"), "odd"),
    (rpc(-32601, "Method not found"), "protocol"),
    (rpc(-32602, "Tool nope not found"), "shape"),
    (rpc(-32050, "whatever"), "shape"),
    (RecursionError("deep"), "shape"),
    (RuntimeError("Unsupported protocol version from the server: 1999"), "shape"),
    (ValueError("1 validation error for CallToolResult"), "shape"),
]

NESTINGS: list[Callable[[Exception], BaseException]] = [
    lambda error: error,
    lambda error: ExceptionGroup("unhandled errors in a TaskGroup", [error]),
    lambda error: ExceptionGroup("outer", [ExceptionGroup("inner", [error]), anyio.ClosedResourceError()]),
]


@pytest.mark.parametrize("nested", NESTINGS)
@pytest.mark.parametrize(("error", "kind"), ROWS, ids=lambda value: repr(value)[:60])
def test_every_exception_has_one_meaning_in_any_nesting(
    error: Exception, kind: Kind, nested: Callable[[Exception], BaseException]
) -> None:
    failure = failure_of(nested(error))
    assert failure.kind == kind
    for is_early in (True, False):
        failure.is_early = is_early
        ending = failure.as_error("https://me:5ec2e7@host.example/mcp?key=5ec2e7")
        assert ending.exit_code in (ExitCode.TRY_AGAIN, ExitCode.PROTOCOL, ExitCode.SETTINGS)
        assert "'host.example'" in str(ending)
        assert "5ec2e7" not in str(ending)


def test_what_says_already_what_to_do_and_what_must_not_be_caught_go_through() -> None:
    for inner in (AccessError("sign in"), KeyboardInterrupt(), SystemExit(3)):
        with pytest.raises(type(inner)):
            failure_of(BaseExceptionGroup("group", [httpx2.ReadError("reset"), inner]))


@pytest.mark.parametrize(
    ("status", "code"),
    [
        (401, ExitCode.ACCESS),
        (403, ExitCode.ACCESS),
        (407, ExitCode.SETTINGS),
        (404, ExitCode.PROTOCOL),
        (405, ExitCode.PROTOCOL),
        (413, ExitCode.PROTOCOL),
        (408, ExitCode.TRY_AGAIN),
        (425, ExitCode.TRY_AGAIN),
        (429, ExitCode.TRY_AGAIN),
        (500, ExitCode.TRY_AGAIN),
        (520, ExitCode.TRY_AGAIN),
        (599, ExitCode.TRY_AGAIN),
    ],
)
def test_every_status_has_one_meaning(status: int, code: ExitCode) -> None:
    assert CallFailedError(f"HTTP {status}", status=status).as_error("https://host.example/mcp").exit_code == code


def test_what_is_no_reply_is_a_wrong_url_at_first_and_a_passing_fault_later() -> None:
    failure = CallFailedError("HTTP 200 without a reply", status=200)
    failure.is_early = True
    assert isinstance(failure.as_error("https://host.example/"), ProtocolError)
    assert "check the server URL" in str(failure.as_error("https://host.example/"))
    assert failure.looks == 2
    failure.is_early = False
    assert failure.as_error("https://host.example/").exit_code == ExitCode.TRY_AGAIN
    assert failure.looks is None


def test_nothing_but_passing_faults_is_asked_again_for_long() -> None:
    early = {kind for kind, (looks, _) in LOOKS.items() if looks is None}
    later = {kind for kind, (_, looks) in LOOKS.items() if looks is None}
    assert early == {"retry", "throttled"}
    assert later == {"retry", "throttled", "odd"}
    assert all(looks is None or looks <= 2 for pair in LOOKS.values() for looks in pair)


@pytest.mark.parametrize(
    "words",
    [
        "Session not found",
        "session 5ec2e7 does not exist",
        "Session has been terminated",
        "Invalid or missing session ID",
        "Bad Request: No valid session ID provided",
        "Unknown session",
        "Your session has expired, please initialize again",
        "Bad Request: Mcp-Session-Id header is required",
    ],
)
def test_gateways_say_in_many_words_that_a_session_ended(words: str) -> None:
    assert says_session_ended(words)
    assert failure_of(rpc(-32602, words)).ended_session


@pytest.mark.parametrize(
    "words",
    [
        '{"error":"Error reading audit logs: Cloudflare API request failed"}',
        "Tool nope not found",
        "Invalid arguments for tool auditlogs_by_account_id: since: Date must be in YYYY-MM-DD",
        "the obsession with closed doors",
        "session " * 500 + "not found",
    ],
)
def test_other_words_do_not_end_a_session(words: str) -> None:
    assert not says_session_ended(words)


def test_a_proxy_that_cannot_be_reached_is_named() -> None:
    said = str(
        failure_of(httpx2.ProxyError("the proxy 'p:1' cannot be reached: Connection refused")).as_error("http://h/")
    )
    assert "the proxy 'p:1' cannot be reached" in said


def test_errors_are_for_people() -> None:
    assert issubclass(type(CallFailedError("x", "odd").as_error("http://h/")), CfauditError)
