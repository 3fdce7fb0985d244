"""What was kept elsewhere of a chain -> whether the chain still holds it, and so what proves where it ends."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence

from cfaudit_export.analysis.verify.findings import Finding, invalid, manifest_label, note
from cfaudit_export.analysis.verify.records import ManifestRecord
from cfaudit_export.core.model import iso
from cfaudit_export.proof.chain import Anchor


def check_anchors(
    chains: Mapping[str, Sequence[ManifestRecord]], anchors: Sequence[Anchor], *, alone: bool
) -> Iterator[Finding]:
    """Yield the anchors that no manifest holds; `alone` if there is one chain."""
    sinks = {chain.partition("/")[2] for chain in chains}
    elsewhere = 0
    for anchor in anchors:
        some = [anchor.chain] if anchor.chain else list(chains)
        if anchor.chain and anchor.chain.partition("/")[2] not in sinks:
            elsewhere += 1  # a log has lines of all sinks
            continue
        there = {one.sequence: one.link for chain in some for one in chains.get(chain, ())}
        links = {one.link for chain in some for one in chains.get(chain, ())}
        if anchor.link in links:
            continue
        known = len(some) == 1
        label = manifest_label(some[0] if known else "", anchor.link.sequence, alone=alone or not known)
        if known and anchor.link.sequence in there:
            yield invalid("manifest", label, "is not the one that an anchor names")
        else:
            yield invalid("manifest", label, f"not found, though an anchor names it ({anchor.link.sha256[:8]}…)")
    if elsewhere:
        yield note("chain", f"{elsewhere:,} anchors are of chains of other sinks, and were not looked at")


def anchored(records: Sequence[ManifestRecord], anchors: Sequence[Anchor]) -> ManifestRecord | None:
    """Return the newest manifest of a chain that an anchor names, None if none does."""
    links = {anchor.link for anchor in anchors}
    return next((one for one in reversed(records) if one.link in links), None)


def check_end(
    chain: str, records: Sequence[ManifestRecord], anchors: Sequence[Anchor], *, alone: bool, merged: bool
) -> Iterator[Finding]:
    """Yield what proves that a chain ends where it does, or that nothing does; `merged` if another chain says so."""
    newest = records[-1]
    sealed_at = f", of {iso(newest.manifest.sealed_at)}" if newest.manifest else ""
    of = "" if alone else f" of {chain}"
    held = anchored(records, anchors)
    if merged or held is newest:
        return
    if held is None:
        what = f"Nothing proves that the chain ends here: the newest manifest{of} is {newest.sequence}{sealed_at}"
        yield note("chain", f"{what} (see --anchor)")
    else:
        what = (
            f"The newest anchor{of} is of manifest {held.sequence}, the newest manifest is {newest.sequence}{sealed_at}"
        )
        yield note("chain", f"{what}; nothing proves that there is none behind it")
