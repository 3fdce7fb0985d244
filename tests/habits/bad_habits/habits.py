"""Habits of the log and of the tool: what is heard, what is answered, and in which words."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

from bad_habits.faults import Habit, When
from bad_habits.log import Ask, Event, Page
from bad_habits.server import Moment
from bad_habits.tools import Said, UpstreamError, failed

# -- arguments ----------------------------------------------------------------------------------------


def ignores(*names: str) -> Habit:
    """Drop arguments without a word: `since`, `before`, `direction`, `limit`, `cursor`, `filters`."""
    plain = {"since_ns": 0, "before_ns": 4_000_000_000_000_000_000, "direction": "desc", "limit": 10, "cursor": ""}
    fields = {"since": "since_ns", "before": "before_ns"}

    def act(ask: Ask, _moment: Moment) -> Ask:
        dropped = {fields.get(name, name): plain.get(fields.get(name, name), ()) for name in names}
        return replace(ask, **dropped)

    return Habit("ignores", "ask", act, detail=" ".join(names))


def caps(rows: int) -> Habit:
    """Answer fewer rows than were asked for, whatever the limit; the cursor goes on behind them."""
    return Habit("caps pages", "ask", lambda ask, _moment: replace(ask, limit=min(ask.limit, rows)), detail=str(rows))


# -- pages --------------------------------------------------------------------------------------------


def _page(name: str, act: Any, detail: str = "", when: When | None = None) -> Habit:
    return Habit(name, "page", act, when or When(), detail)


def strips_cursor() -> Habit:
    """Have a gateway lose the cursor, or rename it, so that each page looks like the last one."""
    return _page("strips the cursor", lambda page, _moment, _ask: replace(page, cursor=None))


def loses(rows: int, where: str = "end") -> Habit:
    """Lose rows of a page and still count them: at its `start`, in its `middle`, or at its `end`."""

    def act(page: Page, _moment: Moment, _ask: Ask) -> Page:
        if len(page.events) <= rows:
            return page
        at = {"start": 0, "middle": (len(page.events) - rows) // 2, "end": len(page.events) - rows}[where]
        return replace(page, events=page.events[:at] + page.events[at + rows :])

    return _page("loses rows", act, f"{rows} at the {where}")


def ends_early() -> Habit:
    """Lose the second half of a page, and the cursor with it; the count still says what there was."""

    def act(page: Page, _moment: Moment, _ask: Ask) -> Page:
        return replace(page, events=page.events[: len(page.events) // 2], cursor=None)

    return _page("ends early", act)


def by_arrival() -> Habit:
    """Take `since` and `before` for the time of arrival, not of the event."""

    def act(_page_: Page, moment: Moment, ask: Ask) -> Page:
        found = moment.server.world.matching(ask, moment.number, arrival=True)
        start = int(ask.cursor.removeprefix("o-") or 0)
        events = tuple(found[start : start + ask.limit])
        end = start + len(events)
        return Page(events, f"o-{end}" if end < len(found) else None, len(events))

    return _page("filters by arrival", act)


def empty_for_ever(*, same: bool = True) -> Habit:
    """Answer empty pages, each with a cursor: the same one, or another each time."""

    def act(_page_: Page, moment: Moment, ask: Ask) -> Page:
        return Page((), "o-0" if same else f"o-{moment.number}", 0)

    return _page("is empty for ever", act, "the same cursor" if same else "another cursor each time")


def repeats_cursor() -> Habit:
    """Give back the cursor that was asked with: the same page again and again."""

    def act(page: Page, _moment: Moment, ask: Ask) -> Page:
        return replace(page, cursor=ask.cursor or page.cursor)

    return _page("repeats the cursor", act)


def overlaps(rows: int = 1) -> Habit:
    """Begin a page behind a cursor with the last rows of the page before."""

    def act(page: Page, moment: Moment, ask: Ask) -> Page:
        if not ask.cursor or not page.events:
            return page
        found = moment.server.world.matching(ask, moment.number)
        at = found.index(page.events[0])
        events = (*found[max(at - rows, 0) : at], *page.events)
        return replace(page, events=events, count=None if page.count is None else len(events))

    return _page("repeats rows across pages", act, str(rows))


def doubles() -> Habit:
    """Give the first event of a page twice, and count it twice."""

    def act(page: Page, _moment: Moment, _ask: Ask) -> Page:
        events = (*page.events[:1], *page.events)
        return replace(page, events=events, count=None if page.count is None else len(events))

    return _page("gives a row twice", act)


def newest_first() -> Habit:
    """Answer newest first, whatever the direction."""
    return replace(ignores("direction"), name="answers newest first", detail="")


def swaps() -> Habit:
    """Swap the first and the last row of a page."""

    def act(page: Page, _moment: Moment, _ask: Ask) -> Page:
        if len(page.events) < 2:
            return page
        first, *middle, last = page.events
        return replace(page, events=(last, *middle, first))

    return _page("keeps no order", act)


def counts_wrong(more: int) -> Habit:
    """Count more rows than there are in a page that is whole."""

    def act(page: Page, _moment: Moment, _ask: Ask) -> Page:
        return page if page.count is None else replace(page, count=page.count + more)

    return _page("counts wrong", act, f"by {more}")


def rejects_passing() -> Habit:
    """Reject pages for a row that is fine, as replicas of two versions do."""

    def act(page: Page, _moment: Moment, _ask: Ask) -> Page:
        return replace(
            page, events=tuple(_odd(event, at == len(page.events) // 2) for at, event in enumerate(page.events))
        )

    return _page("rejects a page that is fine", act)


def _odd(event: Event, is_odd: bool) -> Event:  # noqa: FBT001  # one flag, of this file
    return replace(event, odd="resource.response") if is_odd else event


def upstream(status: int, retry_after: str | None = None) -> Habit:
    """Let Cloudflare's API fail with a status; 0 drops its connection."""

    def act(_page_: Page, _moment: Moment, _ask: Ask) -> Page:
        raise UpstreamError(status, retry_after)

    return _page("upstream fails", act, str(status))


# -- words --------------------------------------------------------------------------------------------


def says(words: str, *, is_error: bool = True) -> Habit:
    """Answer a call with a text of any kind."""
    return Habit("says", "tool", lambda _said, _moment: Said(words, is_error), detail=words[:40])


def renames(old: str, new: str) -> Habit:
    """Replace a text in what the tool says, as a gateway might."""
    return Habit(
        "renames", "tool", lambda said, _moment: replace(said, text=said.text.replace(old, new)), detail=f"{old} {new}"
    )


def truncates(units: int = 24_000) -> Habit:
    """Cut replies off as servers do that are not asked for whole ones."""

    def act(said: Said, _moment: Moment) -> Said:
        if len(said.text) <= units:
            return said
        return Said(said.text[:units] + "\n\n--- TRUNCATED ---\nResponse was ~9,999 tokens (limit: 6,000).")

    return Habit("truncates", "tool", act, detail=str(units))


def refuses() -> Habit:
    """Say the one sentence that any 4xx of the API becomes."""
    return Habit("refuses", "tool", lambda _said, _moment: failed("Cloudflare API request failed"))
