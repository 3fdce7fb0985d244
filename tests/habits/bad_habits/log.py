"""The truth: events with known places in time, and how an honest server pages through them."""

from __future__ import annotations

import json
from bisect import bisect_left, bisect_right
from collections import Counter
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field, fields, replace
from datetime import UTC, datetime, timedelta
from functools import lru_cache
from typing import Any, Literal
from uuid import UUID

ACCOUNT = "0123456789abcdef0123456789abcdef"
NOW = datetime(2026, 11, 20, 12, tzinfo=UTC)
START_MS = int((NOW - timedelta(hours=30)).timestamp()) * 1000
"""Where worlds begin. All of a world is more than a day old: no skew of a clock may hide it."""

_MS = 1_000_000
_TYPES = ("create", "delete", "update", "view", "login")
_PATHS: Mapping[str, tuple[str, str]] = {
    name: (part, key)
    for part, keys in {
        "action": ("result", "type"),
        "actor": ("context", "email", "id", "ip_address", "token_id", "token_name", "type"),
        "raw": ("cf_ray_id", "method", "status_code", "uri"),
        "resource": ("id", "product", "type", "scope"),
        "zone": ("id", "name"),
        "account": ("name",),
    }.items()
    for key in keys
    for name in [f"{part}_{key}"]
}


@dataclass(frozen=True, order=True, repr=False)
class Event:
    """One event.

    Attributes:
        at_ns: its time.
        number: its place among those of the same time, and what its id is made of.
        look: what it looks like; events of one millisecond and look are twins in the six-field source.
        odd: the field for which the Audit Logs server rejects it; empty for none.
        arrived_ms: when it reached the log, for a server that filters by that; 0 for its own time.
        from_call: the call from which on it is there: a latecomer.
        size: bytes of filler in its description.
        said: JSON that stands in the place of its time; `absent` leaves it out.
        instead: JSON that stands in the place of the whole row.
    """

    at_ns: int
    number: int
    look: int = 0
    odd: str = ""
    arrived_ms: int = 0
    from_call: int = 0
    size: int = 0
    said: str = ""
    instead: str = ""

    def __repr__(self) -> str:
        """Show it so that it can be pasted into a test."""
        ms, ns = divmod(self.at_ns - START_MS * _MS, _MS)
        more = {"ns": ns, **{one.name: getattr(self, one.name) for one in fields(self)[2:] if getattr(self, one.name)}}
        if "arrived_ms" in more:
            more["delay_ms"] = more.pop("arrived_ms") - self.at_ms
        shown = [str(ms), str(self.number), *(f"{name}={value!r}" for name, value in more.items() if value)]
        return f"event({', '.join(shown)})"

    @property
    def at_ms(self) -> int:
        return self.at_ns // _MS

    @property
    def time(self) -> str:
        """The time as the server writes it: as many digits as it needs, at least three."""
        seconds, rest = divmod(self.at_ns, 1_000_000_000)
        digits = f"{rest:09d}"
        while len(digits) > 3 and digits.endswith("000"):
            digits = digits[:-3]
        return datetime.fromtimestamp(seconds, UTC).strftime("%Y-%m-%dT%H:%M:%S.") + digits + "Z"

    @property
    def record(self) -> dict[str, Any]:
        """The whole record, as Cloudflare's API has it."""
        look = self.look
        return {
            "id": str(UUID(int=(self.number + 1) << 64 | self.at_ns & (1 << 64) - 1)),
            "account": {"id": ACCOUNT, "name": "Acme"},
            "action": {
                "description": f"did {look}" + "x" * self.size,
                "result": "failure" if look % 3 == 2 else "success",
                "time": self.time,
                "type": _TYPES[look % len(_TYPES)],
            },
            "actor": {
                "id": f"{look % 4:032x}",
                "type": "user",
                "context": "dash" if look % 2 else "api_token",
                **({"email": f"user{look % 4}@example.com"} if look % 5 else {}),
                **({"token_name": f"token {look % 3}"} if not look % 2 else {}),
            },
            "resource": {"product": f"product {look % 3}", "type": f"type {look % 7}", "scope": "accounts"},
            "raw": {"method": "POST", "status_code": 200 + look % 2, "cf_ray_id": f"{self.number:016x}"},
        }

    @property
    def row(self) -> dict[str, str]:
        """The six fields of the Audit Logs server."""
        record = self.record
        action, actor, resource = record["action"], record["actor"], record["resource"]
        row = {
            "description": action["description"],
            "time": action["time"],
            "actor_email": actor.get("email"),
            "actor_token_name": actor.get("token_name"),
            "product": resource["product"],
            "type": resource["type"],
        }
        return {key: value for key, value in row.items() if value is not None}

    def meets(self, name: str, wanted: Any) -> bool:
        if name == "audit_log_id":
            return bool(self.record["id"] == wanted)
        part, key = _PATHS[name]
        return bool(self.record.get(part, {}).get(key) == wanted)


def event(ms: int, number: int, *, ns: int = 0, delay_ms: int = 0, **more: Any) -> Event:
    """Make an event at a millisecond after the start of worlds, and nanoseconds into it; it arrives later than that."""
    at_ms = START_MS + ms
    return Event(at_ms * _MS + ns, number, arrived_ms=at_ms + delay_ms, **more)


def text(value: Any) -> str:
    """JSON as JavaScript writes it."""
    return json.dumps(value, ensure_ascii=False, separators=(",", ":"))


@dataclass(frozen=True)
class Ask:
    """What the log is asked for, once the protocol is off."""

    since_ns: int
    before_ns: int
    direction: str = "desc"
    limit: int = 10
    cursor: str = ""
    filters: tuple[tuple[str, Any], ...] = ()

    @property
    def since_ms(self) -> int:
        return self.since_ns // _MS

    @property
    def before_ms(self) -> int:
        return self.before_ns // _MS


@dataclass(frozen=True)
class Page:
    """One answer: its events, where the next one starts (None: there is no such key), and how many rows it counts."""

    events: tuple[Event, ...]
    cursor: str | None = None
    count: Any = 0


class BadAskError(Exception):
    """The log cannot answer that: a 400."""


@dataclass(frozen=True, repr=False)
class World:
    """Events, and all that honest servers differ in.

    Attributes:
        events: the truth.
        since_includes: whether an event exactly at `since` is in.
        before_includes: likewise `before`.
        cursors: `offset` counts rows, `keyset` names the last one.
        ends: how the last page shows: `absent`: no cursor; `empty`: an empty one; `extra`: an empty page follows.
        cap: rows of a page at most, whatever the limit says.
        counts: whether pages count their rows.
        eras: protocol revisions that are spoken.
        plain: whether old revisions are answered with JSON instead of an event stream.
        sessions: whether old revisions are given a session, without which nothing else is answered.
    """

    events: tuple[Event, ...]
    since_includes: bool = True
    before_includes: bool = False
    cursors: Literal["offset", "keyset"] = "keyset"
    ends: Literal["absent", "empty", "extra"] = "absent"
    cap: int = 1000
    counts: bool = True
    eras: Literal["both", "legacy", "modern"] = "both"
    plain: bool = False
    sessions: bool = False
    _order: tuple[Event, ...] = field(init=False, repr=False, compare=False)
    _times: tuple[int, ...] = field(init=False, repr=False, compare=False)

    def __post_init__(self) -> None:
        order = tuple(sorted(self.events))
        object.__setattr__(self, "_order", order)
        object.__setattr__(self, "_times", tuple(event.at_ns for event in order))

    def __repr__(self) -> str:
        own = [one for one in fields(self) if one.repr and one.name != "events"]
        nature = [f"{one.name}={getattr(self, one.name)!r}" for one in own if getattr(self, one.name) != one.default]
        return f"World({', '.join([repr(self.events), *nature])})"

    def page(self, ask: Ask, call: int) -> Page:
        """Answer honestly, at the moment of a call.

        Raises:
            BadAskError: the cursor was never one of these, or the time ends before it begins.
        """
        found = self.matching(ask, call)
        start = self._start(ask, found)
        limit = min(ask.limit, self.cap)
        events = tuple(found[start : start + limit])
        more = start + limit < len(found) or (self.ends == "extra" and bool(events))
        end = "" if self.ends == "empty" else None
        cursor = self._cursor(start, events) if more and events else end
        return Page(events, cursor, len(events) if self.counts else None)

    def matching(self, ask: Ask, call: int, *, arrival: bool = False) -> list[Event]:
        """All events that an ask is for, in its order."""
        if ask.before_ns < ask.since_ns:
            raise BadAskError
        if arrival:
            return self._directed(ask, [one for one in self._order if self._within(ask, one.arrived_ms * _MS)], call)
        first = (bisect_left if self.since_includes else bisect_right)(self._times, ask.since_ns)
        end = (bisect_right if self.before_includes else bisect_left)(self._times, ask.before_ns)
        return self._directed(ask, self._order[first:end], call)

    def _within(self, ask: Ask, at_ns: int) -> bool:
        late = at_ns > ask.since_ns or (self.since_includes and at_ns == ask.since_ns)
        return late and (at_ns < ask.before_ns or (self.before_includes and at_ns == ask.before_ns))

    def _directed(self, ask: Ask, events: Iterable[Event], call: int) -> list[Event]:
        found = [
            one for one in events if one.from_call <= call and all(one.meets(*condition) for condition in ask.filters)
        ]
        return found[::-1] if ask.direction == "desc" else found

    def _start(self, ask: Ask, found: list[Event]) -> int:
        if not ask.cursor:
            return 0
        try:
            kind, *numbers = ask.cursor.split("-")
            values = [int(number) for number in numbers]
            if kind == "o":
                return values[0]
            last = values[0], values[1]
        except (ValueError, IndexError):
            raise BadAskError from None
        if ask.direction == "asc":
            return bisect_right(found, last, key=_place)
        return len(found) - bisect_left(found[::-1], last, key=_place)

    def _cursor(self, start: int, events: tuple[Event, ...]) -> str:
        if self.cursors == "offset":
            return f"o-{start + len(events)}"
        return f"k-{events[-1].at_ns}-{events[-1].number}"

    # -- the truth, as a sink ought to have it ------------------------------------------------------

    def texts(self, source: str) -> Counter[str]:
        """What the column `event_raw` has to hold when all is there."""
        return Counter(text_of(event, source) for event in self.events)

    @property
    def odd(self) -> int:
        return sum(bool(event.odd) for event in self.events)


def _place(event: Event) -> tuple[int, int]:
    return event.at_ns, event.number


@lru_cache(200_000)
def text_of(event: Event, source: str) -> str:
    """An event as a source gives it."""
    if event.instead:
        return event.instead
    whole = text(event.row if source == "auditlogs" else event.record)
    if not event.said:
        return whole
    own = f'"time":{text(event.time)}'
    if event.said == "absent":
        return whole.replace(f",{own}", "")
    return whole.replace(own, f'"time":{event.said}')


def world(times: Iterable[int], *, odd: Mapping[int, str] | Iterable[int] = (), **nature: Any) -> World:
    """Make a world of events at milliseconds after its start; the ones at these places are odd.

    Looks differ from event to event, so that none has a twin.
    """
    why = odd if isinstance(odd, Mapping) else dict.fromkeys(odd, "resource.response")
    events = [Event((START_MS + ms) * _MS, number, number, why.get(number, "")) for number, ms in enumerate(times)]
    return World(tuple(events), **nature)


def with_events(of: World, changes: Mapping[int, Mapping[str, Any]]) -> World:
    """The same world with fields of some events changed, by their places."""
    events = tuple(replace(one, **changes.get(at, {})) for at, one in enumerate(of.events))
    return replace(of, events=events)


def changed(of: World, **nature: Any) -> World:
    """The same world with another nature."""
    return replace(of, **nature)
