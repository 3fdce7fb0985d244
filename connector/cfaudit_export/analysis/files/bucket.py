"""A bucket as a reader needs it: its list, and bytes of its objects. Every exchange has an end.

boto3 counts its timeouts from the last byte, so that a store that sends a byte a second would hold a reader for as long
as it likes. So each exchange with all its attempts is over after a time that the size of its content allows, and only
so much is asked for at once.
"""

from __future__ import annotations

import errno
import operator
import os
from collections.abc import Callable
from contextlib import AbstractContextManager
from typing import Any, Self, TypeVar

from cfaudit_export.analysis.files.location import FoundFile, OpenFile
from cfaudit_export.core.deadline import Deadline, DeadlineError
from cfaudit_export.core.escape import shown
from cfaudit_export.errors import AccessError, CfauditError, SettingsError, TryAgainError

MOST_AT_ONCE = 16
"""How many exchanges there may be at once."""

_T = TypeVar("_T")
# Hourly files of a hundred accounts in a year; a list that goes on is one without an end.
_MOST_OBJECTS = 1_000_000
_REQUEST_BYTES = 4 << 20
_SLOWEST_BYTES = 32 << 10  # a second
_SILENCES = 2
_PASSING = {"InternalError", "RequestTimeout", "ServiceUnavailable", "SlowDown", "Throttling", "TooManyRequests"}
_STRANGE = "the answer is not one of S3: is there a proxy, a sign-in page or another server at that endpoint?"


class BucketReader:
    """Reads a bucket; may be used by several threads.

    Attributes:
        shown: what people call the place.
    """

    def __init__(self, name: str, shown: str, client: Any, *, silent_seconds: float, attempts: int) -> None:
        """Build it with a client of boto3, the longest silence that is waited for, and how often to ask."""
        self.shown = shown
        self._name = name
        self._client = client
        self._silent_seconds = silent_seconds
        self._attempts = attempts

    def objects(self, prefix: str) -> list[dict[str, Any]]:
        """Return key, size and ETag of every object whose key begins with a prefix, by key.

        Raises:
            CfauditError: it cannot be listed.
        """
        pages = iter(self._client.get_paginator("list_objects_v2").paginate(Bucket=self._name, Prefix=prefix))
        found: list[dict[str, Any]] = []
        while page := self._exchange(lambda: next(pages, None)):
            if "Name" not in page or "IsTruncated" not in page:
                raise TryAgainError(f"'{self.shown}' cannot be listed: {_STRANGE}")
            found += [_known(one) for one in page.get("Contents", ())]
            if len(found) > _MOST_OBJECTS:
                more = f"more than {_MOST_OBJECTS:,} objects"
                raise SettingsError(f"'{self.shown}' cannot be read: its list has {more}; name a longer prefix")
        return sorted(found, key=operator.itemgetter("Key"))

    def open(self, found: FoundFile) -> AbstractContextManager[OpenFile]:
        """Return an object as a file. Nothing is asked before it is read.

        Reading raises:
            FileNotFoundError: it is gone, or another one than was listed.
            CfauditError: it cannot be read.
        """
        return _Object(self._piece, found)

    def _piece(self, found: FoundFile, start: int, length: int) -> bytes:
        asked = f"{start}-{start + length - 1}"
        answer, content = self._exchange(lambda: self._get(found, asked, length), length)
        span = answer.get("ContentRange", "")
        is_other = span and not span.endswith(f"/{found.bytes}")
        if is_other or answer.get("ETag", found.version) != found.version:
            raise _gone(found)
        if content is None:
            raise TryAgainError(f"'{self.shown}' cannot be read: {_STRANGE}")
        return content

    def _get(self, found: FoundFile, asked: str, length: int) -> tuple[dict[str, Any], bytes | None]:
        """Return an answer, and its content if that is what was asked for."""
        from botocore.exceptions import ReadTimeoutError, ResponseStreamingError

        for left in reversed(range(self._attempts)):
            answer = self._client.get_object(Bucket=self._name, Key=found.path, Range=f"bytes={asked}")
            try:
                if answer.get("ContentRange") != f"bytes {asked}/{found.bytes}":
                    return answer, None
                content = answer["Body"].read(length)
            except (ReadTimeoutError, ResponseStreamingError):  # boto3 tries again only before it has the first byte
                if not left:
                    raise
            else:
                if len(content) == length:
                    return answer, content
            finally:
                answer["Body"].close()
        raise TryAgainError(f"'{self.shown}' cannot be reached: its answers end early; try again later")

    def _exchange(self, exchange: Callable[[], _T], content_bytes: int = 0) -> _T:
        from botocore.exceptions import BotoCoreError, ClientError, ReadTimeoutError
        from botocore.parsers import ResponseParserError

        deadline = Deadline.after(_SILENCES * self._silent_seconds + content_bytes / _SLOWEST_BYTES)
        try:
            return deadline.run(exchange)
        except ClientError as error:
            raise self._refused(error) from error
        except ReadTimeoutError as error:
            words = f"no byte came for {self._silent_seconds:g} s"
            raise TryAgainError(f"'{self.shown}' cannot be reached: {words}; try again later") from error
        except (BotoCoreError, DeadlineError, ResponseParserError, ValueError) as error:
            raise TryAgainError(f"'{self.shown}' cannot be reached: {shown(error)}; try again later") from error

    def _refused(self, error: Any) -> CfauditError | OSError:
        """Return what a refusal of the store means."""
        said = error.response.get("Error", {})
        code, status = str(said.get("Code", "")), error.response.get("ResponseMetadata", {}).get("HTTPStatusCode", 0)
        words = shown(f"{code} {said.get('Message', '')}")
        if code in {"NoSuchKey", "PreconditionFailed", "InvalidRange"}:
            return FileNotFoundError(errno.ENOENT, "No such file", self.shown)
        if code == "NoSuchBucket":
            return SettingsError(f"'{self.shown}' cannot be read: the bucket does not exist")
        if status in {401, 403}:
            return AccessError(f"not allowed to read '{self.shown}': {words}")
        if status in {408, 429} or status >= 500 or code in _PASSING:
            return TryAgainError(f"'{self.shown}' cannot be read now: {words}; try again later")
        return SettingsError(f"'{self.shown}' cannot be read: {words}")


def _known(listed: dict[str, Any]) -> dict[str, Any]:
    return {"Key": listed["Key"], "Size": listed.get("Size", 0), "ETag": listed.get("ETag", "")}


def _gone(found: FoundFile) -> OSError:
    return FileNotFoundError(errno.ENOENT, "No such file", found.name)


class _Object:
    """An object as a file that is read from wherever it was moved to, a few megabytes in an exchange."""

    def __init__(self, piece: Callable[[FoundFile, int, int], bytes], found: FoundFile) -> None:
        self._piece = piece
        self._found = found
        self._at = 0

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        """Do nothing: no connection belongs to it."""

    def seek(self, offset: int, whence: int = os.SEEK_SET, /) -> int:
        """Move to a byte."""
        self._at = offset + {os.SEEK_SET: 0, os.SEEK_CUR: self._at, os.SEEK_END: self._found.bytes}[whence]
        return self._at

    def read(self, size: int = -1, /) -> bytes:
        """Read bytes, by default all that follow."""
        stop = self._found.bytes if size < 0 else min(self._at + size, self._found.bytes)
        starts = range(self._at, stop, _REQUEST_BYTES)
        self._at = max(self._at, stop)
        return b"".join(self._piece(self._found, at, min(_REQUEST_BYTES, stop - at)) for at in starts)
