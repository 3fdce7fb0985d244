"""Habits of HTTP, of sessions, and of the network below."""

from __future__ import annotations

import gzip
import zlib
from collections.abc import Mapping
from typing import Any

from bad_habits import protocol
from bad_habits.answers import Answer, Line
from bad_habits.faults import Habit, When
from bad_habits.server import Moment

ALL = When(during="all")

# -- HTTP ---------------------------------------------------------------------------------------------


def header(name: str, value: str, when: When = ALL) -> Habit:
    """Send a header: `Date` of another year, a `Retry-After` that is none."""
    return Habit("sends", "http", lambda answer, _moment: answer.with_header(name, value), when, f"{name}: {value}")


def without(name: str) -> Habit:
    """Leave a header out."""
    return Habit("omits", "http", lambda answer, _moment: answer.without_header(name), ALL, name)


def answers(status: int, body: bytes = b"", kind: str = "text/html", headers: Mapping[str, str] | None = None) -> Habit:
    """Answer a request with something else: a 502 of HTML, 202, 204, an empty 200."""
    pairs = tuple((headers or {}).items())

    def act(_answer: Answer, _moment: Moment) -> Answer:
        return Answer(status, body, kind, pairs)

    shown = " ".join([str(status), body[:24].decode("latin-1"), *(f"{name}: {value}" for name, value in pairs)])
    return Habit("answers", "http", act, detail=shown.strip())


def html(status: int) -> Habit:
    """Answer with a page for people."""
    return answers(status, b"<html><h1>oops</h1></html>")


def rpc_error(code: int, words: str, status: int = 200) -> Habit:
    """Answer with a JSON-RPC error."""
    return Habit(
        "answers",
        "http",
        lambda _answer, moment: protocol.error(status, moment.message, code, words),
        detail=f"{status} {code} {words}",
    )


def ended_session(status: int, code: int = -32600, words: str = "Session not found", *, tool: bool = False) -> Habit:
    """Forget every session at one moment, and say so in this way until another one is begun."""

    def act(answer: Answer, moment: Moment) -> Answer:
        server, session = moment.server, moment.headers.get("mcp-session-id")
        if "ended" not in server.notes:
            server.notes["ended"] = set(server.sessions)
        if moment.method == "initialize" or session not in server.notes["ended"]:
            return answer
        if tool:
            result = {"content": [{"type": "text", "text": words}], "isError": True}
            body = protocol.text({"result": result, "jsonrpc": "2.0", "id": moment.message.get("id")})
            return Answer(status, body.encode())
        return protocol.error(status, moment.message, code, words)

    how = "tool text" if tool else f"{status} {code} {words}"
    return Habit("ends the session", "http", act, detail=how)


def half_an_event() -> Habit:
    """End an event stream before its reply is whole."""

    def act(answer: Answer, _moment: Moment) -> Answer:
        return Answer(200, b"event: message\ndata: " + answer.body[:10], "text/event-stream", chunked=True)

    return Habit("ends the stream before its reply", "http", act)


def changes_tool(**fields: Any) -> Habit:
    """List the tool with other fields: a schema that is none, an output schema."""

    def act(answer: Answer, moment: Moment) -> Answer:
        if moment.method != "tools/list":
            return answer
        old = protocol.text(moment.server.tool())
        new = protocol.text({**moment.server.tool(), **fields})
        plain = answer.body.replace(b"\\/", b"/").decode()
        return answer.having(body=plain.replace(old, new).encode())

    return Habit("changes the tool", "http", act, When(during="opening"), protocol.text(fields)[:60])


def gzip_bomb(megabytes: int = 200) -> Habit:
    """Answer with blanks without end, well packed."""

    def act(_answer: Answer, _moment: Moment) -> Answer:
        packer = zlib.compressobj(9, zlib.DEFLATED, 31)
        body = b"".join(packer.compress(b" " * 1_000_000) for _ in range(megabytes)) + packer.flush()
        return Answer(200, body, headers=(("Content-Encoding", "gzip"),))

    return Habit("sends a gzip bomb", "http", act)


def broken_gzip() -> Habit:
    """Say that the body is packed, and cut the pack."""

    def act(answer: Answer, _moment: Moment) -> Answer:
        return answer.having(body=gzip.compress(answer.body)[:-12]).with_header("Content-Encoding", "gzip")

    return Habit("sends broken gzip", "http", act)


# -- TCP ----------------------------------------------------------------------------------------------


def _wire(name: str, act: Any, detail: str = "") -> Habit:
    return Habit(name, "wire", act, detail=detail)


def closes(where: str) -> Habit:
    """Close the connection `before` the answer, in its `head`, or in its `body`."""

    async def act(line: Line, answer: Answer, _moment: Moment) -> None:
        if where != "before":
            await line.send(_part(answer, where))

    return _wire("closes", act, where)


def resets(where: str = "before") -> Habit:
    """Reset the connection there."""

    async def act(line: Line, answer: Answer, _moment: Moment) -> None:
        if where != "before":
            await line.send(_part(answer, where))
        line.reset()

    return _wire("resets", act, where)


def garbage() -> Habit:
    """Answer with bytes that are no HTTP."""

    async def act(line: Line, _answer: Answer, _moment: Moment) -> None:
        await line.send(b"\x00\xff\x13\x37 not HTTP at all\r\n\r\n")

    return _wire("sends garbage", act)


def stalls(where: str = "body") -> Habit:
    """Stop in the middle and say nothing more; the client's timeout has to end it."""

    async def act(line: Line, answer: Answer, _moment: Moment) -> None:
        if where != "before":
            await line.send(_part(answer, where))
        await line.stall()

    return _wire("stalls", act, where)


def goes_away(seconds: float) -> Habit:
    """Drop the connection and listen no more for so long, by the clock of the one who waits."""

    async def act(line: Line, _answer: Answer, moment: Moment) -> None:
        moment.server.notes["back"] = seconds
        moment.server.refuse()
        line.reset()

    return _wire("refuses connections", act, f"{seconds:g} s")


def endless(kind: str, status: int = 200, most: int = 400_000_000) -> Habit:
    """Send a body without end, `json` or an event `stream`, until the client has had enough; `sent` notes how much."""

    async def act(line: Line, _answer: Answer, moment: Moment) -> None:
        is_stream = kind == "stream"
        content = "text/event-stream" if is_stream else "application/json"
        await line.send(Answer(status, kind=content, chunked=True).head())
        block = b"data: " + b"x" * 999_993 + b"\n" if is_stream else b" " * 1_000_000
        while moment.server.notes.get("sent", 0) < most:
            await line.send(b"%x\r\n%s\r\n" % (len(block), block))
            moment.server.notes["sent"] = moment.server.notes.get("sent", 0) + len(block)

    return _wire("sends without end", act, f"{kind} {status}")


def _part(answer: Answer, where: str) -> bytes:
    if where == "head":
        return answer.head()[:25]
    return (
        answer.head() + (b"%x\r\n" % len(answer.body) if answer.chunked else b"") + answer.body[: len(answer.body) // 2]
    )
