"""What the checkpoint says of a sink -> the next manifest of its chain."""

from __future__ import annotations

import hashlib
from collections import Counter
from collections.abc import Callable, Mapping
from dataclasses import dataclass, replace
from datetime import datetime
from importlib.metadata import version
from typing import Protocol

from cfaudit_export.core.intervals import subtract, union
from cfaudit_export.core.model import Checkpoint, Gap, Proof, SinkProgress, Stream
from cfaudit_export.pipeline.request import RunRequest
from cfaudit_export.pipeline.run_context import ManifestPlace
from cfaudit_export.pipeline.transform import Transforms
from cfaudit_export.proof.chain import Link
from cfaudit_export.proof.manifest import BatchEntry, GapEntry, Kind, Manifest, ReadEntry
from cfaudit_export.schema import SCHEMA_VERSION

# The rows themselves name all that they replace.
_MOST_REPLACED = 1_000


class SealingContext(Protocol):
    """What sealing is to know of a run, or of what seals without one; see `RunContext`."""

    @property
    def stream(self) -> Stream:
        """Return whose events."""
        ...

    @property
    def manifests(self) -> Mapping[str, ManifestPlace]:
        """Return where manifests of sinks are kept."""
        ...

    @property
    def clock(self) -> Callable[[], datetime]:
        """Return what tells the time."""
        ...

    @property
    def request(self) -> RunRequest:
        """Return what is asked for."""
        ...

    @property
    def transforms(self) -> Transforms:
        """Return what is applied to events."""
        ...


@dataclass(frozen=True, slots=True)
class Sealed:
    """What manifests are made of.

    Attributes:
        context: the run.
        checkpoint: what is remembered.
        sink: whose manifests.
        chain: the name of the chain.
        location: where the sink stores.
    """

    context: SealingContext
    checkpoint: Checkpoint
    sink: str
    chain: str
    location: str

    @property
    def progress(self) -> SinkProgress:
        """Return what is remembered of the sink."""
        return self.checkpoint.sinks.get(self.sink, SinkProgress())


def entries(proof: Proof) -> tuple[BatchEntry, ...]:
    """Return what a manifest says of the batches that wait for it."""
    return tuple(
        BatchEntry(
            one.batch_id,
            one.window,
            one.rows,
            one.late_rows,
            one.first,
            one.last,
            one.rows_sha256,
            one.ids_sha256,
            one.files,
        )
        for one in proof.unsealed
    )


def following(sealed: Sealed, link: Link | None, read: ReadEntry | None, *, merged_into: str | None = None) -> Manifest:
    """Return the manifest behind another, None for the first, that seals all that waits."""
    progress, proof = sealed.progress, sealed.progress.proof
    gaps = {gap.window: gap for gap in sealed.checkpoint.gaps}
    fidelity: Counter[str] = Counter()
    for one in proof.unsealed:
        fidelity.update(one.fidelity)
    replaces = [pair for one in proof.unsealed for pair in one.replaces]
    left = replace(proof, fresh=())
    return _manifest(
        sealed,
        "seal",
        link,
        read=read,
        covered=proof.fresh,
        covered_total=proof.covered,
        batches=entries(proof),
        gaps_opened=tuple(_entry(gap) for window, gap in gaps.items() if window not in set(proof.listed)),
        gaps_closed=tuple(GapEntry(window, 0, "") for window in proof.listed if window not in gaps),
        gaps_open=len(gaps),
        quarantined=progress.quarantined,
        replaces=tuple(replaces[:_MOST_REPLACED]),
        transforms=tuple(one.told for one in sealed.context.transforms.upon(sealed.sink)),
        fidelity=dict(sorted(fidelity.items())),
        tool=sealed.checkpoint.tool,
        merged_into=merged_into,
        merged_from=proof.merged,
        checkpoint=covered_sha256(replace(progress, proof=left)),
    )


def reset(sealed: Sealed, link: Link | None, why: str) -> Manifest:
    """Return the manifest that begins a chain anew behind what was found of it."""
    left = replace(sealed.progress, proof=Proof())  # as it is remembered then
    return _manifest(sealed, "reset", link, reason=why, checkpoint=covered_sha256(left))


def covered_sha256(progress: SinkProgress) -> str:
    """Return the digest of what a sink has by the checkpoint, hex: as long as no run goes on, that stays the same.

    Time that waits for the next manifest, or that other chains tell of, is left out.
    """
    waits = [*progress.proof.fresh, *progress.proof.outside]
    windows = union(*subtract(progress.covered, waits))
    return hashlib.sha256("\n".join(map(str, windows)).encode()).hexdigest()


def _manifest(sealed: Sealed, kind: Kind, link: Link | None, **says: object) -> Manifest:
    return Manifest(
        kind=kind,
        chain=sealed.chain,
        sequence=link.sequence + 1 if link else 1,
        previous=link.sha256 if link else None,
        stream=sealed.checkpoint.stream,
        sink=sealed.sink,
        location=sealed.location,
        sealed_at=sealed.context.clock(),
        program=version("cfaudit-export"),
        schema_version=SCHEMA_VERSION,
        **says,  # type: ignore[arg-type]  # named by the callers above
    )


def _entry(gap: Gap) -> GapEntry:
    return GapEntry(gap.window, gap.rows, gap.reason, gap.shadows)
