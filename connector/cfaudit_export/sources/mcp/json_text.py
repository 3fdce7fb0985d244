"""Texts of JSON as received -> what strict decoders take, and columns of them without a Python object for each."""

from __future__ import annotations

import re
from collections.abc import Iterable, Sequence
from itertools import accumulate

import msgspec
import pyarrow as pa
import pyarrow.compute as pc

_SURROGATE = re.compile(rb"\\u[dD](?:([89abAB])|[c-fC-F])[0-9a-fA-F]{2}")
_REPLACEMENT = rb"\ufffd"
_BACKSLASH = ord("\\")


def cover_surrogates(body: bytes) -> bytes:
    """Return the body with U+FFFD in place of every surrogate that is not half of a pair; of the same length.

    JSON allows such halves as escapes (RFC 8259, section 8.2), UTF-8 does not. A body without any is returned as it is.
    """
    places = lone_surrogates(body)
    if not places:
        return body
    covered = bytearray(body)
    cover(covered, places)
    return bytes(covered)


def lone_surrogates(body: bytes | bytearray) -> list[int]:
    """Return where the escapes of such halves begin."""
    places, end = [], 0
    for found in _SURROGATE.finditer(body):
        at = found.start()
        if at < end or _is_escaped(body, at):
            continue
        end = found.end()
        if found[1]:
            low = _SURROGATE.match(body, end)
            if low and not low[1]:
                end = low.end()
                continue
        places.append(at)
    return places


def cover(body: bytearray, places: Iterable[int]) -> None:
    """Put U+FFFD there."""
    for at in places:
        body[at : at + len(_REPLACEMENT)] = _REPLACEMENT


def column_of(texts: Sequence[bytes | msgspec.Raw]) -> pa.Array:
    """Return texts in UTF-8 as a column: one buffer, one copy."""
    return _cut(b"".join(texts), accumulate(map(len, texts), initial=0))


def originals(body: bytes, covered: bytes, texts: Sequence[bytes | msgspec.Raw], start: int) -> pa.Array | None:
    """Return as a column the texts of `body` that stand where `texts` stand in `covered`, which is of the same length.

    None when there is more than a comma between them, from `start` on, so that they stand elsewhere.
    """
    together = b",".join(texts)
    if not covered.startswith(together, start):
        return None
    with_commas = accumulate((len(text) + 1 for text in texts), initial=0)
    return pc.utf8_rtrim(_cut(body[start : start + len(together)] + b",", with_commas), characters=",")


def _cut(values: bytes, ends: Iterable[int]) -> pa.Array:
    offsets = pa.array(list(ends), pa.int32())
    return pa.StringArray.from_buffers(len(offsets) - 1, offsets.buffers()[1], pa.py_buffer(values))


def _is_escaped(body: bytes | bytearray, at: int) -> bool:
    """Say whether the backslash there is itself what another one stands before."""
    start = at
    while start and body[start - 1] == _BACKSLASH:
        start -= 1
    return (at - start) % 2 == 1
