"""What an attempt says about its batch before any of it can be seen: the objects, and how to complete them.

A note is a small object named after its batch alone, because `Sink.find` is given no more than that. It is never
removed: it is the memory of what the bucket has.
"""

from __future__ import annotations

from dataclasses import dataclass

import msgspec

from cfaudit_s3.bucket import UploadPart


@dataclass(frozen=True, slots=True)
class DayObject:
    """The events of one UTC day of a batch, as one object.

    Attributes:
        key: its key.
        rows: how many events it has.
        digest: SHA-256 over their ids, hex.
        size: how many bytes it has, None in notes that do not say; another attempt's object may have another size.
        sha256: SHA-256 of its bytes, hex; likewise.
        upload_id: the upload that becomes the object; None for one that is put whole.
        parts: the parts of that upload.
    """

    key: str
    rows: int
    digest: str
    upload_id: str | None = None
    parts: tuple[UploadPart, ...] = ()
    size: int | None = None
    sha256: str | None = None


@dataclass(frozen=True, slots=True)
class Note:
    """An attempt to store a batch.

    Attributes:
        batch_id: the batch.
        attempt: names the attempt; its objects bear the name, too.
        pieces: the objects, ascending by day.
    """

    batch_id: str
    attempt: str
    pieces: tuple[DayObject, ...]

    def encode(self) -> bytes:
        """Return the note as JSON."""
        return msgspec.json.format(msgspec.json.encode(self), indent=1)

    @classmethod
    def decode(cls, body: bytes) -> Note:
        """Return the note that is written there.

        Raises:
            ValueError: none is.
        """
        return msgspec.json.decode(body, type=cls)
