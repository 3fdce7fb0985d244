"""Manifests in a folder of this machine: for sinks that store no files, and for what works on exported files."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

from cfaudit_export.core.disk import REFUSALS, read_file
from cfaudit_export.core.durable import SHARED, create_file, make_folder
from cfaudit_export.errors import SinkError, SinkRefusedError


@dataclass(frozen=True, slots=True)
class ManifestFolder:
    """Keeps manifests below a folder, which is made when it is first needed. Fits `append.ManifestStore`.

    Attributes:
        root: the folder that has a folder for each chain.
        mode: permissions of the manifests, less those that the umask takes, as of exported files: an auditor may be
            another user.
    """

    root: Path
    mode: int = SHARED

    def put_manifest(self, name: str, content: bytes) -> bool:
        """Keep a manifest; as `ManifestStore.put_manifest`."""
        path = self.root / name
        with _on_disk(self.root):
            make_folder(path.parent, mode=self.mode)
            return create_file(path, content, mode=self.mode)

    def get_manifest(self, name: str) -> bytes | None:
        """Return a manifest; as `ManifestStore.get_manifest`."""
        with _on_disk(self.root):
            try:
                return read_file(self.root / name)
            except FileNotFoundError:
                return None

    def manifests(self, chain: str) -> Iterator[str]:
        """Yield the names of the manifests of a chain; as `ManifestStore.manifests`."""
        with _on_disk(self.root):
            try:
                names = sorted(path.name for path in (self.root / chain).iterdir())
            except FileNotFoundError:
                return
        yield from (f"{chain}/{name}" for name in names if name.endswith(".json") and not name.startswith("."))


@contextmanager
def _on_disk(root: Path) -> Iterator[None]:
    """Turn an error of the disk into one that says what to do."""
    try:
        yield
    except OSError as error:
        if reason := REFUSALS.get(error.errno or 0):
            raise SinkRefusedError(f"cannot keep manifests in '{root}': {reason}") from error
        why = error.strerror or str(error)
        raise SinkError(f"cannot keep manifests in '{root}': {why.lower()}; the next run tries again") from error
