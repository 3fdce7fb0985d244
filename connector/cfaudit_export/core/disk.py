"""Folders and files on a disk: whether they can be written or read, and what a person can do where they cannot.

Another user of a folder may put something else in the place of a file of ours: a pipe, at whose other end no writer
is, or a link to a device without an end. So what is read is looked at first.
"""

from __future__ import annotations

import errno
import os
import shutil
import stat
import tempfile
from collections.abc import Mapping
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from types import MappingProxyType

from cfaudit_export.core.durable import SHARED, make_folder, new_file, sync_folder

REFUSALS: Mapping[int, str] = MappingProxyType(
    {
        errno.EACCES: "not allowed; let this user read and write there, or set another path",
        errno.EPERM: "not allowed; let this user read and write there, or set another path",
        errno.EROFS: "the file system is read-only; mount it for writing, or set another path",
        errno.ENOTDIR: "a part of the path is a file, not a folder; set another path",
        errno.EEXIST: "a part of the path is a file, not a folder; set another path",
        errno.ELOOP: "the path is a circle of links; set another path",
        errno.ENAMETOOLONG: "the path is too long; set a shorter one",
    }
)
"""Errors that stay until a person changes something, by `errno`: what they mean, and what to do."""

MOST_BYTES = 64_000_000
"""Of a file that is read whole: more than any checkpoint, mark, manifest or file of metrics has."""


@dataclass(frozen=True, slots=True)
class Tried:
    """What a folder can do.

    Attributes:
        free_bytes: room on its disk.
        can_sync: whether its file system can make names durable.
    """

    free_bytes: int
    can_sync: bool


def try_folder(root: Path) -> Tried:
    """Write, sync, rename and remove a file below a folder, and leave nothing behind.

    Raises:
        OSError: one of these cannot be done, or the folder not be made.
    """
    new = [folder for folder in (root, *root.parents) if not folder.is_dir()]
    try:
        make_folder(root, mode=SHARED)
        with tempfile.TemporaryDirectory(prefix=".cfaudit-check.", dir=root) as scratch:
            hidden = Path(scratch, ".check.tmp")
            with new_file(hidden) as file:
                file.write(b"cfaudit-export check")
            hidden.replace(Path(scratch, "check.done"))
            return Tried(shutil.disk_usage(root).free, sync_folder(Path(scratch)))
    finally:
        with suppress(OSError):  # another process put something into it meanwhile
            for folder in new:
                folder.rmdir()


def require_file(path: Path | str) -> str:
    """Return a path where a file is, or a link to one: opening it, or reading it, ends.

    Raises:
        OSError: it is none, or is not there.
    """
    _require_regular(Path(path).stat().st_mode, path)
    return str(path)


def read_file(path: Path, most_bytes: int = MOST_BYTES) -> bytes:
    """Return the content of a file.

    Raises:
        OSError: it cannot be read, is no file, or is larger than `most_bytes`.
    """
    descriptor = os.open(path, os.O_RDONLY | os.O_NONBLOCK | os.O_CLOEXEC)
    with os.fdopen(descriptor, "rb") as file:
        _require_regular(os.fstat(descriptor).st_mode, path)
        if os.fstat(descriptor).st_size > most_bytes:
            raise OSError(errno.EFBIG, f"larger than {most_bytes:,} bytes", str(path))
        return file.read(most_bytes)


def _require_regular(mode: int, path: Path | str) -> None:
    if stat.S_ISDIR(mode):
        raise IsADirectoryError(errno.EISDIR, os.strerror(errno.EISDIR), str(path))
    if not stat.S_ISREG(mode):
        raise OSError(errno.EINVAL, "not a regular file", str(path))
