"""What a run is given: the stream, its source and sinks, where it keeps its books, and whom it tells."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from contextlib import AbstractContextManager, nullcontext
from dataclasses import dataclass, field
from datetime import datetime
from pathlib import Path
from typing import Any

from cfaudit_export.core.identity_key import IdentityKey
from cfaudit_export.core.model import Batch, Connection, Receipt, Stream
from cfaudit_export.pipeline.request import RunRequest
from cfaudit_export.pipeline.transform import Transforms
from cfaudit_export.plugin.interfaces import CheckpointStore, Sink, Source
from cfaudit_export.proof.append import ManifestStore
from cfaudit_export.proof.keys import SigningKey

Trace = Callable[[str], AbstractContextManager[dict[str, Any]]]
"""Told that a step begins; the step lasts as long as the context, and puts what is to be known of it into the dict."""


def no_trace(_step: str) -> AbstractContextManager[dict[str, Any]]:
    """Trace nothing."""
    return nullcontext({})


@dataclass(frozen=True, slots=True)
class RunProgress:
    """How far a run is, for progress displays.

    Attributes:
        covered_share: share of the time wanted that is read, from 0 to 1.
        windows: pieces read.
        events: events read.
        rows: rows delivered, all sinks together.
    """

    covered_share: float
    windows: int
    events: int
    rows: int


@dataclass(frozen=True, slots=True)
class ManifestPlace:
    """Where the manifests of a sink are kept, and what signs them.

    Attributes:
        store: keeps them.
        location: where that is, as people know it.
        keys: what signs; without any they are chained, and not signed.
        in_sink: whether the sink itself keeps them, so that they cannot be written while it is down.
        most_unsealed: so many batches wait at most for the end of a run.
        signs_checkpoints: whether the key signs checkpoints, too.
    """

    store: ManifestStore
    location: str
    keys: tuple[SigningKey, ...] = ()
    in_sink: bool = False
    most_unsealed: int = 1_000
    signs_checkpoints: bool = False


@dataclass(frozen=True, slots=True)
class RunContext:
    """All that a run of one stream needs.

    Attributes:
        stream: what to export; its account is the one that the connection found.
        connection: what `source.connect()` returned.
        source: connected.
        sinks: by name; each has its own progress.
        store: holds the checkpoint and the lock.
        staging: folder for staged batches, of all streams; what sinks refuse for good is quarantined beside it.
        clock: the time, aware and UTC.
        request: what is asked for.
        destinations: where each sink delivers to, as it names it; a sink that names nothing is not in here.
        transforms: what is applied to events.
        identity: what makes the keys of events; None for keys that need no secret.
        manifests: by the names of sinks, where manifests of what they have are kept; other sinks have none.
        after_load: told of every receipt.
        progress: told of every piece.
        trace: told of every step.
        redact: returns a text without secrets.
    """

    stream: Stream
    connection: Connection
    source: Source
    sinks: Mapping[str, Sink]
    store: CheckpointStore
    staging: Path
    clock: Callable[[], datetime]
    request: RunRequest = field(default_factory=RunRequest)
    destinations: Mapping[str, str] = field(default_factory=dict)
    transforms: Transforms = field(default_factory=Transforms)
    identity: IdentityKey | None = None
    manifests: Mapping[str, ManifestPlace] = field(default_factory=dict)
    after_load: Callable[[Batch, Receipt], None] = lambda _batch, _receipt: None
    progress: Callable[[RunProgress], None] = field(default=lambda _progress: None)
    trace: Trace = no_trace
    redact: Callable[[str], str] = str

    def horizon(self, before: datetime) -> datetime:
        """Return the whole hour from which on keys are remembered, by a run that reads up to `before`."""
        return (before - self.request.rescan).replace(minute=0, second=0, microsecond=0)
