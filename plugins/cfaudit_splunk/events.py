"""Staged events -> the bodies of requests.

Text is joined column by column, so that an event costs a few copies of its bytes and no Python at all; JSON is
neither parsed nor written again but put where it belongs. One event becomes

    {"time":1793491200.063000,"sourcetype":...,"fields":{...},"event":{"event_time":...,...,"event_raw":{...}}}

`fields` holds the columns by which events are counted and told apart; Splunk indexes them. `event` holds the others
that are not null: those of one value first, because searches look for fields only in the beginning of a long event,
then the JSON ones as the values that they are.
"""

from __future__ import annotations

import json
import mmap
from bisect import bisect_right
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from decimal import Decimal
from operator import itemgetter
from pathlib import Path

import pyarrow as pa
import pyarrow.compute as pc

from cfaudit_splunk.config import SplunkConfig

INDEXED = ("event_id", "event_key", "account_id", "fidelity")
"""Columns in `fields`. They are left out of `event`, where searches would find them again and count them double."""

RENAMED = {"source": "cfaudit_source"}
"""Columns whose name Splunk keeps for something else."""

_SAFE = bytes(set(range(0x100)) - {*range(0x20), ord('"'), ord("\\")})
# The backslash first, because the others bring new ones.
_ESCAPES = [("\\", r"\\"), ('"', r"\""), *((chr(code), f"\\u{code:04x}") for code in range(0x20))]
# Composed at a time: enough to make the fixed price of work on columns small, little enough for memory.
_CHUNK_BYTES = 2 << 20
_ENVELOPE_BYTES = 300


@dataclass(frozen=True, slots=True)
class Request:
    """Events that travel together.

    Attributes:
        rows: which rows of the batch.
        body: what to post.
    """

    rows: range
    body: bytes


class EventRequests:
    """The events of a staged batch, turned into requests as they are taken.

    Raises:
        OSError: the staged file is gone or unreadable.
        pa.ArrowInvalid: it was cut short.
    """

    def __init__(self, path: Path, config: SplunkConfig) -> None:
        with path.open("rb") as file:
            self._mapped = mmap.mmap(file.fileno(), 0, access=mmap.ACCESS_READ)
        self._table = pa.ipc.open_file(pa.py_buffer(self._mapped)).read_all()
        self._config = config
        self._envelope = _envelope(config)
        self._pack = packer(gzip=config.gzip)
        bytes_per_row = len(self._mapped) // max(1, self._table.num_rows) + _ENVELOPE_BYTES
        self._chunk_rows = 1 + _CHUNK_BYTES // bytes_per_row

    def event_id(self, row: int) -> str:
        """Return the identity of an event."""
        return str(self._table["event_id"][row])

    def requests(self, rows: range) -> Iterator[Request]:
        """Yield the rows as requests, each as full as the limits allow; an event beyond them goes alone.

        The same rows are always cut the same way.
        """
        start, begun = rows.start, b""  # the first row of the next request, and what is composed of it
        for chunk in self._chunks(rows):
            ends, text = self._composed(chunk)
            first = 0
            while (last := self._fitting(ends, first, len(begun), chunk.start + first - start)) < len(chunk):
                yield Request(range(start, chunk.start + last), self._packed(begun, text[ends[first] : ends[last]]))
                start, begun, first = chunk.start + last, b"", last
            begun += text[ends[first] :]
        if begun:
            yield Request(range(start, rows.stop), self._packed(begun))

    def _fitting(self, ends: memoryview, first: int, begun_bytes: int, begun_events: int) -> int:
        """Return up to where events fit into a request that is begun; at least one fits into one that is not."""
        by_bytes = bisect_right(ends, ends[first] + self._config.max_bytes - begun_bytes) - 1
        return max(min(by_bytes, first + self._config.max_events - begun_events), first + (not begun_events))

    def _chunks(self, rows: range) -> Iterator[range]:
        for start in range(rows.start, rows.stop, self._chunk_rows):
            yield range(start, min(start + self._chunk_rows, rows.stop))
            # What was read stays in the page cache but no longer counts as ours.
            self._mapped.madvise(mmap.MADV_DONTNEED)

    def _packed(self, *texts: bytes | memoryview) -> bytes:
        return self._pack(texts[-1] if not texts[0] else b"".join(texts))

    def _composed(self, rows: range) -> tuple[memoryview, memoryview]:
        """Return where each event begins and the last one ends, and the text of all of them."""
        events = self._table.slice(rows.start, len(rows)).combine_chunks()
        composed = compose(events, self._envelope, leave_out=() if self._config.event_raw else ("event_raw",))
        _, offsets, text = composed.buffers()
        return memoryview(offsets).cast("i")[: len(rows) + 1], memoryview(text)


def compose(events: pa.Table, envelope: str, leave_out: tuple[str, ...] = ()) -> pa.StringArray:
    """Return one HEC object for each event.

    Args:
        events: columns of the schema, one chunk each.
        envelope: further members of every object, each with a comma before it.
        leave_out: columns not to send.
    """
    times = events["event_time"].combine_chunks()
    pieces: list[str | pa.Array] = ['{"time":', _seconds(times), envelope, ',"fields":{']
    for name in INDEXED:
        pieces += ["" if name == INDEXED[0] else ",", f'"{name}":"', _escaped(events[name].combine_chunks()), '"']
    pieces += ['},"event":{"event_time":"', _iso(times), '"']
    for name, is_json in _order(events.schema):
        column = events[name].combine_chunks()
        if name not in leave_out and column.null_count < len(column):
            pieces += _member(RENAMED.get(name, name), column, is_json=is_json)
    pieces.append("}}")
    # A null is a member that an event does not have.
    return pc.binary_join_element_wise(*_merged(pieces), "", null_handling="skip")


def _order(columns: pa.Schema) -> list[tuple[str, bool]]:
    """Return the names of the columns of `event` in their order, with whether they hold JSON."""
    named = [(field.name, (field.metadata or {}).get(b"kind") == b"json") for field in columns]
    return sorted((one for one in named if one[0] not in (*INDEXED, "event_time")), key=itemgetter(1))


def _member(name: str, column: pa.Array, *, is_json: bool) -> list[str | pa.Array]:
    """Return a member with a comma before it; null where the column is."""
    quote = '"'
    if pa.types.is_timestamp(column.type):
        text = _iso(column)
    elif pa.types.is_string(column.type) and not is_json:
        text = _escaped(column)
    else:
        text, quote = column.cast(pa.string()), ""
    before, after = f',"{name}":{quote}', quote
    return [_joined(before, text, after)] if text.null_count else [before, text, after]


def _merged(pieces: list[str | pa.Array]) -> list[str | pa.Array]:
    """Return the pieces with neighbouring constants as one: each piece costs time for every event."""
    merged: list[str | pa.Array] = []
    for piece in pieces:
        if isinstance(piece, str) and merged and isinstance(merged[-1], str):
            merged[-1] += piece
        else:
            merged.append(piece)
    return merged


def _joined(*texts: str | pa.Array) -> pa.Array:
    return pc.binary_join_element_wise(*texts, "")


def _envelope(config: SplunkConfig) -> str:
    values = {"host": config.host, "source": config.source, "sourcetype": config.sourcetype, "index": config.index}
    return "".join(f',"{name}":{json.dumps(value)}' for name, value in values.items() if value)


# -- values ---------------------------------------------------------------------------------------


def _seconds(times: pa.Array) -> pa.Array:
    """Return seconds since the epoch with six decimals; decimal numbers throughout, so that nothing is rounded."""
    return _millionths(times.cast(pa.int64()))


def _millionths(numbers: pa.Array) -> pa.Array:
    return pc.multiply(numbers.cast(pa.decimal128(19, 0)), pa.scalar(Decimal("0.000001"))).cast(pa.string())


def _iso(times: pa.Array) -> pa.Array:
    """Return `2026-11-01T00:00:05.063000Z`, each minute written once: dates cost much more than copies of them."""
    times = times.cast(pa.timestamp("us"))
    minutes = pc.floor_temporal(times, unit="minute")
    rest = _millionths(pc.add(pc.subtract(times, minutes).cast(pa.int64()), 100_000_000))
    coded = pc.dictionary_encode(minutes)
    written = pc.replace_substring(pc.utf8_slice_codeunits(coded.dictionary.cast(pa.string()), 0, 17), " ", "T")
    # The rest reads 105.063000; the leading 1 was added for the leading 0.
    return _joined(written.take(coded.indices), pc.utf8_slice_codeunits(rest, 1), "Z")


def _escaped(texts: pa.Array) -> pa.Array:
    """Return texts as they stand between the quotes of JSON (RFC 8259, section 7)."""
    found = _bytes(texts).translate(None, _SAFE)
    if found:  # rarely, and there are many escapes to look for
        for character, escape in _ESCAPES:
            if ord(character) in found:
                texts = pc.replace_substring(texts, character, escape)
    return texts


def _bytes(texts: pa.Array) -> bytes:
    _, offsets, data = texts.buffers()
    if data is None:
        return b""
    ends = memoryview(offsets).cast("i")
    return bytes(memoryview(data)[ends[texts.offset] : ends[texts.offset + len(texts)]])


# -- bodies ---------------------------------------------------------------------------------------


def packer(*, gzip: bool) -> Callable[[bytes | memoryview], bytes]:
    """Return what makes a body of text: gzip by ISA-L where it is installed, which takes a sixth of zlib's time."""
    if not gzip:
        return bytes
    try:
        from isal import igzip_lib
    except ImportError:
        import zlib

        return lambda text: zlib.compress(text, level=1, wbits=31)
    return lambda text: igzip_lib.compress(text, 2, igzip_lib.COMP_GZIP)
