"""Content codings of HTTP (RFC 9110, 8.4.1), undone in pieces of bounded size, so that a bomb never is in memory."""

from __future__ import annotations

import zlib
from collections.abc import Iterator, Sequence

from cfaudit_export.core.escape import shown

_PIECE_BYTES = 65_536


class CodingError(ValueError):
    """The bytes do not fit their coding, or the coding is not known here."""


class ContentCoding:
    """The codings of one message, in the order in which they were applied."""

    def __init__(self, names: Sequence[str]) -> None:
        """Build it.

        Raises:
            CodingError: a coding is neither gzip nor deflate.
        """
        self._steps = [_Step(name) for name in reversed(names) if name != "identity"]

    @property
    def is_cut(self) -> bool:
        """Say whether compressed data has begun and not ended."""
        return any(step.is_cut for step in self._steps)

    def decoded(self, data: bytes) -> Iterator[bytes]:
        """Yield what these bytes stand for, in pieces.

        Raises:
            CodingError: they are not what the coding says.
        """
        return _through(self._steps, data)


class _Step:
    def __init__(self, name: str) -> None:
        if name not in {"gzip", "x-gzip", "deflate"}:
            raise CodingError(f"it is encoded as '{shown(name)}', which was not asked for")
        self._is_deflate = name == "deflate"
        self._began = False
        self._zlib = zlib.decompressobj(zlib.MAX_WBITS + (0 if self._is_deflate else 16))

    @property
    def is_cut(self) -> bool:
        return self._began and not self._zlib.eof

    def pieces(self, data: bytes) -> Iterator[bytes]:
        if self._is_deflate and not self._began and data and data[0] & 0x0F != 8:
            self._zlib = zlib.decompressobj(-zlib.MAX_WBITS)  # without the header that it should have (RFC 1950)
        while data and not self._zlib.eof:
            self._began = True
            try:
                piece = self._zlib.decompress(data, _PIECE_BYTES)
            except zlib.error as error:
                raise CodingError(str(error)) from None
            data = self._zlib.unconsumed_tail
            if piece:
                yield piece


def _through(steps: Sequence[_Step], data: bytes) -> Iterator[bytes]:
    if not steps:
        yield data
        return
    first, *others = steps
    for piece in first.pieces(data):
        yield from _through(others, piece)
