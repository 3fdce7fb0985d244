"""Rows -> whether those of each batch are the ones that were exported, and whether no event is there twice.

Rows are read once. Their leaves are kept until a batch has all its rows, their ids in DuckDB, which has limits and may
use the disk.
"""

from __future__ import annotations

from collections import Counter, defaultdict
from collections.abc import Collection, Iterable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, field
from typing import Any

import pyarrow as pa
import pyarrow.compute as pc

from cfaudit_export.analysis.files.engine import Limits, open_engine
from cfaudit_export.analysis.files.location import FoundFile, Location
from cfaudit_export.analysis.files.scan import FilePiece, Reading, rows_of
from cfaudit_export.analysis.verify.expected import ExpectedFiles, KnownBatch, KnownFile
from cfaudit_export.analysis.verify.findings import Finding, incomplete, invalid, note
from cfaudit_export.core.checksums import read_footer
from cfaudit_export.core.escape import escaped
from cfaudit_export.core.model import Stream
from cfaudit_export.proof.rows import ids_sha256, leaves, rows_sha256

_AT_ONCE = 16_384
_AHEAD = 2
_LEAF_BYTES = 32
_MOST_DOUBLES = 1_000
_BATCH = "batch_id"
_BODY = "event_raw"  # which every event has but a shadow
_DOUBLES = """
    SELECT event_id, list_sort(list(DISTINCT file)), count(*) FROM ids
    GROUP BY stream, event_id HAVING count(*) > 1 ORDER BY event_id
"""


@dataclass(slots=True)
class CheckedRows:
    """What was found.

    Attributes:
        events: how many were read.
        findings: what is wrong.
        shaken: ids of the batches whose rows are not those that were exported.
    """

    events: int = 0
    findings: list[Finding] = field(default_factory=list)
    shaken: set[str] = field(default_factory=set)


def check_files_rows(
    place: Location, valid: Collection[tuple[KnownFile, FoundFile]], expected: ExpectedFiles, limits: Limits
) -> CheckedRows:
    """Compare the rows of files, whose bytes were compared before, with what manifests say of their batches.

    Raises:
        OSError: a file cannot be read.
        SettingsError: DuckDB is not installed.
    """
    read = {known.file.name for known, _ in valid}
    partial = {id_ for name, known in expected.files.items() if name not in read for id_ in known.batches}
    held = {id_ for known, _ in valid for id_ in known.batches}
    whole = {id_: expected.batches[id_] for id_ in held - partial if id_ in expected.batches}
    with _opened(whole, limits) as rows:
        for known, found in valid:
            stream = next((expected.batches[id_].stream for id_ in known.batches if id_ in expected.batches), None)
            try:
                for table in _tables(place, found, limits):
                    rows.add(table, stream, known.file.name, known.only)
            except (pa.ArrowException, OSError) as error:
                if isinstance(error, OSError) and error.errno is not None:
                    raise  # the place, not the file
                why = f"its rows cannot be read ({escaped(str(error).partition(chr(10))[0], 80)})"
                rows.checked.findings.append(invalid("file", known.file.name, why))
        return rows.finish()


def check_extract(
    tables: Iterable[tuple[str, pa.Table]], batches: Mapping[str, KnownBatch], known: Collection[str], limits: Limits
) -> CheckedRows:
    """Compare rows that were taken out of a warehouse with what manifests say of their batches.

    Args:
        tables: the rows, each table with the name of its file; the column `batch_id` says of which batch they are.
        batches: those of which every row is to be there.
        known: ids of all batches that a manifest names.
        limits: what may be used of the machine.

    Raises:
        SettingsError: DuckDB is not installed.
    """
    has_bodies = False
    with _opened(batches, limits, ids_too=True) as rows:
        for name, table in tables:
            has_bodies |= _BODY in table.column_names and table[_BODY].null_count < table.num_rows
            rows.add(table, None, name, None)
        checked = rows.finish(ids_only=not has_bodies)
        for id_, count in rows.counts.items():
            if not id_:
                what = f"{count:,} rows name no batch: they are of before the chain, or were added"
                checked.findings.append(incomplete("event", what))
            elif id_ not in known:
                checked.findings.append(invalid("batch", f"Batch {escaped(id_, 80)}", "no manifest names it"))
    if not has_bodies:
        what = f"Only the ids of events were compared: the rows do not have the text of {_BODY} as it was exported"
        checked.findings.append(note("batch", what))
    return checked


class _Rows:
    """Gathers leaves and ids of rows, batch by batch; those of a batch go when it is whole."""

    def __init__(self, batches: Mapping[str, KnownBatch], connection: Any, *, ids_too: bool) -> None:
        self.checked = CheckedRows()
        self.counts: Counter[str] = Counter()
        self._batches = batches
        self._ids_too = ids_too
        self._connection = connection
        self._leaves: defaultdict[str, bytearray] = defaultdict(bytearray)
        self._ids: defaultdict[str, list[str]] = defaultdict(list)
        self._digests: dict[str, tuple[str, str]] = {}
        self._streams: dict[Stream | None, int] = {}
        self._files: list[str] = []
        connection.execute("CREATE TABLE ids (stream INTEGER, file INTEGER, event_id VARCHAR)")

    def add(self, table: pa.Table, stream: Stream | None, file: str, only: str | None) -> None:
        """Take rows of a file; `only` is the batch of all of them, where it is known."""
        if not self._files or self._files[-1] != file:
            self._files.append(file)
        self._keep(table, self._streams.setdefault(stream, len(self._streams)))
        if only is not None:
            self._take(only, table)
            return
        owners = table[_BATCH] if _BATCH in table.column_names else pa.nulls(len(table), pa.string())
        owners = pc.fill_null(owners, "")
        for owner in pc.unique(owners).to_pylist():
            self._take(owner, table.filter(pc.equal(owners, owner)))

    def finish(self, *, ids_only: bool = False) -> CheckedRows:
        """Return what was found; `ids_only` if the rows lack columns, so that their leaves are others."""
        checked = self.checked
        checked.events = self.counts.total()
        for id_, batch in sorted(self._batches.items()):
            if why := self._fault(id_, batch, ids_only=ids_only):
                checked.shaken.add(id_)
                checked.findings.append(invalid("batch", f"Batch {id_}", why, batch.entry.window))
        checked.findings += self._doubles()
        return checked

    def _keep(self, table: pa.Table, stream: int) -> None:
        self._connection.register("piece", pa.table({"event_id": table["event_id"]}))
        numbers = {"stream": stream, "file": len(self._files) - 1}
        self._connection.execute("INSERT INTO ids SELECT $stream, $file, event_id FROM piece", numbers)
        self._connection.unregister("piece")

    def _take(self, id_: str, table: pa.Table) -> None:
        self.counts[id_] += len(table)
        if (batch := self._batches.get(id_)) is None or batch.removed_rows:
            return
        if batch.entry.rows_sha256 is not None and not batch.rests_on_record:
            self._leaves[id_] += b"".join(_leaves(table, batch))
        if batch.entry.rows_sha256 is None or self._ids_too or batch.rests_on_record:
            self._ids[id_] += table["event_id"].to_pylist()
        if self.counts[id_] == batch.entry.rows:
            joined = bytes(self._leaves.pop(id_, b""))
            some = (joined[start : start + _LEAF_BYTES] for start in range(0, len(joined), _LEAF_BYTES))
            self._digests[id_] = (rows_sha256(some), ids_sha256(self._ids.pop(id_, [])))

    def _fault(self, id_: str, batch: KnownBatch, *, ids_only: bool) -> str:
        """Return why rows are not those of a batch, empty if they are."""
        wanted = batch.entry.rows - batch.removed_rows
        if self.counts[id_] != wanted:
            return f"{self.counts[id_]:,} of its {wanted:,} events are there"
        if id_ not in self._digests:  # some of its rows were removed on purpose, or it has none
            return ""
        of_rows, of_ids = self._digests[id_]
        if batch.entry.rows_sha256 is not None and not ids_only and not batch.rests_on_record:
            return "" if of_rows == batch.entry.rows_sha256 else "its rows are not those that were exported"
        if batch.entry.ids_sha256 not in {None, of_ids}:
            return "its events are not those that were exported"
        return ""

    def _doubles(self) -> Iterator[Finding]:
        found = self._connection.execute(_DOUBLES).fetchmany(_MOST_DOUBLES + 1)
        for id_, files, count in found[:_MOST_DOUBLES]:
            where = " and ".join(self._files[file] for file in files[:3])
            times = "twice" if count == 2 else f"{count} times"
            yield invalid("event", f"Event {escaped(id_, 80)}", f"is there {times}, in {escaped(where, 300)}")
        if len(found) > _MOST_DOUBLES:
            yield invalid("event", "Events", f"more than {_MOST_DOUBLES:,} are there twice; the others are not listed")


def _leaves(table: pa.Table, batch: KnownBatch) -> list[bytes]:
    """Return the leaves of rows; of those of which something was erased, the leaves that they had before."""
    found = leaves(table)
    if batch.erased:
        for at, event_id in enumerate(table["event_id"].to_pylist()):
            if (entry := batch.erased.get(event_id)) is not None and entry.leaf is not None:
                found[at] = bytes.fromhex(entry.leaf)
    return found


@contextmanager
def _opened(batches: Mapping[str, KnownBatch], limits: Limits, *, ids_too: bool = False) -> Iterator[_Rows]:
    with open_engine(limits) as connection:
        yield _Rows(batches, connection, ids_too=ids_too)


def _tables(place: Location, found: FoundFile, limits: Limits) -> Iterator[pa.Table]:
    with place.open(found) as file:
        columns = read_footer(file).metadata.schema.to_arrow_schema().remove_metadata()
    rows = rows_of(place, [FilePiece(found)], columns, Reading(limits.group_bytes))
    scanner = rows.scanner(batch_size=_AT_ONCE, batch_readahead=_AHEAD)
    for batch in scanner.to_reader():
        if batch.num_rows:
            yield pa.Table.from_batches([batch])
