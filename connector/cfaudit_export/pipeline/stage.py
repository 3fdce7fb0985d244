"""Rows -> a batch on disk, complete and durable before any sink sees it."""

from __future__ import annotations

import hashlib
from collections.abc import Iterator, Mapping
from contextlib import suppress
from dataclasses import dataclass, replace
from pathlib import Path
from urllib.parse import quote

import pyarrow as pa
import pyarrow.compute as pc

from cfaudit_export.core.durable import make_folder, new_file, put_in_place
from cfaudit_export.core.model import Batch, Intent, Stream, Window
from cfaudit_export.errors import StagingError
from cfaudit_export.pipeline.answer import digest_of
from cfaudit_export.schema import of_batch

_SUFFIX = ".arrow"
_UNFINISHED = ".tmp"
_PIECE_ROWS = 10_000


@dataclass(frozen=True, slots=True)
class Staging:
    """The folder that holds the batches of one stream until every sink has them."""

    directory: Path

    def stage(self, table: pa.Table, stream: Stream, window: Window, promised: Mapping[str, Intent]) -> Batch:
        """Write the rows and return the batch; the same rows give the same batch.

        Args:
            table: the rows; they are written with the name of the batch.
            stream: whose they are.
            window: what the batch is the whole of.
            promised: what sinks that are down were promised, by batch. Where these rows are among it they are not
                written anew, which would change the file that was promised.

        Raises:
            StagingError: the disk is full or not writable; nothing is left behind.
        """
        batch_id = batch_id_of(table, stream)
        if batch_id in promised and (found := self.find(promised[batch_id], stream)):
            return replace(found, window=window)
        path = self._path(batch_id)
        try:
            make_folder(self.directory)
            digest = _write(of_batch(table, batch_id), path)
        except OSError as error:
            _discard(path.with_suffix(_UNFINISHED))
            raise StagingError(f"cannot stage a batch under '{self.directory}': {error.strerror or error}") from error
        return Batch(batch_id, stream, window, table.num_rows, path, digest)

    def find(self, intent: Intent, stream: Stream) -> Batch | None:
        """Return the staged batch of an intent, None when it is gone or not what was promised.

        Raises:
            StagingError: it cannot be read now.
        """
        path = self._path(intent.batch_id)
        try:
            if digest_of(path) != intent.digest:
                return None
        except FileNotFoundError:
            return None
        except OSError as error:
            raise StagingError(f"cannot read the staged batch '{path}': {error.strerror or error}") from error
        return Batch(intent.batch_id, stream, intent.window, intent.rows, path, intent.digest)

    def remove(self, batch_id: str) -> None:
        """Forget a batch that every sink has, and what sinks noted beside it."""
        for path in self._files():
            if path.stem == batch_id:
                _discard(path)

    def sweep(self, keep: set[str]) -> None:
        """Remove what no intent names: left over by a run that died before it promised anything.

        What a sink noted beside a batch that is still promised stays: it says what the sink has of it.
        """
        for path in self._files():
            if path.suffix == _UNFINISHED or path.stem not in keep:
                _discard(path)

    def _files(self) -> Iterator[Path]:
        if not self.directory.is_dir():
            return iter(())
        return (path for path in self.directory.iterdir() if not path.is_dir())

    def _path(self, batch_id: str) -> Path:
        return self.directory / f"{batch_id}{_SUFFIX}"


@dataclass(frozen=True, slots=True)
class Stagings:
    """The folders that hold the batches of one stream: one for most sinks, and one for each that has its own rows.

    Attributes:
        directory: the folder of the stream.
        apart: sinks with transforms of their own: a batch has the same name for them, and other content.
    """

    directory: Path
    apart: frozenset[str] = frozenset()

    def of(self, sink: str) -> Staging:
        """Return where the batches of a sink are staged."""
        return Staging(self.directory / quote(sink, safe="") if sink in self.apart else self.directory)

    def sweep(self, keep: set[str]) -> None:
        """Remove what no intent names from all folders, also those of sinks that are no longer apart."""
        for one in self._all():
            one.sweep(keep)

    def _all(self) -> Iterator[Staging]:
        yield Staging(self.directory)
        if self.directory.is_dir():
            yield from (Staging(path) for path in self.directory.iterdir() if path.is_dir())


def batch_id_of(table: pa.Table, stream: Stream) -> str:
    """Return the name that these rows have for ever: 32 hex digits over the stream and the ids of the events.

    An event that takes the place of a shadow is another row than the same event that does not.
    """
    replaced = (f"{name} for {shadow}" for name, shadow in _replacing(table))
    ids = "\n".join([stream.id, *sorted(table["event_id"].to_pylist()), *sorted(replaced)])
    return hashlib.sha256(ids.encode()).hexdigest()[:32]


def _replacing(table: pa.Table) -> Iterator[tuple[str, str]]:
    some = table.filter(pc.is_valid(table["replaces"]))
    return zip(some["event_id"].to_pylist(), some["replaces"].to_pylist(), strict=True)


def _write(table: pa.Table, path: Path) -> str:
    temporary = path.with_suffix(_UNFINISHED)
    with new_file(temporary) as file, pa.ipc.new_file(file, table.schema) as writer:
        # Sinks read piece by piece; one piece of all rows would have to be held whole.
        writer.write_table(table, max_chunksize=_PIECE_ROWS)
    digest = digest_of(temporary)
    put_in_place(temporary, path)
    return digest


def _discard(path: Path) -> None:
    with suppress(OSError):  # what is left behind is swept by a later run
        path.unlink(missing_ok=True)
