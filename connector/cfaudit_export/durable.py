"""What a folder holds survives a power cut: one place, because file systems differ in what they can promise.

CIFS and some file systems in user space cannot sync a folder and say EINVAL or the like. The files themselves are
synced there all the same; which names the folder has is then up to the server, and that is said once.
"""

from __future__ import annotations

import errno
import logging
import os
from functools import lru_cache
from pathlib import Path

_LOG = logging.getLogger(__name__)

_CANNOT = {errno.EINVAL, errno.ENOTSUP, errno.EOPNOTSUPP, errno.ENOSYS, errno.ENOTTY, errno.EBADF}


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
