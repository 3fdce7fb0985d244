"""Batch -> Parquet files on a disk, exactly once.

A batch becomes one file for each UTC day in it, named after the batch. How that is safe at any moment of a crash:

1. Every file is written whole under a hidden name in its own folder, and synced.
2. Only when all are, they are renamed one after the other, which is atomic, and the folders are synced.

So a visible file is always whole, and while one is visible, the others of its batch are visible or whole under their
hidden names. Each file names all files of its batch, and the attempt that its hidden siblings bear in their names.
Loading again writes what is not visible; `find` renames what is missing, and so need not guess.

`compact` may have merged a file into another of its folder. That one names the files it stands for, and keeps what
they said of their batches; a file so named counts as visible.
"""

from __future__ import annotations

import json
import uuid
from collections.abc import Iterable, Iterator, Mapping
from contextlib import ExitStack
from functools import cached_property
from importlib.metadata import version
from pathlib import Path
from urllib.parse import quote

from cfaudit_export import Batch, LoadUnknownError, Receipt, StoredFile, Window
from cfaudit_export.core.disk import read_file, try_folder
from cfaudit_export.core.durable import create_file, make_folder, new_file, sync_folder
from cfaudit_export.parquet import StagedEvents, Written, digest_of, ids_by_day, write_parquet
from cfaudit_export.proof.chain import FOLDER
from cfaudit_export.proof.folder import ManifestFolder
from cfaudit_parquet import ParquetConfig
from cfaudit_parquet.disk import folders_in, hashed, hidden_name, on_disk, remove, remove_hidden
from cfaudit_parquet.visible import Visible, days_of, find_file, require_events, require_own_word

# Hidden, so that no reader takes it for data.
_MARK = ".cfaudit-destination"


class ParquetSink:
    """Stores batches as Parquet files below one folder. Fits `cfaudit_export.Sink`."""

    def __init__(self, config: ParquetConfig) -> None:
        self._root = Path(config.path).expanduser()
        self._mode = int(config.file_mode, 8)
        self._manifests = ManifestFolder(self._root / FOLDER, self._mode)

    @cached_property
    def _program_version(self) -> str:
        return version("cfaudit-export")

    def check(self) -> str:
        """Write, sync, rename and remove a file below the folder; as `Sink.check`."""
        with on_disk(self._root):
            tried = try_folder(self._root)
        lacking = (
            "" if tried.can_sync else "; its file system cannot sync folders, so a power cut may undo the newest files"
        )
        room = f"{tried.free_bytes / 1e9:.1f} GB free{lacking}"
        return f"wrote, synced, renamed and removed a file in '{self._root}', {room}"

    def load(self, batch: Batch) -> Receipt:
        """Store the batch, or what is missing of it; as `Sink.load`."""
        with StagedEvents(str(batch.path)) as events:
            files = {day: self._file(batch, day) for day in events.days}
            with on_disk(self._root):
                there = {day: found for day, file in files.items() if (found := find_file(file))}
            missing = {day: file for day, file in files.items() if day not in there}
            ids = ids_by_day(batch)
            for day, found in there.items():
                require_events(files[day], found, ids[day])
            written = {}
            if missing:
                written = self._store(batch, events, missing, {day: digest_of(ids[day]) for day in missing})
            self._sync(files.values())
            with on_disk(self._root):
                stored = tuple(
                    self._stored(file, events.days[day], written.get(day))
                    for day, file in files.items()
                    if day not in there or there[day].path == file
                )
        remove_hidden(batch.batch_id, {file.parent for file in files.values()})
        locations = (there[day].path if day in there else file for day, file in files.items())
        return Receipt(batch.batch_id, batch.rows, tuple(map(str, locations)), already=not missing, files=stored)

    def find(self, batch_id: str, window: Window) -> Receipt | None:  # noqa: ARG002 - see below
        """Look for the batch in the folder of every day, and complete it where an attempt left that to do.

        As `Sink.find`. The window does not help: events that came late lie outside the window of their batch.
        """
        with on_disk(self._root):
            folders = list(self._folders())
            files = (folder / f"{batch_id}.parquet" for folder in folders)
            visible = {file: found for file in files if (found := find_file(file))}
            receipt = self._completed(batch_id, visible) if visible else None
            self._sync(map(Path, receipt.locations if receipt else ()))
        remove_hidden(batch_id, folders)
        return receipt

    def marked(self) -> str | None:
        """Return the mark in the folder; as `Sink.marked`."""
        with on_disk(self._root):
            try:
                return read_file(self._root / _MARK, 1_000).decode("ascii", "replace").strip() or None
            except FileNotFoundError:
                return None

    def mark(self, token: str) -> str:
        """Leave a mark in the folder, unless there is one; as `Sink.mark`."""
        if (found := self.marked()) is not None:
            return found
        with on_disk(self._root):
            create_file(self._root / _MARK, f"{token}\n".encode(), mode=self._mode)
        return self.marked() or token

    def put_manifest(self, name: str, content: bytes) -> bool:
        """Keep a manifest below the folder; as `Sink` says."""
        return self._manifests.put_manifest(name, content)

    def get_manifest(self, name: str) -> bytes | None:
        """Return a manifest; as `Sink` says."""
        return self._manifests.get_manifest(name)

    def manifests(self, chain: str) -> Iterator[str]:
        """Yield the names of the manifests of a chain; as `Sink` says."""
        return self._manifests.manifests(chain)

    def close(self) -> None:
        """Do nothing: no file stays open between calls."""

    def _file(self, batch: Batch, day: str) -> Path:
        account = quote(batch.stream.account_id, safe="")
        return self._root / f"account_id={account}" / f"event_date={day}" / f"{batch.batch_id}.parquet"

    def _folders(self) -> Iterator[Path]:
        """Yield the folder of every day of every account; unlike a glob, fail where looking is not allowed."""
        for account in folders_in(self._root, "account_id="):
            yield from folders_in(account, "event_date=")

    def _notes(self, batch: Batch, events: StagedEvents, attempt: str) -> dict[str, str]:
        """Return what each file says about its batch; `find` relies on the days and the attempt."""
        return {
            "cfaudit_schema_version": events.schema.metadata[b"cfaudit_schema_version"].decode(),
            "cfaudit_batch": batch.batch_id,
            "cfaudit_stream": batch.stream.id,
            "cfaudit_source": batch.stream.source,
            "cfaudit_window": str(batch.window),
            "cfaudit_days": json.dumps(events.days),
            "cfaudit_attempt": attempt,
            "cfaudit_version": self._program_version,
        }

    def _store(
        self, batch: Batch, events: StagedEvents, missing: Mapping[str, Path], digests: Mapping[str, str]
    ) -> dict[str, Written]:
        """Write the files that are missing, and return what was written, by day."""
        attempt, written = uuid.uuid4().hex[:12], {}
        notes = self._notes(batch, events, attempt)
        with ExitStack() as unfinished:
            for day, groups in events.by_day():
                if day not in missing:
                    continue
                hidden = hidden_name(missing[day], attempt)
                unfinished.callback(remove, hidden)
                with on_disk(self._root):
                    make_folder(hidden.parent, mode=self._mode)
                    with new_file(hidden, mode=self._mode) as file:
                        note = {"cfaudit_digest": digests[day]}
                        written[day] = write_parquet(file, events.schema, groups, notes | note)
            if len(missing) > 1:  # the hidden names must outlive a power cut once the first file is visible
                self._sync(missing.values())
            unfinished.pop_all()
        with on_disk(self._root):
            for path in missing.values():
                hidden_name(path, attempt).replace(path)  # durable once `load` syncs all the folders together
        return written

    def _stored(self, file: Path, rows: int, written: Written | None) -> StoredFile:
        """Return what a receipt says of a file; one that was not written just now is read for that."""
        written = written or hashed(file)
        return StoredFile(file.relative_to(self._root).as_posix(), written.bytes, written.sha256, rows)

    def _completed(self, batch_id: str, visible: dict[Path, Visible]) -> Receipt:
        """Make the files visible that a crash kept from it, and return the receipt of the whole batch."""
        first = next(iter(visible))
        days = days_of(first, visible[first].notes)
        attempts = [found.notes.get("cfaudit_attempt", "") for found in visible.values()]
        locations, stored = [], []
        for day, rows in days.items():
            file = first.parent.parent / f"event_date={day}" / first.name
            if file in visible:
                require_own_word(file, visible[file], rows)
            else:
                _uncover(file, attempts)
            path = visible[file].path if file in visible else file
            locations.append(str(path))
            if path == file:
                stored.append(self._stored(file, rows, None))
        return Receipt(batch_id, sum(days.values()), tuple(locations), already=True, files=tuple(stored))

    def _sync(self, files: Iterable[Path]) -> None:
        """Make the names of files survive a power cut, also those that an attempt that crashed has not synced."""
        with on_disk(self._root):
            for folder in {folder for file in files for folder in (file.parent, file.parent.parent, self._root)}:
                sync_folder(folder)


def _uncover(file: Path, attempts: Iterable[str]) -> None:
    """Make a file visible that an attempt left whole under its hidden name."""
    named = (hidden_name(file, attempt) for attempt in attempts if attempt.isalnum())  # a note is not believed
    hidden = next((path for path in named if path.exists()), None)
    if hidden is None:
        raise LoadUnknownError(
            f"'{file}' was removed since; put it back, or remove the other files of batch '{file.stem}' too"
        )
    hidden.replace(file)
