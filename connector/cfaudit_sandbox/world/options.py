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
        span_seconds: the events are spread over `[end_at - span, end_at)`.
        end_at: aware; by default ten minutes before the world is built. Events whose time lies ahead of the
            world's clock become visible when the clock gets there.
        seed: decides everything that looks random.
        accounts: how many accounts the user token sees.
        poison: rows that the server refuses, as `kind=count` (or `kind`, once); the kind `all` spreads its count
            evenly over every kind. The kinds are `cfaudit_sandbox.POISON_KINDS`.
        poison_fraction: poison by share of all rows, on top of `poison`; spread over every kind.
        poison_placement: anywhere, in one adjacent run, or each in the same instant as clean neighbours.
        twins: share of rows that are exact copies, in the six fields, of another row of the same instant.
        ties: share of rows that share their instant with another row.
        late_fraction: share of rows that become visible only some time after they happened.
        late_max_seconds: the longest such delay.
        latency_seconds: how long the audit endpoint takes to answer.
        page_cap: the most rows a page holds, whatever `limit` says; a capped page still carries a cursor.
        cursor_kind: a position by key, by offset (shifts when rows arrive), or by key with an expiry.
        cursor_lifetime_seconds: how long an expiring cursor works.
        since_inclusive: whether a row at exactly `since` belongs to the answer.
        before_inclusive: whether a row at exactly `before` belongs to the answer.
        end_style: the last page has no cursor, an empty one, or one that leads to a page without rows.
        throttle_calls: upstream calls that one user may make per moving window; none: no limit.
        throttle_window_seconds: the length of that window.
        throttle_seconds: how long every call of a user is refused who went over.
        fail_rate: share of audit calls answered with a 5xx.
        drop_rate: share of audit calls whose connection is lost.
        html_rate: share of audit calls answered with HTML and status 200.
        modern: whether the server speaks protocol 2026-07-28; without it only the 2025 revisions.
        zod: the major version of the validator whose error texts are imitated.
        auditlogs_generation: which generation of the Audit Logs server is emulated, of those that differ in how a
            client is let in: `today` is the one that was seen first, `next` what its repository prepares.
        edge_drop_rate: share of requests whose connection ends before, in or after the head of an answer, by FIN or
            RST.
        empty_pages: so many pages without rows, each with a cursor, come before every page of rows.
        codemode_generation: which generation of the code-mode server is emulated: `A` and `B` are two late ones, `G0`
            is the first, which cuts every long reply off.
        tool_prefix: put before the tool's name, as gateways do.
        drift: changes of the tool that may come one day. Their names are `cfaudit_sandbox.DRIFTS`.
        allowed_hosts: names, beside loopback and the real server's, that a `Host` header may carry.
        keepalive_seconds: pause between the comment lines of a silent event stream.
        cache_bytes: bound of the cache of rendered pages.
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
