"""Batch -> Parquet objects in S3, exactly once.

A batch becomes one object for each UTC day in it, named after the batch. How that is safe at any moment of a crash:

1. The events of a batch of one day are held back while they are few. Others are sent as uploads in parts, of which
   nothing can be seen until they are completed.
2. A note is put under a key made of the batch id alone. It lists the objects, and the uploads that become them.
3. The objects are put, or the uploads completed: each at once, and only where there is no such object yet.

So without a note nothing of a batch can be seen, and while some of it can be seen, the next attempt completes the
rest from the note, without the events. Where nothing can be seen, the next attempt replaces the note by its own.

A store that ignores conditions keeps this promise, too: a batch's keys derive from the ids of its events, so that an
object can only be overwritten by one with the same events. What is lost there is the protection of a stranger's
object under one of these keys.
"""

from __future__ import annotations

import uuid
from collections.abc import Iterator, Mapping
from contextlib import ExitStack
from dataclasses import replace
from datetime import timedelta
from functools import cached_property
from importlib.metadata import version
from typing import IO, Any, cast
from urllib.parse import quote

from cfaudit_export import Batch, LoadUnknownError, Receipt, SinkError, SinkRefusedError, Stream, Window
from cfaudit_export.parquet import StagedEvents, digest_of, ids_by_day, write_parquet
from cfaudit_export.proof.chain import FOLDER
from cfaudit_s3 import S3Config
from cfaudit_s3.bucket import Bucket
from cfaudit_s3.note import DayObject, Note
from cfaudit_s3.notes import Notes
from cfaudit_s3.upload import Upload
from cfaudit_s3.wire import Faults

_OWN_FOLDER = "_cfaudit/"  # who reads hive folders passes over names that begin with an underscore
_ASIDE = f"{_OWN_FOLDER}erased/"
_CHECK = b"cfaudit-export check"
_PARQUET = "application/vnd.apache.parquet"


class S3Sink:
    """Stores batches as Parquet objects in one bucket. Fits `cfaudit_export.Sink`."""

    def __init__(self, config: S3Config) -> None:
        self._config = config
        # What all keys have in common: notes must be found where nothing but a batch id is known.
        folders, slash, _ = config.prefix.partition("{")[0].rpartition("/")
        self._base = folders + slash
        self._check_key = f"{self._base}{_OWN_FOLDER}check"
        self._manifests = f"{self._base}{FOLDER}/"
        self._bucket = Bucket(config, Faults(SinkRefusedError, SinkError, LoadUnknownError))
        self._mark_key = f"{self._base}{_OWN_FOLDER}destination"
        self._notes = Notes(self._bucket, self._base, f"{_OWN_FOLDER}batches/")

    @cached_property
    def _program_version(self) -> str:
        return version("cfaudit-export")

    # -- the promises of a sink -------------------------------------------------------------------------

    def check(self) -> str:
        """Write, read and remove an object, and begin and abort an upload; as `Sink.check`."""
        conditions = "honoured" if self._check_object() else "ignored: a batch that comes again replaces itself"
        left = "" if self._bucket.delete(self._check_key) else f"; '{self._check_key}' stays, as nothing may be removed"
        trial = self._upload(self._key(Stream("check", "check"), "1970-01-01", "check"), {})
        trial.write(_CHECK)
        trial.send_rest()
        trial.abort()
        return (
            f"wrote and read an object and began an upload in '{self._bucket.url(self._base)}' "
            f"at {self._bucket.endpoint}; conditional writes are {conditions}{left}"
        )

    def load(self, batch: Batch) -> Receipt:
        """Store the batch, or what is missing of it; as `Sink.load`."""
        with StagedEvents(str(batch.path)) as events, ExitStack() as unfinished:
            uploads, note = self._send(batch, events, unfinished)
            try:
                done = self._notes.agree(note)
            except LoadUnknownError:
                unfinished.pop_all()  # a note may stand that names the uploads
                raise
            if done:  # by an earlier attempt, perhaps of events that were read at another time
                return replace(done, already=True)
            unfinished.pop_all()
        return self._publish(uploads, note)

    def find(self, batch_id: str, window: Window) -> Receipt | None:  # noqa: ARG002 - the note knows better
        """Look for the note of the batch, and complete what an attempt left to do; as `Sink.find`."""
        found = self._notes.read(batch_id)
        if found is None:
            return None
        note, _ = found
        if done := self._notes.completed(note):
            return replace(done, already=True)
        there = self._notes.visible(note)
        if not there:
            self._notes.abort(note)
            return None
        missing = [piece.key for piece in note.pieces if piece.key not in there]
        if not missing:  # another run has completed it meanwhile
            return self._notes.receipt(note, there, already=True)
        raise LoadUnknownError(
            f"'{self._bucket.url(missing[0])}' is missing, and its upload was aborted; restore it, or remove the "
            f"other objects of batch '{batch_id}', such as '{self._bucket.url(min(there))}', to have it read again"
        )

    def marked(self) -> str | None:
        """Return the mark below the prefix; as `Sink.marked`."""
        found = self._bucket.get(self._mark_key)
        return found.body.decode("ascii", "replace").strip() or None if found else None

    def mark(self, token: str) -> str:
        """Leave a mark below the prefix, unless there is one; as `Sink.mark`."""
        if (found := self.marked()) is not None:  # a store that ignores conditions would put the new one over it
            return found
        self._bucket.put_new(self._mark_key, token.encode())
        return self.marked() or token

    def put_manifest(self, name: str, content: bytes, lock_days: int | None = None) -> bool:
        """Keep a manifest below the prefix, locked for so many days if any; as `Sink` says."""
        key = f"{self._manifests}{name}"
        if self._bucket.head(key):  # a store that ignores conditions would put the new one over it
            return False
        options: dict[str, Any] = {"ContentType": "application/json"}
        if lock_days is not None:
            until = self._bucket.now() + timedelta(days=lock_days)
            options |= {"ObjectLockMode": "COMPLIANCE", "ObjectLockRetainUntilDate": until}
        return self._bucket.put_new(key, content, **options) is not None

    def get_manifest(self, name: str) -> bytes | None:
        """Return a manifest; as `Sink` says."""
        found = self._bucket.get(f"{self._manifests}{name}")
        return found.body if found else None

    def manifests(self, chain: str) -> Iterator[str]:
        """Yield the names of the manifests of a chain; as `Sink` says."""
        for key in self._bucket.keys(f"{self._manifests}{chain}/"):
            yield key.removeprefix(self._manifests)

    def read_file(self, name: str) -> bytes | None:
        """Return an object by its name below the prefix; as `Sink` says."""
        found = self._bucket.get(f"{self._base}{name}")
        return found.body if found else None

    def write_file(self, name: str, content: bytes) -> None:
        """Put an object in the place of another, and keep what that says of itself; as `Sink` says."""
        key = f"{self._base}{name}"
        there = self._bucket.head(key)
        options: dict[str, Any] = {"ContentType": _PARQUET, "Metadata": dict(there.metadata) if there else {}}
        if self._config.storage_class:
            options["StorageClass"] = self._config.storage_class
        self._bucket.put(key, content, **options)

    def remove_file(self, name: str) -> None:
        """Remove an object; as `Sink` says."""
        self._bucket.remove(f"{self._base}{name}")

    def files_aside(self) -> Iterator[str]:
        """Yield the names of what waits to take the place of other objects; as `Sink` says."""
        for key in self._bucket.keys(f"{self._base}{_ASIDE}"):
            yield key.removeprefix(self._base)

    def close(self) -> None:
        """Close the connections; as `Sink.close`."""
        self._bucket.close()

    # -- how --------------------------------------------------------------------------------------------

    def _send(self, batch: Batch, events: StagedEvents, unfinished: ExitStack) -> tuple[list[Upload], Note]:
        """Send what is not held back, day by day; `unfinished` throws it away again."""
        attempt = uuid.uuid4().hex
        digests = {day: digest_of(ids) for day, ids in ids_by_day(batch).items()}
        uploads, pieces = [], []
        for day, groups in events.by_day():
            said = self._said(batch, events, day) | {"digest": digests[day], "attempt": attempt}
            upload = self._upload(self._key(batch.stream, day, batch.batch_id), said)
            unfinished.callback(upload.abort)
            notes = {f"cfaudit_{name}": text for name, text in said.items()}
            written = write_parquet(cast("IO[bytes]", upload), events.schema, groups, notes)
            if len(events.days) > 1 or upload.upload_id:
                upload.send_rest()
            uploads.append(upload)
            says = DayObject(upload.key, events.days[day], digests[day], upload.upload_id, upload.parts)
            pieces.append(replace(says, size=written.bytes, sha256=written.sha256))
        return uploads, Note(batch.batch_id, attempt, tuple(pieces))

    def _publish(self, uploads: list[Upload], note: Note) -> Receipt:
        """Make the objects visible that are not there yet."""
        stored, there = False, {}
        for upload, piece in zip(uploads, note.pieces, strict=True):
            outcome = upload.publish()
            if outcome == "stored":
                if piece.upload_id:
                    self._notes.require(piece, note.attempt)
                stored = True
                continue
            found = self._notes.look(piece)
            if found is None:
                raise SinkError(f"another run is loading batch '{note.batch_id}'; try again when it has ended")
            upload.abort()
            there[piece.key] = found
            stored = stored or found.metadata.get("cfaudit-attempt") == note.attempt  # only the answer was lost
        return self._notes.receipt(note, there, already=not stored)

    def _upload(self, key: str, said: Mapping[str, str]) -> Upload:
        options: dict[str, Any] = {
            "ContentType": _PARQUET,
            "Metadata": {f"cfaudit-{name.replace('_', '-')}": text for name, text in said.items()},
        }
        if self._config.storage_class:
            options["StorageClass"] = self._config.storage_class
        return Upload(self._bucket, key, self._config.part_bytes, options)

    def _key(self, stream: Stream, day: str, batch_id: str) -> str:
        account, source = quote(stream.account_id, safe=""), quote(stream.source, safe="")
        prefix = self._config.prefix.format(account_id=account, source=source, stream_id=stream.id)
        return f"{prefix}account_id={account}/event_date={day}/{batch_id}.parquet"

    def _said(self, batch: Batch, events: StagedEvents, day: str) -> dict[str, str]:
        """Return what each object says of itself, in its file and beside it."""
        return {
            "schema_version": events.schema.metadata[b"cfaudit_schema_version"].decode(),
            "batch": batch.batch_id,
            "stream": batch.stream.id,
            "source": batch.stream.source,
            "window": str(batch.window),
            "rows": str(events.days[day]),
            "version": self._program_version,
        }

    def _check_object(self) -> bool:
        """Write and read an object; return whether conditions are honoured."""
        bucket, key = self._bucket, self._check_key
        for _ in range(4):  # the second is refused, unless another check has just removed the first
            bucket.put_new(key, _CHECK)
            if bucket.conditional is not None:
                break
        if not bucket.get(key):
            bucket.put_new(key, _CHECK)
            if not bucket.get(key):
                raise SinkRefusedError(f"'{bucket.url(key)}' was written and cannot be read; this store loses objects")
        return bool(bucket.conditional)
