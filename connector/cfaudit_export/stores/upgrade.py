"""The tree of a document of an earlier format in, one of the present format out.

Until format 2 what a sink remembers (`seen`) was one table, and the form of a key said what its value is: an hour is
`2026-11-24T02`, a gap `since/before`, a refilled window `since=before`. Leased time was called `lent`.
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

TYPED = 3
"""The first format in which `seen` has a table and two lists."""


def upgrade(tree: dict[str, Any]) -> dict[str, Any]:
    """Return the tree in the present format; what is damaged is left as it is."""
    if tree["format"] >= TYPED:
        return tree
    renamed = {"leased" if name == "lent" else name: value for name, value in tree.items()}
    for one in _tables(renamed):
        if isinstance(seen := one.get("seen"), dict):
            one["seen"] = _typed(seen)
    return renamed


def _tables(tree: dict[str, Any]) -> Iterator[dict[str, Any]]:
    """Yield all that remembers something: sinks, and what is promised to them."""
    sinks = tree.get("sinks")
    for sink in sinks.values() if isinstance(sinks, dict) else ():
        if isinstance(sink, dict):
            yield sink
            intents = sink.get("intents")
            yield from (one for one in intents if isinstance(one, dict)) if isinstance(intents, list) else ()


def _typed(seen: dict[str, Any]) -> dict[str, Any]:
    windows = sorted(name for name in seen if "/" in name or "=" in name)
    return {
        "hours": {name: keys for name, keys in seen.items() if name not in windows},
        "gaps": [{"window": name, "keys": seen[name]} for name in windows if "/" in name],
        "refilled": [{"window": name.replace("=", "/"), "keys": seen[name]} for name in windows if "=" in name],
    }
