"""Files that manifests name, and how `compact` keeps that true: it merges within one chain, and says so in it.

Before files are merged, their bytes are compared with what their manifests say. When the merged file is there, and
before the others are removed, a manifest of kind `compaction` names both, and the rows of each batch in the new one. A
crash before that leaves all files; the next run writes the manifest then. Files that no manifest names yet wait: the
manifest that will name them would name files that are gone. A file that is older than two whole runs of its stream
which did not name it, or than the end of its slice, was stored while no manifests were written: none will name it.
"""

from __future__ import annotations

import hashlib
import logging
from collections import defaultdict
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta
from pathlib import Path

import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.parquet as pq

from cfaudit_export.analysis.files.footers import DataFile
from cfaudit_export.core.disk import require_file
from cfaudit_export.core.model import StoredFile
from cfaudit_export.errors import SettingsError
from cfaudit_export.proof.append import append_change, newest_entry, read_entry
from cfaudit_export.proof.chain import FOLDER
from cfaudit_export.proof.folder import ManifestFolder
from cfaudit_export.proof.keys import SigningKey
from cfaudit_export.proof.manifest import BatchPart, Manifest, Replacement
from cfaudit_export.proof.rows import leaves, rows_sha256

_CLOCKS = timedelta(hours=1)  # so far may those of this machine and of the disk's be apart
_ABOVE = 4  # so many folders above the data are looked at for manifests
_LOG = logging.getLogger(__name__)


@dataclass(frozen=True, slots=True)
class SealedFiles:
    """What manifests say of the files of a folder; without any, every file may be merged with every other.

    Attributes:
        root: the folder that has the manifests; names of files are below it.
        files: by name, each with its chain.
        keys: what signs.
        now: the time.
        closed: by stream, the time of which every file is named that ever will be.
    """

    root: Path | None = None
    files: dict[str, tuple[StoredFile, str]] = field(default_factory=dict)
    keys: tuple[SigningKey, ...] = ()
    now: datetime | None = None
    closed: dict[str, datetime] = field(default_factory=dict)

    def groups(self, files: Sequence[DataFile]) -> list[list[DataFile]]:
        """Return the files that may be merged with each other, each at least two."""
        found: dict[str, list[DataFile]] = defaultdict(list)
        waiting = 0
        for one in files:
            if self.root is None:
                found[""].append(one)
            elif (known := self.files.get(self._name(one.found.path))) is not None:
                # Only the column tells the rows of batches apart once they are in one file.
                found[known[1] if "batch_id" in one.columns.names else ""].append(one)
            elif "batch_id" in one.columns.names and not self._stays_unnamed(one):
                waiting += 1
            else:  # of a version, or a time, that wrote no manifests
                found[""].append(one)
        if waiting:
            _LOG.info("files are not merged: no manifest names them yet", extra={"files": waiting})
        if self.root is not None:  # those that cannot be told apart are named by manifests, and stay as they are
            found[""] = [one for one in found[""] if self._name(one.found.path) not in self.files]
        return [group for group in found.values() if len(group) > 1]

    def _stays_unnamed(self, one: DataFile) -> bool:
        closed = self.closed.get(one.notes.get("cfaudit_stream", ""))
        written_at = datetime.fromtimestamp(Path(one.found.path).stat().st_mtime, UTC)
        return closed is not None and written_at < closed - _CLOCKS

    def require_intact(self, files: Iterable[DataFile]) -> None:
        """Compare files with what their manifests say.

        Raises:
            SettingsError: one is another than was exported.
            OSError: one cannot be read.
        """
        for one in files:
            known = self.files.get(self._name(one.found.path)) if self.root else None
            if known and _hashed(Path(one.found.path)) != known[0].sha256:
                raise SettingsError(
                    f"file '{one.found.name}': its bytes are not those that were exported; restore it from a backup, "
                    "as 'cfaudit-export verify' shows; nothing of its day was changed"
                )

    def record(self, merged: Path, old: Sequence[DataFile]) -> None:
        """Say in the chain of files that they were merged; again says nothing more.

        Raises:
            SettingsError: the chain cannot be read, or is signed by another key.
            SinkError: it cannot be written now.
        """
        if self.root is None:
            return
        name, known = self._name(merged), [self.files.get(self._name(one.found.path)) for one in old]
        named = [one for one in known if one is not None]
        if not named or name in self.files:
            return
        rows, parts = _parts(merged, with_rows=bool(self.keys))
        new = StoredFile(name, merged.stat().st_size, _hashed(merged), rows)
        replaced = Replacement(tuple(file for file, _ in named), new, parts)
        chain = named[0][1]

        now = self.now
        assert now  # noqa: S101  # set where there are manifests
        store = ManifestFolder(self.root / FOLDER)
        append_change(store, chain, "compaction", (replaced,), keys=self.keys, clock=lambda: now)
        for file, _ in named:
            self.files.pop(file.name, None)
        self.files[name] = (new, chain)

    def _name(self, path: Path | str) -> str:
        assert self.root  # noqa: S101  # asked only where there are manifests
        return Path(path).relative_to(self.root).as_posix()


def sealed_files(data: Path, keys: Sequence[SigningKey], now: datetime) -> SealedFiles:
    """Return what the manifests of a folder say, which may lie in a folder above it.

    Raises:
        SettingsError: a manifest cannot be read, or they are signed and no key is set.
        SinkError: they cannot be read now.
    """
    above = [data, *data.parents][:_ABOVE]
    root = next((one for one in above if (one / FOLDER).is_dir()), None)
    if root is None:
        return SealedFiles()
    store = ManifestFolder(root / FOLDER)
    files: dict[str, tuple[StoredFile, str]] = {}
    closed: dict[str, datetime] = {}
    for folder in sorted((root / FOLDER).glob("*/*")):
        chain = f"{folder.parent.name}/{folder.name}"
        newest = newest_entry(store, chain, keys)
        if newest is None:
            continue
        if newest.is_signed and not keys:
            raise SettingsError("the manifests there are signed; set integrity.key_file, as for the runs that export")
        ends: list[datetime] = []
        for sequence in range(1, newest.link.sequence + 1):
            entry = read_entry(store, chain, sequence, keys)
            if entry is not None:  # if not, that is for `verify` to tell
                _apply(entry.manifest, files)
                ends += _ends(entry.manifest)
        if len(ends) > 1:
            closed[folder.parent.name] = sorted(ends)[-2]
    return SealedFiles(root, files, tuple(keys), now, closed)


def _ends(manifest: Manifest) -> list[datetime]:
    """Return when a run ended whose manifest names all that was delivered; twice for the last run of a slice."""
    is_end = manifest.kind == "seal" and manifest.read is not None
    return [manifest.sealed_at] * (2 if is_end and manifest.merged_into else is_end)


def _apply(manifest: Manifest, files: dict[str, tuple[StoredFile, str]]) -> None:
    """Add the files that a manifest names, and remove those that others take the place of."""
    for replaced in manifest.replaced:
        for old in replaced.old:
            files.pop(old.name, None)
    for file in manifest.files:
        files[file.name] = (file, manifest.chain)


def _parts(path: Path, *, with_rows: bool) -> tuple[int, tuple[BatchPart, ...]]:
    """Return how many rows a file has, and of each batch how many with their digest."""
    counts: dict[str, int] = defaultdict(int)
    digests: dict[str, list[bytes]] = defaultdict(list)
    require_file(path)
    with pq.ParquetFile(path, page_checksum_verification=True) as file:
        for rows in file.iter_batches(columns=None if with_rows else ["batch_id"]):
            table = pa.Table.from_batches([rows])
            for batch_id in pc.unique(table["batch_id"]).to_pylist():
                part = table.filter(pc.equal(table["batch_id"], batch_id))
                counts[batch_id] += part.num_rows
                if with_rows:
                    digests[batch_id] += leaves(part)
    parts = [BatchPart(one, count, rows_sha256(digests[one]) if with_rows else None) for one, count in counts.items()]
    return sum(counts.values()), tuple(sorted(parts, key=lambda part: part.batch_id))


def _hashed(path: Path) -> str:
    require_file(path)
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()
