"""`--data` -> the place that it names, opened."""

from __future__ import annotations

import errno
import os
import stat
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import suppress
from pathlib import Path
from typing import Any

from cfaudit_export.analysis.files.location import S3, FoundFile, Location, is_visible
from cfaudit_export.errors import UsageError


def open_location(data: str, s3: Mapping[str, Any] | None = None) -> Location:
    """Return the place that `--data` names.

    Args:
        data: a folder, or `s3://bucket/prefix`.
        s3: how to reach the bucket: `endpoint_url`, `region`, `profile`, `role_arn`, `external_id`.

    Raises:
        UsageError: there is no such folder.
        SettingsError: S3 is not installed, or the settings for it make no sense.
        AccessError: there are no credentials.
    """
    from pyarrow.fs import LocalFileSystem

    if data.startswith(S3):
        from cfaudit_export.analysis.files.s3 import open_bucket

        return open_bucket(data, s3 or {})
    root = Path(data).expanduser()
    if not root.is_dir():
        raise UsageError(f"no folder '{data}'; name that of the exported files, as in --data out")
    return Location(
        data,
        str(root),
        LocalFileSystem(),
        lambda wanted: _walk(root, "", wanted, ()),
        lambda folder: _below(root / folder),
        lambda found: Path(found.path).open("rb"),
    )


def _walk(folder: Path, name: str, wanted: Callable[[str], bool], above: Sequence[str]) -> Iterator[FoundFile]:
    """Yield the files below a folder; `above` are the real paths of the folders on the way to it."""
    inside = (*above, os.path.realpath(folder))
    with os.scandir(folder) as entries:
        for entry in sorted(entries, key=lambda one: one.name):
            if not is_visible(entry.name):
                continue
            try:
                found = entry.stat()
            except FileNotFoundError:
                if entry.is_symlink() and entry.name.endswith(".parquet"):
                    yield FoundFile(name + entry.name, entry.path, 0, "a link to nothing")
                continue  # it was removed since it was listed
            except OSError as error:
                yield FoundFile(name + entry.name, entry.path, 0, _why(error))
                continue
            if stat.S_ISDIR(found.st_mode):
                if not wanted(entry.name):
                    continue
                if entry.is_symlink() and os.path.realpath(entry.path) in inside:
                    yield FoundFile(name + entry.name, entry.path, 0, "a link to a folder that it lies in")
                else:
                    yield from _walk(Path(entry.path), f"{name}{entry.name}/", wanted, inside)
            elif entry.name.endswith(".parquet"):
                fault = "" if stat.S_ISREG(found.st_mode) else "neither a file nor a folder"
                yield FoundFile(name + entry.name, entry.path, found.st_size, fault)


def _below(folder: Path) -> Iterator[FoundFile]:
    """Yield every file below a folder; links to folders are not followed."""

    def fail(error: OSError) -> None:
        if not isinstance(error, FileNotFoundError):
            raise error

    for here, _, names in os.walk(folder, onerror=fail):
        for name in names:
            path = Path(here, name)
            with suppress(FileNotFoundError):  # it was removed since it was listed, or is a link to nothing
                yield FoundFile(path.relative_to(folder).as_posix(), str(path), path.stat().st_size)


def _why(error: OSError) -> str:
    """Return what is wrong with one entry; what is wrong with the disk is an error of the whole listing."""
    if error.errno not in {errno.ELOOP, errno.ENAMETOOLONG, errno.ENOTDIR}:
        raise error
    return f"not a file ({os.strerror(error.errno).lower()})"
