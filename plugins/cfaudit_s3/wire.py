"""A request to S3 in, its answer or an error of this program out."""

from __future__ import annotations

import hashlib
import random
import time
import zlib
from base64 import b64encode
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from email.utils import parsedate_to_datetime
from functools import cached_property
from typing import Any, TypeVar

from botocore.exceptions import BotoCoreError, ClientError
from botocore.parsers import ResponseParserError

from cfaudit_export import CfauditError
from cfaudit_export.core.deadline import Deadline, DeadlineError
from cfaudit_export.http.aws import bound_replies
from cfaudit_s3 import S3Access
from cfaudit_s3.client import checksum_of, connect
from cfaudit_s3.faults import code_of, is_foreign, judge, status_of

T = TypeVar("T")

# A conflict with another write in flight lasts as long as that write: these waits, with jitter, and then no more.
_CONFLICT_WAITS = (0.05, 0.1, 0.2, 0.4, 0.8)
# How long an attempt may take: so many times the longest silence, and what is sent at so many bytes a second.
_SILENCES = 2
_SLOWEST_BYTES = 32 << 10
_LONGEST_PAUSE = 20.0  # of botocore, between two attempts
# Far more than any object of an export that is read whole: notes, checkpoints, a day of a batch.
_MOST_OBJECT_BYTES = 256 << 20
# Of a thousand names each: the checkpoints, or the manifests of a chain, are far fewer.
_MOST_PAGES = 1_000
_CONFLICTS = {"ConditionalRequestConflict", "OperationAborted"}

_VERBS = {
    "put_object": "write",
    "get_object": "read",
    "head_object": "look at",
    "delete_object": "remove",
    "list_objects_v2": "list",
    "create_multipart_upload": "begin to write",
    "upload_part": "write",
    "complete_multipart_upload": "complete",
    "abort_multipart_upload": "abort",
}


@dataclass(frozen=True, slots=True)
class Faults:
    """The classes of error to raise: for good, for now, and when the outcome is not known."""

    refused: type[CfauditError]
    failed: type[CfauditError]
    unknown: type[CfauditError]


class Declined(Exception):  # noqa: N818 - an answer, and an error only where it is unexpected
    """An answer other than yes that the caller may expect.

    Attributes:
        status: its HTTP status: 403 or 404 for a look, 404, 412 or 501 for a write on a condition.
        error: what to raise when it is not expected after all.
        has_code: whether S3's own code says so too; the answer to HEAD has no room for one.
    """

    def __init__(self, status: int, error: CfauditError, *, has_code: bool) -> None:
        super().__init__(status)
        self.status = status
        self.error = error
        self.has_code = has_code


class Wire:
    """A client for one bucket, opened at the first request. May be used by several threads."""

    def __init__(self, access: S3Access, faults: Faults, monotonic: Callable[[], float] = time.monotonic) -> None:
        self.access = access
        self.faults = faults
        self._monotonic = monotonic
        self._heard: tuple[datetime, float] | None = None
        self._close_replies: Callable[[], None] = lambda: None

    def now(self) -> datetime:
        """Return the time by the store's clock: the `Date` of its last answer (RFC 9110, 6.6.1) and what passed since.

        Raises:
            CfauditError: its answers have none.
        """
        if self._heard is None:
            raise self.faults.refused(
                f"the answers of the store at '{self.endpoint}' have no Date, so nothing can be held there for a time;"
                " keep checkpoints in another store, or set checkpoint.store = 'file'"
            )
        date, at = self._heard
        return date + timedelta(seconds=self._monotonic() - at)

    def url(self, key: str) -> str:
        """Return the name of an object that people and tools know."""
        return f"s3://{self.access.bucket}/{key}"

    @property
    def endpoint(self) -> str:
        """Return where the store is."""
        return str(self._client.meta.endpoint_url)

    @property
    def algorithm(self) -> dict[str, str]:
        """Return the parameter that names the algorithm of an upload's checksums; MD5 is not named."""
        return {"ChecksumAlgorithm": self._checksum.upper()} if self._checksum in {"sha256", "crc32"} else {}

    def checksum(self, body: bytes) -> dict[str, str]:
        """Return the parameter of a write that lets the store verify this content.

        Computed here and not left to boto3, which over https sends it behind the content, in a form that other stores
        than AWS have taken for content.
        """
        match self._checksum:
            case "sha256":
                return {"ChecksumSHA256": b64encode(hashlib.sha256(body).digest()).decode()}
            case "crc32":
                return {"ChecksumCRC32": b64encode(zlib.crc32(body).to_bytes(4)).decode()}
            case "md5":
                return {"ContentMD5": b64encode(hashlib.md5(body, usedforsecurity=False).digest()).decode()}
        return {}

    @cached_property
    def protection(self) -> dict[str, Any]:
        """Return the parameters of a write that ask for encryption."""
        access = self.access
        if access.sse == "bucket":
            return {}
        if access.sse == "AES256":
            return {"ServerSideEncryption": "AES256"}
        key = {"SSEKMSKeyId": access.kms_key_id} if access.kms_key_id else {}
        return {"ServerSideEncryption": "aws:kms", "BucketKeyEnabled": access.bucket_key, **key}

    def ask(self, operation: str, key: str, **parameters: Any) -> dict[str, Any]:
        """Ask for something about an object, and return the answer; a body is read to its end.

        Raises:
            Declined: no, in a way that may be expected.
            CfauditError: no, for the reason it gives.
        """
        waits = iter(_CONFLICT_WAITS)
        while True:
            try:
                return self._once(operation, Key=key, **parameters)
            except ClientError as error:
                wait = next(waits, None)
                if wait is None or code_of(error) not in _CONFLICTS:
                    raise self._no(operation, key, parameters, error) from error
                time.sleep(wait * random.uniform(0.5, 1.0))  # noqa: S311 - jitter is no secret
            except (BotoCoreError, DeadlineError, ResponseParserError, ValueError) as error:
                raise self.error(_VERBS[operation], key, error, operation) from error

    def pages(self, prefix: str, **limits: Any) -> Iterator[dict[str, Any]]:
        """Yield the pages of the list of all objects whose keys begin with the prefix.

        Raises:
            CfauditError: it cannot be listed, or the list has no end.
        """
        listing = {"Bucket": self.access.bucket, "Prefix": prefix, **limits}
        try:
            found = iter(self._client.get_paginator("list_objects_v2").paginate(**listing))
            for _ in range(_MOST_PAGES):
                page = self._in_time(lambda: next(found, None))
                if page is None:
                    return
                yield page
        except (BotoCoreError, ClientError, DeadlineError, ResponseParserError, ValueError) as error:
            raise self.error("list", prefix, error, "list_objects_v2") from error
        raise self.faults.failed(f"cannot list '{self.url(prefix)}': the list has more than {_MOST_PAGES:,} pages")

    def error(self, verb: str, key: str, error: Exception, operation: str = "") -> CfauditError:
        """Return the error that says what a fault means and what to do."""
        verdict = judge(error, operation, self.access)
        fault: type[CfauditError] = getattr(self.faults, verdict.kind)
        return fault(f"cannot {verb} '{self.url(key)}': {verdict.words}")

    def close(self) -> None:
        """Close the connections. May be called twice."""
        if "_client" in self.__dict__:
            self._client.close()
            self._close_replies()

    @cached_property
    def _checksum(self) -> str:
        return checksum_of(self.access, self._client)

    @cached_property
    def _client(self) -> Any:
        try:
            client = connect(self.access)
        except (BotoCoreError, ValueError) as error:
            raise self.error("reach", "", error) from error
        client.meta.events.register("before-parse.s3.*", self._hear)
        self._close_replies = bound_replies(client, self.access.profile)
        return client

    def _hear(self, response_dict: dict[str, Any], **_: Any) -> None:
        """Note what time it is where an answer comes from."""
        try:
            date = parsedate_to_datetime(response_dict["headers"].get("date") or "")
        except ValueError:
            return
        self._heard = date.replace(tzinfo=date.tzinfo or UTC), self._monotonic()

    def _once(self, operation: str, **parameters: Any) -> dict[str, Any]:
        client = self._client

        def exchange() -> dict[str, Any]:
            answer: dict[str, Any] = getattr(client, operation)(Bucket=self.access.bucket, **parameters)
            if operation == "get_object":
                answer["Body"] = _read(answer["Body"])
            return answer

        return self._in_time(exchange, len(parameters.get("Body", b"")))

    def _in_time(self, exchange: Callable[[], T], sent_bytes: int = 0) -> T:
        """Return what an exchange brings; botocore only limits each silence of the store.

        Raises:
            DeadlineError: with all its attempts it takes longer than the settings allow.
        """
        attempt_seconds = _SILENCES * self.access.timeout_seconds + sent_bytes / _SLOWEST_BYTES
        pauses_seconds = _LONGEST_PAUSE * (self.access.attempts - 1)
        return Deadline.after(attempt_seconds * self.access.attempts + pauses_seconds).run(exchange)

    def _no(self, operation: str, key: str, parameters: Mapping[str, Any], error: ClientError) -> Exception:
        fault = self.error(_VERBS[operation], key, error, operation)
        if not _expected(operation, parameters, error):
            return fault
        return Declined(status_of(error), fault, has_code=not is_foreign(error))


# The codes with which S3 says no in a way that may be expected. The same status without one was said by a proxy.
_LOOKS = {"head_object", "get_object"}
_NO_UPLOAD = {(404, "NoSuchUpload")}
_NO_CONDITION = {(404, "NoSuchKey"), (412, "PreconditionFailed"), (501, "NotImplemented")}


def _expected(operation: str, parameters: Mapping[str, Any], error: ClientError) -> bool:
    """Say whether a caller may make something of this answer."""
    answer = status_of(error), code_of(error)
    if operation in _LOOKS:
        return answer == (404, "NoSuchKey") or answer[0] == 403 or (operation == "head_object" and answer[0] == 404)
    if operation in {"complete_multipart_upload", "abort_multipart_upload"} and answer in _NO_UPLOAD:
        return True
    conditional = "IfMatch" in parameters or "IfNoneMatch" in parameters
    return conditional and answer in _NO_CONDITION


def _read(body: Any) -> bytes:
    """Return the content of an object.

    Raises:
        ResponseParserError: it has no end.
    """
    content: bytes = body.read(_MOST_OBJECT_BYTES + 1)
    body.close()
    if len(content) > _MOST_OBJECT_BYTES:
        raise ResponseParserError(f"the object is larger than {_MOST_OBJECT_BYTES:,} bytes")
    return content
