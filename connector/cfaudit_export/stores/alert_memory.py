"""What was told of findings, kept beside checkpoints: so that each is told once, and none is forgotten.

It is written after each message that was delivered. A crash between the two repeats that one message.
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, field
from datetime import datetime
from pathlib import Path
from typing import Any, cast

import msgspec

from cfaudit_export.core.durable import make_folder, replace_file
from cfaudit_export.errors import CheckpointDamagedError, TryAgainError
from cfaudit_export.plugin.interfaces import BlobStore, CheckpointStore

_FORMAT = 1
_NAME = "alerts.json"


@dataclass(frozen=True, slots=True)
class ToldFinding:
    """A finding that was told: when, and how many events it had then."""

    at: datetime
    events: int


@dataclass(frozen=True, slots=True)
class QuietKey:
    """A rule and key of which nothing is told for a while.

    Attributes:
        until: when that ends.
        held: ids of findings that were not told meanwhile.
    """

    until: datetime
    held: tuple[str, ...] = ()


@dataclass(frozen=True, slots=True)
class ChannelMemory:
    """What one channel was told.

    Attributes:
        since: up to when arrivals were judged, and what was found was told; None before the first run.
        told: findings by their ids.
        quiet: by rule and key.
    """

    since: datetime | None = None
    told: Mapping[str, ToldFinding] = field(default_factory=dict)
    quiet: Mapping[str, QuietKey] = field(default_factory=dict)


class AlertMemory:
    """What was told of findings in one place, by channel."""

    def __init__(self, store: CheckpointStore, folder: Path, place: str) -> None:
        """Keep it in a store of checkpoints; where that takes no files, in a folder. Nothing is read yet."""
        self._store = store
        self._blobs = cast("BlobStore", store) if hasattr(store, "keep") else None
        self._id = hashlib.sha256(f"alerts\n{place}".encode()).hexdigest()[:16]
        self._file = folder / f"{self._id}.json"

    @contextmanager
    def hold(self) -> Iterator[None]:
        """Hold it for this process.

        Raises:
            LockedError: another process tells what is found in that place.
        """
        with self._store.hold(self._id):
            yield

    def load(self) -> dict[str, ChannelMemory]:
        """Return what every channel was told, by name.

        Raises:
            CheckpointDamagedError: it cannot be read.
            TryAgainError: not now.
        """
        document = self._read()
        if document is None:
            return {}
        try:
            tree = msgspec.json.decode(document, type=dict[str, Any])
            if tree.get("format") != _FORMAT:
                raise ValueError(f"format {tree.get('format')}")  # noqa: TRY301  # one kind of damage
            return msgspec.convert(tree["channels"], dict[str, ChannelMemory])
        except (ValueError, LookupError, RecursionError) as error:
            where = f"'{self._file}'" if self._blobs is None else f"'{_NAME}' of '{self._id}' in the checkpoint store"
            raise CheckpointDamagedError(
                f"{where} cannot be read: {error}; remove it, and the findings of the last days are told again"
            ) from error

    def save(self, channels: Mapping[str, ChannelMemory]) -> None:
        """Replace it; durable when it returns.

        Raises:
            TryAgainError: it cannot be written.
        """
        tree = {"format": _FORMAT, "channels": msgspec.to_builtins(dict(channels))}
        document = json.dumps(tree, indent=1, sort_keys=True).encode()
        if self._blobs is not None:
            self._blobs.keep(self._id, _NAME, document)
            return
        try:
            make_folder(self._file.parent, mode=0o600)
            temporary = self._file.with_suffix(".tmp")
            replace_file(self._file, lambda file: file.write(document), temporary=temporary)
        except OSError as error:
            raise TryAgainError(f"'{self._file}' cannot be written: {error.strerror or error}") from error

    def _read(self) -> bytes | None:
        if self._blobs is not None:
            return self._blobs.fetch(self._id, _NAME)
        try:
            return self._file.read_bytes()
        except FileNotFoundError:
            return None
        except OSError as error:
            raise TryAgainError(f"'{self._file}' cannot be read: {error.strerror or error}") from error
