"""What a sandbox is made of: every knob of the emulated servers and of the data behind them."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, fields
from datetime import datetime
from typing import Literal

from cfaudit_sandbox.world.drift import DRIFTS

DAY_SECONDS = 86_400.0


@dataclass(frozen=True, slots=True, kw_only=True)
class SandboxOptions:
    """Describe a sandbox; equal options give equal data, byte for byte.

    Attributes:
        events: events per account.
        span_seconds: time over which the events are spread, before `end_at`.
        end_at: time of the last events, with a zone; by default ten minutes ago. Events in the future become
            visible when their time comes.
        seed: seed of all that is random.
        accounts: accounts of the user token.
        poison: rows that the server rejects, as `kind=count` (or `kind`, once); the kind `all` spreads its count
            evenly over every kind. The kinds are `cfaudit_sandbox.POISON_KINDS`.
        poison_fraction: share of rows that the server rejects, beside those of `poison`; spread over every kind.
        poison_placement: rejected rows anywhere, side by side, or at the same instants as clean rows.
        twins: share of rows that equal another row of the same instant in all six fields.
        ties: share of rows that share their instant with another row.
        late_fraction: share of rows that become visible late.
        late_max_seconds: longest delay of a late row.
        latency_seconds: time that the audit endpoint takes to answer.
        page_cap: most rows of a page, whatever `limit` says; a capped page still has a cursor.
        cursor_kind: cursors hold a key, an offset (which shifts when rows arrive), or a key that expires.
        cursor_lifetime_seconds: life of an expiring cursor.
        since_inclusive: whether an answer includes rows at exactly `since`.
        before_inclusive: whether an answer includes rows at exactly `before`.
        end_style: last page without a cursor, with an empty one, or with one that leads to a page without rows.
        throttle_calls: upstream calls of a user in a moving window; none: no limit.
        throttle_window_seconds: length of the moving window.
        throttle_seconds: time for which calls are refused after too many.
        fail_rate: share of audit calls answered with a 5xx.
        drop_rate: share of audit calls whose connection breaks.
        html_rate: share of audit calls answered with HTML and status 200.
        modern: whether the server supports protocol 2026-07-28, or only the 2025 revisions.
        zod: major version of the validator whose error texts are imitated.
        auditlogs_generation: generation of the Audit Logs server to emulate; they differ in how clients
            authenticate. `next` is what its repository prepares.
        edge_drop_rate: share of requests whose connection ends before, in or after the head of the answer.
        empty_pages: pages without rows, each with a cursor, before every page of rows.
        codemode_generation: generation of the code-mode server to emulate: `A` and `B` are recent, `G0` is the
            first, which cuts off long replies.
        tool_prefix: prefix of the tool's name, as gateways add.
        drift: possible future changes of the tool. Their names are `cfaudit_sandbox.DRIFTS`.
        allowed_hosts: further names that a `Host` header may have, beside loopback and the real server's.
        keepalive_seconds: pause between the comment lines of a silent event stream.
        cache_bytes: size of the cache of rendered pages.
    """

    events: int = 5_000
    span_seconds: float = 30 * DAY_SECONDS
    end_at: datetime | None = None
    seed: int = 1
    accounts: int = 1
    poison: tuple[str, ...] | Mapping[str, int] = ()
    poison_fraction: float = 0.0
    poison_placement: Literal["random", "adjacent", "tied"] = "random"
    twins: float = 0.002
    ties: float = 0.01
    late_fraction: float = 0.0
    late_max_seconds: float = 600.0
    latency_seconds: float = 0.0
    page_cap: int = 1_000
    cursor_kind: Literal["keyset", "offset", "expiring"] = "keyset"
    cursor_lifetime_seconds: float = 300.0
    since_inclusive: bool = True
    before_inclusive: bool = True
    end_style: Literal["absent", "empty", "extra-page"] = "absent"
    throttle_calls: int | None = None
    throttle_window_seconds: float = 300.0
    throttle_seconds: float = 300.0
    fail_rate: float = 0.0
    drop_rate: float = 0.0
    html_rate: float = 0.0
    modern: bool = True
    zod: Literal[3, 4] = 4
    auditlogs_generation: Literal["today", "0.20.9", "next"] = "today"
    edge_drop_rate: float = 0.0
    empty_pages: int = 0
    codemode_generation: Literal["A", "B", "G0"] = "A"
    tool_prefix: str = ""
    drift: tuple[str, ...] = ()
    allowed_hosts: tuple[str, ...] = ()
    keepalive_seconds: float = 15.0
    cache_bytes: int = 32 * 1024 * 1024

    def __post_init__(self) -> None:
        for name, least in (("events", 0), ("accounts", 0), ("page_cap", 1), ("cache_bytes", 0), ("empty_pages", 0)):
            if getattr(self, name) < least:
                raise ValueError(f"{name} must be at least {least}, not {getattr(self, name)}")
        for field in fields(self):
            value = getattr(self, field.name)
            if field.name.endswith(("fraction", "rate")) or field.name in ("twins", "ties"):
                if not 0 <= value <= 1:
                    raise ValueError(f"{field.name} is a share between 0 and 1, not {value}")
            elif field.name.endswith("_seconds") and not value >= 0:  # what is no number is neither
                raise ValueError(f"{field.name} must not be negative, but is {value}")
        if unknown := sorted(set(self.drift) - DRIFTS.keys()):
            raise ValueError(f"no drift is named {unknown[0]!r}; choose from: {', '.join(DRIFTS)}")
        if self.end_at is not None and self.end_at.tzinfo is None:
            raise ValueError("end_at needs a time zone")


RUNTIME_KNOBS = frozenset(
    {
        "latency_seconds",
        "page_cap",
        "throttle_calls",
        "throttle_window_seconds",
        "throttle_seconds",
        "fail_rate",
        "drop_rate",
        "html_rate",
        "edge_drop_rate",
        "empty_pages",
        "zod",
        "modern",
        "end_style",
        "drift",
    }
)
"""Names of the options that may change while a sandbox is running."""
