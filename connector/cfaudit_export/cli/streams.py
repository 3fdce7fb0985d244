"""The standard streams of the process: full disks, closed pipes and old encodings have a defined end.

A text that stderr does not take is lost, and the work goes on: a log that cannot be written is no reason not to export.
An answer that stdout does not take is an error with a name; a reader that went away, as `head` does, ends the process
as SIGPIPE would.
"""

from __future__ import annotations

import io
import os
import sys
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from typing import Any, TextIO

from cfaudit_export.errors import UsageError

_STANDARD = 3


class ReaderGoneError(Exception):
    """The other end of stdout was closed."""


class _Answers(io.FileIO):
    """Stdout, below its buffer."""

    def __init__(self, descriptor: int) -> None:
        super().__init__(descriptor, "w", closefd=False)
        self._is_broken = False

    def write(self, data: Any, /) -> int:
        """Write bytes; after an error take them and drop them, so that it is told once."""
        size = memoryview(data).nbytes
        if self._is_broken:
            return size
        try:
            return super().write(data) or 0
        except OSError as error:
            self._is_broken = True
            if isinstance(error, BrokenPipeError):
                raise ReaderGoneError from None
            raise UsageError(f"cannot write to stdout: {error.strerror or error}") from None


class _Commentary(io.FileIO):
    """Stderr, below its buffer."""

    def write(self, data: Any, /) -> int:
        """Write bytes, or lose them."""
        try:
            return super().write(data) or 0
        except OSError:
            return memoryview(data).nbytes


@contextmanager
def standard_streams() -> Iterator[None]:
    """Put streams that fail by name in place of the process's own; leave those alone that a caller has replaced."""
    _open_closed()
    before, mine = (sys.stdout, sys.stderr), list[io.TextIOWrapper]()
    if sys.stdout is sys.__stdout__:
        sys.stdout = _text(_Answers(1), sys.__stdout__, mine)
    if sys.stderr is sys.__stderr__:
        sys.stderr = _text(_Commentary(2, "w", closefd=False), sys.__stderr__, mine)
    try:
        yield
    finally:
        sys.stdout, sys.stderr = before
        for stream in mine:
            with suppress(UsageError, ReaderGoneError):  # another error ends the process already
                stream.flush()


def _open_closed() -> None:
    """Open what the caller has closed on nothing, or the next file that is opened would get its number."""
    for number in range(_STANDARD):
        try:
            os.fstat(number)
        except OSError:
            os.open(os.devnull, os.O_RDWR)
    sys.stdin = sys.stdin or open(0, closefd=False, encoding="utf-8")  # noqa: SIM115  # for the whole process


def _text(raw: io.FileIO, former: TextIO | None, made: list[io.TextIOWrapper]) -> TextIO:
    """Return a stream like the former one, which escapes what its encoding cannot say."""
    encoding, is_direct = former.encoding if former else "utf-8", raw.isatty() or raw.fileno() == 2
    made.append(io.TextIOWrapper(io.BufferedWriter(raw), encoding, "backslashreplace", line_buffering=is_direct))
    return made[-1]
