"""The server: a real one, on a port of the loopback, whose every layer may have habits."""

from __future__ import annotations

import asyncio
import json
import threading
from collections.abc import Callable, Iterable, Iterator, Mapping
from contextlib import contextmanager, suppress
from dataclasses import dataclass, field
from email.utils import format_datetime
from typing import Any, Literal

from bad_habits import protocol, tools
from bad_habits.answers import Answer, Line
from bad_habits.faults import Habit
from bad_habits.log import NOW, Ask, Page, World

Source = Literal["auditlogs", "codemode"]


@dataclass(frozen=True)
class Moment:
    """A request, as habits see it.

    Attributes:
        server: who is asked.
        number: of the request among those of the same sort, from 0: `calls` of the tool, or the `opening`.
        method: of the message.
        headers: of the request, names in lower case.
        message: the JSON-RPC message.
    """

    server: BadServer = field(repr=False)
    number: int
    method: str
    headers: Mapping[str, str]
    message: Mapping[str, Any]

    @property
    def during(self) -> str:
        return "calls" if self.method == "tools/call" else "opening"


class BadServer:
    """A truthful log behind habits. Change `world` and `habits` between runs; `heal` drops the habits.

    Attributes:
        calls: of the tool, so far.
        opening: other requests, so far.
        most_calls: beyond these everything is refused with 401, and `exceeded` is set: no run may go on for ever.
        on_call: told the number of each call before it is answered.
        asked: every `Ask` as the client meant it, in order.
    """

    def __init__(self, world: World, habits: Iterable[Habit] = (), source: Source = "auditlogs") -> None:
        self.world = world
        self.habits = tuple(habits)
        self.source = source
        self.calls = self.opening = self.requests = 0
        self.most_calls = 20_000
        self.exceeded = False
        self.on_call: Callable[[int], None] = lambda _number: None
        self.asked: list[Ask] = []
        self.notes: dict[str, Any] = {}  # what a habit has to remember
        self.sessions: set[str] = set()
        self.url = ""
        self._loop: asyncio.AbstractEventLoop
        self._listening: asyncio.Server
        self._port = 0
        self._lines: set[Line] = set()

    def heal(self) -> None:
        """Be honest from now on, and listen again."""
        self.habits = ()
        self.notes.clear()
        self.listen()

    def let_all_arrive(self) -> None:
        """Let all latecomers be there from the next call on."""
        last = max((event.from_call for event in self.world.events), default=0)
        skipped = max(last - self.calls, 0)
        self.calls += skipped
        self.most_calls += skipped

    # -- layers -------------------------------------------------------------------------------------

    def respond(self, headers: Mapping[str, str], body: bytes) -> tuple[Answer, Moment]:
        """Answer one POST, up to the HTTP answer."""
        message = json.loads(body)
        method = message.get("method", "")
        is_call = method == "tools/call"
        number = self.calls if is_call else self.opening
        if is_call:
            self.calls += 1
        else:
            self.opening += 1
        moment = Moment(self, number, method, headers, message)
        if self.calls > self.most_calls:
            self.exceeded = True
            return Answer(401, b'{"error":"invalid_token"}'), moment
        if is_call:
            self.on_call(number)
        answer = self._session_trouble(moment) or self._answer(moment)
        answer = answer.with_header("Date", format_datetime(NOW, usegmt=True))
        return self._bent("http", answer, moment), moment

    def tool(self) -> dict[str, Any]:
        """The tool as it is listed."""
        is_codemode = self.source == "codemode"
        return {
            "name": tools.CODEMODE if is_codemode else tools.AUDITLOGS,
            "description": "reads",
            "inputSchema": tools.codemode_schema() if is_codemode else tools.auditlogs_schema(),
        }

    def _answer(self, moment: Moment) -> Answer:
        def call(params: Mapping[str, Any]) -> tools.Said:
            run = tools.auditlogs if self.source == "auditlogs" else tools.codemode
            said = run(params.get("arguments", {}), lambda ask: self._page(ask, moment))
            return self._bent("tool", said, moment)

        answer = protocol.answer(self.world, moment.headers, moment.message, self.tool(), call)
        if moment.method == "initialize" and self.world.sessions and answer.status == 200:
            session = f"session-{len(self.sessions)}"
            self.sessions.add(session)
            answer = answer.with_header(protocol.SESSION, session)
        return answer

    def _page(self, ask: Ask, moment: Moment) -> Page:
        self.asked.append(ask)
        heard = self._bent("ask", ask, moment)
        return self._bent("page", self.world.page(heard, moment.number), moment, heard)

    def _session_trouble(self, moment: Moment) -> Answer | None:
        if not self.world.sessions or protocol.is_modern(moment.headers, moment.message):
            return None
        session = moment.headers.get(protocol.SESSION.lower())
        if moment.method == "initialize" or session in self.sessions:
            return None
        return protocol.error(404 if session else 400, moment.message, -32600, "Session not found")

    def _bent(self, layer: str, thing: Any, moment: Moment, *more: Any) -> Any:
        for habit in self.habits:
            if habit.layer == layer and self._meets(habit, moment):
                thing = habit.act(thing, moment, *more)
        return thing

    def _meets(self, habit: Habit, moment: Moment) -> bool:
        during = habit.when.during
        if during == "all":
            return habit.when.holds(self.calls + self.opening - 1)
        return during == moment.during and habit.when.holds(moment.number)

    # -- HTTP ---------------------------------------------------------------------------------------

    async def _serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        line = Line(writer)
        self._lines.add(line)
        try:
            while (request := await _read_request(reader)) is not None:
                if not await self._reply(line, *request):
                    break
        except (ConnectionError, asyncio.IncompleteReadError, TimeoutError):
            pass
        finally:
            self._lines.discard(line)
            with suppress(Exception):
                writer.close()

    async def _reply(self, line: Line, verb: str, headers: Mapping[str, str], body: bytes) -> bool:
        """Write the answer to a request; return whether the connection lives on."""
        self.requests += 1
        if verb != "POST":
            await line.send(Answer(200 if verb == "DELETE" else 405, b"{}").wire())
            return True
        answer, moment = self.respond(headers, body)
        for habit in self.habits:
            if habit.layer == "wire" and self._meets(habit, moment):
                await habit.act(line, answer, moment)
                return False
        await line.send(answer.wire())
        return True

    async def start(self) -> None:
        self._loop = asyncio.get_running_loop()
        self._listening = await asyncio.start_server(self._serve, "127.0.0.1", self._port)
        self._port = self._listening.sockets[0].getsockname()[1]
        self.url = f"http://127.0.0.1:{self._port}/mcp"

    async def stop(self) -> None:
        self._listening.close()
        for line in tuple(self._lines):
            line.stalled.set()
            line.writer.transport.abort()

    def soon(self, act: Callable[[], None]) -> None:
        """Do something in the server's own thread."""
        self._loop.call_soon_threadsafe(act)

    def listen(self) -> None:
        """Listen again after `refuse`; safe to call at any time, from any other thread."""
        if not self._listening.is_serving():
            asyncio.run_coroutine_threadsafe(self.start(), self._loop).result(10)

    def refuse(self) -> None:
        """Listen no more: connections are refused by the system. Call it from the server's own thread."""
        self._listening.close()


async def _read_request(reader: asyncio.StreamReader) -> tuple[str, dict[str, str], bytes] | None:
    head = b""
    with suppress(asyncio.IncompleteReadError):
        head = await reader.readuntil(b"\r\n\r\n")
    if not head:
        return None
    first, *lines = head.decode("latin-1").split("\r\n")
    pairs = (line.partition(":") for line in lines if line)
    headers = {name.strip().lower(): value.strip() for name, _, value in pairs}
    body = await reader.readexactly(int(headers.get("content-length", 0)))
    return first.split(" ")[0], headers, body


@contextmanager
def serving(world: World, *habits: Habit, source: Source = "auditlogs") -> Iterator[BadServer]:
    """A server in a thread of its own, until the context ends."""
    server, begun, ended = BadServer(world, habits, source), threading.Event(), asyncio.Event()

    async def live() -> None:
        await server.start()
        begun.set()
        await ended.wait()
        await server.stop()

    thread = threading.Thread(target=lambda: asyncio.run(live()), daemon=True)
    thread.start()
    begun.wait(30)
    try:
        yield server
    finally:
        server.soon(ended.set)
        thread.join(30)
