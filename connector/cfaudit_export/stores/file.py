"""Checkpoints as files: `<stream id>.json` in one folder, replaced atomically, held by file locks.

Two locks per stream. `<stream id>.lock` is held for a whole run; `<stream id>.save.lock` only while one document is
compared and replaced, so that two processes cannot both find the version they expect. Both are locks of the operating
system: the kernel releases them when their holder dies, and the files that carry them stay behind empty.
"""

from __future__ import annotations

import re
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from filelock import FileLock, Timeout

from cfaudit_export.core.disk import REFUSALS, read_file
from cfaudit_export.core.durable import make_folder, replace_file
from cfaudit_export.core.model import Checkpoint
from cfaudit_export.errors import CfauditError, CheckpointConflictError, LockedError, SettingsError, TryAgainError
from cfaudit_export.plugin.interfaces import Versioned
from cfaudit_export.stores.document import decode, encode, version_of
from cfaudit_export.stores.shared_files import SharedFiles

_STREAM_ID = re.compile(r"[0-9a-f]{16}")
# A save takes milliseconds; who waits longer waits for a disk that hangs.
_SAVE_WAIT_SECONDS = 30.0


class FileStore:
    """Keep checkpoints in a local folder, which is made when it is first needed, for its owner only."""

    def __init__(self, directory: Path) -> None:
        self._directory = directory
        self._shared = SharedFiles(directory / "shared")

    def load(self, stream_id: str) -> Versioned | None:
        """Return the checkpoint of a stream, None when there is none."""
        path = self._path(stream_id)
        document = _read(path)
        if document is None:
            return None
        return Versioned(decode(document, stream_id=stream_id, where=str(path)), version_of(document))

    def save(self, checkpoint: Checkpoint, *, expected: str | None) -> str:
        """Replace the checkpoint if its version still is `expected`; return the new version."""
        stream_id = checkpoint.stream.id
        path = self._path(stream_id)
        document = encode(checkpoint)
        with self._locked(stream_id, ".save.lock", _SAVE_WAIT_SECONDS):
            current = _read(path)
            found = None if current is None else version_of(current)
            if found != expected:
                raise CheckpointConflictError(
                    f"checkpoint '{path}' was changed by another run since it was read; this run changed nothing more"
                )
            try:
                _replace(path, document)
            except OSError as error:
                raise _unusable(path, "written", error) from error
        return version_of(document)

    @contextmanager
    def hold(self, stream_id: str) -> Iterator[None]:
        """Hold the stream while the context lasts; the kernel lets go when the process dies."""
        with self._locked(stream_id, ".lock", 0):
            yield

    def streams(self) -> Iterator[str]:
        """Yield the ids of all streams that have a checkpoint, sorted."""
        try:
            names = sorted(path.name for path in self._directory.iterdir())
        except FileNotFoundError:
            return
        except OSError as error:
            raise _unusable(self._directory, "read", error) from error
        for name in names:
            stream_id, dot, suffix = name.partition(".")
            if dot and suffix == "json" and _STREAM_ID.fullmatch(stream_id):
                yield stream_id

    def find_shared(self, name: str) -> tuple[bytes, str] | None:
        """Return a document of all workers; as `SharedDocuments.find_shared`."""
        return self._shared.find_shared(name)

    def swap_shared(self, name: str, content: bytes, *, expected: str | None) -> bool:
        """Replace a document of all workers; as `SharedDocuments.swap_shared`."""
        return self._shared.swap_shared(name, content, expected=expected)

    def shared_now(self) -> float:
        """Return the time; as `SharedDocuments.shared_now`."""
        return self._shared.shared_now()

    def _path(self, stream_id: str) -> Path:
        return self._directory / f"{stream_id}.json"

    @contextmanager
    def _locked(self, stream_id: str, suffix: str, wait_seconds: float) -> Iterator[None]:
        path = self._directory / f"{stream_id}{suffix}"
        # No soft lock where the file system has no real one: it would outlive a crash.
        lock = FileLock(path, timeout=wait_seconds, mode=0o600, fallback_to_soft=False)
        try:
            make_folder(self._directory)
            lock.acquire()
        except Timeout:
            raise LockedError(
                f"another run holds stream '{stream_id}' (lock file '{path}'); try again when it has ended"
            ) from None
        except (OSError, NotImplementedError) as error:
            raise _unusable(path, "locked", error) from error
        try:
            yield
        finally:
            lock.release()


def _read(path: Path) -> bytes | None:
    try:
        return read_file(path)
    except FileNotFoundError:
        return None
    except OSError as error:
        raise _unusable(path, "read", error) from error


def _replace(path: Path, document: bytes) -> None:
    """Put the document in the place of the file, so that a crash leaves the old one or the new one.

    The caller holds the save lock, so one temporary name is enough: what a crashed writer left under it is
    removed.
    """
    replace_file(path, lambda file: file.write(document), temporary=path.with_suffix(".json.tmp"))


def _unusable(path: Path, verb: str, error: Exception) -> CfauditError:
    if isinstance(error, OSError) and (why := REFUSALS.get(error.errno or 0)):
        return SettingsError(f"'{path}' cannot be {verb}: {why} (--state-dir)")
    why = error.strerror if isinstance(error, OSError) and error.strerror else str(error)
    return TryAgainError(f"'{path}' cannot be {verb}: {why}; repair the disk or its permissions, then run again")
