"""A file -> the same file without what is erased: its rows and their order, its notes and its other values stay."""

from __future__ import annotations

import io
import json
from collections import defaultdict
from collections.abc import Iterator
from dataclasses import dataclass, field

import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.parquet as pq

from cfaudit_export.analysis.removal.person import Person, erased_columns, find_person, others_in
from cfaudit_export.core.checksums import read_footer
from cfaudit_export.parquet import notes_of, write_parquet
from cfaudit_export.proof.manifest import BatchPart, ErasedEntry
from cfaudit_export.proof.rows import BODIES, KEPT, NONCE, body_digests, leaves, rows_sha256

_BATCH = "batch_id"


@dataclass(slots=True)
class Rewritten:
    """A file without what was erased.

    Attributes:
        content: its bytes, empty where none were made.
        bytes: how many these are.
        sha256: their SHA-256, hex.
        erased: the events of which something was.
        parts: of each batch, how many rows it has, and their digest where digests are wanted.
        others: what else those who did these events are called.
        kept: how often a column that is never null names the person.
    """

    content: bytes = b""
    bytes: int = 0
    sha256: str = ""
    erased: list[ErasedEntry] = field(default_factory=list)
    parts: tuple[BatchPart, ...] = ()
    others: set[str] = field(default_factory=set)
    kept: int = 0


def rewritten(content: bytes, person: Person, only: str | None, *, write: bool, with_rows: bool) -> Rewritten | None:
    """Return a file without what names a person; None where nothing does.

    Args:
        content: the file.
        person: who is erased.
        only: the batch of all its rows, where it has no column that says so.
        write: whether to make the new file; else it is only counted.
        with_rows: whether to make digests of rows.

    Raises:
        pa.ArrowException: the file cannot be read.
    """
    found = Rewritten()
    file = pq.ParquetFile(pa.BufferReader(content), page_checksum_verification=True)
    counts: dict[str, int] = defaultdict(int)
    digests: dict[str, list[bytes]] = defaultdict(list)

    def groups() -> Iterator[pa.Table]:
        for number in range(file.num_row_groups):
            before = file.read_row_group(number).replace_schema_metadata(None)
            after = _without(before, person, only, found)
            for id_, rows in _by_batch(after, only):
                counts[id_] += len(rows)
                digests[id_] += leaves(rows) if with_rows and write else []
            yield after

    if not write:
        for _ in groups():
            pass
        return found if found.erased or found.kept else None
    schema = file.schema_arrow.remove_metadata()
    if schema.get_field_index(KEPT) < 0:
        schema = schema.append(pa.field(KEPT, pa.string()))
    notes = notes_of(read_footer(io.BytesIO(content)).metadata)
    target = io.BytesIO()
    written = write_parquet(target, schema, (one.cast(schema) for one in groups()), notes)
    if not found.erased:
        return found if found.kept else None
    found.content, found.bytes, found.sha256 = target.getvalue(), written.bytes, written.sha256
    found.parts = tuple(
        BatchPart(id_, count, rows_sha256(digests[id_]) if with_rows else None) for id_, count in sorted(counts.items())
    )
    return found


def _without(events: pa.Table, person: Person, only: str | None, found: Rewritten) -> pa.Table:
    """Return rows without what names a person, and note what that was."""
    named = find_person(events, person)
    found.kept += sum(named.kept.values())
    kept = events[KEPT].combine_chunks() if KEPT in events.column_names else pa.nulls(len(events), pa.string())
    if not named.count:
        return events if KEPT in events.column_names else events.append_column(KEPT, kept)
    found.others |= others_in(events, named)
    at = pc.indices_nonzero(named.rows).to_pylist()
    rows, columns = events.take(at), erased_columns(named, at)
    has_nonce = rows[NONCE].is_valid().to_pylist() if NONCE in rows.column_names else [False] * len(at)
    before, bodies = leaves(rows), body_digests(rows)
    stay: list[str | None] = kept.to_pylist()
    for place, (row, names, salted, leaf, digests, id_) in enumerate(
        zip(at, columns, has_nonce, before, bodies, rows["event_id"].to_pylist(), strict=True)
    ):
        batch = only if only is not None else rows[_BATCH][place].as_py()
        found.erased.append(ErasedEntry(id_, batch or "", names, leaf.hex() if salted else None))
        # With the digests of its bodies, and all else of the row, what was erased beside them could be guessed.
        stay[row] = json.dumps(digests, separators=(",", ":")) if salted and set(names) <= {*BODIES} else None
    for name, mask in named.erased.items():
        events = _set(events, name, pc.if_else(mask, pa.scalar(None, events[name].type), events[name].combine_chunks()))
    if NONCE in events.column_names:
        events = _set(
            events, NONCE, pc.if_else(named.rows, pa.scalar(None, pa.string()), events[NONCE].combine_chunks())
        )
    texts = pa.array(stay, pa.string())
    return _set(events, KEPT, texts) if KEPT in events.column_names else events.append_column(KEPT, texts)


def _set(events: pa.Table, name: str, column: pa.Array) -> pa.Table:
    return events.set_column(events.column_names.index(name), events.schema.field(name), column)


def _by_batch(events: pa.Table, only: str | None) -> Iterator[tuple[str, pa.Table]]:
    if only is not None or _BATCH not in events.column_names:
        yield only or "", events
        return
    for id_ in pc.unique(events[_BATCH]).to_pylist():
        mask = pc.is_null(events[_BATCH]) if id_ is None else pc.equal(events[_BATCH], id_)
        yield id_ or "", events.filter(mask)
