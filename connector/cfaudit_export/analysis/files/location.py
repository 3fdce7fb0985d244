"""`--data` -> a place that lists its files and opens them: a local folder, or a prefix in S3."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from typing import TYPE_CHECKING

from cfaudit_export.errors import AccessError, CfauditError, SettingsError, TryAgainError

if TYPE_CHECKING:
    from pyarrow.fs import FileSystem

S3 = "s3://"
# A folder so named holds nothing that a reader of hive folders would read; ours are staged files and notes.
_PASSED_OVER = (".", "_")


@dataclass(frozen=True, slots=True)
class FoundFile:
    """A file: its name below the place with `/` between folders, its path in the file system, its size.

    `fault` says why it cannot be looked at, where that is known from the listing.
    """

    name: str
    path: str
    bytes: int
    fault: str = ""


@dataclass(frozen=True, slots=True)
class Location:
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
    files: Callable[[Callable[[str], bool]], Iterator[FoundFile]] = field(repr=False)

    @property
    def is_local(self) -> bool:
        """Whether it is a folder on this machine."""
        return not self.shown.startswith(S3)


def is_visible(folder: str) -> bool:
    """Say whether a folder may hold files for readers."""
    return not folder.startswith(_PASSED_OVER)


def reading_failed(place: Location, error: Exception) -> CfauditError:
    """Return the error that says what it means that a place could not be read."""
    said = str(error).strip().partition("\n")[0]
    if isinstance(error, FileNotFoundError) or "No such file" in said or "NO_SUCH_KEY" in said:
        return TryAgainError(f"files of '{place.shown}' were replaced while they were read; ask again")
    if isinstance(error, PermissionError) or "ACCESS_DENIED" in said or "HTTP status 403" in said:
        return AccessError(f"not allowed to read '{place.shown}': {said}")
    if "NETWORK_CONNECTION" in said or "curlCode" in said:
        return TryAgainError(f"'{place.shown}' cannot be reached: {said}")
    return SettingsError(f"'{place.shown}' cannot be read: {said}")


def damaged(place: Location, name: str, why: str) -> SettingsError:
    """Return the error that says that a file is damaged, and what to do."""
    return SettingsError(
        f"file '{name}' of '{place.shown}' is damaged ({why}); restore it from a backup, or move it away to go on "
        "without its events"
    )
