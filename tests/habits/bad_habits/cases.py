"""Every habit that was seen to lose rows or to end a run wrongly, as a case to be judged."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass, field, replace
from typing import Any

from bad_habits import habits as h
from bad_habits import network as n
from bad_habits.faults import Habit
from bad_habits.log import START_MS, Event, World, with_events, world
from bad_habits.server import Source


@dataclass(frozen=True)
class Case:
    """A world, habits, and how the server is asked.

    Attributes:
        name: what the server does.
        world: the truth.
        habits: in the order in which they are applied.
        source: whose protocol it speaks.
        config: settings of the source.
        settings: settings of the run.
        codes: exit codes that the first run may end with; empty for any that the oracle allows.
        lost: most rows that may be missing after the first run, gap or not; None for any number.
    """

    name: str
    world: World
    habits: tuple[Habit, ...] = ()
    source: Source = "auditlogs"
    config: dict[str, Any] = field(default_factory=dict)
    settings: dict[str, Any] = field(default_factory=dict)
    codes: tuple[int, ...] = ()
    lost: int | None = None

    def __str__(self) -> str:
        return f"{self.source}: {self.name}"

    def having(self, **fields: Any) -> Case:
        return replace(self, **fields)


def line(events: int, step_ms: int = 40) -> list[int]:
    return list(range(0, events * step_ms, step_ms))


def dense(rows: int, around: int = 40, odd: Iterable[int] = (), **nature: Any) -> World:
    """A world with one millisecond of many rows, rows around it; `odd` are places in that millisecond."""
    before = line(around)
    at = before[-1] + 100
    times = [*before, *[at] * rows, *(at + 100 + ms for ms in before)]
    return world(times, odd=[around + place for place in odd], **nature)


def arriving(events: int, delay_ms: int) -> World:
    """A world where each third event arrives late."""
    made = [
        Event(one.at_ns, one.number, one.look, arrived_ms=one.at_ms + (delay_ms if one.number % 3 == 0 else 0))
        for one in world(line(events)).events
    ]
    return World(tuple(made))


PLAIN = world(line(110))
FAINT = world(line(110), counts=False)


def both(case: Case) -> list[Case]:
    return [case, case.having(source="codemode")]


SILENT_LOSS = [
    Case(
        "a millisecond of more rows than the server's pages have, one of them rejected",
        dense(60, odd=[10], cap=20),
        config={"page_size": 1000},
        codes=(65,),
        lost=1,
    ),
    Case("a millisecond of more rows than a page, one of them rejected", dense(60, odd=[35]), codes=(65,), lost=1),
    Case("a millisecond of one row more than a page, the last one rejected", dense(21, odd=[20]), codes=(65,), lost=1),
    Case(
        "a millisecond of many pages, rejected rows more than a page apart",
        dense(90, around=10, odd=[10, 70]),
        codes=(65,),
    ),
    *both(Case("a millisecond of more rows than a page", dense(90, around=10), codes=(0,))),
    Case("a page is rejected once, then given", PLAIN, (h.rejects_passing().at(3, 1),), codes=(0,)),
    Case("a page is rejected twice, then given", PLAIN, (h.rejects_passing().at(3, 2),)),
    Case("the first page is rejected once, then given", PLAIN, (h.rejects_passing().at(0, 1),), codes=(0,)),
    *(
        one
        for where in ("start", "middle", "end")
        for one in both(Case(f"a page lacks rows at its {where} that it counts", PLAIN, (h.loses(7, where).at(2, 1),)))
    ),
    *both(Case("each page lacks rows that it counts", PLAIN, (h.loses(7, "middle"),))),
    *both(Case("a page ends in its middle, without a cursor", PLAIN, (h.ends_early().at(2, 1),))),
    *both(Case("each page ends in its middle, without a cursor", PLAIN, (h.ends_early(),))),
    *both(Case("answers newest first", PLAIN, (h.newest_first(),))),
    *both(Case("answers newest first now and then", PLAIN, (h.newest_first().at(3, 1),))),
    *both(Case("keeps no order in a page", PLAIN, (h.swaps().at(2, 1),))),
    *both(Case("caps pages and strips the cursor", PLAIN, (h.caps(7), h.strips_cursor()))),
    *both(Case("caps pages and strips the cursor, and counts nothing", FAINT, (h.caps(7), h.strips_cursor()))),
    *both(Case("strips the cursor", PLAIN, (h.strips_cursor(),))),
    *both(Case("a clock one year behind", PLAIN, (n.header("Date", "Thu, 20 Nov 2025 12:00:00 GMT"),), codes=(0,))),
    *both(Case("a clock in the year 0", PLAIN, (n.header("Date", "Sat, 01 Jan 0000 00:00:00 GMT"),), codes=(0,))),
    *both(Case("no clock", PLAIN, (n.without("Date"),), codes=(0,))),
    *both(Case("a clock one day and an hour behind", PLAIN, (n.header("Date", "Thu, 19 Nov 2026 11:00:00 GMT"),))),
    *both(Case("filters by arrival", arriving(110, 900), (h.by_arrival(),))),
    *both(Case("filters by arrival, much later", arriving(110, 7_200_000), (h.by_arrival(),))),
    *both(Case("empty pages with the same cursor for ever", PLAIN, (h.empty_for_ever(),))),
    *both(Case("empty pages with another cursor each time", PLAIN, (h.empty_for_ever(same=False),))),
    *both(Case("empty pages for a while", PLAIN, (h.empty_for_ever(same=False).at(2, 3),))),
    *both(Case("the cursor that was asked with, again", PLAIN, (h.repeats_cursor(),))),
    *both(Case("pages begin with the last row of the page before", PLAIN, (h.overlaps(),))),
    *both(Case("pages begin with the last rows of the page before", PLAIN, (h.overlaps(3),))),
    Case("a record twice in one page", PLAIN, (h.doubles(),), source="codemode", codes=(0,)),
    *both(Case("ignores since", PLAIN, (h.ignores("since"),))),
    *both(Case("ignores before", PLAIN, (h.ignores("before"),))),
    *both(Case("ignores since and before", PLAIN, (h.ignores("since", "before"),))),
    *both(Case("ignores the cursor", PLAIN, (h.ignores("cursor"),))),
    *both(Case("ignores the limit", PLAIN, (h.ignores("limit"),))),
    *both(Case("counts one row more than there is", PLAIN, (h.counts_wrong(1),))),
    *both(Case("counts one row less than there is", PLAIN, (h.counts_wrong(-1),))),
]


def odd_times(minute: int) -> tuple[str, ...]:
    """Return what a row may say that happened so many minutes after the start."""
    at = f"2026-11-19T06:{minute:02}"
    seconds = START_MS // 1000 + 60 * minute
    return (
        f'"{at}:00.0000000001Z"',
        f'"2026-11-19T06:{minute - 1:02}:60Z"',
        f'"{at}:00.000z"',
        f'"{at}:00.000"',
        f'"{at}:00,000Z"',
        str(seconds),
        f'"{seconds}"',
        "null",
        "absent",
        '""',
        '"soon"',
        "{}",
    )


ODD_ROWS = (
    "null",
    "5",
    '"text"',
    "[]",
    "{}",
    "[" * 5_000 + "]" * 5_000,
    '{"description":' + "[" * 5_000 + "]" * 5_000 + "}",
)

GETS_NOWHERE = [
    Case("half of the rows of a millisecond are rejected", dense(30, odd=range(0, 30, 2)), codes=(65,)),
    Case("every row of a millisecond of many pages is rejected", dense(60, odd=range(60)), codes=(65,)),
    Case("one in a hundred rows is rejected", world(line(400), odd=range(50, 400, 100)), codes=(65,), lost=4),
    Case("one in six rows is rejected", world(line(120), odd=range(3, 120, 6)), codes=(65,), lost=20),
    Case("every row is rejected", world(line(12), odd=range(12)), codes=(65,)),
]

ERAS: list[dict[str, Any]] = [{"eras": "modern"}, {"eras": "legacy"}, {"eras": "legacy", "plain": True}]
CUTS = [
    n.closes("before"),
    n.closes("head"),
    n.closes("body"),
    n.resets(),
    n.resets("body"),
    n.garbage(),
    n.half_an_event(),
    n.html(502),
    n.html(520),
    n.html(200),
    n.answers(202, kind=""),
    n.answers(204, kind=""),
    n.answers(200, kind=""),
    n.answers(200, b"{}", "application/json"),
    n.answers(200, b"null", "application/json"),
    n.answers(200, b'{"jsonrpc":', "application/json"),
    n.broken_gzip(),
    n.rpc_error(-32603, "Internal error"),
    n.rpc_error(-32603, "Internal error", 500),
    n.answers(401, b'{"error":"invalid_token"}', "application/json"),
    n.answers(403, b'{"error":"insufficient_scope"}', "application/json"),
    n.answers(429, b"{}", "application/json", {"Retry-After": "30"}),
    n.answers(429, b"{}", "application/json", {"Retry-After": "\u00b2"}),
    n.answers(503, b"{}", "application/json", {"Retry-After": "1e400"}),
    h.says("Session not found"),
    h.upstream(0),
    h.upstream(500),
    h.upstream(429),
    h.upstream(400),
]


def _network(during: Any, first: int, nature: dict[str, Any]) -> list[Case]:
    where = f"at request {first} of the opening" if during == "opening" else "in the middle"
    kept = [cut for cut in CUTS if cut.layer in ("http", "wire") or during == "calls"]
    return [
        one
        for cut in kept
        for one in both(
            Case(
                f"{cut.label}, {where}, {'plain ' * ('plain' in nature)}{nature['eras']}",
                world(line(120), **nature),
                (cut.at(first, 1, during=during),),
                config={"timeout_seconds": 5.0},
                codes=(0,),
            )
        )
    ]


NETWORK = [
    one
    for nature in ERAS
    for during, first in (("calls", 2), ("opening", 0), ("opening", 1))
    for one in _network(during, first, nature)
]

ENDED_SESSIONS = [
    one
    for how in (
        n.ended_session(404),
        n.ended_session(400),
        n.ended_session(410),
        n.ended_session(200, -32001),
        n.ended_session(200, -32600),
        n.ended_session(200, -32000),
        n.ended_session(200, -32602),
        n.ended_session(200, tool=True),
        n.ended_session(500),
        n.ended_session(401, words="Unauthorized"),
        n.ended_session(403, words="Forbidden"),
    )
    for one in both(
        Case(
            f"{how.label}",
            world(line(120), eras="legacy", sessions=True),
            (how.at(2, 10_000),),
            codes=(0,),
        )
    )
]

ODD_VALUES = [
    *(
        one
        for said in odd_times(1)
        for one in both(
            Case(
                f"the time of a row is {said}",
                with_events(world(line(120, 1_000)), {60: {"said": said}}),
                codes=(0, 65),
                lost=1,
            )
        )
    ),
    *(
        one
        for said in ODD_ROWS
        for one in both(
            Case(
                f"a row is {said[:30]}",
                with_events(world(line(120, 1_000)), {60: {"instead": said}}),
                codes=(0, 65),
                lost=1,
            )
        )
    ),
]

_SAID = {6 * (place + 1): {"said": odd_times(place + 1)[place]} for place in range(len(odd_times(1)))}
_INSTEAD = {3 + 6 * place: {"instead": instead} for place, instead in enumerate(ODD_ROWS)}
ALL_ODD = both(
    Case(
        "every odd value in one log",
        with_events(world(line(90, 10_000)), {**_SAID, **_INSTEAD}),
        codes=(0, 65),
        lost=len(_SAID) + len(_INSTEAD),
    )
)

_TOOL = [
    n.changes_tool(inputSchema=True),
    n.changes_tool(inputSchema=None),
    n.changes_tool(inputSchema={"type": "object", "properties": True}),
    n.changes_tool(inputSchema={"type": "object", "properties": None}),
    n.changes_tool(inputSchema={"type": "object", "properties": {"action_type": {"enum": None}, "code": True}}),
    n.changes_tool(inputSchema={"type": "object", "properties": {"action_type": None, "code": {}, "limit": True}}),
    n.changes_tool(inputSchema={"type": "object", "properties": {"limit": {"maximum": 1e400}, "code": {}}}),
    n.changes_tool(outputSchema={"type": "object", "properties": {}}),
    n.changes_tool(name=None),
    n.changes_tool(description=5),
]
_HEADERS = [
    ("Date", "Thu, 01 Jan 1970 00:00:00 GMT"),
    ("Date", "Fri, 31 Dec 99999 23:59:59 GMT"),
    ("Date", "Fri, 31 Dec 9999 23:59:59 GMT"),
    ("Date", "Thu, 01 Jan 1970 00:00:00 -9999"),
    ("Date", "soon"),
    ("Content-Encoding", "unheard-of"),
    ("Content-Type", "application/json; charset=none"),
]
# Whatever they end with, it is no fault in the program.
HOSTILE = [
    *(one for habit in _TOOL for one in both(Case(habit.label, world(line(60)), (habit,)))),
    *(one for pair in _HEADERS for one in both(Case(f"sends {pair}", world(line(60)), (n.header(*pair),)))),
    *(one for habit in (n.gzip_bomb(),) for one in both(Case(habit.label, world(line(60)), (habit.at(1, 1),)))),
]
ENDLESS = [
    Case(f"{habit.label} {during}", world(line(60)), (habit.at(1, 1, during=during),))
    for during in ("calls", "opening")
    for habit in (n.endless("json"), n.endless("stream"), n.endless("json", 503))
]

ALL = [*SILENT_LOSS, *GETS_NOWHERE, *NETWORK, *ENDED_SESSIONS, *ODD_VALUES, *HOSTILE]
