"""Documents that all workers share, as files in one folder, each replaced under a lock of the operating system."""

from __future__ import annotations

import time
from pathlib import Path

from filelock import FileLock, Timeout

from cfaudit_export.core.disk import read_file
from cfaudit_export.core.durable import make_folder, replacing
from cfaudit_export.errors import TryAgainError
from cfaudit_export.stores.document import version_of

_WAIT_SECONDS = 10.0
_POLL_SECONDS = 0.01
# A file system that is slow to date a file is no other clock.
_SAME_SECONDS = 1.0


class SharedFiles:
    """Fits `cfaudit_export.plugin.shared_documents.SharedDocuments`. The folder is made by the first write."""

    def __init__(self, directory: Path) -> None:
        self._directory = directory
        self._ahead = 0.0

    def find_shared(self, name: str) -> tuple[bytes, str] | None:
        """Return a document and its version, None when there is none."""
        try:
            content = read_file(self._path(name))
        except FileNotFoundError:
            return None
        except OSError as error:
            raise _unusable(self._path(name), "read", error) from error
        return content, version_of(content)

    def swap_shared(self, name: str, content: bytes, *, expected: str | None) -> bool:
        """Replace a document if its version still is `expected`; return whether it was."""
        path = self._path(name)
        try:
            make_folder(self._directory)
            lock = FileLock(path.with_suffix(".lock"), timeout=_WAIT_SECONDS, mode=0o600, fallback_to_soft=False)
            with lock.acquire(poll_interval=_POLL_SECONDS):
                found = self.find_shared(name)
                if (found[1] if found else None) != expected:
                    return False
                with replacing(path, temporary=path.with_suffix(".tmp")) as file:
                    file.write(content)
                self._look_at_clock(path)
        except Timeout:
            raise TryAgainError(f"'{path}' is locked for too long by another run") from None
        except (OSError, NotImplementedError) as error:
            raise _unusable(path, "written", error) from error
        return True

    def shared_now(self) -> float:
        """Return the time by the clock that dates the files; in a network folder that of its server."""
        return time.time() + self._ahead

    def _look_at_clock(self, path: Path) -> None:
        ahead = path.stat().st_mtime - time.time()
        self._ahead = ahead if abs(ahead) > _SAME_SECONDS else 0.0

    def _path(self, name: str) -> Path:
        return self._directory / f"{name}.json"


def _unusable(path: Path, verb: str, error: Exception) -> TryAgainError:
    why = error.strerror if isinstance(error, OSError) and error.strerror else str(error)
    return TryAgainError(f"'{path}' cannot be {verb}: {why}; repair the disk or its permissions, then run again")
