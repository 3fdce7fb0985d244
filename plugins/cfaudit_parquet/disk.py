"""Files and folders on a local or mounted disk, and what its errors mean."""

from __future__ import annotations

import errno
import hashlib
import os
from collections.abc import Iterable, Iterator
from contextlib import contextmanager, suppress
from pathlib import Path

from cfaudit_export import SinkError, SinkRefusedError
from cfaudit_export.core.disk import REFUSALS, require_file
from cfaudit_export.parquet import Written

_HINDRANCES = {
    errno.ENOSPC: "the disk is full; make room, nothing is lost meanwhile",
    errno.EDQUOT: "the disk quota is used up; make room, nothing is lost meanwhile",
}


def hashed(file: Path) -> Written:
    """Return size and SHA-256 of a file."""
    require_file(file)
    with file.open("rb") as content:
        return Written(os.fstat(content.fileno()).st_size, hashlib.file_digest(content, "sha256").hexdigest())


def hidden_name(path: Path, attempt: str) -> Path:
    """Return the name of a file until it is whole: hidden, and not matched by any reader's `*.parquet`."""
    return path.with_name(f".{path.stem}.{attempt}.tmp")


def folders_in(folder: Path, prefix: str) -> list[Path]:
    """Return the folders in a folder whose names begin so; unlike a glob, fail where looking is not allowed."""
    try:
        with os.scandir(folder) as entries:
            return sorted(Path(entry) for entry in entries if entry.name.startswith(prefix) and entry.is_dir())
    except FileNotFoundError:
        return []


def _files_of(batch_id: str, folders: Iterable[Path]) -> list[Path]:
    return [path for folder in folders for path in sorted(folder.iterdir()) if batch_id in path.name]


def remove_hidden(batch_id: str, folders: Iterable[Path]) -> None:
    """Remove what attempts that crashed have left of a batch that no longer needs it."""
    with suppress(OSError):  # readers do not see it; it is not worth failing for
        for path in _files_of(batch_id, folders):
            if path.suffix == ".tmp":
                path.unlink(missing_ok=True)


def remove(path: Path) -> None:
    """Remove a file where that is possible."""
    with suppress(OSError):  # the error that led here matters more
        path.unlink(missing_ok=True)


@contextmanager
def on_disk(root: Path) -> Iterator[None]:
    """Turn an error of the disk into one that says what to do."""
    try:
        yield
    except OSError as error:
        if error.errno is None:  # not the disk's: pyarrow says so of a staged file that is cut short
            raise
        if reason := REFUSALS.get(error.errno):
            raise SinkRefusedError(f"cannot use '{root}': {reason}") from error
        reason = _HINDRANCES.get(error.errno, f"{os.strerror(error.errno).lower()}; nothing is lost meanwhile")
        raise SinkError(f"cannot use '{root}': {reason}") from error
