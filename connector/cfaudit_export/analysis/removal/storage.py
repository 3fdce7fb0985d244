"""Where exported files can be removed and replaced: a folder here, or what a sink offers for its place."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import suppress
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import Protocol

from cfaudit_export.core.durable import make_folder, replace_file, sync_folder
from cfaudit_export.errors import TryAgainError
from cfaudit_export.proof.append import ManifestStore
from cfaudit_export.proof.chain import FOLDER
from cfaudit_export.proof.folder import ManifestFolder

ASIDE = "_cfaudit/erased"
"""Where files wait until a manifest names them; readers pass over it."""

_READABLE = 0o666


class FileStorage(ManifestStore, Protocol):
    """Files below a root, by name, and the manifests that name them. What a method did is durable when it returns.

    The methods raise what those of a sink raise: `SinkError` for not now, `SinkRefusedError` for never.
    """

    def read_file(self, name: str) -> bytes | None:
        """Return a file, None when there is none."""
        ...

    def write_file(self, name: str, content: bytes) -> None:
        """Put a file in the place of the one of that name, whole or not at all; what is noted beside that stays."""
        ...

    def remove_file(self, name: str) -> None:
        """Remove a file; not having it is fine."""
        ...

    def files_aside(self) -> Iterator[str]:
        """Yield the names of the files below `ASIDE`."""
        ...


@dataclass(frozen=True)
class FolderStorage:
    """Files in a folder of this machine. Fits `FileStorage`.

    Attributes:
        root: the folder.
    """

    root: Path

    @cached_property
    def _manifests(self) -> ManifestFolder:
        return ManifestFolder(self.root / FOLDER)

    def put_manifest(self, name: str, content: bytes) -> bool:
        """Keep a manifest; as `ManifestStore.put_manifest`."""
        return self._manifests.put_manifest(name, content)

    def get_manifest(self, name: str) -> bytes | None:
        """Return a manifest; as `ManifestStore.get_manifest`."""
        return self._manifests.get_manifest(name)

    def manifests(self, chain: str) -> Iterator[str]:
        """Yield the names of the manifests of a chain; as `ManifestStore.manifests`."""
        return self._manifests.manifests(chain)

    def read_file(self, name: str) -> bytes | None:
        """Return a file; as `FileStorage.read_file`."""
        with suppress(FileNotFoundError):
            return (self.root / name).read_bytes()
        return None

    def write_file(self, name: str, content: bytes) -> None:
        """Replace a file, with the permissions that it has; as `FileStorage.write_file`."""
        path = self.root / name
        hidden = path.with_name(f".{path.name}.tmp")
        try:
            make_folder(path.parent)
            mode = path.stat().st_mode & 0o777 if path.exists() else _READABLE & ~_umask()
            replace_file(path, lambda file: file.write(content), temporary=hidden, mode=mode)
        except OSError as error:
            raise _failed(path, "written", error) from error

    def remove_file(self, name: str) -> None:
        """Remove a file; as `FileStorage.remove_file`."""
        path = self.root / name
        try:
            path.unlink(missing_ok=True)
            if path.parent.is_dir():
                sync_folder(path.parent)
        except OSError as error:
            raise _failed(path, "removed", error) from error

    def files_aside(self) -> Iterator[str]:
        """Yield what waits; as `FileStorage.files_aside`."""
        folder = self.root / ASIDE
        yield from sorted(f"{ASIDE}/{path.name}" for path in folder.glob("*") if path.is_file())


def _umask() -> int:
    """Return the umask, which can only be read from the system's own table without changing it."""
    with suppress(OSError, ValueError):
        for line in Path("/proc/self/status").read_text("ascii").splitlines():
            if line.startswith("Umask:"):
                return int(line.split()[1], 8)
    return 0o077


def _failed(path: Path, verb: str, error: OSError) -> TryAgainError:
    why = (error.strerror or str(error)).lower()
    return TryAgainError(f"'{path}' cannot be {verb}: {why}; run the command again, which goes on from there")
