"""A folder on a disk: whether it can be written, and what a person can do where it cannot."""

from __future__ import annotations

import errno
import shutil
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
