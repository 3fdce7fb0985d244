"""`--data` -> a place that lists its files and opens them: a local folder, or a prefix in S3."""

from __future__ import annotations

import os
from collections.abc import Callable, Iterator, Mapping
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
    """A file: its name below the place with `/` between folders, its path in the file system, its size."""

    name: str
    path: str
    bytes: int


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
        from cfaudit_export.analysis.s3 import open_bucket

        return open_bucket(data, s3 or {})
    root = Path(data).expanduser()
    if not root.is_dir():
        raise UsageError(f"there is no folder '{data}'; say where the exported files are, as in --data out")
    return Place(data, str(root), LocalFileSystem(), lambda wanted: _walk(root, "", wanted))


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


def _walk(folder: Path, name: str, wanted: Callable[[str], bool]) -> Iterator[Found]:
    with os.scandir(folder) as entries:
        for entry in sorted(entries, key=lambda one: one.name):
            if entry.is_dir():
                if is_visible(entry.name) and wanted(entry.name):
                    yield from _walk(Path(entry.path), f"{name}{entry.name}/", wanted)
            elif entry.name.endswith(".parquet") and is_visible(entry.name):
                yield Found(name + entry.name, entry.path, entry.stat().st_size)
