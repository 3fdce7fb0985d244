"""What `replaces` of events may hide: an event that says less of itself, of the same account and the same moment.

`replaces` is a claim by the writer of the row. It counts only for a shadow, or for a trimmed event that says the same
in its six fields but for the token name, and of the same account and millisecond. An event that is known in full cannot
be replaced.
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass
from typing import Any

import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.dataset as ds

from cfaudit_export.schema import SHADOW

_TRIMMED = "trimmed"
# Not the token name: a whole record may know a better one than the trimmed event had.
_TEXTS = ("action_description", "actor_email", "resource_product", "resource_type")
_BETWEEN = "\x1f"
_NEAR = (-1, 0, 1)  # a shadow stands at the beginning of its millisecond, or at the end of the one before


@dataclass(frozen=True, slots=True)
class Replacements:
    """Which events are replaced.

    Attributes:
        kept: true of every event that is not.
    """

    kept: ds.Expression


def replacements(replacing: ds.Dataset) -> Replacements | None:
    """Return what the events of a dataset replace, None for nothing."""
    names = ["replaces", "account_id", "event_time", *_TEXTS]
    rows = replacing.to_table(columns=names, filter=ds.field("replaces").is_valid())
    if not rows.num_rows:
        return None
    said_at, stored_at = _milliseconds(rows["event_time"]), _milliseconds(ds.field("event_time"))
    short = [_key(_columns(rows, ()), pc.add(said_at, by)) for by in _NEAR]
    long = [_key(_columns(rows, _TEXTS), pc.add(said_at, by)) for by in _NEAR]
    is_shadow = (ds.field("fidelity") == SHADOW) & _is_in(_key(_fields(()), stored_at), short)
    is_trimmed = (ds.field("fidelity") == _TRIMMED) & _is_in(_key(_fields(_TEXTS), stored_at), long)
    is_named = ds.field("event_id").isin(pc.unique(rows["replaces"]))
    return Replacements(~(is_named & (is_shadow | is_trimmed)))


def _columns(rows: pa.Table, texts: Iterable[str]) -> list[Any]:
    return [rows["replaces"], rows["account_id"], *(rows[name] for name in texts)]


def _fields(texts: Iterable[str]) -> list[Any]:
    return [ds.field("event_id"), ds.field("account_id"), *(ds.field(name) for name in texts)]


def _milliseconds(times: Any) -> Any:
    return pc.divide(times.cast(pa.int64()), 1_000)


def _key(texts: Iterable[Any], at: Any) -> Any:
    """Return one text of several and a time; what is null is empty."""
    parts = [pc.coalesce(text, "") for text in texts]
    return pc.binary_join_element_wise(*parts, at.cast(pa.string()), _BETWEEN)


def _is_in(key: Any, known: Iterable[pa.ChunkedArray]) -> Any:
    return key.isin(pa.chunked_array([chunk for one in known for chunk in one.chunks], pa.string()))
