"""Which events of a batch Splunk has, kept in a file beside the staged batch, so that a crash repeats little.

Splunk cannot recognise a batch. This file can: it names the rows that were acknowledged and those that were refused.
A row that it does not name is sent again. Each entry is a line of JSON, synced before the load goes on; a last line
cut short by a crash does not count.
"""

from __future__ import annotations

import hashlib
import json
import os
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from typing import Any, Self

from cfaudit_export import Batch, Rejected, SinkError
from cfaudit_export.core.durable import PRIVATE, sync_folder

SUFFIX = ".splunk"
_FORMAT = 1


class BatchProgress:
    """The entries about one batch, open for more. A context manager.

    A file about other events or another destination is begun anew.

    Raises:
        SinkError: the file cannot be read or written.
    """

    def __init__(self, batch: Batch, destination: Sequence[str]) -> None:
        self._path = batch.path.with_suffix(SUFFIX)
        self._rows = batch.rows
        self._taken: list[range] = []
        self._rejected: dict[int, Rejected] = {}
        about = hashlib.sha256(json.dumps(destination).encode()).hexdigest()[:32]
        self._heading = {"format": _FORMAT, "batch": batch.batch_id, "digest": batch.digest, "destination": about}

    def __enter__(self) -> Self:
        with self._on_disk():
            self._file = open(self._path, "a+b", buffering=0, opener=_private)
        try:
            self._read()
        except BaseException:
            self._file.close()
            raise
        return self

    def __exit__(self, *_: object) -> None:
        self._file.close()

    @property
    def has_taken(self) -> bool:
        """Tell whether Splunk has any event of the batch."""
        return bool(self._taken)

    @property
    def rejected(self) -> tuple[Rejected, ...]:
        """Return the events that Splunk will never take, by row."""
        return tuple(self._rejected[row] for row in sorted(self._rejected))

    def missing(self) -> list[range]:
        """Return the rows that Splunk neither has nor refused."""
        missing = []
        start = 0
        known = [*self._taken, *(range(row, row + 1) for row in self._rejected)]
        for rows in sorted(known, key=lambda rows: rows.start):
            if start < rows.start:
                missing.append(range(start, rows.start))
            start = max(start, rows.stop)
        return [*missing, range(start, self._rows)] if start < self._rows else missing

    def take(self, *taken: range) -> None:
        """Note that Splunk has these rows."""
        self._taken += taken
        self._write({"taken": [[rows.start, rows.stop] for rows in taken]})

    def reject(self, row: int, rejected: Rejected) -> None:
        """Note that Splunk will never take this row."""
        self._rejected[row] = rejected
        self._write({"rejected": [row, rejected.event_id, rejected.reason]})

    def _read(self) -> None:
        with self._on_disk():
            self._file.seek(0)
            # What follows the last line feed was cut short by a crash.
            lines = self._file.readall().splitlines(keepends=True)
            whole = [line for line in lines if line.endswith(b"\n")]
            entries = [json.loads(line) for line in whole]
            if entries[:1] == [self._heading]:
                self._file.truncate(sum(map(len, whole)))
            else:
                entries = []
                self._file.truncate(0)
        if not entries:
            self._write(self._heading)
            with self._on_disk():
                sync_folder(self._path.parent)
        for entry in entries[1:]:
            self._note(entry)

    def _note(self, entry: dict[str, Any]) -> None:
        if "taken" in entry:
            self._taken += [range(start, stop) for start, stop in entry["taken"]]
        else:
            row, event_id, reason = entry["rejected"]
            self._rejected[row] = Rejected(event_id, reason)

    def _write(self, entry: dict[str, Any]) -> None:
        line = json.dumps(entry).encode() + b"\n"
        with self._on_disk():
            while line:
                line = line[self._file.write(line) :]
            os.fsync(self._file.fileno())

    @contextmanager
    def _on_disk(self) -> Iterator[None]:
        try:
            yield
        except (OSError, ValueError) as error:
            reason = error.strerror if isinstance(error, OSError) else "it was altered"
            raise SinkError(
                f"cannot keep track of the load in '{self._path}': {reason}; make it writable or remove it, without it"
                " the events that splunk has are sent again"
            ) from error


def _private(path: str, flags: int) -> int:
    return os.open(path, flags, PRIVATE)
