"""A complete sink plugin: newline-delimited JSON, one file per batch. Copy it to begin your own."""

from __future__ import annotations

import json
import os
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from datetime import datetime
from pathlib import Path

from cfaudit_export import Batch, Receipt, SinkError, SinkPlugin, Window, hookimpl, read_batch


@dataclass(frozen=True, slots=True)
class NdjsonConfig:
    """Settings of the sink `ndjson`, under `[sinks.ndjson]`.

    Attributes:
        path: folder of the files.
    """

    path: Path


class NdjsonSink:
    """Write each batch to a file that is named after it: what bears the name is whole, and is never written twice."""

    def __init__(self, config: NdjsonConfig) -> None:
        self._folder = config.path

    def check(self) -> str:
        """Prove that `load` would work, by the same path, and leave nothing behind."""
        path = self._folder / ".check"
        self._write(path, [{}])
        path.unlink()
        return f"can write to '{self._folder}'"

    def load(self, batch: Batch) -> Receipt:
        """Store every event of the batch durably."""
        path = self._folder / f"{batch.batch_id}.ndjson"
        already = path.exists()
        if not already:
            self._write(path, (row for part in read_batch(batch).to_batches() for row in part.to_pylist()))
        return Receipt(batch.batch_id, batch.rows, (str(path),), already)

    def find(self, batch_id: str, window: Window) -> Receipt | None:
        """Say whether the batch is already here."""
        path = self._folder / f"{batch_id}.ndjson"
        if not path.exists():
            return None
        with path.open(encoding="utf-8") as lines:
            return Receipt(batch_id, sum(1 for _ in lines), (str(path),), already=True)

    def close(self) -> None:
        """Nothing is held."""

    def _write(self, path: Path, rows: Iterable[dict[str, object]]) -> None:
        temporary = path.with_suffix(".tmp")
        try:
            path.parent.mkdir(parents=True, exist_ok=True)
            with temporary.open("w", encoding="utf-8") as file:
                file.writelines(json.dumps(row, default=datetime.isoformat) + "\n" for row in rows)
                file.flush()
                os.fsync(file.fileno())
            temporary.replace(path)
            folder = os.open(path.parent, os.O_RDONLY)
            os.fsync(folder)  # the name is durable, too
            os.close(folder)
        except OSError as error:
            raise SinkError(f"cannot write '{path}': {error.strerror}; free the disk or choose another path") from error


@hookimpl
def cfaudit_sinks() -> Iterator[SinkPlugin]:
    """Offer the sink."""
    yield SinkPlugin("ndjson", NdjsonConfig, NdjsonSink, "newline-delimited JSON, one file per batch")
