"""A Parquet file that can be checked: a digest of its footer, written with it and compared later.

Parquet has a checksum of each page, and none of the footer, where one wrong bit changes a statistic, by which readers
leave out rows, or a note. So a note `cfaudit_footer_sha256` holds the SHA-256 of the footer, with 64 zeros in the place
of this digest. A page whose header is damaged cannot be read, or is read as it was; that was tried bit by bit.

The digest finds damage. It is no signature: who can write files can write digests.
"""

from __future__ import annotations

import hashlib
import io
import os
import re
from dataclasses import dataclass
from typing import IO, Any

import pyarrow as pa
import pyarrow.parquet as pq

FOOTER_NOTE = "cfaudit_footer_sha256"
BLANK = "0" * 64
"""What stands in the place of the digest of a footer while that is computed."""

_MAGIC = b"PAR1"
_END = 8  # length of the footer, and the magic
_GUESS = 64 << 10
_MOST = 16 << 20  # of hundreds of row groups; in memory it is several times as large
# Thrift's compact protocol: a text as the second field of a pair, 64 bytes long.
_BEFORE_DIGEST = FOOTER_NOTE.encode() + b"\x18\x40"
_DIGEST = re.compile(re.escape(_BEFORE_DIGEST) + rb"([0-9a-f]{64})")


@dataclass(frozen=True, slots=True)
class Footer:
    """What the end of a file says.

    Attributes:
        metadata: as pyarrow reads it.
        digest: the digest of the footer, which was compared; None in a file that has none.
        content: the end of the file, from the first byte of the footer on.
    """

    metadata: pq.FileMetaData
    digest: str | None
    content: bytes


class ChecksumWriter(io.RawIOBase):
    """Passes on what is written to a file, and holds back its end until that has its digests.

    Attributes:
        size: how many bytes were passed on.
    """

    def __init__(self, file: IO[bytes]) -> None:
        super().__init__()
        self.size = 0
        self._file = file
        self._hash = hashlib.sha256()
        self._end: bytearray | None = None

    @property
    def sha256(self) -> str:
        """Return the SHA-256 of what was passed on, hex."""
        return self._hash.hexdigest()

    def writable(self) -> bool:
        """Say yes."""
        return True

    def write(self, content: Any, /) -> int:
        """Write bytes, or hold them back."""
        if self._end is None:
            self._pass_on(content)
        else:
            self._end += content
        return len(content)

    def flush(self) -> None:
        """Do nothing: the file is flushed by its owner."""

    def notes(self) -> dict[str, str]:
        """Return the note for the footer; all pages are written, and what follows is held back."""
        self._end = bytearray()
        return {FOOTER_NOTE: BLANK}

    def finish(self) -> None:
        """Put the digest into the footer, and write what was held back."""
        end = bytes(self._end or b"")
        footer = end[-_length(end) :]
        digest = hashlib.sha256(footer[:-_END]).hexdigest()
        self._pass_on(end[: -len(footer)] + _with_digest(footer, BLANK, digest))

    def _pass_on(self, content: Any) -> None:
        self._file.write(content)
        self._hash.update(content)
        self.size += len(content)


def read_footer(file: Any) -> Footer:
    """Read the footer of an open file, and compare it with its digest.

    Raises:
        OSError: the file cannot be read.
        pa.ArrowInvalid: it is not a whole Parquet file, or its footer is not the one that was written.
    """
    size = file.seek(0, os.SEEK_END)
    end = _last(file, size, _GUESS)
    if len(end) < _END or end[-4:] != _MAGIC:
        raise pa.ArrowInvalid("it does not end as a Parquet file ends")
    length = _length(end)
    if length > min(size, _MOST):
        raise pa.ArrowInvalid("its footer is longer than the file, or than footers are")
    footer = end[-length:] if length <= len(end) else _last(file, size, length)
    said = _DIGEST.search(footer)
    digest = said[1].decode() if said else None
    if digest and hashlib.sha256(_with_digest(footer, digest, BLANK)[:-_END]).hexdigest() != digest:
        raise pa.ArrowInvalid("its footer is not the one that was written")
    try:
        return Footer(pq.read_metadata(pa.BufferReader(_MAGIC + footer)), digest, footer)
    except (pa.ArrowException, ValueError, OSError) as error:  # no disk was asked
        raise pa.ArrowInvalid(str(error)) from error


def _length(end: bytes) -> int:
    """Return the length of the footer, what follows it included."""
    return int.from_bytes(end[-_END:-4], "little") + _END


def _with_digest(footer: bytes, old: str, new: str) -> bytes:
    return footer.replace(_BEFORE_DIGEST + old.encode(), _BEFORE_DIGEST + new.encode())


def _last(file: Any, size: int, length: int) -> bytes:
    file.seek(max(size - length, 0))
    return bytes(file.read(length))
