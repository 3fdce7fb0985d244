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

import errno
import json
import os
import uuid
from collections.abc import Iterable, Iterator, Mapping
from contextlib import ExitStack, contextmanager, suppress
from functools import cached_property
from importlib.metadata import version
from pathlib import Path
from typing import IO
from urllib.parse import quote

from cfaudit_export import Batch, LoadUnknownError, Receipt, SinkError, SinkRefusedError, Window
from cfaudit_export.core.disk import REFUSALS, try_folder
from cfaudit_export.core.durable import sync_folder
from cfaudit_export.parquet import StagedEvents, digest_of, ids_by_day, write_parquet
from cfaudit_parquet import ParquetConfig
from cfaudit_parquet.visible import Visible, days_of, find_file, require_events, require_own_word

# Hidden, so that no reader takes it for data.
_MARK = ".cfaudit-destination"
_HINDRANCES = {
    errno.ENOSPC: "the disk is full; make room, nothing is lost meanwhile",
    errno.EDQUOT: "the disk quota is used up; make room, nothing is lost meanwhile",
}


class ParquetSink:
    """Stores batches as Parquet files below one folder. Fits `cfaudit_export.Sink`."""

    def __init__(self, config: ParquetConfig) -> None:
        self._root = Path(config.path).expanduser()

    @cached_property
    def _program_version(self) -> str:
        return version("cfaudit-export")

    def check(self) -> str:
        """Write, sync, rename and remove a file below the folder; as `Sink.check`."""
        with _on_disk(self._root):
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
            with _on_disk(self._root):
                there = {day: found for day, file in files.items() if (found := find_file(file))}
            missing = {day: file for day, file in files.items() if day not in there}
            ids = ids_by_day(batch)
            for day, found in there.items():
                require_events(files[day], found, ids[day])
            if missing:
                self._store(batch, events, missing, {day: digest_of(ids[day]) for day in missing})
            self._sync(files.values())
        _remove_hidden(batch.batch_id, {file.parent for file in files.values()})
        locations = (there[day].path if day in there else file for day, file in files.items())
        return Receipt(batch.batch_id, batch.rows, tuple(map(str, locations)), already=not missing)

    def find(self, batch_id: str, window: Window) -> Receipt | None:  # noqa: ARG002 - see below
        """Look for the batch in the folder of every day, and complete it where an attempt left that to do.

        As `Sink.find`. The window does not help: events that came late lie outside the window of their batch.
        """
        with _on_disk(self._root):
            folders = list(self._folders())
            files = (folder / f"{batch_id}.parquet" for folder in folders)
            visible = {file: found for file in files if (found := find_file(file))}
            receipt = _completed(batch_id, visible) if visible else None
            self._sync(map(Path, receipt.locations if receipt else ()))
        _remove_hidden(batch_id, folders)
        return receipt

    def marked(self) -> str | None:
        """Return the mark in the folder; as `Sink.marked`."""
        with _on_disk(self._root):
            try:
                return (self._root / _MARK).read_text("ascii", "replace").strip() or None
            except FileNotFoundError:
                return None

    def mark(self, token: str) -> str:
        """Leave a mark in the folder, unless there is one; as `Sink.mark`."""
        if (found := self.marked()) is not None:
            return found
        hidden = self._root / f"{_MARK}.{uuid.uuid4().hex[:12]}.tmp"
        with _on_disk(self._root):
            with _durable(hidden) as file:
                file.write(f"{token}\n".encode())
            try:
                os.link(hidden, self._root / _MARK)
            except FileExistsError:  # another run was faster
                pass
            except OSError:  # a file system without hard links
                hidden.replace(self._root / _MARK)
            hidden.unlink(missing_ok=True)
            sync_folder(self._root)
        return self.marked() or token

    def close(self) -> None:
        """Do nothing: no file stays open between calls."""

    def _file(self, batch: Batch, day: str) -> Path:
        account = quote(batch.stream.account_id, safe="")
        return self._root / f"account_id={account}" / f"event_date={day}" / f"{batch.batch_id}.parquet"

    def _folders(self) -> Iterator[Path]:
        """Yield the folder of every day of every account; unlike a glob, fail where looking is not allowed."""
        for account in _folders_in(self._root, "account_id="):
            yield from _folders_in(account, "event_date=")

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
    ) -> None:
        attempt = uuid.uuid4().hex[:12]
        notes = self._notes(batch, events, attempt)
        with ExitStack() as unfinished:
            for day, groups in events.by_day():
                if day not in missing:
                    continue
                hidden = _hidden(missing[day], attempt)
                unfinished.callback(_remove, hidden)
                with _on_disk(self._root):
                    _make_folder(hidden.parent)
                    with _durable(hidden) as file:
                        write_parquet(file, events.schema, groups, notes | {"cfaudit_digest": digests[day]})
            if len(missing) > 1:  # the hidden names must outlive a power cut once the first file is visible
                self._sync(missing.values())
            unfinished.pop_all()
        with _on_disk(self._root):
            for path in missing.values():
                _hidden(path, attempt).replace(path)

    def _sync(self, files: Iterable[Path]) -> None:
        """Make the names of files survive a power cut, also those that an attempt that crashed has not synced."""
        with _on_disk(self._root):
            for folder in {folder for file in files for folder in (file.parent, file.parent.parent, self._root)}:
                sync_folder(folder)


def _completed(batch_id: str, visible: dict[Path, Visible]) -> Receipt:
    """Make the files visible that a crash kept from it, and return the receipt of the whole batch."""
    first = next(iter(visible))
    days = days_of(first, visible[first].notes)
    attempts = [found.notes.get("cfaudit_attempt", "") for found in visible.values()]
    locations = []
    for day, rows in days.items():
        file = first.parent.parent / f"event_date={day}" / first.name
        if file in visible:
            require_own_word(file, visible[file], rows)
        else:
            _uncover(file, attempts)
        locations.append(visible[file].path if file in visible else file)
    return Receipt(batch_id, sum(days.values()), tuple(map(str, locations)), already=True)


def _uncover(file: Path, attempts: Iterable[str]) -> None:
    """Make a file visible that an attempt left whole under its hidden name."""
    named = (_hidden(file, attempt) for attempt in attempts if attempt.isalnum())  # a note is not believed
    hidden = next((path for path in named if path.exists()), None)
    if hidden is None:
        raise LoadUnknownError(
            f"'{file}' was removed since; put it back, or remove the other files of batch '{file.stem}' too"
        )
    hidden.replace(file)


# -- the disk ---------------------------------------------------------------------------------------


def _hidden(path: Path, attempt: str) -> Path:
    """Return the name of a file until it is whole: hidden, and not matched by any reader's `*.parquet`."""
    return path.with_name(f".{path.stem}.{attempt}.tmp")


def _folders_in(folder: Path, prefix: str) -> list[Path]:
    try:
        with os.scandir(folder) as entries:
            return sorted(Path(entry) for entry in entries if entry.name.startswith(prefix) and entry.is_dir())
    except FileNotFoundError:
        return []


def _files_of(batch_id: str, folders: Iterable[Path]) -> list[Path]:
    return [path for folder in folders for path in sorted(folder.iterdir()) if batch_id in path.name]


def _remove_hidden(batch_id: str, folders: Iterable[Path]) -> None:
    """Remove what attempts that crashed have left of a batch that no longer needs it."""
    with suppress(OSError):  # readers do not see it; it is not worth failing for
        for path in _files_of(batch_id, folders):
            if path.suffix == ".tmp":
                path.unlink(missing_ok=True)


def _remove(path: Path) -> None:
    with suppress(OSError):  # the error that led here matters more
        path.unlink(missing_ok=True)


def _make_folder(folder: Path) -> None:
    """Make a folder and those above it, so that a power cut cannot undo it."""
    if not folder.is_dir():
        _make_folder(folder.parent)
        folder.mkdir(exist_ok=True)
        sync_folder(folder.parent)


@contextmanager
def _durable(path: Path) -> Iterator[IO[bytes]]:
    """Open a new file; on leaving, its bytes are on the disk."""
    with path.open("xb") as file:
        yield file
        file.flush()
        os.fsync(file.fileno())


@contextmanager
def _on_disk(root: Path) -> Iterator[None]:
    """Turn an error of the disk into one that says what to do."""
    try:
        yield
    except OSError as error:
        if error.errno is None:  # not the disk's: pyarrow says so of a staged file that is cut short
            raise
        if reason := REFUSALS.get(error.errno):
            raise SinkRefusedError(f"cannot use '{root}': {reason}") from error
        reason = _HINDRANCES.get(error.errno, f"{os.strerror(error.errno).lower()}; nothing is lost meanwhile")
        raise SinkError(f"cannot use '{root}': {reason}") from error
