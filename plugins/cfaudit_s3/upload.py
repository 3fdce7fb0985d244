"""Bytes in, as a file takes them; an object on its way out: held back while small, sent in parts when large."""

from __future__ import annotations

from typing import Any, Literal

from cfaudit_s3.bucket import Bucket, UploadPart


class Upload:
    """An object that is invisible until `publish`. Fits what pyarrow writes to."""

    def __init__(self, bucket: Bucket, key: str, part_bytes: int, options: dict[str, Any]) -> None:
        self.key = key
        self.upload_id: str | None = None
        self.closed = False
        self._bucket = bucket
        self._part_bytes = part_bytes
        self._options = options
        self._held = bytearray()
        self._failed = False
        self._parts: list[UploadPart] = []

    @property
    def parts(self) -> tuple[UploadPart, ...]:
        """Return the parts sent so far."""
        return tuple(self._parts)

    def write(self, content: bytes) -> int:
        """Take bytes; send them in parts of one size as soon as there are more than fit into one."""
        if self._failed:  # the writer still ends the file after an error
            return len(content)
        self._held += content
        while len(self._held) > self._part_bytes:
            self._send(self._part_bytes)
        return len(content)

    def flush(self) -> None:
        """Do nothing: what is held back is sent by `send_rest` or `publish`."""

    def close(self) -> None:
        """Take no more."""
        self.closed = True

    def send_rest(self) -> None:
        """Send all that is held back, so that `publish` needs nothing that would be lost with this process."""
        if self._held:
            self._send(len(self._held))

    def publish(self) -> Literal["stored", "exists", "gone"]:
        """Make it an object, unless there is one under its key."""
        if self.upload_id is not None:
            return self._bucket.complete(self.key, self.upload_id, self.parts)
        etag = self._bucket.put_new(self.key, bytes(self._held), **self._options)
        return "exists" if etag is None else "stored"

    def abort(self) -> None:
        """Throw away what was sent."""
        if self.upload_id is not None:
            self._bucket.abort(self.key, self.upload_id)

    def _send(self, size: int) -> None:
        self._failed = True
        if self.upload_id is None:
            self.upload_id = self._bucket.begin(self.key, **self._options)
        with memoryview(self._held) as held:
            body = bytes(held[:size])
        del self._held[:size]
        self._parts.append(self._bucket.send(self.key, self.upload_id, len(self._parts) + 1, body))
        self._failed = False
