"""Files appear whole or not at all and survive a power cut: one place, as file systems differ in what they promise.

A temporary file may have been put there by another user of the folder, as a symbolic link to a file of ours. So it is
removed first, and made anew with `O_EXCL` and `O_NOFOLLOW`: what is put there in between is an error.

CIFS and some file systems in user space cannot sync a folder and say EINVAL or the like. The files themselves are
synced there too; which names the folder has is then up to the server, and that is said once.
"""

from __future__ import annotations

import errno
import logging
import os
import uuid
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from functools import lru_cache
from pathlib import Path
from typing import IO

PRIVATE = 0o600
SHARED = 0o640
"""Of files with events in them, and of what is told of them: personal data, for their owner and a group of readers."""

_LOG = logging.getLogger(__name__)
_NEW = os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_NOFOLLOW | os.O_CLOEXEC

_CANNOT = {errno.EINVAL, errno.ENOTSUP, errno.EOPNOTSUPP, errno.ENOSYS, errno.ENOTTY, errno.EBADF}


@contextmanager
def new_file(path: Path, *, mode: int = PRIVATE) -> Iterator[IO[bytes]]:
    """Open a file that is not there, or is a leftover; when the context ends well its bytes are on the disk.

    Args:
        path: a name that is used for nothing else.
        mode: permissions of the file, less those that the umask takes.

    Raises:
        OSError: it cannot be written; nothing is left of it.
    """
    with suppress(FileNotFoundError):
        path.unlink()
    descriptor = os.open(path, _NEW, mode)
    try:
        with os.fdopen(descriptor, "wb") as file:
            yield file
            file.flush()
            os.fsync(file.fileno())
    except BaseException:
        with suppress(OSError):  # a full disk needs its room
            path.unlink(missing_ok=True)
        raise


def replace_file(path: Path, write: Callable[[IO[bytes]], object], *, temporary: Path, mode: int = PRIVATE) -> None:
    """Put a file in the place of another, so that a crash leaves the old one or the new one.

    Args:
        path: the file.
        write: writes the content.
        temporary: the name of the new file until it is whole, in the same folder; one writer at a time uses it.
        mode: permissions of the file, whatever the umask is.

    Raises:
        OSError: it cannot be written; the old one is untouched.
    """
    with replacing(path, temporary=temporary) as file:
        write(file)
        os.fchmod(file.fileno(), mode)


@contextmanager
def replacing(path: Path, *, temporary: Path | None = None, mode: int = PRIVATE) -> Iterator[IO[bytes]]:
    """Open a file that takes the place of another when the context ends well; else the other one is untouched.

    Args:
        path: the file.
        temporary: the name of the new file until it is whole, in the same folder; one writer at a time uses it. By
            default a hidden name that is used by nothing else.
        mode: permissions of the file, less those that the umask takes.

    Raises:
        OSError: it cannot be written.
    """
    hidden = _hidden(path) if temporary is None else temporary
    with new_file(hidden, mode=mode) as file:
        yield file
    try:
        put_in_place(hidden, path)
    except OSError:
        with suppress(OSError):
            hidden.unlink(missing_ok=True)
        raise


def put_in_place(hidden: Path, path: Path) -> None:
    """Give a file that is whole and synced its name, also in the place of another; then a power cut keeps it.

    Raises:
        OSError: it cannot have the name, and keeps its own; or the folder cannot be synced.
    """
    hidden.replace(path)
    sync_folder(path.parent)


def create_file(path: Path, content: bytes, *, mode: int = PRIVATE) -> bool:
    """Write a file where there is none of its name, so that a crash leaves none or the whole one; False if there is.

    Its folder must be there. Until the file is whole it is hidden, under a name that ends in `.tmp` and is used by
    nothing else; what a writer that crashed has left so is removed by the next one that writes this file.

    Raises:
        OSError: it cannot be written; nothing is left of it.
    """
    hidden = _hidden(path)
    try:
        with new_file(hidden, mode=mode) as file:
            file.write(content)
        is_new = _link(hidden, path)
    finally:
        hidden.unlink(missing_ok=True)
    for left in path.parent.glob(f".{path.name}.*.tmp"):  # of writers that crashed, or are too late now
        left.unlink(missing_ok=True)
    sync_folder(path.parent)
    return is_new


def _hidden(path: Path) -> Path:
    return path.with_name(f".{path.name}.{uuid.uuid4().hex[:12]}.tmp")


def _link(hidden: Path, path: Path) -> bool:
    try:
        os.link(hidden, path)
    except FileExistsError:
        return False
    except FileNotFoundError:  # another writer was faster, and has removed ours
        return False
    except OSError:  # a file system without hard links: between these two lines another writer may come
        if path.exists():
            return False
        hidden.replace(path)
    return True


def folder_mode(mode: int) -> int:
    """Return the permissions of a folder whose files have these: who may read one may look for it."""
    return mode | (mode & 0o444) >> 2


def make_folder(folder: Path, *, mode: int = PRIVATE) -> None:
    """Make a folder and those above it that are missing, so that a power cut cannot undo it.

    Args:
        folder: the folder.
        mode: permissions of the files in it, less those that the umask takes; each folder that is made has those of
            `folder_mode`.

    Raises:
        OSError: one cannot be made.
    """
    if not folder.is_dir():
        make_folder(folder.parent, mode=mode)
        folder.mkdir(exist_ok=True, mode=folder_mode(mode))
        sync_folder(folder.parent)


def sync_folder(folder: Path) -> bool:
    """Make durable which names a folder holds, as `fsync(2)` asks for; return False where the file system cannot.

    Raises:
        OSError: the folder cannot be opened, or its disk fails.
    """
    handle = os.open(folder, os.O_RDONLY | os.O_DIRECTORY)
    try:
        os.fsync(handle)
    except OSError as error:
        if error.errno not in _CANNOT:
            raise
        _say(os.fstat(handle).st_dev, str(folder), os.strerror(error.errno))
        return False
    finally:
        os.close(handle)
    return True


@lru_cache(maxsize=64)  # once for each file system is enough
def _said(_device: int) -> list[str]:
    return []


def _say(device: int, folder: str, reason: str) -> None:
    said = _said(device)
    if not said:
        said.append(folder)
        _LOG.warning(
            "file system cannot sync folders; after a power cut the newest files may be missing and are written again",
            extra={"folder": folder, "error": reason.lower()},
        )
