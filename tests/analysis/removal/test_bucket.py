"""The same in S3, by the sink that writes there: what objects say of themselves stays, so that it still knows them."""

from __future__ import annotations

import importlib.util
import sys
from collections.abc import Iterator
from datetime import UTC, date, datetime, timedelta
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from cfaudit_export import read_batch
from cfaudit_export.analysis.files.open import open_location
from cfaudit_export.analysis.removal.erase import erase
from cfaudit_export.analysis.removal.person import Person, find_person
from cfaudit_export.analysis.removal.record import Work
from cfaudit_export.analysis.removal.retention import remove_before
from cfaudit_export.analysis.removal.storage import ASIDE
from cfaudit_export.analysis.removal.trusted import require_trusted_chains
from cfaudit_export.analysis.verify.records import read_records
from cfaudit_export.analysis.verify.verify import Asked, verify
from cfaudit_export.proof.envelope import wrap
from cfaudit_export.proof.manifest import BatchEntry
from cfaudit_export.proof.rows import ids_sha256, leaves, rows_sha256
from cfaudit_export.proof.statement import statement
from cfaudit_export.testing import make_batch
from cfaudit_s3 import S3Config
from cfaudit_s3.sink import S3Sink

BUCKET, PREFIX = "changed-audit", "logs/prod/"
EVE = "eve@example.com"
FIRST = datetime(2026, 11, 1, tzinfo=UTC)


def _load() -> Any:
    """Import the S3 server that tests of `verify` have; test folders are not packages."""
    path = Path(__file__).parents[1] / "verify" / "test_s3.py"
    spec = importlib.util.spec_from_file_location("s3_of_verify", path)
    assert spec
    assert spec.loader
    module = importlib.util.module_from_spec(spec)
    sys.modules[spec.name] = module
    spec.loader.exec_module(module)
    return module


endpoint = _load().endpoint


class InBucket:
    """An export of three days into a bucket, sealed as a run does it."""

    def __init__(self, export: Any, endpoint: str) -> None:
        self.export = export
        self.endpoint = endpoint
        self.sink = S3Sink(S3Config(bucket=BUCKET, prefix=PREFIX, endpoint_url=endpoint, region="us-east-1"))
        self.batches = [self._batch(number) for number in range(3)]
        entries = [self._entry(batch) for batch in self.batches]
        manifest = export.manifest(*entries, sink="s3", chain=f"{export.stream.id}/s3")
        self.sink.put_manifest(f"{export.stream.id}/s3/00000001.json", wrap(statement(manifest), export.keys))

    def _batch(self, number: int) -> Any:
        times = [FIRST + number * timedelta(days=1) + row * timedelta(hours=1) for row in range(20)]
        emails = [EVE if row == 3 else f"user{row}@example.com" for row in range(20)]
        changes = {"event_time": times, "actor_email": emails}
        return make_batch(
            self.export.staging, rows=20, seed=number, shape="whole", stream=self.export.stream, changes=changes
        )

    def _entry(self, batch: Any) -> BatchEntry:
        rows, files = read_batch(batch), self.sink.load(batch).files
        times = rows["event_time"].to_pylist()
        ids = rows["event_id"].to_pylist()
        digests = rows_sha256(leaves(rows)), ids_sha256(ids)
        return BatchEntry(batch.batch_id, batch.window, 20, 0, min(times), max(times), *digests, files)

    @property
    def place(self) -> Any:
        return open_location(f"s3://{BUCKET}/{PREFIX}", {"endpoint_url": self.endpoint})

    def work(self) -> tuple[Any, Work]:
        keys = self.export.keys
        return require_trusted_chains(self.place, keys), Work(self.sink, keys, lambda: self.export.clock)

    def verified(self) -> Any:
        keys = tuple(key.public for key in self.export.keys)
        return verify(self.place, read_records(self.place), Asked(keys=keys))

    def tables(self) -> list[pa.Table]:
        found = []
        for one in self.place.files(lambda _: True):
            with self.place.open(one) as file:
                found.append(pq.read_table(pa.BufferReader(file.read()), partitioning=None))
        return found


@pytest.fixture
def bucket(export: Any, endpoint: str) -> Iterator[InBucket]:
    import boto3

    client = boto3.client("s3", endpoint_url=endpoint, region_name="us-east-1")
    client.create_bucket(Bucket=BUCKET)
    yield InBucket(export, endpoint)
    for one in client.list_objects_v2(Bucket=BUCKET)["Contents"]:
        client.delete_object(Bucket=BUCKET, Key=one["Key"])
    client.delete_bucket(Bucket=BUCKET)


def test_a_person_is_erased_in_a_bucket_and_the_sink_still_knows_its_objects(bucket: InBucket) -> None:
    assert len(list(erase(*bucket.work(), Person((EVE,))))) == 3
    found = bucket.verified()
    assert found.exit_code == 0, list(found.lines)
    assert not any(find_person(one, Person((EVE,))).count for one in bucket.tables())
    assert list(bucket.sink.files_aside()) == []
    for batch in bucket.batches:
        receipt = bucket.sink.load(batch)
        assert receipt.already
        assert bucket.sink.find(batch.batch_id, batch.window) is not None
    assert bucket.verified().exit_code == 0
    assert list(erase(*bucket.work(), Person((EVE,)))) == []


def test_what_waits_in_a_bucket_is_put_in_its_place_by_the_next_run(
    bucket: InBucket, monkeypatch: pytest.MonkeyPatch
) -> None:
    write = bucket.sink.write_file

    def dies(name: str, content: bytes) -> None:
        if not name.startswith(ASIDE):
            raise KeyboardInterrupt
        write(name, content)

    monkeypatch.setattr(bucket.sink, "write_file", dies)
    with pytest.raises(KeyboardInterrupt):
        list(erase(*bucket.work(), Person((EVE,))))
    monkeypatch.undo()
    said = list(bucket.verified().lines)
    assert sum("has what a record says was erased" in line for line in said) == 3
    assert len(list(bucket.sink.files_aside())) == 3
    assert len(list(erase(*bucket.work(), Person((EVE,))))) == 3
    assert bucket.verified().exit_code == 0
    assert list(bucket.sink.files_aside()) == []


def test_old_days_are_removed_from_a_bucket(bucket: InBucket) -> None:
    [done] = remove_before(*bucket.work(), date(2026, 11, 3))
    assert (done.files, done.rows) == (2, 40)
    assert len(bucket.tables()) == 1
    found = bucket.verified()
    assert found.exit_code == 0, list(found.lines)
    assert "Removed on purpose: 2026-11-01 to 2026-11-02, 2 files, 40 events" in "\n".join(found.lines)
