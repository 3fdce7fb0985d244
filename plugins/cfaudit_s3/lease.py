"""A claim on a stream that ends by itself: an object with owner, fence and end, renewed while its owner lives.

The fence counts the owners. Who takes over after an owner that did not let go also rewrites the stream's checkpoint
under the new fence, so that a former owner who wakes up holds a version that is no longer there.

All times are by the store's clock, so that the clocks of the machines do not matter.
"""

from __future__ import annotations

import logging
import os
import socket
import threading
import uuid
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, replace
from datetime import UTC, datetime, timedelta
from typing import Annotated

import msgspec

from cfaudit_export import CfauditError, CheckpointConflictError, CheckpointDamagedError, LockedError
from cfaudit_s3.bucket import Bucket
from cfaudit_s3.faults import one_line

_LOG = logging.getLogger(__name__)

# The store tells whole seconds, and a renewal that was sent in time takes a while.
_GRACE = timedelta(seconds=10)
_JOIN_SECONDS = 10


@dataclass(frozen=True, slots=True)
class Claim:
    """What the lease object says.

    Attributes:
        owner: machine and process, and what no other claim has.
        fence: how many owners the stream has had.
        ends_at: when it ends unless it is renewed.
        released: True when the owner let go.
    """

    owner: str
    fence: int
    ends_at: Annotated[datetime, msgspec.Meta(tz=True)]
    released: bool = False


class Lease:
    """A stream's lease in a bucket, as one run sees it.

    Attributes:
        robbed: True when it was taken over from an owner that did not let go.
    """

    def __init__(self, bucket: Bucket, key: str, duration: timedelta) -> None:
        self._bucket = bucket
        self._key = key
        self._duration = duration
        self._claim = Claim("", 0, datetime.min.replace(tzinfo=UTC))
        self._etag = ""
        self._lost = False
        self._renewing = threading.Lock()
        self.robbed = False

    @property
    def fence(self) -> int:
        """Return the fence of our claim."""
        return self._claim.fence

    def acquire(self) -> None:
        """Claim the stream.

        Raises:
            LockedError: another run has it, or was faster.
        """
        owner = f"{socket.gethostname()} process {os.getpid()} {uuid.uuid4().hex}"
        found = self._read()
        if found is None:
            self._claim = Claim(owner, 1, self._end())
            etag = self._bucket.put_new(self._key, _encode(self._claim))
        else:
            current, version = found
            if not current.released and self._bucket.now() < current.ends_at + _GRACE:
                raise LockedError(
                    f"another run ({one_line(current.owner)}) holds the stream until "
                    f"{current.ends_at:%Y-%m-%d %H:%M:%SZ}, see '{self._bucket.url(self._key)}'; try again later"
                )
            self.robbed = not current.released
            self._claim = Claim(owner, current.fence + 1, self._end())
            etag = self._bucket.put_over(self._key, _encode(self._claim), version)
        self._etag = etag or self._etag_of_ours()
        if not self._etag:
            raise LockedError(f"another run was faster to claim '{self._bucket.url(self._key)}'; try again later")

    @contextmanager
    def renewed(self) -> Iterator[None]:
        """Renew the claim while the context lasts, and let go of it in the end."""
        done = threading.Event()
        keeper = threading.Thread(target=self._keep, args=(done,), name="lease", daemon=True)
        keeper.start()
        try:
            yield
        finally:
            done.set()
            keeper.join(_JOIN_SECONDS)
            self._release()

    def require(self) -> None:
        """Make sure that the claim holds; one that has ended is renewed if no other run took it over.

        Raises:
            CheckpointConflictError: it was lost.
        """
        if self._bucket.now() >= self._claim.ends_at:
            self.renew()
        if self._lost:
            raise self._conflict()

    def require_stored(self) -> None:
        """Make sure that the claim holds, by asking.

        Raises:
            CheckpointConflictError: it was lost.
        """
        if not self._etag_of_ours():
            raise self._conflict()

    def renew(self) -> None:
        """Move the end of the claim; a claim that another run took over is lost."""
        with self._renewing:
            claim = replace(self._claim, ends_at=self._end())
            if self._replace(claim):
                self._claim = claim
            else:
                self._lost = True

    # -- how --------------------------------------------------------------------------------------------

    def _keep(self, done: threading.Event) -> None:
        while not self._lost and not done.wait(self._duration.total_seconds() / 3):
            try:
                self.renew()
            except CfauditError as error:  # there is time for two more attempts
                _LOG.warning("lease not renewed", extra={"lease": self._key, "error": str(error)})

    def _release(self) -> None:
        if self._lost:
            return
        try:
            self._replace(replace(self._claim, released=True))
        except CfauditError as error:  # it ends by itself
            _LOG.warning("lease not released", extra={"lease": self._key, "error": str(error)})

    def _replace(self, claim: Claim) -> bool:
        """Put a claim in the place of ours; False when ours is not there any more."""
        etag = self._bucket.put_over(self._key, _encode(claim), self._etag)
        if etag is None and (version := self._etag_of_ours()):  # the answer to an earlier write was lost
            etag = self._bucket.put_over(self._key, _encode(claim), version)
        self._etag = etag or self._etag
        return etag is not None

    def _read(self) -> tuple[Claim, str] | None:
        found = self._bucket.get(self._key)
        if found is None:
            return None
        try:
            return msgspec.json.decode(found.body, type=Claim), found.etag
        except ValueError as error:
            raise CheckpointDamagedError(
                f"lease '{self._bucket.url(self._key)}' cannot be read: {error}; remove it when no run is under way"
            ) from error

    def _etag_of_ours(self) -> str:
        """Return the ETag of our claim if it is the one that stands: the answer to a write may have been lost."""
        found = self._read()
        return found[1] if found and found[0].owner == self._claim.owner and not found[0].released else ""

    def _end(self) -> datetime:
        return self._bucket.now() + self._duration

    def _conflict(self) -> CheckpointConflictError:
        return CheckpointConflictError(
            f"another run took over the lease '{self._bucket.url(self._key)}', as this one was silent for too long; "
            "this run changed nothing more"
        )


def _encode(claim: Claim) -> bytes:
    return msgspec.json.format(msgspec.json.encode(claim), indent=1)
