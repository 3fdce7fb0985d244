"""What the checkpoint says of a sink -> the next manifest of its chain."""

from __future__ import annotations

from collections import Counter
from dataclasses import dataclass
from importlib.metadata import version

from cfaudit_export.core.model import Checkpoint, Gap, Proof, SinkProgress
from cfaudit_export.pipeline.run_context import RunContext
from cfaudit_export.proof.chain import Link
from cfaudit_export.proof.manifest import BatchEntry, GapEntry, Kind, Manifest, ReadEntry
from cfaudit_export.schema import SCHEMA_VERSION

# The rows themselves name all that they replace.
_MOST_REPLACED = 1_000


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

    context: RunContext
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
    )


def reset(sealed: Sealed, link: Link | None, why: str) -> Manifest:
    """Return the manifest that begins a chain anew behind what was found of it."""
    return _manifest(sealed, "reset", link, reason=why)


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
