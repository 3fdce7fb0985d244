"""Events that a sink refuses for good, set aside on disk until somebody replays them.

One batch of refused events is two files below `STATE/quarantine/STREAM/SINK/`: `ID.json` with the sink's words, and
`ID.arrow` with the events as they were staged. The second is written last, so that where it is, both are whole.
`ID` derives from the batch that was refused and is the id under which the events are loaded again: under the old one
a sink would rightly say that it has been given the batch.
"""

from __future__ import annotations

import hashlib
import json
import os
from collections.abc import Callable, Iterator
from contextlib import suppress
from dataclasses import dataclass
from datetime import datetime
from pathlib import Path
from typing import IO
from urllib.parse import quote, unquote

import pyarrow as pa
import pyarrow.compute as pc

from cfaudit_export.durable import sync_folder
from cfaudit_export.errors import SinkError, StagingError
from cfaudit_export.model import MILLISECOND, Batch, Rejected, Stream, Window, floor_ms, iso

_SUFFIX = ".arrow"


@dataclass(frozen=True, slots=True)
class Refused:
    """An event that is set aside: by which sink, with which of its batches, and the sink's words."""

    sink: str
    batch_id: str
    event_id: str
    event_time: datetime
    reason: str


@dataclass(frozen=True, slots=True)
class Quarantine:
    """The folder that holds what the sinks of one stream refused."""

    directory: Path
    stream: Stream

    def set_aside(self, sink: str, batch: Batch, rejected: tuple[Rejected, ...]) -> None:
        """Keep the refused events of a batch with the sink's words, durably. Again changes nothing.

        Raises:
            SinkError: the sink refused events that are not in the batch.
            StagingError: the disk is full or not writable.
        """
        events = _read(batch.path)
        reasons = {one.event_id: one.reason for one in rejected}
        refused = events.filter(pc.is_in(events["event_id"], pa.array(reasons, pa.string())))
        if refused.num_rows != len(rejected):
            raise SinkError(
                f"sink '{sink}' refused {len(rejected)} events of batch '{batch.batch_id}', of which it was given "
                f"{refused.num_rows}; report this to the author of the sink"
            )
        path = self._again(sink, batch)
        words = {
            "sink": sink,
            "account": self.stream.account_id,
            "batch": batch.batch_id,
            "refused": [
                one | {"event_time": iso(one["event_time"]), "reason": reasons[one["event_id"]]}
                for one in refused.select(["event_id", "event_time"]).to_pylist()
            ],
        }
        text = json.dumps(words, indent=2, ensure_ascii=True).encode()
        try:
            path.parent.mkdir(parents=True, exist_ok=True, mode=0o700)
            _write(path.with_suffix(".json"), lambda file: file.write(text))
            _write(path, lambda file: _write_events(file, refused))
        except OSError as error:
            raise StagingError(f"cannot set events aside in '{path.parent}': {error.strerror or error}") from error

    def held(self, sink: str) -> Iterator[Batch]:
        """Yield what is set aside for a sink, as batches to load.

        Raises:
            StagingError: a file cannot be read.
        """
        folder = self._folder(sink)
        for path in sorted(folder.glob(f"*{_SUFFIX}")):
            times = _read(path)["event_time"]
            first, last = (floor_ms(at.as_py()) for at in pc.min_max(times).values())
            window = Window(first, last + MILLISECOND)
            yield Batch(path.stem, self.stream, window, len(times), path, _digest(path))

    def refused_again(self, sink: str, batch: Batch) -> int:
        """Count the events of a batch that is held which a sink has refused anew, and which are set aside for it.

        Raises:
            StagingError: the file cannot be read.
        """
        path = self._again(sink, batch)
        return int(_read(path).num_rows) if path.exists() else 0

    def events(self, batch: Batch) -> pa.Table:
        """Read the events of a batch that is held.

        Raises:
            StagingError: the file cannot be read.
        """
        return _read(batch.path)

    def refused(self, sink: str) -> Iterator[Refused]:
        """Yield every event that is set aside for a sink, with its words.

        Raises:
            StagingError: a file cannot be read.
        """
        for path in sorted(self._folder(sink).glob(f"*{_SUFFIX}")):
            beside = path.with_suffix(".json")
            try:
                words = json.loads(beside.read_bytes())
                for one in words["refused"]:
                    at = datetime.fromisoformat(one["event_time"])
                    yield Refused(sink, words["batch"], one["event_id"], at, one["reason"])
            except (OSError, ValueError, KeyError, TypeError) as error:
                raise StagingError(f"cannot read '{beside}': {error}") from error

    def rows(self, sink: str) -> int:
        """Count the events that are set aside for a sink. Raises: as `refused`."""
        return len({one.event_id for one in self.refused(sink)})

    def sinks(self) -> list[str]:
        """Return the sinks for which something is set aside, sorted."""
        return sorted({unquote(path.parent.name) for path in self.directory.glob(f"*/*{_SUFFIX}")})

    def release(self, batch: Batch) -> None:
        """Remove a batch that is where it should be.

        Raises:
            StagingError: it cannot be removed.
        """
        self._remove(batch.path)

    def discard(self, sink: str) -> None:
        """Remove all that is set aside for a sink, readable or not.

        Raises:
            StagingError: it cannot be removed.
        """
        for path in sorted(self._folder(sink).glob(f"*{_SUFFIX}")):
            self._remove(path)

    def sweep(self) -> None:
        """Remove what a replay that died has left beside events that are gone."""
        for path in self.directory.glob("*/*"):
            if not path.with_suffix(_SUFFIX).exists():
                with suppress(OSError):
                    path.unlink(missing_ok=True)

    def _remove(self, path: Path) -> None:
        """Remove a batch, and then the words and what a sink noted beside it."""
        try:
            path.unlink(missing_ok=True)
            for beside in path.parent.glob(f"{path.stem}.*"):
                beside.unlink(missing_ok=True)
        except OSError as error:
            raise StagingError(f"cannot remove '{path}': {error.strerror or error}") from error

    def _again(self, sink: str, batch: Batch) -> Path:
        return self._folder(sink) / f"{_id(sink, batch.batch_id)}{_SUFFIX}"

    def _folder(self, sink: str) -> Path:
        return self.directory / quote(sink, safe="")


def quarantine_of(state_dir: Path, stream: Stream) -> Quarantine:
    """Return the quarantine of a stream below the state folder."""
    return Quarantine(state_dir / "quarantine" / stream.id, stream)


def _id(sink: str, batch_id: str) -> str:
    return hashlib.sha256(f"quarantine {sink} {batch_id}".encode()).hexdigest()[:32]


def _read(path: Path) -> pa.Table:
    try:
        with pa.memory_map(str(path)) as mapped:
            return pa.ipc.open_file(mapped).read_all()
    except (OSError, pa.ArrowInvalid) as error:
        raise StagingError(f"cannot read '{path}': {error}") from error


def _write_events(file: IO[bytes], events: pa.Table) -> None:
    with pa.ipc.new_file(file, events.schema) as writer:
        writer.write_table(events)


def _write(path: Path, write: Callable[[IO[bytes]], object]) -> None:
    """Put a file in its place whole or not at all."""
    temporary = path.with_name(f".{path.name}.tmp")
    try:
        with temporary.open("wb") as file:
            write(file)
            file.flush()
            os.fsync(file.fileno())
        temporary.replace(path)
    except OSError:
        with suppress(OSError):  # a full disk needs its room
            temporary.unlink(missing_ok=True)
        raise
    sync_folder(path.parent)


def _digest(path: Path) -> str:
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()
