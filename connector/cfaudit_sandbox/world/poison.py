"""A clean record and the name of a flaw -> a record that the server refuses.

Each kind is one way in which a real row departs from what the server's schema allows.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any

from cfaudit_sandbox.world.options import SandboxOptions

Json = dict[str, Any]
_ABSENT = object()


def _put(*path: str, value: object) -> Callable[[Json], None]:
    """Make a change that sets a field, or takes it away; objects on the way are made where they lack."""

    def change(record: Json) -> None:
        target = record
        for name in path[:-1]:
            target = target.setdefault(name, {})
        if value is _ABSENT:
            target.pop(path[-1], None)
        else:
            target[path[-1]] = value

    return change


def _rewrite_time(rewrite: Callable[[str], object]) -> Callable[[Json], None]:
    def change(record: Json) -> None:
        record["action"]["time"] = rewrite(record["action"]["time"])

    return change


def _delegated(record: Json) -> None:
    """Leave an actor that is nothing but its type, as Workers deployments with assets write it."""
    record["actor"] = {"type": "delegated_service"}
    for name in ("cf_ray_id", "user_agent"):
        record.get("raw", {}).pop(name, None)


_CHANGES: Mapping[str, Callable[[Json], None]] = {
    "api-context": _put("actor", "context", value="api"),
    "delegated-service": _delegated,
    "array-response": _put("resource", "response", value=[{"id": "1"}, {"id": "2"}]),
    "array-request": _put("resource", "request", value=["a", "b"]),
    "string-response": _put("resource", "response", value="ok"),
    "string-request": _put("resource", "request", value="name=value"),
    "null-response": _put("resource", "response", value=None),
    "null-request": _put("resource", "request", value=None),
    "empty-context": _put("actor", "context", value=""),
    "null-context": _put("actor", "context", value=None),
    "cased-actor-type": _put("actor", "type", value="Cloudflare_admin"),
    "empty-actor-type": _put("actor", "type", value=""),
    "empty-email": _put("actor", "email", value=""),
    "null-email": _put("actor", "email", value=None),
    "invalid-email": _put("actor", "email", value="not an address"),
    "unicode-email": _put("actor", "email", value="jürgen@example.com"),
    "dotless-email": _put("actor", "email", value="root@localhost"),
    "unknown-action-type": _put("action", "type", value="logout"),
    "empty-action-type": _put("action", "type", value=""),
    "missing-action-type": _put("action", "type", value=_ABSENT),
    "unknown-result": _put("action", "result", value="partial"),
    "missing-result": _put("action", "result", value=_ABSENT),
    "offset-time": _rewrite_time(lambda text: text.replace("Z", "+00:00")),
    "spaced-time": _rewrite_time(lambda text: text.replace("T", " ")),
    "null-description": _put("action", "description", value=None),
    "null-actor": _put("actor", value=None),
    "null-actor-id": _put("actor", "id", value=None),
    "null-token-id": _put("actor", "token_id", value=None),
    "null-resource": _put("resource", value=None),
    "null-product": _put("resource", "product", value=None),
    "number-resource-id": _put("resource", "id", value=4_711),
    "null-scope": _put("resource", "scope", value=None),
    "array-scope": _put("resource", "scope", value=["accounts"]),
    "null-raw": _put("raw", value=None),
    "string-raw": _put("raw", value="GET /"),
    "string-status": _put("raw", "status_code", value="200"),
    "null-status": _put("raw", "status_code", value=None),
    "null-zone": _put("zone", value=None),
    "null-zone-id": _put("zone", "id", value=None),
    "missing-id": _put("id", value=_ABSENT),
    "long-id": _put("id", value="0192f7c1-7d3e-7a51-9c7e-0d3f5a9b2c64-2"),
    "missing-account": _put("account", value=_ABSENT),
    "missing-account-name": _put("account", "name", value=_ABSENT),
}

POISON_KINDS = tuple(_CHANGES)
"""The names of all flaws."""


def spoil(record: Json, kind: str) -> None:
    """Give a record the named flaw."""
    _CHANGES[kind](record)


def poison_counts(options: SandboxOptions) -> dict[str, int]:
    """Read the poison of the options: how many rows of which kind.

    Raises:
        ValueError: a kind that does not exist, a count that is no number, or more rows than there are events.
    """
    wanted: list[tuple[str, str]] = (
        [(kind, str(count)) for kind, count in options.poison.items()]
        if isinstance(options.poison, Mapping)
        else [(kind, count or "1") for kind, _, count in (item.partition("=") for item in options.poison)]
    )
    counts = dict.fromkeys(POISON_KINDS, 0)
    _spread(counts, round(options.poison_fraction * options.events))
    for kind, count in wanted:
        if not count.isdecimal():
            raise ValueError(f"poison {kind!r} needs a count, not {count!r}")
        if kind == "all":
            _spread(counts, int(count))
        elif kind in counts:
            counts[kind] += int(count)
        else:
            raise ValueError(f"no poison is named {kind!r}; choose all or one of: {', '.join(POISON_KINDS)}")
    if (total := sum(counts.values())) > options.events:
        raise ValueError(f"{total} poison rows do not fit into {options.events} events")
    return {kind: count for kind, count in counts.items() if count}


def _spread(counts: dict[str, int], total: int) -> None:
    each, rest = divmod(total, len(POISON_KINDS))
    for number, kind in enumerate(POISON_KINDS):
        counts[kind] += each + (number < rest)
