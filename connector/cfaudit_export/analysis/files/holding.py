"""A folder of exported files, held while its files are merged, and what goes wrong there as errors."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pyarrow as pa
from filelock import FileLock, Timeout

from cfaudit_export.analysis.files.engine import import_duckdb
from cfaudit_export.errors import LockedError, SettingsError, TryAgainError, UsageError

_LOCK = ".cfaudit-compact.lock"


@contextmanager
def held(root: Path) -> Iterator[None]:
    """Hold a lock that one process has at a time; the kernel frees it when its holder dies."""
    lock = FileLock(root / _LOCK, timeout=0, fallback_to_soft=False)
    try:
        lock.acquire()
    except Timeout:
        raise LockedError(f"another process compacts '{root}'; try again when it has ended") from None
    except (OSError, NotImplementedError) as error:
        raise UsageError(f"cannot write in '{root}': {error}") from error
    try:
        yield
    finally:
        lock.release()


@contextmanager
def translated(root: Path) -> Iterator[None]:
    """Turn what the disk and the files say into an error that says what to do."""
    try:
        yield
    except (pa.ArrowInvalid, import_duckdb().Error) as error:
        raise SettingsError(f"a file in '{root}' cannot be read: {error}; it stays as it is") from error
    except OSError as error:
        raise TryAgainError(f"cannot compact '{root}': {error.strerror or error}; nothing is lost") from error
