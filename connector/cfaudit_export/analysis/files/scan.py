"""Files -> their rows, with the columns that are asked for; the checksum of every page is compared.

A folder is read by Arrow. Its client for S3 limits each silence of a store and no exchange, and a file system written
in Python would be called by threads of Arrow for which Python has ended already. So what a question needs of an object
is fetched here, in threads of this program: the footer, then the pages of the columns in those row groups that the
footer does not rule out. Arrow reads them in memory.
"""

from __future__ import annotations

import os
import re
from collections import deque
from collections.abc import Callable, Iterable, Iterator, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from dataclasses import dataclass, field
from itertools import chain
from typing import Any

import pyarrow as pa
import pyarrow.dataset as ds
from pyarrow.fs import LocalFileSystem

from cfaudit_export.analysis.files.location import FoundFile, Location
from cfaudit_export.core.checksums import Footer, read_footer

_THREADS = 16  # they wait for answers
_AHEAD = 8  # objects that are fetched while one is read
_LOADED_BYTES = 32 << 20  # of an object at once
_GAP_BYTES = 128 << 10  # what is fetched in vain, to save an exchange
_WHOLE_BYTES = 256 << 10

Told = Callable[[Exception], None]


@dataclass(frozen=True, slots=True)
class Piece:
    """A file, and what is true of each of its rows."""

    found: FoundFile
    bounds: ds.Expression = field(default_factory=lambda: ds.scalar(True))  # noqa: FBT003  # a value


def rows_of(place: Location, pieces: Iterable[Piece], columns: pa.Schema, failed: Told = lambda _: None) -> ds.Dataset:
    """Return the rows of files.

    Args:
        place: where they are.
        pieces: the files.
        columns: of the rows; what a file does not have is null.
        failed: told what keeps an object from being read; where DuckDB reads, only its words come back.
    """
    if place.filesystem is None:
        return _RemoteRows(place, tuple(pieces), columns, failed)
    return ds.FileSystemDataset(
        [_fragment(one.found.path, one, place.filesystem) for one in pieces], columns, checked_format()
    )


def checked_format() -> ds.ParquetFileFormat:
    """Return the format by which pages are read: the checksum of each is compared, where it has one."""
    return ds.ParquetFileFormat(
        default_fragment_scan_options=ds.ParquetFragmentScanOptions(page_checksum_verification=True)
    )


def paths_by(filter: ds.Expression | None, pieces: Iterable[Piece], columns: pa.Schema) -> set[str]:  # noqa: A002  # the name is pyarrow's
    """Return the paths of the files that a filter does not rule out by what is true of their rows; none is opened."""
    some = [_fragment(one.found.path, one, LocalFileSystem()) for one in pieces]
    return {one.path for one in ds.FileSystemDataset(some, columns, checked_format()).get_fragments(filter)}


def _fragment(source: Any, piece: Piece, filesystem: Any = None) -> Any:
    return checked_format().make_fragment(source, filesystem, partition_expression=piece.bounds)


class _RemoteRows(ds.FileSystemDataset):  # type: ignore[misc]  # pyarrow has no types
    """The rows of objects, as DuckDB and Arrow ask a dataset for them."""

    def __init__(self, place: Location, pieces: Sequence[Piece], columns: pa.Schema, failed: Told) -> None:
        super().__init__([], columns, ds.ParquetFileFormat())
        self._place = place
        self._pieces = pieces
        self._failed = failed

    def scanner(self, columns: list[str] | None = None, filter: Any = None, **_: Any) -> Any:  # noqa: A002  # as above
        """Return what reads the rows that pass a filter."""
        found = paths_by(filter, self._pieces, self.schema)
        pieces = [one for one in self._pieces if one.found.path in found]
        projected = super().scanner(columns=columns, filter=filter).projected_schema
        asked = _Asked(self.schema, columns, filter)
        return _RemoteScan(self._place, pieces, asked, projected, self._failed)


@dataclass(frozen=True, slots=True)
class _Asked:
    """What is asked of each file: which columns, and which rows."""

    schema: pa.Schema
    columns: list[str] | None
    filter: ds.Expression | None

    def batches(self, fragment: Any) -> Iterator[pa.RecordBatch]:
        yield from fragment.to_batches(schema=self.schema, columns=self.columns, filter=self.filter)

    def needs(self, column: str) -> bool:
        """Say whether a column is read: it is wanted, or the filter may ask for it."""
        name = column.partition(".")[0]
        wanted = self.schema.names if self.columns is None else self.columns
        return name in wanted or bool(re.search(rf"\b{re.escape(name)}\b", str(self.filter)))


@dataclass(frozen=True, slots=True)
class _RemoteScan:
    place: Location
    pieces: Sequence[Piece]
    asked: _Asked
    projected: pa.Schema
    failed: Told

    def to_reader(self) -> pa.RecordBatchReader:
        """Return what reads the rows while they are taken."""
        return pa.RecordBatchReader.from_batches(self.projected, self._batches())

    def to_table(self) -> pa.Table:
        """Return the rows."""
        return self.to_reader().read_all()

    def _batches(self) -> Iterator[pa.RecordBatch]:
        threads, waiting = ThreadPoolExecutor(_THREADS), deque[Future[Iterator[Any]]]()
        try:
            for piece in self.pieces:
                waiting.append(threads.submit(self._begun, piece))
                if len(waiting) > _AHEAD:
                    yield from self._rows(waiting.popleft())
            while waiting:
                yield from self._rows(waiting.popleft())
        except Exception as error:
            self.failed(error)
            raise
        finally:
            threads.shutdown(wait=False, cancel_futures=True)

    def _rows(self, loaded: Future[Iterator[Any]]) -> Iterator[pa.RecordBatch]:
        for fragment in loaded.result():
            yield from self.asked.batches(fragment)

    def _begun(self, piece: Piece) -> Iterator[Any]:
        """Return a file in parts, of which the first is there already."""
        parts = self._parts(piece)
        return chain([one for one in [next(parts, None)] if one is not None], parts)

    def _parts(self, piece: Piece) -> Iterator[Any]:
        """Yield the file as fragments that hold so many of its row groups as may be in memory at once."""
        with self.place.open(piece.found) as file:
            if piece.found.bytes <= _WHOLE_BYTES:
                yield _fragment(pa.BufferReader(file.read()), piece)
                return
            footer = read_footer(file)
            pages_end = piece.found.bytes - len(footer.content)
            empty = _fragment(_loaded(file, [], footer), piece)
            left = empty.subset(self.asked.filter, schema=self.asked.schema) if self.asked.filter is not None else empty
            spans = {one.id: self._spans(footer.metadata.row_group(one.id), pages_end) for one in left.row_groups}
            for groups in _some(spans):
                wanted = [span for group in groups for span in spans[group]]
                yield _fragment(_loaded(file, wanted, footer), piece).subset(row_group_ids=groups)

    def _spans(self, group: Any, pages_end: int) -> list[tuple[int, int]]:
        """Return where the pages are that are read of a row group."""
        found = []
        for index in range(group.num_columns):
            column = group.column(index)
            if self.asked.needs(column.path_in_schema):
                first = [column.data_page_offset, *filter(None, [column.dictionary_page_offset])]
                start, stop = min(first), min(first) + column.total_compressed_size
                if not 0 <= start <= stop <= pages_end:
                    raise pa.ArrowInvalid("its footer names pages that are not in the file")
                found.append((start, stop))
        return found


def _some(spans: dict[int, list[tuple[int, int]]]) -> Iterator[list[int]]:
    """Yield row groups, so many at once as are read at once."""
    groups: list[int] = []
    size = 0
    for group, found in spans.items():
        more = sum(stop - start for start, stop in found)
        if groups and size + more > _LOADED_BYTES:
            yield groups
            groups, size = [], 0
        groups.append(group)
        size += more
    if groups:
        yield groups


def _loaded(file: Any, spans: Iterable[tuple[int, int]], footer: Footer) -> pa.BufferReader:
    """Return a file in memory, of which there is only the footer and what was asked for; the rest takes no memory."""
    size = file.seek(0, os.SEEK_END)
    buffer = pa.allocate_buffer(size)
    content = memoryview(buffer).cast("B")
    content[size - len(footer.content) :] = footer.content
    for start, stop in _joined(spans):
        file.seek(start)
        content[start:stop] = file.read(stop - start)
    return pa.BufferReader(buffer)


def _joined(spans: Iterable[tuple[int, int]]) -> list[tuple[int, int]]:
    """Return spans, with what lies near each other in one."""
    joined: list[tuple[int, int]] = []
    for start, stop in sorted(spans):
        if joined and start <= joined[-1][1] + _GAP_BYTES:
            joined[-1] = (joined[-1][0], max(stop, joined[-1][1]))
        else:
            joined.append((start, stop))
    return joined
