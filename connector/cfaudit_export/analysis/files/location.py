"""`--data` -> a place that lists its files and opens them: a local folder, or a prefix in S3."""

from __future__ import annotations

import errno
import os
import stat
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any

from cfaudit_export.errors import AccessError, CfauditError, SettingsError, TryAgainError, UsageError

if TYPE_CHECKING:
    from pyarrow.fs import FileSystem

S3 = "s3://"
# A folder so named holds nothing that a reader of hive folders would read; ours are staged files and notes.
_PASSED_OVER = (".", "_")


@dataclass(frozen=True, slots=True)
class Found:
    """A file: its name below the place with `/` between folders, its path in the file system, its size.

    `fault` says why it cannot be looked at, where that is known from the listing.
    """

    name: str
    path: str
    bytes: int
    fault: str = ""


@dataclass(frozen=True, slots=True)
class Place:
    """Where exported files lie.

    Attributes:
        shown: what people call it.
        root: its path in the file system.
        filesystem: opens the paths.
        files: yields every file that ends in `.parquet`, by name; asks of each folder's name whether to look into it.
    """

    shown: str
    root: str
    filesystem: FileSystem = field(repr=False)
    files: Callable[[Callable[[str], bool]], Iterator[Found]] = field(repr=False)

    @property
    def is_local(self) -> bool:
        """Whether it is a folder on this machine."""
        return not self.shown.startswith(S3)


def open_place(data: str, s3: Mapping[str, Any] | None = None) -> Place:
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
        raise UsageError(f"there is no folder '{data}'; say where the exported files are, as in --data out")
    return Place(data, str(root), LocalFileSystem(), lambda wanted: _walk(root, "", wanted, ()))


def is_visible(folder: str) -> bool:
    """Say whether a folder may hold files for readers."""
    return not folder.startswith(_PASSED_OVER)


def reading_failed(place: Place, error: Exception) -> CfauditError:
    """Return the error that says what it means that a place could not be read."""
    said = str(error).strip().partition("\n")[0]
    if isinstance(error, FileNotFoundError) or "No such file" in said or "NO_SUCH_KEY" in said:
        return TryAgainError(f"files of '{place.shown}' were replaced while they were read; ask again")
    if isinstance(error, PermissionError) or "ACCESS_DENIED" in said or "HTTP status 403" in said:
        return AccessError(f"not allowed to read '{place.shown}': {said}")
    if "NETWORK_CONNECTION" in said or "curlCode" in said:
        return TryAgainError(f"'{place.shown}' cannot be reached: {said}")
    return SettingsError(f"'{place.shown}' cannot be read: {said}")


def damaged(place: Place, name: str, why: str) -> SettingsError:
    """Return the error that says that a file is damaged, and what to do."""
    return SettingsError(
        f"file '{name}' of '{place.shown}' is damaged ({why}); restore it from a backup, or move it away to go on "
        "without its events"
    )


def _walk(folder: Path, name: str, wanted: Callable[[str], bool], above: Sequence[str]) -> Iterator[Found]:
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
                    yield Found(name + entry.name, entry.path, 0, "a link to nothing")
                continue  # it was removed since it was listed
            except OSError as error:
                yield Found(name + entry.name, entry.path, 0, _why(error))
                continue
            if stat.S_ISDIR(found.st_mode):
                if not wanted(entry.name):
                    continue
                if entry.is_symlink() and os.path.realpath(entry.path) in inside:
                    yield Found(name + entry.name, entry.path, 0, "a link to a folder that it lies in")
                else:
                    yield from _walk(Path(entry.path), f"{name}{entry.name}/", wanted, inside)
            elif entry.name.endswith(".parquet"):
                fault = "" if stat.S_ISREG(found.st_mode) else "neither a file nor a folder"
                yield Found(name + entry.name, entry.path, found.st_size, fault)


def _why(error: OSError) -> str:
    """Return what is wrong with one entry; what is wrong with the disk is an error of the whole listing."""
    if error.errno not in {errno.ELOOP, errno.ENAMETOOLONG, errno.ENOTDIR}:
        raise error
    return f"not a file ({os.strerror(error.errno).lower()})"
