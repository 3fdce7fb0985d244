"""Content -> identity: the key of an event in a source that gives no ids.

The canonical form of an event is the text

    `account` `time` `description` `product` `type` `actor email` `token name` `ordinal`

each part written as a netstring (`5:hello`), an absent or empty one as `-`, joined by commas. `time` is whole
nanoseconds since the epoch, so that `…00Z` and `…00.000Z` are one moment. The key is the first 128 bits of its
SHA-256, in 32 hex digits; where there is an identity key, its keyed BLAKE2b of 128 bits.

`ordinal` is 0 for the first of several identical events, 1 for the second, and so on: two identical rows in one
millisecond are two events. Identical events share their time, so the ordinals of a time depend on the events of that
time alone, whatever window or page they were read in; and which of them gets which number makes no difference, for
they are identical.
"""

from __future__ import annotations

from binascii import hexlify
from collections.abc import Iterator
from datetime import datetime
from hashlib import sha256

import pyarrow as pa
import pyarrow.compute as pc

from cfaudit_export.core.identity_key import IdentityKey
from cfaudit_export.core.model import to_ms

_PARTS = ("action_description", "resource_product", "resource_type", "actor_email", "key_token_name")
_FIRST = b"1:0"
_NANOSECONDS = pa.timestamp("ns", tz="UTC")


def event_keys(account_id: str, events: pa.Table, key: IdentityKey | None = None) -> pa.Array:
    """Return the key of every event, in the order of the table; with an identity key, made by that.

    `events` must hold all events of every time in it; it need not be sorted. `event_time` is required, the other
    parts may be missing columns. `key_token_name` stands for the token name where it is there, because the six-field
    source knows another one than whole records do; else `actor_token_name`.
    """
    if not events.num_rows:
        return pa.array([], pa.string())
    canonical = _canonical(account_id, events)
    texts = pc.cast(canonical, pa.binary()).to_pylist()
    for index, ordinal in _repeated(canonical):
        number = b"%d" % ordinal
        texts[index] = texts[index].removesuffix(_FIRST) + b"%d:%b" % (len(number), number)
    digest = key.digest if key else _plain
    digests = hexlify(b"".join(map(digest, texts)))
    whole = pa.FixedSizeBinaryArray.from_buffers(pa.binary(32), len(texts), [None, pa.py_buffer(digests)])
    return pc.cast(pc.cast(whole, pa.binary()), pa.string())


def shadow_key(account_id: str, at: datetime, number: int) -> str:
    """Return the key of the shadow that stands for an unreadable row: its account, its millisecond, its number there.

    All of these are in the row, so that nothing is given away, and no identity key is needed.

    Which of several rows of the millisecond gets which number makes no difference, as none of them can be read.
    """
    return sha256(f"shadow,{account_id},{to_ms(at)},{number}".encode()).hexdigest()[:32]


def completion_key(key: str) -> str:
    """Return the id of a row that takes the place of a trimmed one; `key` is that of both, and the id of the other."""
    return sha256(f"complete,{key}".encode()).hexdigest()[:32]


def _plain(text: bytes) -> bytes:
    return sha256(text).digest()[:16]


def _canonical(account_id: str, events: pa.Table) -> pa.Array:
    """Return the canonical form of every event, as if it were the first of its kind."""
    times = pc.cast(pc.cast(events["event_time"], _NANOSECONDS), pa.int64())
    parts = [_netstring(pa.scalar(account_id)), _netstring(pc.cast(times, pa.string()))]
    for name in _PARTS:
        column = name if name in events.column_names else name.replace("key_", "actor_")
        parts.append(_netstrings(events[column]) if column in events.column_names else pa.scalar("-"))
    joined = pc.binary_join_element_wise(*parts, _FIRST.decode(), ",")
    return joined.combine_chunks() if isinstance(joined, pa.ChunkedArray) else joined


def _repeated(canonical: pa.Array) -> Iterator[tuple[int, int]]:
    """Yield where an event stands that is identical to earlier ones, and to how many."""
    kinds = canonical.dictionary_encode()
    if len(kinds.dictionary) == len(canonical):
        return
    ordinals = pc.subtract(pc.rank(kinds.indices, tiebreaker="first"), pc.rank(kinds.indices, tiebreaker="min"))
    later = pc.indices_nonzero(ordinals)
    yield from zip(later.to_pylist(), ordinals.take(later).to_pylist(), strict=True)


def _netstrings(column: pa.ChunkedArray) -> pa.Array:
    """Return the parts of a column in which values come again: each is made once."""
    coded = column.combine_chunks().dictionary_encode()
    return pc.fill_null(_netstring(coded.dictionary).take(coded.indices), "-")


def _netstring(text: pa.Scalar | pa.Array | pa.ChunkedArray) -> pa.Scalar | pa.Array | pa.ChunkedArray:
    sized = pc.binary_join_element_wise(pc.cast(pc.binary_length(text), pa.string()), text, ":")
    return pc.if_else(pc.equal(pc.fill_null(text, ""), ""), pa.scalar("-"), sized)
