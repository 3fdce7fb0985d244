"""Which manifests of a chain follow each other: none is missing, none was exchanged, no clock was turned back."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from datetime import timedelta
from itertools import pairwise

from cfaudit_export.analysis.verify.findings import Finding, incomplete, invalid, manifest_label
from cfaudit_export.analysis.verify.records import ManifestRecord
from cfaudit_export.core.intervals import contains
from cfaudit_export.core.model import Window, iso
from cfaudit_export.core.times import show_duration
from cfaudit_export.proof.chain import file_name

_CLOCK_STEP = timedelta(minutes=5)  # a clock that is set right moves by less


def check_links(chain: str, records: Sequence[ManifestRecord], *, alone: bool) -> Iterator[Finding]:
    """Yield what is wrong with the numbers and the order of a chain's manifests; `alone` if there is no other chain."""
    yield from _missing(chain, 0, records[0].sequence, alone=alone)
    for earlier, later in pairwise(records):
        yield from _missing(chain, earlier.sequence, later.sequence, alone=alone)
        if later.manifest is None or later.sequence != earlier.sequence + 1:
            continue
        label = manifest_label(chain, later.sequence, alone=alone)
        if later.manifest.previous != earlier.link.sha256:
            yield invalid("manifest", label, f"does not follow manifest {earlier.sequence}")
        elif earlier.manifest is not None:
            back = earlier.manifest.sealed_at - later.manifest.sealed_at
            if back > _CLOCK_STEP:
                yield incomplete(
                    "manifest",
                    f"dated before manifest {earlier.sequence}, by {show_duration(back)}: a clock was turned back",
                    name=label,
                )


def check_resets(
    chain: str, records: Sequence[ManifestRecord], period: Window | None, *, alone: bool
) -> Iterator[Finding]:
    """Yield where a chain begins anew, because what the runs remembered was lost."""
    for record in records:
        found = record.manifest
        if found is not None and found.kind == "reset" and (period is None or contains([period], found.sealed_at)):
            label = manifest_label(chain, record.sequence, alone=alone)
            what = f"the chain begins anew at {iso(found.sealed_at)}: {found.reason or 'no reason is given'}"
            yield incomplete("chain", what, name=label)


def check_merged(chains: Mapping[str, Sequence[ManifestRecord]], *, alone: bool) -> Iterator[Finding]:
    """Yield the slices whose chains do not end as the chains say that took them back."""
    for chain, records in chains.items():
        for record in records:
            for said in record.manifest.merged_from if record.manifest else ():
                name, _, rest = said.partition(":")
                number, _, digest = rest.partition(":")
                there = {f"{one.sequence}:{one.link.sha256}" for one in chains.get(name, ())}
                if f"{number}:{digest}" not in there:
                    label = manifest_label(chain, record.sequence, alone=alone)
                    yield invalid("manifest", label, f"took back a slice, whose manifest {number} is not there: {name}")


def _missing(chain: str, before: int, after: int, *, alone: bool) -> Iterator[Finding]:
    """Yield the numbers between two; many in one line."""
    first, last = before + 1, after - 1
    if first == last:
        yield invalid("manifest", manifest_label(chain, first, alone=alone), "not found")
    elif first < last:
        label = manifest_label(chain, first, alone=alone).replace("Manifest", "Manifests", 1)
        upto = file_name(last).removesuffix(".json")
        first_name, _, rest = label.partition(" of ")
        yield invalid("manifest", f"{first_name} to {upto}{' of ' + rest if rest else ''}", "not found")
