"""An answer that is being made, and how it is cut to a size: lists lose their end, and what they lost is counted."""

from __future__ import annotations

import json
import math
import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

from cfaudit_export.errors import UsageError

_LEAST_ITEMS = 1
_HALF = re.compile("[\ud800-\udfff]")


@dataclass(frozen=True, slots=True)
class AnswerDraft:
    """An answer.

    Attributes:
        coverage: what of the time asked about was exported; stands first.
        facts: what is never cut.
        lists: what may be cut at its end, most important first.
        totals: how many entries each list really has, where that is more than it holds.
        rows: how many events or other entries it is about, for the log.
        cursors: for every entry of the first list, where to continue behind it; none where lists have no pages.
    """

    coverage: Mapping[str, Any]
    facts: Mapping[str, Any] = field(default_factory=dict)
    lists: Mapping[str, Sequence[Any]] = field(default_factory=dict)
    totals: Mapping[str, int] = field(default_factory=dict)
    rows: int = 0
    cursors: Sequence[str] = ()

    def cut(self, sizes: Mapping[str, int]) -> dict[str, Any]:
        """Return the whole answer with so many entries of each list; `left_out` counts the others."""
        whole = {name: self.totals.get(name, len(entries)) for name, entries in self.lists.items()}
        kept = {name: list(entries[: sizes[name]]) for name, entries in self.lists.items()}
        left_out = {name: whole[name] - len(entries) for name, entries in kept.items() if whole[name] > len(entries)}
        return {"coverage": self.coverage, **self.facts, **kept, **self._next(kept, left_out), "left_out": left_out}

    def _next(self, kept: Mapping[str, Sequence[Any]], left_out: Mapping[str, int]) -> dict[str, str]:
        """Return where to continue, if the first list has more than is kept of it."""
        name = next(iter(kept), "")
        return (
            {"next_cursor": self.cursors[len(kept[name]) - 1]}
            if name in left_out and self.cursors and kept[name]
            else {}
        )


def compact(value: Any) -> str:
    """Return a value as JSON without spaces; half a character, which is no UTF-8, as its escape."""
    text = json.dumps(value, ensure_ascii=False, separators=(",", ":"))
    return _HALF.sub(lambda one: f"\\u{ord(one[0]):04x}", text)


def fitted(draft: AnswerDraft, most_bytes: int) -> dict[str, Any]:
    """Return an answer whose JSON has at most so many bytes: the largest list is cut first, then the next.

    Raises:
        UsageError: even without any list it has more.
    """
    weights = {name: [_bytes(one) + 1 for one in entries] for name, entries in draft.lists.items()}
    sizes = {name: len(entries) for name, entries in draft.lists.items()}
    while (excess := _bytes(draft.cut(sizes)) - most_bytes) > 0:
        heaviest = max(sizes, key=lambda name: sum(weights[name][: sizes[name]]), default="")
        if not heaviest or not sizes[heaviest]:
            raise UsageError(f"the answer takes more than {most_bytes:,} bytes; raise max_bytes, or ask for less")
        sizes[heaviest] = _shorter(weights[heaviest], sizes[heaviest], excess)
    return draft.cut(sizes)


def _shorter(weights: Sequence[int], size: int, excess: int) -> int:
    """Return how many entries to keep: a part goes at a time, so that several large lists are cut alike."""
    least = max(size - math.ceil(size / 4), 0)
    while size > least and excess > 0:
        size -= _LEAST_ITEMS
        excess -= weights[size]
    return size


def _bytes(value: Any) -> int:
    return len(compact(value).encode())
