"""Options -> the accounts, tokens and audit logs of a sandbox. What tests compare an export with."""

from __future__ import annotations

import hashlib
import heapq
import json
import threading
import time
from bisect import bisect_left, bisect_right
from collections.abc import Callable, Collection, Iterable, Iterator, Mapping
from dataclasses import dataclass, replace
from datetime import datetime
from itertools import islice
from typing import Any

from cfaudit_export.sandbox.columns import generate
from cfaudit_export.sandbox.composer import Account, Composer
from cfaudit_export.sandbox.options import RUNTIME_KNOBS, SandboxOptions
from cfaudit_export.sandbox.poison import poison_counts
from cfaudit_export.sandbox.query import BadQueryError, Position, Query, read_cursor, write_cursor
from cfaudit_export.sandbox.strand import GeneratedStrand, GivenStrand, Strand
from cfaudit_export.sandbox.text import SECOND_NS

_NAMES = ("Example Trading", "Example Labs", "Exämple Größe & Søn", "Example Media", "Example Café ☕")
_SETTLED_SECONDS = 600


@dataclass(frozen=True, slots=True)
class Page:
    """One answer of the audit endpoint: where its rows lie (strand, index), and how to go on."""

    rows: list[tuple[int, int]]
    cursor: str | None


@dataclass(frozen=True, slots=True)
class PoisonRow:
    """A record that the server refuses: its number in the account's log, its instant and its flaw."""

    index: int
    time_ns: int
    kind: str
    record: Mapping[str, Any]


class World:
    """The deterministic data behind a sandbox. `clock` returns seconds since 1970 and decides what can be seen.

    Attributes:
        accounts: the accounts, in upstream order.
        tokens: API tokens by kind: `user`, `account` (of the first account), `legacy` (without prefix),
            `no_permission` (may not read audit logs), `forbidden` (lacks even the identity scopes), `expired`.
        since: the start of the generated time span, in seconds.
        before: its end.
    """

    def __init__(self, options: SandboxOptions | None = None, clock: Callable[[], float] = time.time) -> None:
        self.options = options or SandboxOptions()
        poison_counts(self.options)
        self.clock = clock
        end_at = self.options.end_at
        self.before = end_at.timestamp() if end_at else float(int(clock()) - _SETTLED_SECONDS)
        self.since = self.before - self.options.span_seconds
        self.accounts = [self._account(number) for number in range(self.options.accounts)]
        self.tokens = {
            "user": f"cfut_{self._digest('user')[:40]}",
            "account": f"cfat_{self._digest('account')[:40]}",
            "legacy": self._digest("legacy")[:40],
            "no_permission": f"cfut_{self._digest('no_permission')[:40]}",
            "forbidden": f"cfut_{self._digest('forbidden')[:40]}",
            "expired": f"cfut_{self._digest('expired')[:40]}",
        }
        self._logs: dict[str, tuple[Strand, ...]] = {}
        self._version = 0
        self._lock = threading.RLock()

    def _digest(self, *words: object) -> str:
        return hashlib.sha256("/".join(map(str, (self.options.seed, *words))).encode()).hexdigest()

    def _account(self, number: int) -> Account:
        name = _NAMES[number % len(_NAMES)]
        return Account(self._digest("account", number)[:32], f"{name} {number + 1}" if number else name)

    def now_ns(self) -> int:
        """Read the world's clock."""
        return int(self.clock() * SECOND_NS)

    def _log(self, account_id: str) -> tuple[Strand, ...]:
        """Return the strands of an account's log; the first one is made when it is first needed."""
        with self._lock:
            if account_id not in self._logs:
                account = next((account for account in self.accounts if account.id == account_id), None)
                if account is None:
                    raise ValueError(f"no account has the id {account_id!r}")
                since, before = (int(moment * SECOND_NS) for moment in (self.since, self.before))
                self._logs[account_id] = ()
                self._append(account, self.options.events, since, before)
            return self._logs[account_id]

    def _append(self, account: Account, events: int, since_ns: int, before_ns: int) -> None:
        number = len(self._logs[account.id])
        columns = generate(self.options, events, since_ns, before_ns, f"{account.id}/{number}")
        strand = GeneratedStrand(Composer(self.options.seed, account, number), columns)
        self._logs[account.id] = (*self._logs[account.id], strand)
        self._version += 1

    # What tests and tools do to a world.

    def add(self, account_id: str, records: Iterable[Mapping[str, Any]]) -> None:
        """Insert whole records into an account's log, behind those already there of the same instant."""
        with self._lock:
            self._logs[account_id] = (*self._log(account_id), GivenStrand(records))
            self._version += 1

    def grow(self, account_id: str, events: int, since: datetime, before: datetime) -> None:
        """Generate further events of an account within `[since, before)`, with the options' poison and delays."""
        with self._lock:
            self._log(account_id)
            account = next(account for account in self.accounts if account.id == account_id)
            self._append(account, events, *(int(edge.timestamp() * SECOND_NS) for edge in (since, before)))

    def turn(self, **knobs: Any) -> None:
        """Change options while the world is in use.

        Raises:
            ValueError: a knob that may not be turned, or a value it cannot take.
        """
        if unknown := sorted(set(knobs) - RUNTIME_KNOBS):
            raise ValueError(f"no knob is named {unknown[0]!r}; choose from: {', '.join(sorted(RUNTIME_KNOBS))}")
        with self._lock:
            self.options = replace(self.options, **knobs)
            self._version += 1

    def heal(self, account_id: str, kinds: Collection[str] | None = None) -> int:
        """Let the server accept the rows with these flaws (by default all) as they are; tell how many."""
        healed = 0
        with self._lock:
            for strand in self._log(account_id):
                places = [
                    index
                    for index in range(len(strand.times))
                    if (flaw := strand.flaw(index)) and (kinds is None or flaw in kinds)
                ]
                strand.heal(places)
                healed += len(places)
            self._version += 1
        return healed

    # The truth.

    def _walk(self, account_id: str) -> Iterator[tuple[int, Strand, int]]:
        """Yield every record in upstream order, seen or not, as number, strand and index."""
        strands = self._log(account_id)
        keyed = (
            zip(strand.times, (number for _ in strand.times), range(len(strand.times)), strict=True)
            for number, strand in enumerate(strands)
        )
        for place, (_, number, index) in enumerate(heapq.merge(*keyed)):
            yield place, strands[number], index

    def records(self, account_id: str) -> Iterator[dict[str, Any]]:
        """Yield every whole record in upstream order, also refused and not yet visible ones."""
        for _, strand, index in self._walk(account_id):
            yield json.loads(strand.text(index))

    def rows(self, account_id: str, *, poison: bool = False) -> Iterator[dict[str, Any]]:
        """Yield the six fields of every record that the server accepts (with `poison` of all) in upstream order."""
        for _, strand, index in self._walk(account_id):
            if poison or not strand.flaw(index):
                yield json.loads(json.loads(f'"{strand.row(index)}"'))

    def poison(self, account_id: str) -> list[PoisonRow]:
        """List the records that the server refuses."""
        return [
            PoisonRow(place, strand.times[index], flaw, json.loads(strand.text(index)))
            for place, strand, index in self._walk(account_id)
            if (flaw := strand.flaw(index))
        ]

    # The audit endpoint.

    def query(self, account_id: str, query: Query) -> Page:
        """Answer a query as the audit endpoint would at this moment; poison and all.

        Raises:
            BadQueryError: the window is none, or the cursor is unreadable or expired.
        """
        if query.before_ns < query.since_ns:
            raise BadQueryError("before lies ahead of since")
        strands, now_ns = self._log(account_id), self.now_ns()
        position, skip = self._read_cursor(query.cursor, now_ns)
        walks = [self._places(strand, number, query, position, now_ns) for number, strand in enumerate(strands)]
        merged = heapq.merge(*walks, reverse=query.direction == "desc") if len(walks) > 1 else walks[0]
        limit = min(query.limit, self.options.page_cap)
        found = [(number, index) for _, number, index in islice(merged, skip, skip + limit + 1)]
        return self._page(found, limit, skip, now_ns, strands)

    def _places(
        self, strand: Strand, number: int, query: Query, position: Position | None, now_ns: int
    ) -> Iterator[tuple[int, int, int]]:
        """Yield the matching, visible records of a strand in the query's direction."""
        low, high = self._bounds(strand, number, query, position, now_ns)
        mask = strand.mask(query.filters)
        ascending = query.direction == "asc"
        times = strand.times
        indices: Iterable[int]
        if mask is None:
            indices = range(low, high) if ascending else range(high - 1, low - 1, -1)
        else:
            indices = _marked(mask, low, high) if ascending else _marked_backwards(mask, low, high)
        for index in indices:
            if strand.visible_ns(index) <= now_ns:
                yield times[index], number, index

    def _bounds(
        self, strand: Strand, number: int, query: Query, position: Position | None, now_ns: int
    ) -> tuple[int, int]:
        """Find the index range of a strand that window, clock and cursor leave."""
        times = strand.times
        low = (bisect_left if self.options.since_inclusive else bisect_right)(times, query.since_ns)
        high = (bisect_right if self.options.before_inclusive else bisect_left)(times, query.before_ns)
        high = min(high, bisect_right(times, now_ns))
        if position is not None:
            if number == position.strand:
                passed = position.index
            else:
                bisect = bisect_right if number < position.strand else bisect_left
                passed = bisect(times, position.time_ns)
            if query.direction == "asc":
                low = max(low, passed + (number == position.strand))
            else:
                high = min(high, passed)
        return low, high

    def _read_cursor(self, cursor: str, now_ns: int) -> tuple[Position | None, int]:
        if not cursor:
            return None, 0
        if self.options.cursor_kind == "offset":
            (skip,) = read_cursor(cursor, 1)
            return None, max(skip, 0)
        time_ns, strand, index, issued_ns = read_cursor(cursor, 4)
        lifetime_ns = self.options.cursor_lifetime_seconds * SECOND_NS
        if self.options.cursor_kind == "expiring" and now_ns - issued_ns > lifetime_ns:
            raise BadQueryError("the cursor has expired")
        return Position(time_ns, strand, index), 0

    def _page(
        self, found: list[tuple[int, int]], limit: int, skip: int, now_ns: int, strands: tuple[Strand, ...]
    ) -> Page:
        rows = found[:limit]
        more = len(found) > limit
        if not rows or not (more or self.options.end_style == "extra-page"):
            return Page(rows, "" if self.options.end_style == "empty" else None)
        if self.options.cursor_kind == "offset":
            return Page(rows, write_cursor(skip + len(rows)))
        number, index = rows[-1]
        issued_ns = now_ns if self.options.cursor_kind == "expiring" else 0
        return Page(rows, write_cursor(strands[number].times[index], number, index, issued_ns))

    def record_texts(self, account_id: str, page: Page) -> list[str]:
        """Write the whole records of a page as JSON, one text each."""
        strands = self._log(account_id)
        return [strands[number].text(index) for number, index in page.rows]

    def row_texts(self, account_id: str, page: Page) -> list[str]:
        """Write the six-field rows of a page as they stand inside a JSON string."""
        strands = self._log(account_id)
        return [strands[number].row(index) for number, index in page.rows]

    def flawed(self, account_id: str, page: Page) -> list[int]:
        """List the places in a page whose records the server refuses."""
        strands = self._log(account_id)
        return [place for place, (number, index) in enumerate(page.rows) if strands[number].flaw(index)]

    def epoch(self, account_id: str) -> tuple[object, ...]:
        """Make a value that is equal as long as every query of an account has the same answer."""
        now_ns = self.now_ns()
        return self._version, *(strand.epoch(now_ns) for strand in self._log(account_id))


def _marked(mask: bytes, low: int, high: int) -> Iterator[int]:
    index = mask.find(1, low, high)
    while index >= 0:
        yield index
        index = mask.find(1, index + 1, high)


def _marked_backwards(mask: bytes, low: int, high: int) -> Iterator[int]:
    index = mask.rfind(1, low, high)
    while index >= 0:
        yield index
        index = mask.rfind(1, low, index)
