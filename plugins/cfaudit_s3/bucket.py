"""What the sink and the checkpoint store ask of S3: objects put on a condition, read, and uploaded in parts.

Stores differ in ways that matter here. Some refuse conditional writes (501), and some ignore them silently; `Bucket`
finds out, once. Some answer 403, not 404, for what does not exist, as AWS does where listing is not allowed.

An object is absent only where the store says so in its own words: by its code, or by a list without the key.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator, Mapping
from contextlib import suppress
from dataclasses import dataclass, field
from datetime import datetime
from typing import Any, Literal

from cfaudit_export import CfauditError
from cfaudit_s3 import S3Access
from cfaudit_s3.answers import normal_etag
from cfaudit_s3.wire import Declined, Faults, Wire


@dataclass(frozen=True, slots=True)
class FoundObject:
    """An object that is there. `body` is empty when only its head was asked for."""

    etag: str
    metadata: Mapping[str, str]
    size: int
    body: bytes = b""


@dataclass(frozen=True, slots=True)
class UploadPart:
    """A part of an upload, as its completion must name it."""

    number: int
    etag: str
    checksum: dict[str, str] = field(default_factory=dict)


class Bucket:
    """One bucket. Nothing is opened before the first call; one instance may be used by several threads.

    Attributes:
        conditional: whether the store honours conditional writes; None until that is known.
    """

    def __init__(self, access: S3Access, faults: Faults, monotonic: Callable[[], float] = time.monotonic) -> None:
        self.conditional: bool | None = None
        self._wire = Wire(access, faults, monotonic)

    def url(self, key: str) -> str:
        """Return the name of an object that people and tools know."""
        return self._wire.url(key)

    def now(self) -> datetime:
        """Return the time by the store's clock; as `Wire.now`."""
        return self._wire.now()

    @property
    def endpoint(self) -> str:
        """Return where the store is."""
        return self._wire.endpoint

    # -- objects --------------------------------------------------------------------------------------

    def put_new(self, key: str, body: bytes, **options: Any) -> str | None:
        """Put an object where there is none; return its ETag, None when there is one.

        Where the store knows no conditions, looking first stands for them; another writer may then be overwritten.
        """
        if self.conditional is False:
            return None if self.head(key) else self._put(key, body, options)
        try:
            return self._put(key, body, {**options, "IfNoneMatch": "*"})
        except Declined as declined:
            if not self._knows_no_conditions(declined):
                return None
        return self.put_new(key, body, **options)

    def put_over(self, key: str, body: bytes, etag: str, **options: Any) -> str | None:
        """Replace the object that has this ETag; return the new one, None when it changed or is gone."""
        if self.conditional is False:
            found = self.head(key)
            return self._put(key, body, options) if found and found.etag == etag else None
        try:
            return self._put(key, body, {**options, "IfMatch": etag})
        except Declined as declined:
            if not self._knows_no_conditions(declined):
                return None
        return self.put_over(key, body, etag, **options)

    def learn_conditions(self, key: str, body: bytes) -> bool:
        """Find out whether conditional writes are honoured, by putting what was just put at `key` once more.

        Harmless where they are ignored, as the content is the same.
        """
        if self.conditional is None:
            try:
                self._put(key, body, {"IfNoneMatch": "*"})
            except Declined as declined:
                self.conditional = declined.status == 412
            else:
                self.conditional = False
        return self.conditional

    def head(self, key: str) -> FoundObject | None:
        """Look at an object; None when there is none."""
        return self._look("head_object", key)

    def get(self, key: str) -> FoundObject | None:
        """Read an object; None when there is none."""
        return self._look("get_object", key)

    def put(self, key: str, body: bytes, **options: Any) -> None:
        """Put an object, in the place of one that is there."""
        self._put(key, body, options)

    def remove(self, key: str) -> None:
        """Remove an object; one that is not there is fine. Where removing is not allowed or fails, that is an error."""
        try:
            self._wire.ask("delete_object", key)
        except Declined as declined:
            if declined.status != 404:
                raise declined.error from declined

    def delete(self, key: str) -> bool:
        """Remove an object; False when that is not allowed or fails, which is never worth failing for."""
        with suppress(CfauditError):
            self._wire.ask("delete_object", key)
            return True
        return False

    def keys(self, prefix: str) -> Iterator[str]:
        """Yield all keys that begin with the prefix, ascending."""
        for page in self._wire.pages(prefix):
            yield from (entry["Key"] for entry in page.get("Contents", ()))

    # -- uploads in parts: invisible until they are completed -------------------------------------------

    def begin(self, key: str, **options: Any) -> str:
        """Begin an upload; return its id."""
        wire = self._wire
        return str(wire.ask("create_multipart_upload", key, **wire.protection, **wire.algorithm, **options)["UploadId"])

    def send(self, key: str, upload_id: str, number: int, body: bytes) -> UploadPart:
        """Send a part; all but the last must have the same size."""
        checksum = self._wire.checksum(body)
        answer = self._wire.ask("upload_part", key, UploadId=upload_id, PartNumber=number, Body=body, **checksum)
        names = [f"Checksum{algorithm}" for algorithm in self._wire.algorithm.values()]
        return UploadPart(number, answer["ETag"], {name: answer[name] for name in names if name in answer})

    def complete(self, key: str, upload_id: str, parts: tuple[UploadPart, ...]) -> Literal["stored", "exists", "gone"]:
        """Make an upload the object, unless there is one; `gone` when it was aborted or completed before."""
        if self.conditional is False and self.head(key):
            return "exists"
        condition = {} if self.conditional is False else {"IfNoneMatch": "*"}
        listed = [{"PartNumber": part.number, "ETag": part.etag, **part.checksum} for part in parts]
        upload = {"UploadId": upload_id, "MultipartUpload": {"Parts": listed}}
        try:
            self._wire.ask("complete_multipart_upload", key, **upload, **condition)
        except Declined as declined:
            if self._knows_no_conditions(declined):
                return self.complete(key, upload_id, parts)
            return "gone" if declined.status == 404 else "exists"
        return "stored"

    def abort(self, key: str, upload_id: str) -> bool:
        """Throw an upload away; False when that is not allowed or fails, for a lifecycle rule to do it."""
        with suppress(CfauditError):
            with suppress(Declined):  # it is gone already
                self._wire.ask("abort_multipart_upload", key, UploadId=upload_id)
            return True
        return False

    def close(self) -> None:
        """Close the connections. May be called twice."""
        self._wire.close()

    def _put(self, key: str, body: bytes, options: Mapping[str, Any]) -> str:
        wire = self._wire
        answer = wire.ask("put_object", key, Body=body, **wire.protection, **wire.checksum(body), **options)
        return normal_etag(answer["ETag"])

    def _knows_no_conditions(self, declined: Declined) -> bool:
        if declined.status in {412, 501}:
            self.conditional = declined.status == 412
        return declined.status == 501

    def _look(self, operation: str, key: str, **options: Any) -> FoundObject | None:
        try:
            answer = self._wire.ask(operation, key, **options)
        except Declined as declined:
            if declined.status == 403:
                self._require_absence(key, declined)
            elif not declined.has_code:
                return self._look("get_object", key, Range="bytes=0-0")  # which has room for a code
            return None
        metadata = {name.lower(): value for name, value in answer["Metadata"].items()}  # some stores change the case
        body = answer.get("Body", b"") if "Range" not in options else b""
        size = int(answer.get("ContentRange", "").rpartition("/")[2] or answer["ContentLength"])
        return FoundObject(normal_etag(answer["ETag"]), metadata, size, body)

    def _require_absence(self, key: str, declined: Declined) -> None:
        """Make sure by a list that a key does not exist.

        Raises:
            CfauditError: it exists and may not be read, or listing is not allowed.
        """
        try:
            page = next(self._wire.pages(key, PaginationConfig={"PageSize": 1, "MaxItems": 1}))
        except CfauditError as error:
            raise (declined.error if isinstance(error, self._wire.faults.refused) else error) from declined
        if any(entry["Key"] == key for entry in page.get("Contents", ())):
            raise declined.error from declined
