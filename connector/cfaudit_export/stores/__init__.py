"""The built-in checkpoint store, offered as any plugin's is. Light: the store itself is imported when it is built."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

from cfaudit_export import CheckpointStorePlugin, hookimpl

if TYPE_CHECKING:
    from cfaudit_export import CheckpointStore


@dataclass(frozen=True, slots=True)
class FileConfig:
    """Settings of the store `file`, under `[checkpoint]`.

    Attributes:
        path: folder of the checkpoints; by default `checkpoints` in the state directory.
    """

    path: Path | None = None


def _build_file(config: FileConfig, state: Path) -> CheckpointStore:
    from cfaudit_export.stores.file import FileStore

    return FileStore(config.path or state / "checkpoints")


@hookimpl
def cfaudit_checkpoint_stores() -> Iterator[CheckpointStorePlugin]:
    """Offer the store that keeps one file per stream."""
    yield CheckpointStorePlugin("file", FileConfig, _build_file, "one JSON file per stream in a local folder")
