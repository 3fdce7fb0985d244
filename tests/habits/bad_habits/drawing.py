"""Worlds, habits and moments, drawn: one example is a world, a server's nature and habits, and a client."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Any

from hypothesis import strategies as st

from bad_habits import habits as h
from bad_habits import network as n
from bad_habits.faults import Habit
from bad_habits.log import START_MS, Event, World
from bad_habits.server import Source

SOURCES: tuple[Source, ...] = ("auditlogs", "codemode")


@dataclass(frozen=True)
class Example:
    """What is drawn.

    Attributes:
        source: whose protocol is spoken.
        world: the truth.
        habits: at their moments.
        config: settings of the source.
        recover: how columns are rebuilt.
        killed: the call, or the load and whether before or after it, at which the run dies; None for never.
    """

    source: Source
    world: World
    habits: tuple[Habit, ...] = ()
    config: dict[str, Any] = field(default_factory=dict)
    recover: str = "off"
    killed: tuple[str, int] | None = None


# What a server may do without any row being lost for ever, or taken for another: see `_can_be_told`.
ROW_HABITS: tuple[Habit, ...] = (
    h.rejects_passing(),
    h.loses(1, "start"),
    h.loses(2, "middle"),
    h.loses(1, "end"),
    h.ends_early(),
    h.newest_first(),
    h.swaps(),
    h.strips_cursor(),
    h.caps(1),
    h.caps(3),
    h.ignores("since"),
    h.ignores("before"),
    h.ignores("cursor"),
    h.ignores("limit"),
    h.ignores("filters"),
    h.empty_for_ever(),
    h.empty_for_ever(same=False),
    h.repeats_cursor(),
    h.overlaps(1),
    h.doubles(),
    h.counts_wrong(1),
    h.counts_wrong(-1),
    h.by_arrival(),
)
CALL_HABITS: tuple[Habit, ...] = (
    h.upstream(0),
    h.upstream(400),
    h.upstream(429),
    h.upstream(503),
    h.refuses(),
    n.without("Date"),
    n.closes("before"),
    n.closes("head"),
    n.closes("body"),
    n.resets("body"),
    n.garbage(),
    n.half_an_event(),
    n.html(200),
    n.html(502),
    n.answers(202, kind=""),
    n.answers(200, b"null", "application/json"),
    n.answers(401, b"{}", "application/json"),
    n.answers(429, b"{}", "application/json", {"Retry-After": "7"}),
    n.rpc_error(-32603, "Internal error"),
    n.broken_gzip(),
)
_STEPS_MS = (0, 0, 1, 2, 3, 40, 1_000, 500_000)
_FRACTIONS_NS = (0, 0, 0, 1_000, 999_999)
_DELAYS_MS = (0, 0, 500, 3_600_000)
_NONE_LATE = (0,)
_SOME_LATE = (0, 0, 0, 2, 5, 0, 9)  # from which call on events are there


@st.composite
def worlds(draw: st.DrawFn, *, most: int = 40, odd: bool = True) -> World:
    """Draw a small world: ties, twins, rejected rows, times finer than a millisecond, late arrivals."""
    steps = draw(st.lists(st.sampled_from(_STEPS_MS), max_size=most))
    looks = draw(st.integers(1, 12))
    fraction = st.sampled_from(_FRACTIONS_NS if draw(st.booleans()) else (0,))
    from_calls = draw(st.sampled_from((_NONE_LATE, _NONE_LATE, _SOME_LATE)))
    odd_rows = draw(st.sets(st.integers(0, most), max_size=4)) if odd else set()
    events, at_ms = [], START_MS
    for number, step in enumerate(steps):
        at_ms += step
        field_of = "action.result" if number % 2 else "resource.response"
        events.append(
            Event(
                at_ms * 1_000_000 + draw(fraction),
                number,
                number % looks,
                field_of if number in odd_rows else "",
                at_ms + _DELAYS_MS[number % len(_DELAYS_MS)],
                from_calls[number % len(from_calls)],
            )
        )
    return World(
        tuple(events),
        since_includes=draw(st.booleans()),
        before_includes=draw(st.booleans()),
        cursors=draw(st.sampled_from(("keyset", "offset"))),
        ends=draw(st.sampled_from(("absent", "empty", "extra"))),
        cap=draw(st.sampled_from((1000, 1000, 7))),
        counts=draw(st.booleans()),
        eras=draw(st.sampled_from(("both", "legacy"))),
        plain=draw(st.booleans()),
    )


def moments(habit: Habit) -> st.SearchStrategy[Habit]:
    """Draw when a habit shows: once, a few times, now and then, or for ever."""
    return st.builds(
        habit.at,
        st.integers(0, 8),
        st.sampled_from((1, 1, 2, 4, None)),
        st.sampled_from((1, 1, 2, 3)),
    )


@st.composite
def examples(draw: st.DrawFn, habits: tuple[Habit, ...] = (*ROW_HABITS, *CALL_HABITS), *, most: int = 40) -> Example:
    """Draw an example whose habits can be told from the truth."""
    source = draw(st.sampled_from(SOURCES))
    world = draw(worlds(most=most, odd=source == "auditlogs"))
    taken: list[Habit] = []
    if habits:
        taken = [draw(moments(one)) for one in draw(st.lists(st.sampled_from(habits), max_size=2))]
    deaths = st.tuples(st.sampled_from(("call", "before load", "after load")), st.integers(0, 6))
    return Example(
        source,
        world,
        tuple(one for one in taken if _can_be_told(one, source, world)),
        {
            "page_size": draw(st.integers(1, 20)),
            "piece_rows": draw(st.sampled_from((1, 5, 30, 1000))),
            "concurrency": draw(st.sampled_from((1, 2, 2, 8))),
        },
        draw(st.sampled_from(("off", "off", "off", "auto", "all"))) if source == "auditlogs" else "off",
        draw(st.one_of(st.none(), st.none(), deaths)),
    )


def _can_be_told(habit: Habit, source: Source, world: World) -> bool:
    """Say whether one could tell what the habit does from an honest answer; where not, nothing can be promised."""
    if habit.name in ("loses rows", "ends early") and not world.counts:
        return False
    if habit.name in ("gives a row twice", "repeats rows across pages"):
        return source == "codemode"  # six fields, without an id: a row that comes twice is a twin
    return True
