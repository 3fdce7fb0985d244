"""Timestamps beside manifests -> whether an authority that is believed has stamped them, and when."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from datetime import timedelta

from cfaudit_export.analysis.verify.findings import Finding, incomplete, invalid, manifest_label, note
from cfaudit_export.analysis.verify.records import ManifestRecord
from cfaudit_export.core.model import iso
from cfaudit_export.core.times import show_duration
from cfaudit_export.proof.timestamp import Authorities, stamped_at

_CLOCKS = timedelta(minutes=5)  # so far may clocks be apart
_LATE = timedelta(days=1)


def check_stamps(
    chain: str, records: Sequence[ManifestRecord], authorities: Authorities, *, alone: bool
) -> Iterator[Finding]:
    """Yield the timestamps of a chain that are not true, or do not go with what manifests say of their time.

    A history that was written again later, with a stolen key, has late timestamps or none.
    """
    newest, count = None, 0
    for record in records:
        if record.stamp is None:
            continue
        label = manifest_label(chain, record.sequence, alone=alone)
        try:
            at = stamped_at(record.stamp, record.link.sha256, authorities)
        except ValueError as error:
            yield invalid("manifest", label, f"its timestamp is not true: {error}")
            continue
        newest, count = (record.sequence, at), count + 1
        if record.manifest is None:
            continue
        ahead = record.manifest.sealed_at - at
        if ahead > _CLOCKS:
            yield incomplete("manifest", f"dated {show_duration(ahead)} after its timestamp", name=label)
        elif -ahead > _LATE:
            yield incomplete("manifest", f"stamped {show_duration(-ahead)} after the time it is dated", name=label)
    of = "" if alone else f" of {chain}"
    if newest is None:
        yield incomplete("manifest", f"No manifest{of} has a true timestamp")
    else:
        yield note("manifest", f"{count:,} manifests{of} are stamped; number {newest[0]} at {iso(newest[1])}")
