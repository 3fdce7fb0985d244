"""The Cloudflare API as the emulated servers see it: identity probes, the audit endpoint, budgets, mishaps."""

from __future__ import annotations

import random
import re
import threading
from collections import Counter, deque
from collections.abc import Mapping
from dataclasses import dataclass
from math import ceil
from typing import Literal, cast, get_args

from cfaudit_sandbox.world.composer import SandboxAccount
from cfaudit_sandbox.world.world import World

# The identity lookup reads one page of accounts; the API puts so many on it.
ACCOUNTS_LISTED = 20
_TOKEN = re.compile(r"[A-Za-z0-9_\-]+")

Where = Literal["probe", "audit", "edge"]
EdgeDrop = Literal["fin-before", "fin-in", "fin-after", "rst-before", "rst-in", "rst-after"]
"""The connection of a client ends by FIN or RST, before, in or after the head of an answer."""
EDGE_DROPS: tuple[EdgeDrop, ...] = get_args(EdgeDrop)
Mishap = int | Literal["drop", "html", "empty"]
"""A status the call is answered with, a lost connection, or a 200 whose body is HTML or nothing."""


@dataclass(frozen=True, slots=True)
class Probe:
    """The answer of an identity endpoint; `retry_after` is upstream's, in seconds."""

    status: int
    retry_after: int | None = None


@dataclass(frozen=True, slots=True)
class Caller:
    """A caller whose credential was accepted.

    Attributes:
        owner: whose budget the calls are charged to.
        accounts: what the credential can see, in upstream order.
        pinned: the account that is used whatever the call asks for.
        may_audit: whether the credential may read audit logs.
        expired: whether upstream has stopped accepting it since.
        cost: upstream calls already spent on recognising it.
    """

    owner: str
    accounts: tuple[SandboxAccount, ...]
    pinned: SandboxAccount | None
    may_audit: bool = True
    expired: bool = False
    cost: int = 0


@dataclass(frozen=True, slots=True)
class UpstreamToken:
    """What upstream knows of a token."""

    owner: str
    accounts: tuple[SandboxAccount, ...]
    probe_status: int = 200
    may_audit: bool = True


class Upstream:
    """Counts calls, charges budgets, and lets calls fail as the world's options or `fail_next` say. Thread-safe."""

    def __init__(self, world: World) -> None:
        self._world = world
        self._lock = threading.Lock()
        self._credentials = _credentials(world)
        self.reset()

    def reset(self) -> None:
        """Forget all that was counted, blocked or still to fail."""
        with self._lock:
            self.counts: Counter[str] = Counter()
            self._rng = random.Random(f"{self._world.options.seed}/mishaps")
            self._calls: dict[str, deque[float]] = {}
            self._blocked_until: dict[str, float] = {}
            self._planned: dict[str, deque[tuple[Mishap | EdgeDrop, int | None]]] = {}

    def fail_next(
        self, mishap: Mishap | EdgeDrop, *, times: int = 1, where: Where = "audit", retry_after: int | None = None
    ) -> None:
        """Let the next calls of one sort fail, before anything else is looked at."""
        with self._lock:
            self._planned.setdefault(where, deque()).extend([(mishap, retry_after)] * times)

    def planned(self, where: Literal["probe", "audit"]) -> tuple[Mishap, int | None] | None:
        """Take the next planned failure of a sort of call, if there is one."""
        return cast("tuple[Mishap, int | None] | None", self._next(where))

    def planned_at_edge(self) -> int | EdgeDrop | None:
        """Take the next planned failure of the edge, if there is one: a status, or the end of the connection."""
        found = self._next("edge")
        return cast("int | EdgeDrop", found[0]) if found else None

    def _next(self, where: Where) -> tuple[Mishap | EdgeDrop, int | None] | None:
        with self._lock:
            queue = self._planned.get(where)
            return queue.popleft() if queue else None

    def charge(self, owner: str) -> int | None:
        """Charge one call to a user's budget; return the seconds to wait if the call is refused."""
        options, now = self._world.options, self._world.clock()
        with self._lock:
            self.counts["upstream_calls"] += 1
            if options.throttle_calls is None:
                return None
            until = self._blocked_until.get(owner, 0.0)
            if now >= until:
                calls = self._calls.setdefault(owner, deque())
                while calls and calls[0] <= now - options.throttle_window_seconds:
                    calls.popleft()
                if len(calls) < options.throttle_calls:
                    calls.append(now)
                    return None
                until = self._blocked_until[owner] = now + options.throttle_seconds
                self.counts["blocks"] += 1
            self.counts["throttled"] += 1
            return max(1, ceil(until - now))

    def probe(self, token: str) -> Probe:
        """Ask an identity endpoint about a token."""
        self._count("probes")
        if (planned := self.planned("probe")) is not None:
            mishap, retry_after = planned
            return Probe(mishap if isinstance(mishap, int) else 502, retry_after)
        credential = self._credentials.get(token)
        if credential is None:
            return Probe(401 if _TOKEN.fullmatch(token) else 400)
        if (wait := self.charge(credential.owner)) is not None:
            return Probe(429, wait)
        return Probe(credential.probe_status)

    def credential(self, token: str) -> UpstreamToken | None:
        """Look up what a token can see."""
        return self._credentials.get(token)

    def accounts(self, caller: Caller) -> tuple[SandboxAccount, ...]:
        """Return all accounts that a caller can use, also those beyond the page that the servers look at."""
        known = (one.accounts for one in self._credentials.values() if one.owner == caller.owner)
        return next(known, caller.accounts)

    def audit(self, caller: Caller) -> Mishap | None:
        """Charge one call of the audit endpoint; return what happens instead of an answer, if anything does."""
        self._count("audit_calls")
        if (planned := self.planned("audit")) is not None:
            return planned[0]
        if self.charge(caller.owner) is not None:
            return 429
        if (mishap := self._chance()) is not None:
            return mishap
        if caller.expired:
            return 401
        return None if caller.may_audit else 403

    def _chance(self) -> Mishap | None:
        options = self._world.options
        if not (options.fail_rate or options.drop_rate or options.html_rate):
            return None
        with self._lock:
            fate = self._rng.random()
            status = self._rng.choice((500, 502, 503, 520))
        if fate < options.fail_rate:
            return status
        if fate < options.fail_rate + options.drop_rate:
            return "drop"
        return "html" if fate < options.fail_rate + options.drop_rate + options.html_rate else None

    def _count(self, name: str) -> None:
        with self._lock:
            self.counts[name] += 1


def _credentials(world: World) -> Mapping[str, UpstreamToken]:
    tokens, all_accounts = world.tokens, tuple(world.accounts)
    return {
        tokens["user"]: UpstreamToken("user", all_accounts),
        tokens["legacy"]: UpstreamToken("user", all_accounts),
        tokens["account"]: UpstreamToken("account", all_accounts[:1]),
        tokens["no_permission"]: UpstreamToken("no_permission", all_accounts, may_audit=False),
        tokens["forbidden"]: UpstreamToken("forbidden", all_accounts, probe_status=403),
        tokens["expired"]: UpstreamToken("expired", all_accounts, probe_status=401),
    }
