"""Staged batch -> Parquet: the UTC days a batch holds, its events day by day, the bytes of one file.

The format serves many readers at little CPU. Zstandard's level 1 is faster than level 3 and, on audit events, no
larger. A dictionary is used where values repeat; ids and JSON would only fill one in vain. Ids and times have delta
encodings, which cost less and are smaller. There are no statistics where no reader could skip anything by them.
"""

from __future__ import annotations

import hashlib
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass
from itertools import groupby
from operator import itemgetter
from typing import IO, Any, Self

import msgspec
import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.parquet as pq

from cfaudit_export import Batch, read_batch
from cfaudit_export.core.checksums import FOOTER_NOTE, ChecksumWriter, read_footer
from cfaudit_export.core.disk import require_file

MERGED_PREFIX = "merged-"
"""How the names of files begin that `compact` made of others."""

MERGED_NOTE = "cfaudit_merged"
"""Where such a file says what it was made of; `merged_files` reads it."""

_GROUP_ROWS = 50_000
_GROUP_BYTES = 32 << 20

# Columns whose values hardly repeat, and those of them that let no reader skip a part of a file.
_LONG = frozenset({"resource_request", "resource_response", "resource_value", "event_raw", "event_key", "body_nonce"})
_DISTINCT = _LONG | {"event_id", "event_time", "resource_id", "raw_cf_ray_id", "raw_uri", "replaces"}
_DELTAS = {
    "event_id": "DELTA_LENGTH_BYTE_ARRAY",
    "event_key": "DELTA_LENGTH_BYTE_ARRAY",
    "event_time": "DELTA_BINARY_PACKED",
}


class StagedEvents:
    """The events of a staged batch, ascending by time, read as they are taken. A context manager.

    A batch arrives ascending; one that does not is sorted in memory, because a day's file must be in order and its
    events must be of that day.

    Attributes:
        schema: the schema of the staged file.
        days: how many events each UTC day has, by `YYYY-MM-DD`, ascending.
    """

    def __init__(self, path: str) -> None:
        times = _times(path)
        self._file = pa.OSFile(path)
        reader = pa.ipc.open_file(self._file)
        self.schema: pa.Schema = reader.schema
        if _ascending(times):
            self._batches = (reader.get_batch(index) for index in range(reader.num_record_batches))
        else:
            events = reader.read_all().sort_by("event_time")
            times = events["event_time"].combine_chunks()
            self._batches = iter(events.to_batches())
        self.days = _rows_by_day(times)
        # A row group is held in memory until it is written, so that large events make smaller groups.
        self._group_rows = max(1, min(_GROUP_ROWS, _GROUP_BYTES * len(times) // self._file.size()))

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self._file.close()

    def by_day(self) -> Iterator[tuple[str, Iterator[pa.Table]]]:
        """Yield each day with its events as tables of a row group each; take them in order, and only once."""
        for day, pieces in groupby(self._cut(), key=itemgetter(0)):
            yield day, self._grouped(piece for _, piece in pieces)

    def _cut(self) -> Iterator[tuple[str, pa.RecordBatch]]:
        days = iter(self.days.items())
        day, missing = next(days)
        for batch in self._batches:
            rest = batch
            while rest.num_rows:
                if not missing:
                    day, missing = next(days)
                piece = rest.slice(0, missing)
                yield day, piece
                missing -= piece.num_rows
                rest = rest.slice(piece.num_rows)

    def _grouped(self, pieces: Iterable[pa.RecordBatch]) -> Iterator[pa.Table]:
        group: list[pa.RecordBatch] = []
        rows = 0
        for piece in pieces:
            group.append(piece)
            rows += piece.num_rows
            if rows >= self._group_rows:
                yield pa.Table.from_batches(group)
                group, rows = [], 0
        if group:
            yield pa.Table.from_batches(group)


def ids_by_day(batch: Batch) -> dict[str, list[str]]:
    """Return for each UTC day of a batch, by `YYYY-MM-DD`, the ids of its events, sorted."""
    events = read_batch(batch).select(["event_id", "event_time"])
    days = events["event_time"].cast(pa.date32())
    return {
        day.isoformat(): sorted(events["event_id"].filter(pc.equal(days, pa.scalar(day, pa.date32()))).to_pylist())
        for day in sorted(pc.unique(days).to_pylist())
    }


def digest_of(ids: Iterable[str]) -> str:
    """Return the SHA-256 over sorted ids of events, hex: what a file holds, in a few bytes.

    Over the ids and nothing else: who reads the same events again reads them at another time, and perhaps knows more
    of them, and the file that is there already still has every one of them exactly once.
    """
    digest, between = hashlib.sha256(), b""
    for one in ids:
        digest.update(between + one.encode())
        between = b"\n"
    return digest.hexdigest()


@dataclass(frozen=True, slots=True)
class Written:
    """What was written into a file: how many bytes, and their SHA-256, hex."""

    bytes: int
    sha256: str


def write_parquet(file: IO[bytes], schema: pa.Schema, groups: Iterable[pa.Table], notes: Mapping[str, str]) -> Written:
    """Write tables as one Parquet file of at least as many row groups, with `notes` as its key-value metadata.

    The Arrow schema is left out of the file: every reader knows the types without it, and it would be most of a small
    file. Each page has a checksum, and `checksums` adds a digest of the footer.
    """
    checked = ChecksumWriter(file)
    with pq.ParquetWriter(
        checked,
        schema,
        compression="zstd",
        compression_level=1,
        use_dictionary=[name for name in schema.names if name not in _DISTINCT],
        write_statistics=[name for name in schema.names if name not in _LONG],
        column_encoding=_DELTAS,
        write_page_index=True,
        write_page_checksum=True,
        sorting_columns=[pq.SortingColumn(schema.get_field_index("event_time"))],
        store_schema=False,
    ) as writer:
        for group in groups:
            writer.write_table(group, row_group_size=_GROUP_ROWS)
            del group  # it would stay in memory while the next one is read
        writer.add_key_value_metadata({**notes, **checked.notes()})
    checked.finish()
    return Written(checked.size, checked.sha256)


def read_notes(path: str) -> dict[str, str]:
    """Read the key-value metadata of a Parquet file, compared with its digest where it has one.

    Raises:
        OSError: it cannot be read.
        pa.ArrowInvalid: it is not a Parquet file, or it is damaged.
    """
    require_file(path)
    with pa.OSFile(path) as file:
        return notes_of(read_footer(file).metadata)


def notes_of(metadata: pq.FileMetaData) -> dict[str, str]:
    """Return the key-value metadata of a footer, without the digest of `checksums`.

    Raises:
        pa.ArrowInvalid: a key or a value is not UTF-8.
    """
    try:
        notes = {key.decode(): value.decode() for key, value in (metadata.metadata or {}).items()}
    except UnicodeDecodeError:
        raise pa.ArrowInvalid("its notes are not UTF-8") from None
    return {key: value for key, value in notes.items() if key != FOOTER_NOTE}


def read_ids(path: str) -> list[str]:
    """Read the ids of the events of a Parquet file, sorted; its pages are compared with their checksums.

    Raises:
        OSError: it cannot be read, or is damaged.
        pa.ArrowException: it is not a Parquet file, or has no ids.
    """
    require_file(path)
    with pq.ParquetFile(path, page_checksum_verification=True) as file:
        return sorted(file.read(["event_id"])["event_id"].to_pylist())


def merged_files(notes: Mapping[str, str]) -> dict[str, dict[str, str]]:
    """Return the names of the files of the same folder that a file stands for, and what the sink needs of their notes.

    Beside those notes, `rows` says how many rows such a file has, and `footer_sha256` the digest of its footer. Until
    they are removed, both are there, and a reader of such a file skips the others when it has seen that their
    rows are in it. {} for any other file.

    Raises:
        pa.ArrowInvalid: the note is none.
    """
    try:
        return msgspec.json.decode(notes.get(MERGED_NOTE, "{}"), type=dict[str, dict[str, str]])
    except ValueError as error:
        raise pa.ArrowInvalid(f"its note of merged files cannot be read: {error}") from error


def _times(path: str) -> pa.Array:
    require_file(path)
    # Mapped, so that nothing but this one column is ever read.
    with pa.memory_map(path) as file:
        return pa.ipc.open_file(file).read_all()["event_time"].combine_chunks()


def _ascending(times: pa.Array) -> bool:
    earlier, later = times.slice(0, len(times) - 1), times.slice(1)
    answer: Any = pc.all(pc.less_equal(earlier, later)).as_py()
    return answer is not False  # None for a single event


def _rows_by_day(times: pa.Array) -> dict[str, int]:
    runs = pc.run_end_encode(times.cast(pa.date32()))
    ends = runs.run_ends.to_pylist()
    starts = [0, *ends]
    days = (day.isoformat() for day in runs.values.to_pylist())
    return {day: end - start for day, start, end in zip(days, starts, ends, strict=False)}
