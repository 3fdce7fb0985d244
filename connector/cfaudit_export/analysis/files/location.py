"""`--data` -> a place that lists its files and opens them: a local folder, or a prefix in S3."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Protocol

from cfaudit_export.errors import AccessError, CfauditError, SettingsError, TryAgainError

if TYPE_CHECKING:
    from pyarrow.fs import FileSystem

S3 = "s3://"
# A folder so named holds nothing that a reader of hive folders would read; ours are staged files and notes.
_PASSED_OVER = (".", "_")


@dataclass(frozen=True, slots=True)
class FoundFile:
    """A file.

    Attributes:
        name: its name below the place, with `/` between folders.
        path: its path in the file system, or its key in the bucket.
        bytes: its size.
        fault: why it cannot be looked at, where that is known from the listing.
        version: its ETag, in a bucket.
    """

    name: str
    path: str
    bytes: int
    fault: str = ""
    version: str = ""


class OpenFile(Protocol):
    """A file that is read from wherever it was moved to."""

    def seek(self, offset: int, whence: int = 0, /) -> int:
        """Move to a byte, and return which one it is."""
        ...

    def read(self, size: int = -1, /) -> bytes:
        """Read bytes, by default all that follow."""
        ...


@dataclass(frozen=True, slots=True)
class Location:
    """Where exported files lie.

    Attributes:
        shown: what people call it.
        root: its path in the file system.
        filesystem: opens the paths; None for a bucket.
        files: yields every file that ends in `.parquet`, by name; asks of each folder's name whether to look into it.
        below: yields every file below a folder, also what readers pass over, by its name there; none if there is no
            such folder.
        open: opens a file. That, or reading it, raises FileNotFoundError for one that is gone, and OSError or
            CfauditError for one that cannot be read.
    """

    shown: str
    root: str
    filesystem: FileSystem | None = field(repr=False)
    files: Callable[[Callable[[str], bool]], Iterator[FoundFile]] = field(repr=False)
    below: Callable[[str], Iterator[FoundFile]] = field(repr=False)
    open: Callable[[FoundFile], AbstractContextManager[OpenFile]] = field(repr=False)

    @property
    def is_local(self) -> bool:
        """Whether it is a folder on this machine."""
        return self.filesystem is not None


def is_visible(folder: str) -> bool:
    """Say whether a folder may hold files for readers."""
    return not folder.startswith(_PASSED_OVER)


def reading_failed(place: Location, error: Exception) -> CfauditError:
    """Return the error that says what it means that a place could not be read."""
    said = str(error).strip().partition("\n")[0]
    if isinstance(error, CfauditError):
        return error
    if isinstance(error, FileNotFoundError) or "No such file" in said:
        return TryAgainError(f"files of '{place.shown}' were replaced while they were read; ask again")
    if isinstance(error, PermissionError):
        return AccessError(f"not allowed to read '{place.shown}': {said}")
    return SettingsError(f"'{place.shown}' cannot be read: {said}")


def damaged(place: Location, name: str, why: str) -> SettingsError:
    """Return the error that says that a file is damaged, and what to do."""
    return SettingsError(
        f"file '{name}' of '{place.shown}' is damaged ({why}); restore it from a backup, or move it away to go on "
        "without its events"
    )
