"""Sorted runs of records that make up an account's log: one computed on demand, one given from outside."""

from __future__ import annotations

import json
import threading
from array import array
from bisect import bisect_left, bisect_right
from collections import OrderedDict
from collections.abc import Iterable, Mapping, Sequence
from functools import cached_property
from itertools import product
from typing import Any, Protocol

from cfaudit_sandbox.world.columns import Columns
from cfaudit_sandbox.world.composer import Composer
from cfaudit_sandbox.world.poison import POISON_KINDS, spoil
from cfaudit_sandbox.world.query import FILTERS, Filters, matches, value_of
from cfaudit_sandbox.world.schema import RECORD, issues
from cfaudit_sandbox.world.text import escaped, instant, js, stamp

_MASK_BYTES_KEPT = 64 * 1024 * 1024
_MS_NS = 1_000_000
# The columns on which the value of a filter depends; the ids are unique and looked up instead.
_DEPENDS: Mapping[str, tuple[str, ...]] = {
    "account_name": (),
    "action_result": ("outcome",),
    "action_type": ("action",),
    "raw_method": ("action",),
    "raw_status_code": ("action", "outcome"),
    "raw_uri": ("action", "resource"),
    "resource_id": ("action", "resource"),
    "resource_product": ("action",),
    "resource_type": ("action",),
    "resource_scope": ("action",),
    "zone_id": ("action", "resource"),
    "zone_name": ("action", "resource"),
}


class LogSegment(Protocol):
    """A sorted run of records."""

    @property
    def times(self) -> Sequence[int]:
        """The instants of the records, ascending, in nanoseconds."""

    def text(self, index: int) -> str:
        """Write a whole record as JSON."""

    def row(self, index: int) -> str:
        """Write the six-field row of a record as it stands inside a JSON string."""

    @property
    def flaws(self) -> Mapping[int, str]:
        """Say why the server refuses records, by index."""

    def heal(self, indices: Iterable[int]) -> None:
        """Let the server accept records as they are."""

    def mask(self, filters: Filters) -> bytes | None:
        """Mark the records that pass, one byte each; none stands for all of them."""

    def visible_ns(self, index: int) -> int:
        """Tell from when on a record can be seen."""

    def epoch(self, now_ns: int) -> tuple[int, ...]:
        """Make a value that changes whenever what can be seen has changed."""


def project(record: Mapping[str, Any]) -> dict[str, Any]:
    """Cut a record down to the six fields that the server passes on; absent ones are left out."""
    action, actor, resource = (record.get(name) or {} for name in ("action", "actor", "resource"))
    description = action.get("description")
    row = {"description": "" if description is None else description, "time": action.get("time")}
    for name, source, key in (
        ("actor_email", actor, "email"),
        ("actor_token_name", actor, "token_name"),
        ("product", resource, "product"),
        ("type", resource, "type"),
    ):
        if key in source:
            row[name] = source[key]
    return row


class GeneratedSegment:
    """Records computed from their columns when they are asked for."""

    def __init__(self, composer: Composer, columns: Columns) -> None:
        self.times = columns.times
        self._composer = composer
        self._columns = columns
        self._late_visible = array("q", sorted(columns.late.values()))
        self.flaws = {index: POISON_KINDS[kind] for index, kind in columns.poison.items()}
        self._masks: OrderedDict[Filters, bytes] = OrderedDict()
        self._lock = threading.Lock()

    def _clean_text(self, index: int) -> str:
        columns = self._columns
        time_ns = self.times[index]
        entry = (columns.action[index], columns.identity[index], columns.resource[index], columns.outcome[index])
        return self._composer.text(index, time_ns, stamp(time_ns, columns.digits[index]), entry)

    def _spoiled(self, index: int, kind: int) -> dict[str, Any]:
        record: dict[str, Any] = json.loads(self._clean_text(index))
        spoil(record, POISON_KINDS[kind])
        return record

    def text(self, index: int) -> str:
        """Write a whole record as JSON."""
        kind = self._columns.poison.get(index)
        return self._clean_text(index) if kind is None else js(self._spoiled(index, kind))

    def row(self, index: int) -> str:
        """Write the six-field row of a record as it stands inside a JSON string."""
        columns = self._columns
        if (kind := columns.poison.get(index)) is not None:
            return escaped(js(project(self._spoiled(index, kind))))
        time = stamp(self.times[index], columns.digits[index])
        return self._composer.row(columns.action[index], columns.identity[index], time)

    def heal(self, indices: Iterable[int]) -> None:
        """Let the server accept records as they are."""
        for index in indices:
            del self.flaws[index]

    def visible_ns(self, index: int) -> int:
        """Tell from when on a record can be seen."""
        return self._columns.late.get(index, self.times[index])

    def epoch(self, now_ns: int) -> tuple[int, ...]:
        """Make a value that changes whenever what can be seen has changed."""
        return bisect_right(self.times, now_ns), bisect_right(self._late_visible, now_ns)

    def mask(self, filters: Filters) -> bytes | None:
        """Mark the records that pass, one byte each; none stands for all of them."""
        if not filters:
            return None
        with self._lock:
            mask = self._masks.pop(filters, None)
            if mask is None:
                mask = self._compute_mask(filters)
            self._masks[filters] = mask
            if len(self._masks) * len(mask) > _MASK_BYTES_KEPT:
                self._masks.popitem(last=False)
        return mask

    def _compute_mask(self, filters: Filters) -> bytes:
        count = len(self.times)
        bits = (1 << 8 * count) - 1
        for name, wanted in filters:
            bits &= int.from_bytes(self._mark(name, wanted))
        mask = bytearray(bits.to_bytes(count))
        for index, values in self._spoiled_values.items():
            mask[index] = all(values[name] == wanted for name, wanted in filters)
        return bytes(mask)

    @cached_property
    def _spoiled_values(self) -> dict[int, dict[str, Any]]:
        """What filters compare with in the spoiled records, which the columns do not tell."""
        spoiled = ((index, self._spoiled(index, kind)) for index, kind in self._columns.poison.items())
        return {index: {name: value_of(record, name) for name in FILTERS} for index, record in spoiled}

    def _mark(self, name: str, wanted: str | float) -> bytes:
        """Mark the records whose clean form has a value, by looking at one record per combination of entries."""
        count = len(self.times)
        if name in ("audit_log_id", "raw_cf_ray_id"):
            return self._mark_unique(name, str(wanted))
        depends = _DEPENDS.get(name, ("identity",))
        if not depends:
            return (b"\1" if self._example(name, {}) == wanted else b"\0") * count
        used = [sorted(set(getattr(self._columns, column))) for column in depends]
        partners: dict[int, set[int]] = {}
        for entries in product(*used):
            if self._example(name, dict(zip(depends, entries, strict=True))) == wanted:
                partners.setdefault(entries[0], set()).add(entries[-1])
        grouped: dict[frozenset[int], set[int]] = {}
        for first, seconds in partners.items():
            grouped.setdefault(frozenset(seconds) if len(depends) > 1 else frozenset(), set()).add(first)
        bits = 0
        for seconds_of, firsts in grouped.items():
            marked = self._member(depends[0], firsts)
            bits |= marked & self._member(depends[1], seconds_of) if len(depends) > 1 else marked
        return bits.to_bytes(count)

    def _member(self, column: str, entries: Iterable[int]) -> int:
        chosen = frozenset(entries)
        table = bytes(number in chosen for number in range(256))
        return int.from_bytes(getattr(self._columns, column).translate(table))

    def _example(self, name: str, entries: Mapping[str, int]) -> Any:
        get = entries.get
        entry = (get("action", 0), get("identity", 0), get("resource", 0), get("outcome", 0))
        return value_of(json.loads(self._composer.text(0, 0, "", entry)), name)

    def _mark_unique(self, name: str, wanted: str) -> bytes:
        mask = bytearray(len(self.times))
        for index in self._candidates(name, wanted):
            mask[index] = value_of(json.loads(self._clean_text(index)), name) == wanted
        return bytes(mask)

    def _candidates(self, name: str, wanted: str) -> Iterable[int]:
        if name == "raw_cf_ray_id":
            index = self._composer.index_of_ray(wanted)
            return (index,) if index is not None and index < len(self.times) else ()
        try:
            time_ns = int(wanted.replace("-", "")[:12], 16) * _MS_NS
        except ValueError:
            return ()
        return range(bisect_left(self.times, time_ns), bisect_left(self.times, time_ns + _MS_NS))


class GivenSegment:
    """Records that were handed over, kept as they are."""

    def __init__(self, records: Iterable[Mapping[str, Any]]) -> None:
        self._records = sorted(records, key=lambda record: instant(record["action"]["time"]))
        self.times = array("q", (instant(record["action"]["time"]) for record in self._records))
        self.flaws = {index: "given" for index, record in enumerate(self._records) if any(issues(RECORD, record))}

    def text(self, index: int) -> str:
        """Write a whole record as JSON."""
        return js(self._records[index])

    def row(self, index: int) -> str:
        """Write the six-field row of a record as it stands inside a JSON string."""
        return escaped(js(project(self._records[index])))

    def heal(self, indices: Iterable[int]) -> None:
        """Let the server accept records as they are."""
        for index in indices:
            del self.flaws[index]

    def mask(self, filters: Filters) -> bytes | None:
        """Mark the records that pass, one byte each; none stands for all of them."""
        return bytes(matches(record, filters) for record in self._records) if filters else None

    def visible_ns(self, index: int) -> int:
        """Tell from when on a record can be seen."""
        return self.times[index]

    def epoch(self, now_ns: int) -> tuple[int, ...]:
        """Make a value that changes whenever what can be seen has changed."""
        return (bisect_right(self.times, now_ns),)
