"""Options -> the accounts, tokens and audit logs of a sandbox. What tests compare an export with."""

from __future__ import annotations

import hashlib
import json
import threading
import time
from collections.abc import Callable, Collection, Iterable, Iterator, Mapping
from dataclasses import dataclass, fields, replace
from datetime import datetime, timedelta
from typing import Any

import msgspec

from cfaudit_export.core.model import EPOCH
from cfaudit_sandbox.world.columns import generate
from cfaudit_sandbox.world.composer import Composer, SandboxAccount
from cfaudit_sandbox.world.log_segment import GeneratedSegment, GivenSegment, LogSegment
from cfaudit_sandbox.world.options import RUNTIME_KNOBS, SandboxOptions
from cfaudit_sandbox.world.paging import AuditPage, find_page, rank, walk
from cfaudit_sandbox.world.poison import poison_counts
from cfaudit_sandbox.world.query import AuditQuery
from cfaudit_sandbox.world.text import SECOND_NS

_NAMES = ("Example Trading", "Example Labs", "Exämple Größe & Søn", "Example Media", "Example Café ☕")
_SETTLED_SECONDS = 600


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
        self._logs: dict[str, tuple[LogSegment, ...]] = {}
        self._version = 0
        self._lock = threading.RLock()

    def _digest(self, *words: object) -> str:
        return hashlib.sha256("/".join(map(str, (self.options.seed, *words))).encode()).hexdigest()

    def _account(self, number: int) -> SandboxAccount:
        name = _NAMES[number % len(_NAMES)]
        return SandboxAccount(self._digest("account", number)[:32], f"{name} {number + 1}" if number else name)

    def now_ns(self) -> int:
        """Read the world's clock."""
        return int(self.clock() * SECOND_NS)

    def _log(self, account_id: str) -> tuple[LogSegment, ...]:
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

    def _append(self, account: SandboxAccount, events: int, since_ns: int, before_ns: int) -> None:
        number = len(self._logs[account.id])
        options = replace(self.options, events=events)
        columns = generate(options, since_ns, before_ns, f"{account.id}/{number}")
        segment = GeneratedSegment(Composer(self.options.seed, account, number), columns)
        self._logs[account.id] = (*self._logs[account.id], segment)
        self._version += 1

    # What tests and tools do to a world.

    def add(self, account_id: str, records: Iterable[Mapping[str, Any]]) -> None:
        """Insert whole records into an account's log, behind those already there of the same instant."""
        with self._lock:
            self._logs[account_id] = (*self._log(account_id), GivenSegment(records))
            self._version += 1

    def grow(self, account_id: str, events: int, since: datetime, before: datetime) -> None:
        """Generate further events of an account within `[since, before)`, with the options' poison and delays."""
        with self._lock:
            self._log(account_id)
            account = next(account for account in self.accounts if account.id == account_id)
            # Not by way of floating-point seconds: they would let an event in that lies a millisecond before.
            ends = ((edge - EPOCH) // timedelta(microseconds=1) * 1_000 for edge in (since, before))
            self._append(account, events, *ends)

    def turn(self, **knobs: Any) -> None:
        """Change options while the world is in use.

        Raises:
            ValueError: a knob that may not be turned, or a value it cannot take.
        """
        if unknown := sorted(set(knobs) - RUNTIME_KNOBS):
            raise ValueError(f"no knob is named {unknown[0]!r}; choose from: {', '.join(sorted(RUNTIME_KNOBS))}")
        with self._lock:
            now = {field.name: getattr(self.options, field.name) for field in fields(SandboxOptions)}
            self.options = msgspec.convert(now | knobs, SandboxOptions)
            self._version += 1

    def heal(self, account_id: str, kinds: Collection[str] | None = None) -> int:
        """Let the server accept the rows with these flaws (by default all) as they are; tell how many."""
        healed = 0
        with self._lock:
            for segment in self._log(account_id):
                places = [index for index, flaw in segment.flaws.items() if kinds is None or flaw in kinds]
                segment.heal(places)
                healed += len(places)
            self._version += 1
        return healed

    # The truth.

    def records(self, account_id: str) -> Iterator[dict[str, Any]]:
        """Yield every whole record in upstream order, also refused and not yet visible ones."""
        segments = self._log(account_id)
        for number, index in walk(segments):
            yield json.loads(segments[number].text(index))

    def rows(self, account_id: str, *, poison: bool = False, visible: bool = False) -> Iterator[dict[str, Any]]:
        """Yield the six fields of the account's records in upstream order.

        Args:
            account_id: one of the accounts.
            poison: also those that the server refuses.
            visible: only those that can be seen by now.
        """
        segments, now_ns = self._log(account_id), self.now_ns()
        for number, index in walk(segments):
            segment = segments[number]
            refused = index in segment.flaws and not poison
            if not refused and not (visible and segment.visible_ns(index) > now_ns):
                yield json.loads(json.loads(f'"{segment.row(index)}"'))

    def poison(self, account_id: str) -> list[PoisonRow]:
        """List the records that the server refuses, in upstream order."""
        segments = self._log(account_id)
        found = [
            PoisonRow(rank(segments, (number, index)), segment.times[index], flaw, json.loads(segment.text(index)))
            for number, segment in enumerate(segments)
            for index, flaw in segment.flaws.items()
        ]
        return sorted(found, key=lambda row: row.index)

    # The audit endpoint.

    def query(self, account_id: str, query: AuditQuery) -> AuditPage:
        """Answer a query as the audit endpoint would at this moment, refused rows included.

        Raises:
            BadQueryError: the window is none, or the cursor is unreadable or expired.
        """
        return find_page(self._log(account_id), query, self.options, self.now_ns())

    def record_texts(self, account_id: str, page: AuditPage) -> list[str]:
        """Write the whole records of a page as JSON, one text each."""
        segments = self._log(account_id)
        return [segments[number].text(index) for number, index in page.rows]

    def row_texts(self, account_id: str, page: AuditPage) -> list[str]:
        """Write the six-field rows of a page as they stand inside a JSON string."""
        segments = self._log(account_id)
        return [segments[number].row(index) for number, index in page.rows]

    def flawed(self, account_id: str, page: AuditPage) -> list[int]:
        """List the places in a page whose records the server refuses."""
        flaws = [segment.flaws for segment in self._log(account_id)]
        if not any(flaws):
            return []
        return [place for place, (number, index) in enumerate(page.rows) if index in flaws[number]]

    def epoch(self, account_id: str) -> tuple[object, ...]:
        """Make a value that is equal as long as every query of an account has the same answer."""
        segments, now_ns = self._log(account_id), self.now_ns()
        return self._version, *(segment.epoch(now_ns) for segment in segments)
