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
from cfaudit_export.analysis.files.pages import NoRoomError, chunk_span, require_room
from cfaudit_export.core.checksums import Footer, read_footer

_THREADS = 16  # they wait for answers
_AHEAD = 8  # objects that are fetched while one is read
_LOADED_BYTES = 32 << 20  # of an object at once
_GAP_BYTES = 128 << 10  # what is fetched in vain, to save an exchange
_WHOLE_BYTES = 256 << 10


@dataclass(frozen=True, slots=True)
class FilePiece:
    """A file, and what is true of each of its rows."""

    found: FoundFile
    bounds: ds.Expression = field(default_factory=lambda: ds.scalar(True))  # noqa: FBT003  # a value


def _refuse(found: FoundFile, why: str) -> None:
    raise pa.ArrowInvalid(f"'{found.name}': {why}")


@dataclass(frozen=True, slots=True)
class Reading:
    """How rows are read.

    Attributes:
        group_bytes: what the columns that are read may take of a row group, once they are decoded.
        skip: told of a file that would take more, and why; it has no rows then. By default that is an error.
        failed: told what keeps a file from being read, as of what happens while DuckDB reads only words come back.
    """

    group_bytes: int
    skip: Callable[[FoundFile, str], None] = _refuse
    failed: Callable[[Exception], None] = lambda _: None


def rows_of(place: Location, pieces: Iterable[FilePiece], columns: pa.Schema, reading: Reading) -> ds.Dataset:
    """Return the rows of files: with these columns; what a file does not have is null."""
    return _Rows(place, tuple(pieces), columns, reading)


def checked_format() -> ds.ParquetFileFormat:
    """Return the format by which pages are read: the checksum of each is compared, where it has one."""
    return ds.ParquetFileFormat(
        default_fragment_scan_options=ds.ParquetFragmentScanOptions(page_checksum_verification=True)
    )


def paths_by(filter: ds.Expression | None, pieces: Iterable[FilePiece], columns: pa.Schema) -> set[str]:  # noqa: A002  # the name is pyarrow's
    """Return the paths of the files that a filter does not rule out by what is true of their rows; none is opened."""
    some = [_fragment(one.found.path, one, LocalFileSystem()) for one in pieces]
    return {one.path for one in ds.FileSystemDataset(some, columns, checked_format()).get_fragments(filter)}


def _fragment(source: Any, piece: FilePiece, filesystem: Any = None) -> Any:
    return checked_format().make_fragment(source, filesystem, partition_expression=piece.bounds)


class _Rows(ds.FileSystemDataset):  # type: ignore[misc]  # pyarrow has no types
    """The rows of files, as DuckDB and Arrow ask a dataset for them."""

    def __init__(self, place: Location, pieces: Sequence[FilePiece], columns: pa.Schema, reading: Reading) -> None:
        super().__init__([], columns, ds.ParquetFileFormat())
        self._place = place
        self._pieces = pieces
        self._reading = reading

    def scanner(self, columns: list[str] | None = None, filter: Any = None, **options: Any) -> Any:  # noqa: A002  # as above
        """Return what reads the rows that pass a filter."""
        found = paths_by(filter, self._pieces, self.schema)
        pieces = [one for one in self._pieces if one.found.path in found]
        asked = _asked(self.schema, columns, filter)
        if self._place.filesystem is None:
            projected = super().scanner(columns=columns, filter=filter).projected_schema
            return _RemoteScan(self._place, pieces, asked, projected, self._reading)
        fitting = [one for one in pieces if self._fits(one, asked)]
        fragments = [_fragment(one.found.path, one, self._place.filesystem) for one in fitting]
        dataset = ds.FileSystemDataset(fragments, self.schema, checked_format())
        return dataset.scanner(columns=columns, filter=filter, **options)

    def _fits(self, piece: FilePiece, asked: _Asked) -> bool:
        with self._place.open(piece.found) as file:
            try:
                metadata = read_footer(file).metadata
                require_room(file, metadata, range(metadata.num_row_groups), asked.needs, self._reading.group_bytes)
            except NoRoomError as error:
                self._reading.skip(piece.found, str(error))
                return False
        return True


@dataclass(frozen=True, slots=True)
class _Asked:
    """What is asked of each file: which columns, and which rows. `read` are the columns that this takes."""

    schema: pa.Schema
    columns: list[str] | None
    filter: ds.Expression | None
    read: frozenset[str]

    def batches(self, fragment: Any) -> Iterator[pa.RecordBatch]:
        yield from fragment.to_batches(schema=self.schema, columns=self.columns, filter=self.filter)

    def needs(self, path: str) -> bool:
        """Say whether a column is read."""
        return path.partition(".")[0] in self.read


def _asked(schema: pa.Schema, columns: list[str] | None, filter: ds.Expression | None) -> _Asked:  # noqa: A002  # as above
    if columns is None:
        return _Asked(schema, columns, filter, frozenset(schema.names))
    words = set(re.findall(r"\w+", str(filter)))  # an expression does not say which columns it asks for
    return _Asked(schema, columns, filter, frozenset({*columns, *words & {*schema.names}}))


@dataclass(frozen=True, slots=True)
class _RemoteScan:
    place: Location
    pieces: Sequence[FilePiece]
    asked: _Asked
    projected: pa.Schema
    reading: Reading

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
            self.reading.failed(error)
            raise
        finally:
            threads.shutdown(wait=False, cancel_futures=True)

    def _rows(self, loaded: Future[Iterator[Any]]) -> Iterator[pa.RecordBatch]:
        for fragment in loaded.result():
            yield from self.asked.batches(fragment)

    def _begun(self, piece: FilePiece) -> Iterator[Any]:
        """Return a file in parts, of which the first is there already."""
        parts = self._parts(piece)
        try:
            return chain([one for one in [next(parts, None)] if one is not None], parts)
        except NoRoomError as error:
            self.reading.skip(piece.found, str(error))
            return iter(())

    def _parts(self, piece: FilePiece) -> Iterator[Any]:
        """Yield the file as fragments that hold so many of its row groups as may be in memory at once."""
        size, most = piece.found.bytes, self.reading.group_bytes
        with self.place.open(piece.found) as file:
            if size <= _WHOLE_BYTES:
                source = pa.BufferReader(file.read())
                metadata = read_footer(source).metadata
                require_room(source, metadata, range(metadata.num_row_groups), self.asked.needs, most)
                yield _fragment(source, piece)
                return
            footer = read_footer(file)
            left = _fragment(_loaded(file, [], footer), piece)
            if self.asked.filter is not None:
                left = left.subset(self.asked.filter, schema=self.asked.schema)
            spans = {one.id: self._spans(footer.metadata.row_group(one.id), size) for one in left.row_groups}
            for groups in _some(spans):
                source = _loaded(file, [span for group in groups for span in spans[group]], footer)
                require_room(source, footer.metadata, groups, self.asked.needs, most)
                yield _fragment(source, piece).subset(row_group_ids=groups)

    def _spans(self, group: Any, size: int) -> list[tuple[int, int]]:
        """Return where the pages are that are read of a row group."""
        chunks = (group.column(index) for index in range(group.num_columns))
        return [chunk_span(one, size) for one in chunks if self.asked.needs(one.path_in_schema)]


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
