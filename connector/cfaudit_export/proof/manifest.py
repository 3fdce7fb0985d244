"""What a manifest says: values; `statement` makes bytes of them, and `chain` says where they lie.

A manifest is written for one stream and one sink, after a run (`seal`), or when what was sealed before is changed on
purpose: files were merged (`compaction`), removed or rewritten (`retention`), the key was changed (`key`), or what was
remembered was lost and the chain begins anew (`reset`).
"""

from __future__ import annotations

import re
from collections.abc import Iterator
from dataclasses import dataclass, field
from datetime import datetime, timedelta
from typing import Literal

from cfaudit_export.core.model import StoredFile, Stream, Window

FORMAT = 1
Kind = Literal["seal", "compaction", "key", "retention", "reset"]

_HEX = re.compile(r"[0-9a-f]{64}")


@dataclass(frozen=True, slots=True)
class BatchEntry:
    """A batch that the sink stored.

    Attributes:
        batch_id: as in the column `batch_id` of its rows.
        window: what it completed.
        rows: events that the sink has of it.
        late_rows: how many of them are latecomers.
        first: time of its earliest event, UTC; None only where it has no rows.
        last: time of its latest.
        rows_sha256: the digest of its rows, see `rows`; None where that is not known, and its files are all there is.
        ids_sha256: the digest of its event ids; None likewise.
        files: what it is stored in; none for a sink that stores no files.
    """

    batch_id: str
    window: Window
    rows: int
    late_rows: int
    first: datetime | None
    last: datetime | None
    rows_sha256: str | None
    ids_sha256: str | None
    files: tuple[StoredFile, ...] = ()

    def __post_init__(self) -> None:
        _require_digest(self.rows_sha256)
        _require_digest(self.ids_sha256)
        _require_counts(self.rows, self.late_rows)


@dataclass(frozen=True, slots=True)
class GapEntry:
    """A gap that was found or filled: as `Gap`, without how often it was tried."""

    window: Window
    rows: int
    reason: str
    shadows: tuple[str, ...] = ()


@dataclass(frozen=True, slots=True)
class ReadEntry:
    """What a run asked for, and by which clock.

    Attributes:
        since: start of the time that was wanted; None where there was nothing to do.
        before: its end.
        settle_lag: how far behind now the run stopped.
        rescan: how far back it looked for latecomers.
        clock_ahead_seconds: how far our clock was ahead of the server's; kept to the millisecond. None where the
            server did not tell its time.
    """

    since: datetime | None
    before: datetime | None
    settle_lag: timedelta
    rescan: timedelta
    clock_ahead_seconds: float | None = 0.0


@dataclass(frozen=True, slots=True)
class BatchPart:
    """The rows of one batch in one file: how many, and their digest, None where it is not known."""

    batch_id: str
    rows: int
    rows_sha256: str | None

    def __post_init__(self) -> None:
        _require_digest(self.rows_sha256)
        _require_counts(self.rows)


@dataclass(frozen=True, slots=True)
class Replacement:
    """Files that were sealed before, and what took their place.

    Attributes:
        old: the files as they were.
        new: the file with their rows; None where they were removed.
        parts: for each batch, its rows in the old files, and so in the new one.
    """

    old: tuple[StoredFile, ...]
    new: StoredFile | None
    parts: tuple[BatchPart, ...] = ()


@dataclass(frozen=True, slots=True)
class ErasedEntry:
    """An event of which something was erased.

    Attributes:
        event_id: which event.
        batch_id: its batch.
        columns: what was erased of it: columns that are null now.
        leaf: the digest of its row as it was exported, hex, so that the digest of the batch can still be made; None
            where what was erased could be guessed by it, as the bodies had no nonce.
    """

    event_id: str
    batch_id: str
    columns: tuple[str, ...]
    leaf: str | None = None

    def __post_init__(self) -> None:
        _require_digest(self.leaf)


@dataclass(frozen=True, slots=True)
class KeyEntry:
    """A change of keys, signed by both: from the next manifest on, the new one signs alone.

    Attributes:
        old: the key that is retired, PEM; None where nothing was signed before.
        new: the key that takes its place, PEM.
    """

    old: str | None
    new: str


@dataclass(frozen=True, slots=True)
class Manifest:
    """One link of a chain.

    Attributes:
        kind: why it was written.
        chain: `<stream id>/<sink>`, see `chain`.
        sequence: its number, from 1.
        previous: SHA-256 of the file of the manifest before, hex; None for the first.
        stream: whose events.
        sink: name of the sink.
        location: where that stores, as people know it; the verifier does not rely on it.
        sealed_at: when it was written, UTC.
        program: version of this program.
        schema_version: version of the columns.
        read: what the run asked for; None where no run wrote it.
        covered: the time that it adds to what is covered.
        covered_total: all that is covered with it.
        batches: what was stored since the manifest before.
        gaps_opened: gaps that were found since.
        gaps_closed: gaps that were filled since.
        gaps_open: how many are open.
        quarantined: events that the sink refused and that are quarantined, in all.
        replaces: pairs of a shadow or trimmed event, and the event that takes its place.
        transforms: what changed events on the way, with the digest of its settings.
        fidelity: how many events were stored by how they were read.
        tool: fingerprint of the source's tool.
        replaced: files that others took the place of, or that were removed.
        erased: events of which something was erased.
        key: the change of keys.
        merged_into: of a slice's last manifest, the chain that goes on with it.
        merged_from: of a stream's manifest, `<chain>:<sequence>:<sha256>` of slices that were taken back.
        reason: why a chain begins anew, or why files were removed.
        checkpoint: digest of the time that the checkpoint covered, for the next run to notice that it was edited.
    """

    kind: Kind
    chain: str
    sequence: int
    previous: str | None
    stream: Stream
    sink: str
    location: str
    sealed_at: datetime
    program: str
    schema_version: int
    read: ReadEntry | None = None
    covered: tuple[Window, ...] = ()
    covered_total: tuple[Window, ...] = ()
    batches: tuple[BatchEntry, ...] = ()
    gaps_opened: tuple[GapEntry, ...] = ()
    gaps_closed: tuple[GapEntry, ...] = ()
    gaps_open: int = 0
    quarantined: int = 0
    replaces: tuple[tuple[str, str], ...] = ()
    transforms: tuple[str, ...] = ()
    fidelity: dict[str, int] = field(default_factory=dict)
    tool: str | None = None
    replaced: tuple[Replacement, ...] = ()
    erased: tuple[ErasedEntry, ...] = ()
    key: KeyEntry | None = None
    merged_into: str | None = None
    merged_from: tuple[str, ...] = ()
    reason: str | None = None
    checkpoint: str | None = None

    def __post_init__(self) -> None:
        if self.sequence < 1:
            raise ValueError(f"a manifest has a number from 1 on, not {self.sequence}")
        if (self.previous is None) != (self.sequence == 1) and self.kind != "reset":
            raise ValueError("the first manifest of a chain, and no other, has none before it")
        _require_digest(self.previous)
        if (self.key is not None) != (self.kind == "key"):
            raise ValueError("a manifest of kind key, and no other, names keys")
        _require_counts(self.gaps_open, self.quarantined, *self.fidelity.values())
        names = [one.name for one in self.files]
        if len(set(names)) != len(names):
            raise ValueError("it names a file twice")
        for one in [*self.files, *(old for replaced in self.replaced for old in replaced.old)]:
            require_inside(one.name)
            _require_digest(one.sha256)
            _require_counts(one.bytes, one.rows)

    @property
    def files(self) -> Iterator[StoredFile]:
        """Yield the files that are there from this manifest on."""
        for batch in self.batches:
            yield from batch.files
        yield from (one.new for one in self.replaced if one.new is not None)


def require_inside(name: str) -> None:
    """Refuse the name of a file that is not one below the root of the data.

    Raises:
        ValueError: it is absolute, leads out, or is no name that all systems read alike.
    """
    parts = name.split("/")
    if any(part in {"", ".", ".."} for part in parts) or "\\" in name or not name.isprintable():
        raise ValueError("names a file outside the data")


def _require_digest(text: str | None) -> None:
    if text is not None and not _HEX.fullmatch(text):
        raise ValueError("a digest is not 64 hexadecimal digits in lower case")


def _require_counts(*counts: int) -> None:
    if min(counts, default=0) < 0:
        raise ValueError("a count is negative")
