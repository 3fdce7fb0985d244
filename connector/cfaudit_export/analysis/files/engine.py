"""DuckDB within limits: so much memory, so many threads, and a folder of its own for what does not fit.

What DuckDB writes to disk holds events, which are personal data. It goes to a folder for this user only, which is
removed when the connection is closed. A process that is killed cannot do that; the next one does, as the lock of the
dead one is free.
"""

from __future__ import annotations

import os
import shutil
import stat
import tempfile
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from filelock import FileLock, Timeout

from cfaudit_export.core.installing import install_command
from cfaudit_export.errors import SettingsError, TryAgainError

_SPILL = "cfaudit-spill-"
_LOCK = "lock"


@dataclass(frozen=True, slots=True)
class Limits:
    """What a question may use of the machine.

    Attributes:
        memory_bytes: RAM, beside what Arrow needs for the rows that it reads.
        threads: how many work at once; None for one a processor.
        spill_bytes: disk below the folder for temporary files.
    """

    memory_bytes: int = 1 << 30
    threads: int | None = None
    spill_bytes: int = 10 << 30

    @property
    def group_bytes(self) -> int:
        """Return what the columns that are read of a row group may take; a few are in memory at once."""
        return self.memory_bytes // 4


def import_duckdb() -> Any:
    """Return the module.

    Raises:
        SettingsError: it is not installed.
    """
    try:
        import duckdb
    except ImportError:
        raise SettingsError(f"DuckDB is not installed: run {install_command('analysis')}") from None
    return duckdb


@contextmanager
def open_engine(limits: Limits, settings: Mapping[str, str] | None = None) -> Iterator[Any]:
    """Open a connection to an empty database in memory; its temporary files vanish with it.

    Args:
        limits: what it may use.
        settings: more settings of DuckDB.

    Raises:
        SettingsError: DuckDB is not installed.
        TryAgainError: there is no room for temporary files.
    """
    duckdb = import_duckdb()
    config: dict[str, Any] = {"memory_limit": f"{limits.memory_bytes}B"}
    config |= {"threads": limits.threads} if limits.threads else {}
    config["max_temp_directory_size"] = f"{limits.spill_bytes}B"
    with _spill() as folder, duckdb.connect(config=config | dict(settings or {})) as connection:
        connection.execute("SET TimeZone = 'UTC'")
        # DuckDB may write below this folder whatever else it may not: it must be one with nothing else in it.
        connection.execute("SET temp_directory = $folder", {"folder": str(folder)})
        yield connection


@contextmanager
def _spill() -> Iterator[Path]:
    """Make a folder for this user only; remove it at the end, and those of processes that did not reach theirs."""
    root = Path(tempfile.gettempdir())
    _remove_abandoned(root)
    try:
        folder = Path(tempfile.mkdtemp(prefix=_SPILL, dir=root))
    except OSError as error:
        raise TryAgainError(f"cannot make a folder for temporary files in '{root}': {error.strerror}") from error
    lock = FileLock(folder / _LOCK, mode=0o600)
    try:
        with lock:
            (folder / "files").mkdir(mode=0o700)
            yield folder / "files"
            shutil.rmtree(folder / "files", ignore_errors=True)
    finally:
        shutil.rmtree(folder, ignore_errors=True)


def _remove_abandoned(root: Path) -> None:
    """Remove the folders of this user whose locks are free: the kernel frees a lock when its holder dies."""
    for folder in root.glob(f"{_SPILL}*"):
        try:
            found = folder.lstat()
            if not stat.S_ISDIR(found.st_mode) or found.st_uid != os.geteuid() or not (folder / "files").is_dir():
                continue  # of another user, or one that is being made
            with FileLock(folder / _LOCK, timeout=0, mode=0o600):
                shutil.rmtree(folder, ignore_errors=True)
        except (OSError, Timeout):
            continue  # its holder lives, or is removing it at this moment
