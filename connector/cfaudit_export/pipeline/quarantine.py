"""Events that a sink refuses for good, quarantined on disk until a person replays them.

One batch of refused events is two files below `STATE/quarantine/STREAM/SINK/`: `ID.json` with the sink's reasons, and
`ID.arrow` with the events as they were staged. The second appears last, so that where it is, both are whole. The first
is sealed, and has the digest of the second, so that a change of either is noticed. Files of older versions have none.

`ID` derives from the batch that was refused and is the id under which the events are loaded again: under the old one
a sink would rightly say that it has been given the batch.

Where the store of the checkpoint has a place for files, as S3 has, both are there too, under the same names, because
the disk may go with its machine.
"""

from __future__ import annotations

import hashlib
import json
import re
from collections.abc import Iterator
from contextlib import suppress
from dataclasses import dataclass
from datetime import datetime
from functools import partial
from pathlib import Path
from typing import IO, Any, cast
from urllib.parse import quote, unquote

import pyarrow as pa
import pyarrow.compute as pc

from cfaudit_export.core.disk import read_file, require_file
from cfaudit_export.core.durable import PRIVATE, make_folder, new_file, put_in_place, replace_file
from cfaudit_export.core.model import MILLISECOND, Batch, Rejected, Stream, Window, floor_ms, iso
from cfaudit_export.core.seal import broken_seal, sealed
from cfaudit_export.errors import SinkError, StagingError
from cfaudit_export.pipeline.answer import digest_of
from cfaudit_export.plugin.interfaces import BlobStore
from cfaudit_export.schema import of_batch

_SUFFIX = ".arrow"
_KEPT = ".kept"  # beside what is in the store, too
_NAME = re.compile(r"[\w%~-][\w.%~-]*/[0-9a-f]{32}\.(json|arrow)", re.ASCII)


@dataclass(frozen=True, slots=True)
class QuarantinedEvent:
    """An event that is quarantined: by which sink, with which of its batches, and the sink's reason."""

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
    blobs: BlobStore | None = None

    def fetch(self) -> Quarantine:
        """Bring what the checkpoint's store keeps onto this disk, and what is only here there; return the quarantine.

        What was taken from the store on another machine, as a replay does, goes from here too.

        Raises:
            StagingError, TryAgainError: the disk cannot be written, or the store not reached.
        """
        if self.blobs is None:
            return self
        kept = {name for name in self.blobs.kept(self.stream.id) if _NAME.fullmatch(name)}
        try:
            for name in sorted(kept, key=lambda name: (name.endswith(_SUFFIX), name)):  # the reasons before the events
                path = self.directory / name
                if not path.exists() and (content := self.blobs.fetch(self.stream.id, name)) is not None:
                    make_folder(path.parent)
                    replace_file(path, partial(_write, content), temporary=_hidden(path))
                    path.with_suffix(_KEPT).touch(mode=PRIVATE)
        except OSError as error:
            raise StagingError(f"cannot fetch into '{self.directory}': {error.strerror or error}") from error
        for path in sorted(self.directory.glob(f"*/*{_SUFFIX}")):
            if _name(path) in kept:
                continue
            if path.with_suffix(_KEPT).exists():
                self._remove_here(path)
            else:
                self._keep(path)
        return self

    def add(self, sink: str, batch: Batch, rejected: tuple[Rejected, ...]) -> None:
        """Keep the refused events of a batch with the sink's reasons, durably. Again changes nothing.

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
        try:
            make_folder(path.parent)
            hidden = _hidden(path)
            with new_file(hidden) as file, pa.ipc.new_file(file, refused.schema) as writer:
                writer.write_table(of_batch(refused, path.stem))
            text = json.dumps(words | {"sha256": digest_of(hidden)}, indent=2, ensure_ascii=True).encode()
            beside = path.with_suffix(".json")
            replace_file(beside, lambda file: file.write(sealed(text)), temporary=_hidden(beside))
            put_in_place(hidden, path)
        except OSError as error:
            raise StagingError(f"cannot set events aside in '{path.parent}': {error.strerror or error}") from error
        self._keep(path)

    def held(self, sink: str) -> Iterator[Batch]:
        """Yield what is quarantined for a sink, as batches to load.

        Raises:
            StagingError: a file cannot be read.
        """
        folder = self._folder(sink)
        for path in sorted(folder.glob(f"*{_SUFFIX}")):
            digest = _digest(path)
            if digest != _words(path).get("sha256", digest):
                raise _changed(path)
            times = _read(path)["event_time"]
            first, last = (floor_ms(at.as_py()) for at in pc.min_max(times).values())
            window = Window(first, last + MILLISECOND)
            yield Batch(path.stem, self.stream, window, len(times), path, digest)

    def refused_again(self, sink: str, batch: Batch) -> int:
        """Count the events of a batch that is held which a sink has refused anew, and which are quarantined for it.

        Raises:
            StagingError: the file cannot be read.
        """
        path = self._again(sink, batch)
        return int(_read(path).num_rows) if path.exists() else 0

    def events(self, batch: Batch) -> pa.Table:
        """Read the events of a batch that is held. Raises what `held` raises."""
        return _read(batch.path)

    def refused(self, sink: str) -> Iterator[QuarantinedEvent]:
        """Yield every event that is quarantined for a sink, with the sink's reason.

        Raises:
            StagingError: a file cannot be read.
        """
        for path in sorted(self._folder(sink).glob(f"*{_SUFFIX}")):
            words = _words(path)
            try:
                for one in words["refused"]:
                    at = datetime.fromisoformat(one["event_time"])
                    yield QuarantinedEvent(sink, words["batch"], one["event_id"], at, one["reason"])
            except (ValueError, KeyError, TypeError) as error:
                raise StagingError(f"cannot read '{path.with_suffix('.json')}': {error}") from error

    def rows(self, sink: str) -> int:
        """Count the events that are quarantined for a sink. Raises what `refused` raises."""
        return len({one.event_id for one in self.refused(sink)})

    def sinks(self) -> list[str]:
        """Return the sinks for which something is quarantined, sorted."""
        return sorted({unquote(path.parent.name) for path in self.directory.glob(f"*/*{_SUFFIX}")})

    def release(self, batch: Batch) -> None:
        """Remove a batch that is where it should be.

        Raises:
            StagingError: it cannot be removed.
        """
        self._remove(batch.path)

    def discard(self, sink: str) -> None:
        """Remove all that is quarantined for a sink, readable or not.

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

    def _keep(self, path: Path) -> None:
        """Give a batch to the store, the events last, as on the disk."""
        if self.blobs is None:
            return
        try:
            for one in (path.with_suffix(".json"), path):
                self.blobs.keep(self.stream.id, _name(one), one.read_bytes())
            path.with_suffix(_KEPT).touch(mode=PRIVATE)
        except OSError as error:
            raise StagingError(f"cannot set events aside in '{path.parent}': {error.strerror or error}") from error

    def _remove(self, path: Path) -> None:
        """Remove a batch, and then the reasons and what a sink noted beside it."""
        if self.blobs is not None:
            for one in (path, path.with_suffix(".json")):
                self.blobs.drop(self.stream.id, _name(one))
        self._remove_here(path)

    def _remove_here(self, path: Path) -> None:
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


def quarantine_of(state_dir: Path, stream: Stream, store: object = None) -> Quarantine:
    """Return the quarantine of a stream below the state folder, and in the store where that has a place for it."""
    while hasattr(store, "store"):  # one that only passes checkpoints on
        store = store.store
    blobs = cast("BlobStore", store) if hasattr(store, "keep") else None
    return Quarantine(state_dir / "quarantine" / stream.id, stream, blobs)


def _write(content: bytes, file: IO[bytes]) -> None:
    file.write(content)


def _id(sink: str, batch_id: str) -> str:
    return hashlib.sha256(f"quarantine {sink} {batch_id}".encode()).hexdigest()[:32]


def _read(path: Path) -> pa.Table:
    try:
        with pa.memory_map(require_file(path)) as mapped:
            return pa.ipc.open_file(mapped).read_all()
    except (OSError, pa.ArrowInvalid) as error:
        raise StagingError(f"cannot read '{path}': {error}") from error


def _words(path: Path) -> dict[str, Any]:
    """Read what is kept beside the events of a file.

    Raises:
        StagingError: it cannot be read, or is not what was written.
    """
    beside = path.with_suffix(".json")
    try:
        text = read_file(beside)
        words: dict[str, Any] = json.loads(text)
        if "sha256" in words and broken_seal(text):
            raise _changed(beside)
    except (OSError, ValueError, TypeError) as error:
        raise StagingError(f"cannot read '{beside}': {error}") from error
    return words


def _changed(path: Path) -> StagingError:
    return StagingError(
        f"'{path}' was changed since it was quarantined; restore it from a backup, or give up its events with "
        "'replay --discard'"
    )


def _name(path: Path) -> str:
    return f"{path.parent.name}/{path.name}"


def _hidden(path: Path) -> Path:
    return path.with_name(f".{path.name}.tmp")


def _digest(path: Path) -> str:
    try:
        return digest_of(path)
    except OSError as error:
        raise StagingError(f"cannot read '{path}': {error}") from error
