"""A file that holds a secret -> its content, if only its owner can read it."""

from __future__ import annotations

import os
import stat
from pathlib import Path

from cfaudit_export.errors import SettingsError

_LARGEST = 64 << 10


def read_secret_file(path: Path, *, what: str = "key", is_private: bool = True) -> bytes:
    """Return the content of a file, at most 64 KB.

    Args:
        path: the file.
        what: what is in it, for the message.
        is_private: refuse a file that others than its owner may read.

    Raises:
        SettingsError: it cannot be read, or others may read or change it.
    """
    try:
        with path.open("rb") as file:
            found = os.fstat(file.fileno())
            content = file.read(_LARGEST + 1)
    except OSError as error:
        raise unusable(path, error, what) from error
    # systemd and Kubernetes hand out root's files by way of the group.
    ours = found.st_uid == os.geteuid()
    if is_private and found.st_mode & (stat.S_IRWXG * ours | stat.S_IRWXO):
        raise SettingsError(f"others than its owner may read the {what} in '{path}'; run: chmod 600 '{path}'")
    return content[:_LARGEST]


def unusable(path: Path, error: OSError, what: str = "key") -> SettingsError:
    """Return the error of a file that cannot be read or written."""
    return SettingsError(f"{what} file '{path}' cannot be used: {(error.strerror or 'unknown error').lower()}")
