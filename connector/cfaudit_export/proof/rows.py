"""Events -> digests that neither the order of rows, nor files, nor the writer of a Parquet file change.

The leaf of an event is the SHA-256 of its row as RFC 8785 JSON. Null columns are left out, so that a column added later
changes no old leaf. A time is a whole number of microseconds since the epoch. The columns that hold JSON enter as the
SHA-256 of their text, in hex. So an event whose body was erased or is withheld can still be proved: such digests, as
JSON in a column `body_sha256`, stand for bodies that are null. A number that JSON readers would round is written as a
text of its digits.

A reader who knows all of a text but a name can guess the name by its SHA-256. So where a row has a `body_nonce`, bytes
that cannot be guessed, in hex, its bodies enter as SHA-256 of nonce and text. The nonce goes when the bodies go.

`rows_sha256` of a batch is the SHA-256 of its leaves, sorted and put one after the other; `ids_sha256` that of its
event ids, sorted and joined by line ends.
"""

from __future__ import annotations

import hashlib
import re
from binascii import hexlify
from collections.abc import Iterable
from typing import Any

import msgspec
import pyarrow as pa
import pyarrow.compute as pc

from cfaudit_export.schema import COLUMNS

BODIES = tuple(sorted(column.name for column in COLUMNS if column.kind == "json"))
"""The columns that enter by the digest of their text."""

KEPT = "body_sha256"
"""The column with the digests of bodies that were erased, as JSON."""

NONCE = "body_nonce"
"""The column with bytes that are hashed before the bodies of a row, in hex."""

PLACED = frozenset({"batch_id", KEPT, NONCE})
"""Columns that say how a row is kept, not what happened; they are in no leaf."""

_HEX = re.compile(r"[0-9a-f]{64}")
_ROUNDED = 2**53  # JSON readers hold numbers from here on only roughly
_AT_ONCE = 4_096
_SAMPLE = 512
_MICROSECONDS = pa.timestamp("us", tz="UTC")
_SHORT = {"\b": r"\b", "\t": r"\t", "\n": r"\n", "\f": r"\f", "\r": r"\r"}
_CONTROLS = tuple((chr(code), _SHORT.get(chr(code), f"\\u{code:04x}")) for code in range(0x20))
_SPECIAL = r'[\x00-\x1f"\\]'


def leaves(events: pa.Table) -> list[bytes]:
    """Return the leaf of every event, 32 bytes each, in the order of the table.

    Raises:
        pa.ArrowException: a column has a type that cannot be written as text.
    """
    sha256 = hashlib.sha256
    found: list[bytes] = []
    for start in range(0, events.num_rows, _AT_ONCE):  # as text, events are several times as large
        texts = pc.cast(_rows(events.slice(start, _AT_ONCE)), pa.binary())
        found += [sha256(text).digest() for text in texts.to_pylist()]
    return found


def rows_sha256(leaves: Iterable[bytes]) -> str:
    """Return the digest of a batch, hex, from its leaves in any order."""
    return hashlib.sha256(b"".join(sorted(leaves))).hexdigest()


def ids_sha256(event_ids: Iterable[str]) -> str:
    """Return the SHA-256 of ids, sorted and joined by line ends, hex: one line of SQL in a warehouse."""
    return hashlib.sha256("\n".join(sorted(event_ids)).encode()).hexdigest()


def _rows(events: pa.Table) -> pa.Array:
    """Return every event as canonical JSON."""
    names = sorted(set(events.column_names) - PLACED, key=lambda name: name.encode("utf-16-be"))
    kept = _kept(events)
    nonces = events[NONCE].combine_chunks() if NONCE in events.column_names else None
    members = [_members(name, events[name].combine_chunks(), kept.get(name), nonces) for name in names]
    first, *others = members
    joined = pc.binary_join_element_wise(first, *others, ",", null_handling="skip")
    return pc.binary_join_element_wise("{", joined, "}", "")


def _members(name: str, column: Any, kept: Any, nonces: Any) -> Any:
    """Return `"name":value` of every event, null where the column is; `kept` are digests of bodies that are gone."""
    key = f'"{_escaped(name)}":'
    kind = column.type
    if name in BODIES:
        hashed = _hashed(column) if nonces is None or nonces.null_count == len(nonces) else _salted(column, nonces)
        return _quoted(key, hashed if kept is None else pc.coalesce(hashed, kept))
    if pa.types.is_timestamp(kind):
        return _numbers(key, pc.cast(pc.cast(column, _MICROSECONDS), pa.int64()))
    if pa.types.is_integer(kind):
        return _numbers(key, column)
    if pa.types.is_boolean(kind):
        return _joined(key, pc.if_else(column, "true", "false"))
    texts = pc.cast(column, pa.string())
    if not _repeats(texts):
        return _quoted(key, _escaped_all(texts))
    coded = texts.dictionary_encode()
    return _quoted(key, _escaped_all(coded.dictionary)).take(coded.indices)


def _kept(events: pa.Table) -> dict[str, Any]:
    """Return for each body the digests that were kept when it was erased."""
    if KEPT not in events.column_names or events[KEPT].null_count == events.num_rows:
        return {}
    said = [_digests(text) for text in events[KEPT].to_pylist()]
    return {name: pa.array([one.get(name) for one in said], pa.string()) for name in BODIES}


def _digests(text: str | None) -> dict[str, str]:
    """Return the digests that a row keeps of its bodies; what is none is not there."""
    try:
        said = msgspec.json.decode(text or "{}", type=dict[str, str])
    except ValueError:
        return {}
    return {name: digest for name, digest in said.items() if _HEX.fullmatch(digest)}


def _numbers(key: str, column: Any) -> Any:
    texts = pc.cast(column, pa.string())
    if not len(column) or (bounds := pc.min_max(column).as_py())["min"] is None:
        return _joined(key, texts)
    if bounds["min"] > -_ROUNDED and bounds["max"] < _ROUNDED:
        return _joined(key, texts)
    is_exact = pc.and_(pc.greater(column, -_ROUNDED), pc.less(column, _ROUNDED))
    return _joined(key, pc.if_else(is_exact, texts, pc.binary_join_element_wise('"', texts, '"', "")))


def _hashed(column: Any) -> Any:
    """Return the SHA-256 of every text, hex."""
    if not _repeats(column):
        return _hashed_each(column)
    coded = column.dictionary_encode()
    return _hashed_each(coded.dictionary).take(coded.indices)


def _salted(column: Any, nonces: Any) -> Any:
    """Return the SHA-256 of every text behind its nonce, hex; of one that is no nonce, as of a row without."""
    digests = [
        None if text is None else hashlib.sha256(_nonce(nonce) + text).hexdigest()
        for text, nonce in zip(pc.cast(column, pa.binary()).to_pylist(), nonces.to_pylist(), strict=True)
    ]
    return pa.array(digests, pa.string())


def _nonce(text: str | None) -> bytes:
    try:
        return bytes.fromhex(text or "")
    except ValueError:
        return b""


def body_digests(events: pa.Table) -> list[dict[str, str]]:
    """Return of every event the digests with which its bodies enter its leaf, by column; those that are null have none.

    As JSON in the column `body_sha256` they stand for the bodies once these are erased.
    """
    nonces = events[NONCE].combine_chunks() if NONCE in events.column_names else pa.nulls(len(events), pa.string())
    kept = _kept(events)
    names = [name for name in BODIES if name in events.column_names]
    columns = {name: _salted(events[name].combine_chunks(), nonces) for name in names}
    columns |= {name: pc.coalesce(columns[name], kept[name]) for name in names if name in kept}
    rows = zip(*(columns[name].to_pylist() for name in names), strict=True)
    return [{name: digest for name, digest in zip(names, row, strict=True) if digest} for row in rows]


def _repeats(column: Any) -> bool:
    """Say whether values come again, by a look at the first of them."""
    some = column.slice(0, _SAMPLE)
    return len(pc.unique(some)) * 2 < len(some)


def _hashed_each(column: Any) -> Any:
    sha256 = hashlib.sha256
    texts = pc.cast(column.drop_null(), pa.binary()).to_pylist()
    digests = hexlify(b"".join([sha256(text).digest() for text in texts]))
    whole = pa.FixedSizeBinaryArray.from_buffers(pa.binary(64), len(texts), [None, pa.py_buffer(digests)])
    found = pc.cast(pc.cast(whole, pa.binary()), pa.string())
    if not column.null_count:
        return found
    return pc.replace_with_mask(pa.nulls(len(column), pa.string()), column.is_valid(), found)


def _escaped_all(texts: Any) -> Any:
    """Return texts as they stand between the quotation marks of JSON."""
    if not pc.any(pc.match_substring_regex(texts, _SPECIAL)).as_py():
        return texts
    for plain, written in (("\\", "\\\\"), ('"', '\\"')):
        texts = pc.replace_substring(texts, plain, written)
    if pc.any(pc.match_substring_regex(texts, r"[\x00-\x1f]")).as_py():
        for plain, written in _CONTROLS:
            texts = pc.replace_substring(texts, plain, written)
    return texts


def _escaped(text: str) -> str:
    return str(_escaped_all(pa.array([text]))[0].as_py())


def _quoted(key: str, texts: Any) -> Any:
    return pc.binary_join_element_wise(f'{key}"', texts, '"', "")


def _joined(key: str, texts: Any) -> Any:
    return pc.binary_join_element_wise(key, texts, "")
