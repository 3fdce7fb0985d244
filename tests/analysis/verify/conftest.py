"""An export with manifests, made of real files by hand: as a run seals it, and as an attacker may not."""

from __future__ import annotations

import base64
import json
import shutil
from collections.abc import Callable, Iterable
from dataclasses import dataclass, field, replace
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import pytest
import rfc8785

from cfaudit_export import Stream, Window, read_batch
from cfaudit_export.analysis.files.open import open_location
from cfaudit_export.analysis.verify.records import read_records
from cfaudit_export.analysis.verify.verified import Verified
from cfaudit_export.analysis.verify.verify import Asked, verify
from cfaudit_export.core.intervals import union
from cfaudit_export.core.model import StoredFile
from cfaudit_export.proof.chain import Link, chain_of, link_to, manifest_name
from cfaudit_export.proof.envelope import wrap
from cfaudit_export.proof.keys import SigningKey, new_key
from cfaudit_export.proof.manifest import BatchEntry, Manifest, ReadEntry
from cfaudit_export.proof.rows import ids_sha256, leaves, rows_sha256
from cfaudit_export.proof.statement import statement
from cfaudit_export.testing import make_batch
from cfaudit_parquet import ParquetConfig
from cfaudit_parquet.sink import ParquetSink

ACCOUNT = "0f3c1e5a7b9d2468ace013579bdf2468"
FIRST_DAY = datetime(2026, 11, 1, tzinfo=UTC)
DAY = timedelta(days=1)


def day(number: int, days: int = 1) -> Window:
    return Window(FIRST_DAY + number * DAY, FIRST_DAY + (number + days) * DAY)


@dataclass
class Export:
    """A folder of files, and the chain of one stream and sink beside them."""

    root: Path
    staging: Path
    stream: Stream = field(default_factory=lambda: Stream(ACCOUNT, "auditlogs"))
    sink: str = "parquet"
    keys: tuple[SigningKey, ...] = field(default_factory=lambda: (new_key(),))
    sequence: int = 0
    previous: str | None = None
    clock: datetime = FIRST_DAY + timedelta(hours=1)
    stores_files: bool = True

    @property
    def chain(self) -> str:
        return chain_of(self.stream.id, self.sink)

    def store(
        self, number: int = 0, rows: int = 20, *, seed: int | None = None, days: int = 1, **changes: Any
    ) -> BatchEntry:
        """Store a batch of the days from a day on, and return what is to be said of it."""
        seed = number if seed is None else seed
        step = days * DAY / rows
        batch = make_batch(
            self.staging,
            rows=rows,
            seed=seed,
            days=days,
            shape="whole",
            stream=self.stream,
            changes={"event_time": [FIRST_DAY + number * DAY + row * step for row in range(rows)], **changes},
        )
        events = read_batch(batch)
        files: tuple[StoredFile, ...] = ()
        if self.stores_files:
            files = ParquetSink(ParquetConfig(path=str(self.root))).load(batch).files
        times = events["event_time"].to_pylist()
        return BatchEntry(
            batch_id=batch.batch_id,
            window=day(number, days),
            rows=batch.rows,
            late_rows=0,
            first=min(times),
            last=max(times),
            rows_sha256=rows_sha256(leaves(events)),
            ids_sha256=ids_sha256(events["event_id"].to_pylist()),
            files=files,
        )

    def manifest(self, *batches: BatchEntry, covered: Iterable[Window] = (), **fields: Any) -> Manifest:
        """Return the next manifest of the chain; it is not written."""
        covered = union(*covered, *(one.window for one in batches))
        self.clock += timedelta(hours=1)
        plain = Manifest(
            kind="seal",
            chain=self.chain,
            sequence=self.sequence + 1,
            previous=self.previous,
            stream=self.stream,
            sink=self.sink,
            location=str(self.root),
            sealed_at=self.clock,
            program="0.2.0",
            schema_version=1,
            read=ReadEntry(None, None, timedelta(minutes=5), timedelta(hours=6)),
            covered=covered,
            covered_total=covered,
            batches=batches,
        )
        return replace(plain, **fields)

    def append(self, manifest: Manifest, keys: Iterable[SigningKey] | None = None) -> Link:
        """Write a manifest, signed by the keys of the export or by others."""
        document = wrap(statement(manifest), self.keys if keys is None else keys)
        path = self.path(manifest.sequence)
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(document)
        link = link_to(manifest.sequence, document)
        self.sequence, self.previous = link.sequence, link.sha256
        return link

    def seal(self, *batches: BatchEntry, covered: Iterable[Window] = (), **fields: Any) -> Link:
        return self.append(self.manifest(*batches, covered=covered, **fields))

    def days(self, count: int, start: int = 0) -> list[Link]:
        """Export some days, a batch and a manifest each."""
        return [self.seal(self.store(number)) for number in range(start, start + count)]

    def path(self, sequence: int) -> Path:
        return self.root / manifest_name(self.chain, sequence)

    def files(self) -> list[Path]:
        return sorted(self.root.rglob("*.parquet"))

    def name(self, path: Path) -> str:
        return path.relative_to(self.root).as_posix()

    def verify(self, extract: Any = None, *, place: bool = True, **asked: Any) -> Verified:
        """Verify the folder, with the public keys of the export if no others are given."""
        opened = open_location(str(self.root))
        asked.setdefault("keys", tuple(key.public for key in self.keys))
        return verify(opened if place else None, read_records(opened), Asked(**asked), extract)

    def back_to(self, sequence: int) -> None:
        """Go on behind a manifest, as if it were the newest."""
        self.sequence, self.previous = sequence, link_to(sequence, self.path(sequence).read_bytes()).sha256

    def edit(self, sequence: int, **fields: Any) -> None:
        """Change what a manifest says and keep its signature, as an attacker without a key can."""
        path = self.path(sequence)
        document = json.loads(path.read_bytes())
        payload = json.loads(base64.b64decode(document["payload"]))
        payload["predicate"] |= fields
        document["payload"] = base64.b64encode(rfc8785.dumps(payload)).decode()
        path.write_bytes(rfc8785.dumps(document) + b"\n")


@pytest.fixture
def export(tmp_path: Path) -> Export:
    return make_export(tmp_path)


@pytest.fixture
def new_export(tmp_path: Path) -> Callable[..., Export]:
    """Make exports; several may share a root."""
    return lambda **fields: make_export(tmp_path, **fields)


def make_export(folder: Path, **fields: Any) -> Export:
    root = folder / "out"
    root.mkdir(exist_ok=True)
    return Export(root, folder / "staging", **fields)


@pytest.fixture
def lines() -> Callable[[Verified], list[str]]:
    return lambda verified: list(verified.lines)


@pytest.fixture
def copied(tmp_path: Path) -> Callable[[Export, str], Export]:
    """Copy an export as it is now."""

    def copy(export: Export, name: str) -> Export:
        shutil.copytree(export.root, tmp_path / name)
        return replace(export, root=tmp_path / name)

    return copy
