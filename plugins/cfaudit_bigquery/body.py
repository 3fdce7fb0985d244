"""Staged batch -> the body of a load job: one line of JSON an event, gzipped, made while it is read.

Parquet would be smaller, but a load from Parquet cannot fill JSON columns. In newline-delimited JSON a JSON column
takes any JSON value where it stands. A column that is null is left out.
"""

from __future__ import annotations

import mmap
import zlib
from collections.abc import Collection, Iterable, Iterator
from functools import lru_cache
from pathlib import Path
from typing import Any

import msgspec
import pyarrow as pa
import pyarrow.compute as pc

from cfaudit_bigquery.storable import as_storable

_PIECE_ROWS = 2_000
_PIECE_BYTES = 2 << 20


def json_lines(path: Path, without: Collection[str] = ()) -> Iterator[tuple[list[str], bytes]]:
    """Yield the staged events in their order, some at a time: their ids, and their lines.

    Args:
        path: the staged file.
        without: ids of events to leave out.

    Raises:
        OSError: the file is gone or unreadable.
    """
    with path.open("rb") as file:
        mapped = mmap.mmap(file.fileno(), 0, access=mmap.ACCESS_READ)
    reader = pa.ipc.open_file(pa.py_buffer(mapped))
    left_out = pa.array(list(without), pa.string())
    for index in range(reader.num_record_batches):
        events = reader.get_batch(index)
        # A staged file may be a single record batch, so pieces are cut by size and not by what the file offers.
        step = max(1, min(_PIECE_ROWS, _PIECE_BYTES * events.num_rows // max(1, events.nbytes)))
        for start in range(0, events.num_rows, step):
            piece = events.slice(start, step)
            if without:
                piece = piece.filter(pc.invert(pc.is_in(piece["event_id"], left_out)))
            if piece.num_rows:
                yield piece["event_id"].to_pylist(), _lines(piece)
            # What was read would count as memory of this process until the file ends.
            mapped.madvise(mmap.MADV_DONTNEED)


def events_at(path: Path, without: Collection[str], positions: Collection[int]) -> dict[int, str]:
    """Return the ids of the events whose lines begin at these positions of the body, counted in bytes before gzip.

    A position at which no line begins is left out.
    """
    found: dict[int, str] = {}
    begin = 0
    for ids, lines in json_lines(path, without):
        for position in positions:
            inside = position - begin
            if 0 <= inside < len(lines) and (inside == 0 or lines[inside - 1 : inside] == b"\n"):
                found[position] = ids[lines.count(b"\n", 0, inside)]
        begin += len(lines)
    return found


class Gzipped:
    """A file to read from: the gzip of what an iterator yields, taken from it as it is needed."""

    def __init__(self, pieces: Iterable[bytes]) -> None:
        self._pieces = iter(pieces)
        self._packer = zlib.compressobj(1, zlib.DEFLATED, 31)
        self._ready = bytearray()
        self._position = 0
        self._ended = False

    def read(self, size: int) -> bytes:
        """Return the next `size` bytes, fewer only at the end."""
        while len(self._ready) < size and not self._ended:
            piece = next(self._pieces, None)
            self._ended = piece is None
            self._ready += self._packer.flush() if piece is None else self._packer.compress(piece)
        taken = bytes(self._ready[:size])
        del self._ready[:size]
        self._position += len(taken)
        return taken

    def tell(self) -> int:
        """Return how many bytes were read."""
        return self._position


def _lines(events: pa.RecordBatch) -> bytes:
    names, columns = [], []
    for field, column in zip(events.schema, events.columns, strict=True):
        if column.null_count < len(column):
            names.append(field.name)
            columns.append(_values(field, column))
    row = _row_type(tuple(names))
    return msgspec.json.Encoder().encode_lines(list(map(row, *columns)))


def _values(field: pa.Field, column: pa.Array) -> list[Any]:
    if pa.types.is_timestamp(field.type):
        # Times without a zone become text thirty times as fast as times with one; the zone is UTC in either case.
        column = pc.binary_join_element_wise(column.cast(pa.timestamp("us")).cast(pa.string()), "Z", "")
    if (field.metadata or {}).get(b"kind") == b"json":
        return list(as_storable(column.to_pylist()))
    return list(column.to_pylist())


@lru_cache(maxsize=64)
def _row_type(names: tuple[str, ...]) -> type[msgspec.Struct]:
    return msgspec.defstruct("Row", [(name, Any, None) for name in names], omit_defaults=True, gc=False)
