"""Checkpoints as objects: `<stream id>.json` below one prefix, replaced by compare-and-swap, held by leases.

The version of a checkpoint is the ETag of its object. A save names the ETag it expects (`If-Match`), or that there be
no object (`If-None-Match`), so two writers can never both succeed. A store that ignores these conditions cannot keep
checkpoints, and is refused.
"""

from __future__ import annotations

import re
import time
import uuid
from collections.abc import Callable, Iterator
from contextlib import contextmanager

import msgspec

from cfaudit_export import (
    Checkpoint,
    CheckpointConflictError,
    CheckpointDamagedError,
    SettingsError,
    TryAgainError,
    Versioned,
)
from cfaudit_export.stores.document import decode, encode
from cfaudit_s3 import S3StoreConfig
from cfaudit_s3.bucket import Bucket, FoundObject
from cfaudit_s3.lease import Lease
from cfaudit_s3.wire import Faults

_STREAM_ID = re.compile(r"[0-9a-f]{16}")
_PROBE = b'{"cfaudit": "finds out whether conditional writes are honoured"}\n'
_NO_SUCH_ETAG = '"00000000000000000000000000000000"'
_TAKEOVERS = 5


class _Fenced(msgspec.Struct, frozen=True):
    """What an object holds: the fence of the run that wrote it, and the document of the checkpoint."""

    fence: int
    checkpoint: msgspec.Raw


class S3Store:
    """Keep checkpoints in one bucket. Fits `cfaudit_export.CheckpointStore`; one instance serves one run."""

    def __init__(self, config: S3StoreConfig, monotonic: Callable[[], float] = time.monotonic) -> None:
        """`monotonic` tells how many seconds pass; what time it is, the store tells."""
        self._config = config
        self._probe_key = f"{config.prefix}conditions"
        faults = Faults(SettingsError, TryAgainError, TryAgainError)
        self._bucket = Bucket(config, faults, monotonic)
        self._proved = False
        self._held: dict[str, Lease] = {}

    def load(self, stream_id: str) -> Versioned | None:
        """Return the checkpoint of a stream, None when there is none."""
        found = self._bucket.get(self._key(stream_id))
        if found is None:
            return None
        where = self._bucket.url(self._key(stream_id))
        document = bytes(_unwrapped(found, where).checkpoint)
        return Versioned(decode(document, stream_id=stream_id, where=where), found.etag)

    def save(self, checkpoint: Checkpoint, *, expected: str | None) -> str:
        """Replace the checkpoint if its version still is `expected`; return the new version."""
        stream_id = checkpoint.stream.id
        lease = self._held.get(stream_id)
        if lease:
            lease.require()
            if expected is None:  # there is no version yet that a new owner could have changed
                lease.require_stored()
        self._require_conditions()
        return self._replace(stream_id, _wrapped(lease.fence if lease else 0, encode(checkpoint)), expected)

    @contextmanager
    def hold(self, stream_id: str) -> Iterator[None]:
        """Hold the stream while the context lasts; a holder that dies holds it until its lease ends."""
        self._require_conditions()
        lease = Lease(self._bucket, f"{self._config.prefix}{stream_id}.lease", self._config.lease)
        lease.acquire()
        with lease.renewed():
            if lease.robbed:
                self._fence_off(stream_id, lease.fence)
            self._held[stream_id] = lease
            try:
                yield
            finally:
                del self._held[stream_id]

    def streams(self) -> Iterator[str]:
        """Yield the ids of all streams that have a checkpoint, sorted."""
        prefix = self._config.prefix
        for key in sorted(self._bucket.keys(prefix)):
            stream_id, dot, suffix = key.removeprefix(prefix).partition(".")
            if dot and suffix == "json" and _STREAM_ID.fullmatch(stream_id):
                yield stream_id

    def keep(self, stream_id: str, name: str, content: bytes) -> None:
        """Keep a file of a stream; as `BlobStore.keep`."""
        key = self._blob_key(stream_id, name)
        if self._bucket.put_new(key, content) is None and (found := self._bucket.get(key)) and found.body != content:
            self._bucket.put_over(key, content, found.etag)

    def kept(self, stream_id: str) -> Iterator[str]:
        """Yield the names of all files of a stream; as `BlobStore.kept`."""
        folder = self._blob_key(stream_id, "")
        yield from sorted(key.removeprefix(folder) for key in self._bucket.keys(folder))

    def fetch(self, stream_id: str, name: str) -> bytes | None:
        """Return a file of a stream; as `BlobStore.fetch`."""
        found = self._bucket.get(self._blob_key(stream_id, name))
        return None if found is None else bytes(found.body)

    def drop(self, stream_id: str, name: str) -> None:
        """Remove a file of a stream; as `BlobStore.drop`."""
        key = self._blob_key(stream_id, name)
        if not self._bucket.delete(key) and self._bucket.head(key):
            raise TryAgainError(f"'{self._bucket.url(key)}' cannot be removed; grant s3:DeleteObject, then run again")

    def find_shared(self, name: str) -> tuple[bytes, str] | None:
        """Return a document of all workers; as `SharedDocuments.find_shared`."""
        found = self._bucket.get(self._shared_key(name))
        return None if found is None else (bytes(found.body), found.etag)

    def swap_shared(self, name: str, content: bytes, *, expected: str | None) -> bool:
        """Replace a document of all workers; as `SharedDocuments.swap_shared`."""
        self._require_conditions()
        key = self._shared_key(name)
        if expected is None:
            return self._bucket.put_new(key, content) is not None
        return self._bucket.put_over(key, content, expected) is not None

    def shared_now(self) -> float:
        """Return the time by the store's clock; as `SharedDocuments.shared_now`."""
        return self._bucket.now().timestamp()

    def _shared_key(self, name: str) -> str:
        return f"{self._config.prefix}shared/{name}.json"

    def _blob_key(self, stream_id: str, name: str) -> str:
        return f"{self._config.prefix}{stream_id}.quarantine/{name}"

    def _key(self, stream_id: str) -> str:
        return f"{self._config.prefix}{stream_id}.json"

    def _replace(self, stream_id: str, body: bytes, expected: str | None) -> str:
        key = self._key(stream_id)
        attempt = uuid.uuid4().hex
        options = {"ContentType": "application/json", "Metadata": {"cfaudit-attempt": attempt}}
        if expected is None:
            version = self._bucket.put_new(key, body, **options)
        else:
            version = self._bucket.put_over(key, body, expected, **options)
        if version is not None:
            return version
        found = self._bucket.head(key)
        if found and found.metadata.get("cfaudit-attempt") == attempt:  # only the answer was lost
            return found.etag
        raise CheckpointConflictError(
            f"checkpoint '{self._bucket.url(key)}' was changed by another run since it was read; this run changed "
            "nothing more"
        )

    def _fence_off(self, stream_id: str, fence: int) -> None:
        """Give the checkpoint a new version, so that a former owner that is not dead can no longer save."""
        where = self._bucket.url(self._key(stream_id))
        for _ in range(_TAKEOVERS):  # the former owner may be saving at this moment
            found = self._bucket.get(self._key(stream_id))
            if found is None:
                return
            document = bytes(_unwrapped(found, where).checkpoint)
            try:
                self._replace(stream_id, _wrapped(fence, document), found.etag)
            except CheckpointConflictError:
                continue
            return
        raise TryAgainError(f"another run keeps writing '{where}' without holding the stream; end it, then run again")

    def _require_conditions(self) -> None:
        """Refuse a store that ignores conditions: there, two runs would overwrite each other's checkpoints."""
        if self._proved:
            return
        bucket, key = self._bucket, self._probe_key
        bucket.put_new(key, _PROBE)
        if not bucket.learn_conditions(key, _PROBE) or bucket.put_over(key, _PROBE, _NO_SUCH_ETAG):
            raise SettingsError(
                f"the store at '{bucket.endpoint}' ignores conditional writes (If-Match, If-None-Match), so it cannot "
                "keep checkpoints safely; keep them in another store, or set checkpoint.store = 'file'"
            )
        if not any(self._gives_versions(key) for _ in range(_TAKEOVERS)):  # another run may be at it, too
            raise SettingsError(
                f"the store at '{bucket.endpoint}' does not tell the version (ETag) of an object alike in all answers, "
                "so no save could follow another; keep checkpoints elsewhere, or set checkpoint.store = 'file'"
            )
        self._proved = True

    def _gives_versions(self, key: str) -> bool:
        """Tell whether what was read can be replaced, and has the version then that the answer to that told."""
        found = self._bucket.get(key)
        version = found and self._bucket.put_over(key, _PROBE, found.etag)
        again = version and self._bucket.get(key)
        return bool(again and again.etag == version)


def _wrapped(fence: int, document: bytes) -> bytes:
    return b'{"fence": %d,\n"checkpoint": %s}\n' % (fence, document.strip())


def _unwrapped(found: FoundObject, where: str) -> _Fenced:
    try:
        return msgspec.json.decode(found.body, type=_Fenced)
    except ValueError as error:
        raise CheckpointDamagedError(
            f"checkpoint '{where}' cannot be read: {error}; restore it from a backup, or move it away to start again, "
            "which may deliver events twice"
        ) from error
