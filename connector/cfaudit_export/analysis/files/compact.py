"""The small files of a day that is over -> one, without changing a row or losing a batch.

For each account and day, and only where a sink of this program wrote the files:

1. The rows of the small files are written, in order of time, into one new file under a hidden name, and synced. It says
   in its footer which files it stands for, with their digests, and what the sink needs to know of their batches.
2. It is read back. Number and checksum of its rows must be those of the files it was made of.
3. It is renamed, which is atomic, and the folder synced: from here on it counts. Who reads with this program passes
   over the files it stands for, if they are those and it holds their rows.
4. They are removed; by a later run only if it finds their rows in the merged file (`merged`).

A crash leaves a hidden file, which the next run removes, or files that are already merged, which the next run removes.
Only readers that know nothing of all this, and read between 3 and 4, see rows twice.
"""

from __future__ import annotations

import hashlib
import json
import logging
from collections import defaultdict
from collections.abc import Collection, Iterable, Iterator
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from functools import reduce
from importlib.metadata import version
from operator import and_
from pathlib import Path
from typing import Any

import pyarrow as pa

from cfaudit_export.analysis.files.catalog import fault_of
from cfaudit_export.analysis.files.columns import DAY, misfits, stored_columns
from cfaudit_export.analysis.files.engine import Limits, import_duckdb, open_engine
from cfaudit_export.analysis.files.footers import DataFile, inspect, streams
from cfaudit_export.analysis.files.holding import held, translated
from cfaudit_export.analysis.files.location import FoundFile, Location, damaged
from cfaudit_export.analysis.files.merged import Merges
from cfaudit_export.analysis.files.scan import FilePiece, Reading, rows_of
from cfaudit_export.analysis.files.sealed import SealedFiles
from cfaudit_export.core.durable import new_file, put_in_place, sync_folder
from cfaudit_export.errors import SettingsError
from cfaudit_export.parquet import MERGED_NOTE, MERGED_PREFIX, digest_of, write_parquet

SMALL_BYTES = 64 << 20
"""Larger files are left alone."""

_LOG = logging.getLogger(__name__)
_GROUP_ROWS = 20_000
_GROUP_BYTES = 32 << 20  # larger row groups would take too much memory of those who read them
_KEPT = ("cfaudit_days", "cfaudit_attempt")


@dataclass(frozen=True, slots=True)
class Compacted:
    """What was done in one folder.

    Attributes:
        account_id: account of the folder.
        day: day of the folder.
        merged: how many files became one; 0 where only leftovers of a crash were removed.
        removed: how many files were removed.
        rows: how many rows the new file has.
        bytes_before: size of the files that were merged.
        bytes_after: size of the new file.
    """

    account_id: str
    day: str
    merged: int
    removed: int
    rows: int
    bytes_before: int
    bytes_after: int


def compact(
    place: Location,
    *,
    now: datetime,
    settled: timedelta,
    accounts: Collection[str] = (),
    dry_run: bool = False,
    limits: Limits | None = None,
    sealed: SealedFiles | None = None,
) -> Iterator[Compacted]:
    """Merge the small files of every day that ended at least `settled` ago; yield each folder when it is done.

    A folder with a damaged file is left as it is; the last thing that happens is an error that names such a file.

    Args:
        place: a local folder.
        now: the time.
        settled: how long after its end a day may still get events.
        accounts: only these, by default all.
        dry_run: only say what would be done.
        limits: what it may use of the machine.
        sealed: what manifests say of the files; by default nothing.

    Raises:
        LockedError: another process compacts there.
        CfauditError: a file cannot be read or written; what was merged before stays merged.
    """
    open_day = (now.astimezone(UTC) - settled).date().isoformat()
    work = _Work(place, limits or Limits(), dry_run, sealed or SealedFiles())
    faults = []
    with held(work.root), translated(work.root):
        files, ignored = inspect(place, lambda _: True, work.limits)
        for one in ignored:
            _LOG.warning("skipped", extra={"file": one.name, "why": one.why})
        for _, members in sorted(_folders(files).items()):
            is_open = members[0].day >= open_day
            if not is_open and (not accounts or members[0].account_id in accounts):
                try:
                    done = _one_folder(work, members)
                except (pa.ArrowException, import_duckdb().Error, OSError) as error:
                    faults.append(_damaged_in(work, members, error))
                    continue
                if done.removed:
                    yield done
    if faults:
        raise faults[0]


@dataclass(frozen=True, slots=True)
class _Work:
    place: Location
    limits: Limits
    dry_run: bool
    sealed: SealedFiles

    @property
    def root(self) -> Path:
        return Path(self.place.root)


def _folders(files: Iterable[DataFile]) -> dict[str, list[DataFile]]:
    found = defaultdict(list)
    for one in files:
        found[one.folder].append(one)
    return found


def _one_folder(work: _Work, members: list[DataFile]) -> Compacted:
    folder = work.root / members[0].folder
    merges = Merges(work.place, work.limits)
    gone = merges.replaced(members)
    leftovers = [one for one in members if one.found.name in gone]
    # What a merged file says of batches is kept only if what it says of files is true.
    passed = gone | merges.refused
    fitting = _fitting([one for one in members if one.found.name not in passed and _is_small(one)])
    groups = work.sealed.groups(fitting)
    small = [one for group in groups for one in group]
    after = 0
    if not work.dry_run:
        for hidden in folder.glob(f".{MERGED_PREFIX}*.tmp"):
            hidden.unlink()
        _record_left(work, members, leftovers)
        _remove(folder, leftovers)
        for group in groups:
            work.sealed.require_intact(group)
            target = _merge(work, folder, group)
            work.sealed.record(target, group)
            after += target.stat().st_size
            _remove(folder, group)
    return Compacted(
        account_id=members[0].account_id,
        day=members[0].day,
        merged=len(small),
        removed=len(leftovers) + len(small),
        rows=sum(one.rows for one in small),
        bytes_before=sum(one.found.bytes for one in small),
        bytes_after=after,
    )


def _record_left(work: _Work, members: list[DataFile], leftovers: list[DataFile]) -> None:
    """Say of merged files what a run that died right after it made them did not say any more."""
    for merged in members:
        named = merged.merged or {}
        if old := [one for one in leftovers if Path(one.found.path).name in named]:
            work.sealed.record(Path(merged.found.path), old)


def _damaged_in(work: _Work, members: list[DataFile], error: Exception) -> SettingsError:
    """Return the error that names the damaged file of a folder; raise what happened where none is."""
    if isinstance(error, OSError) and error.errno is not None:
        raise error  # the disk, not a file
    for one in members:
        if why := fault_of(work.place, one, work.limits):
            return damaged(work.place, one.found.name, why)
    raise error


def _is_small(file: DataFile) -> bool:
    """Say whether a file may be merged: it is not large, and it is from a sink that will look for its batch."""
    return file.found.bytes <= SMALL_BYTES and (file.is_merged or "cfaudit_batch" in file.notes)


def _remove(folder: Path, files: Iterable[DataFile]) -> None:
    for one in files:
        Path(one.found.path).unlink(missing_ok=True)
    sync_folder(folder)


# -- one file of several -----------------------------------------------------------------------------


def _merge(work: _Work, folder: Path, files: list[DataFile]) -> Path:
    """Write the rows of the files into one that stands for them, and return it."""
    names = sorted(Path(one.found.path).name for one in files)
    digest = hashlib.sha256("/".join(names).encode()).hexdigest()[:32]
    target = folder / f"{MERGED_PREFIX}{digest}.parquet"
    hidden = folder / f".{target.stem}.tmp"
    columns = stored_columns(one.columns for one in files)
    reading = Reading(work.limits.group_bytes)
    with open_engine(work.limits) as connection:
        connection.register("files", rows_of(work.place, [FilePiece(one.found) for one in files], columns, reading))
        with new_file(hidden, mode=_mode(files)) as file:
            write_parquet(file, columns, _groups(connection, columns), _notes(files, digest_of(_ids(connection))))
        connection.register(
            "merged", rows_of(work.place, [FilePiece(FoundFile(hidden.name, str(hidden), 0))], columns, reading)
        )
        if _checksum(connection, "files") != _checksum(connection, "merged"):
            hidden.unlink()
            raise SettingsError(f"merging would lose rows of '{target}'; nothing was changed, please report this")
    put_in_place(hidden, target)
    return target


def _mode(files: Iterable[DataFile]) -> int:
    """Return the permissions that all files have: no user may read more than before."""
    return reduce(and_, (Path(one.found.path).stat().st_mode for one in files), 0o666)


def _fitting(files: list[DataFile]) -> list[DataFile]:
    """Return the files of which a merged one would hold every column."""
    columns = stored_columns(one.columns for one in files)
    odd = [one for one in files if misfits(one.columns, columns) or {*one.columns.names} - {*columns.names, DAY}]
    for one in odd:
        _LOG.warning("a file is not merged: its columns are not those of the others", extra={"file": one.found.name})
    return [one for one in files if one not in odd]


def _groups(connection: Any, columns: pa.Schema) -> Iterator[pa.Table]:
    reader = connection.sql("FROM files ORDER BY event_time, event_id").to_arrow_reader(_GROUP_ROWS)
    for batch in reader:
        rows = max(1, _GROUP_BYTES * batch.num_rows // max(batch.nbytes, _GROUP_BYTES))
        for start in range(0, batch.num_rows, rows):
            yield pa.Table.from_batches([batch.slice(start, rows)]).cast(columns)


def _ids(connection: Any) -> Iterator[str]:
    for batch in connection.sql("SELECT event_id FROM files ORDER BY event_id").to_arrow_reader(_GROUP_ROWS):
        yield from batch["event_id"].to_pylist()


def _checksum(connection: Any, table: str) -> Any:
    """Return number and checksum of rows, the same in any order, another if any value is another."""
    sums = f"SELECT count(*), sum(hash(*COLUMNS(*))::HUGEINT) FROM {table}"  # noqa: S608  # a name of this module
    return connection.execute(sums).fetchone()


def _notes(files: list[DataFile], digest: str) -> dict[str, str]:
    """Return what the footer of the new file says; `digest` is that of the ids of its events."""
    merged: dict[str, dict[str, str]] = {}
    for one in files:
        # Of files that were merged before, only batches are kept: the files themselves are gone.
        merged |= {name: said for name, said in (one.merged or {}).items() if "cfaudit_days" in said}
    for one in files:
        said = {key: one.notes[key] for key in _KEPT if key in one.notes} | {"rows": str(one.rows)}
        merged[Path(one.found.path).name] = said | ({"footer_sha256": one.digest} if one.digest else {})
    return {
        "cfaudit_schema_version": max(one.notes.get("cfaudit_schema_version", "") for one in files),
        "cfaudit_streams": " ".join(sorted({stream for _, stream in streams(files)})),
        MERGED_NOTE: json.dumps(merged, separators=(",", ":")),
        "cfaudit_digest": digest,
        "cfaudit_version": version("cfaudit-export"),
    }
