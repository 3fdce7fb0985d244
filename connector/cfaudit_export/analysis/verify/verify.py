"""A place, its manifests and public keys -> everything that is wrong, and what is proved; it never stops at the first.

Signatures and form of every manifest, numbers and links, anchors, every file of the time that is asked about, its rows,
and which of that time is covered.
"""

from __future__ import annotations

from collections.abc import Collection, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from datetime import datetime

import pyarrow as pa

from cfaudit_export.analysis.files.engine import Limits
from cfaudit_export.analysis.files.location import Location
from cfaudit_export.analysis.verify import coverage as cov
from cfaudit_export.analysis.verify.anchors import anchored, check_anchors, check_end
from cfaudit_export.analysis.verify.expected import ExpectedFiles, KnownBatch, Scope, expect
from cfaudit_export.analysis.verify.files import CheckedFiles, check_files
from cfaudit_export.analysis.verify.findings import Finding, incomplete, invalid, manifest_label
from cfaudit_export.analysis.verify.intended import removal_findings, removed_days
from cfaudit_export.analysis.verify.links import check_links, check_merged, check_resets
from cfaudit_export.analysis.verify.records import ManifestRecord, Records
from cfaudit_export.analysis.verify.rows import CheckedRows, check_extract, check_files_rows
from cfaudit_export.analysis.verify.stamps import check_stamps
from cfaudit_export.analysis.verify.trust import distrusted
from cfaudit_export.analysis.verify.verified import End, Verified
from cfaudit_export.core.escape import escaped
from cfaudit_export.core.model import Stream, Window
from cfaudit_export.proof.chain import Anchor
from cfaudit_export.proof.keys import PublicKey
from cfaudit_export.proof.manifest import Manifest
from cfaudit_export.proof.timestamp import Authorities

Tables = Iterable[tuple[str, pa.Table]]


@dataclass(frozen=True, slots=True)
class Asked:
    """What is to be proved.

    Attributes:
        keys: the public keys that are believed; none where signatures are not to be looked at.
        since: start of the time; None for the first that is covered.
        until: its end; None for the last.
        accounts: ids; none for all that manifests name.
        anchors: what was kept elsewhere.
        authorities: the time stamping authorities that are believed; None where timestamps are not to be looked at.
        quick: do not look at rows.
        limits: what may be used of the machine.
    """

    keys: tuple[PublicKey, ...] = ()
    since: datetime | None = None
    until: datetime | None = None
    accounts: tuple[str, ...] = ()
    anchors: tuple[Anchor, ...] = ()
    authorities: Authorities | None = None
    quick: bool = False
    limits: Limits = field(default_factory=Limits)

    @property
    def period(self) -> Window | None:
        """Return the time of which files are looked at; None for all."""
        if self.since is None and self.until is None:
            return None
        return Window(self.since or cov.EARLIEST, self.until or cov.LATEST)


def verify(place: Location | None, records: Records, asked: Asked, extract: Tables | None = None) -> Verified:
    """Return what is wrong with exported data, and what is proved.

    Args:
        place: where the files lie; None for sinks that store none.
        records: the manifests.
        asked: what is to be proved.
        extract: rows that were taken out of a warehouse, each table with the name of its file.

    Raises:
        OSError: the place cannot be read.
        SettingsError: rows are to be looked at, and DuckDB is not installed.
    """
    chains = _Chains(records, asked)
    if not records.chains:
        return Verified((incomplete("chain", "No manifests were found; nothing is proved"),))
    expected = expect(records.chains, alone=chains.alone, doubted=chains.doubted)
    scope = Scope(asked.period, frozenset(asked.accounts))
    files = _files(place, expected, scope, chains.believed)
    rows = _rows(place, files, expected, asked, extract)
    streams = cov.by_stream(chains.believed)
    shaken, removed = files.shaken | rows.shaken, removed_days(expected.removals)
    found = [(one, _cover(one, streams, asked, shaken, removed)) for one in cov.of_accounts(streams, asked.accounts)]
    lacking = [
        finding
        for stream, coverage in found
        for finding in cov.coverage_findings(coverage, streams.get(stream, ()), alone=len(found) == 1)
    ]
    lost = [window for _, one in found for window in one.removed] if asked.period else []
    told = removal_findings(expected.removals, scope, lost)
    findings = [*chains.findings, *expected.findings, *files.findings, *rows.findings, *lacking, *told, *chains.ends]
    return Verified(
        findings=tuple(findings),
        coverage=tuple(coverage for _, coverage in found),
        ends=tuple(_end(chain, some, asked.anchors) for chain, some in records.chains.items()),
        manifests=sum(some[-1].sequence for some in records.chains.values()),
        valid_manifests=chains.valid,
        files=files.expected,
        valid_files=len(files.valid),
        events=rows.events,
        rows_read=not asked.quick,
    )


def _cover(
    stream: Stream,
    streams: Mapping[Stream, Sequence[Manifest]],
    asked: Asked,
    shaken: Collection[str],
    removed: Mapping[str, Sequence[Window]],
) -> cov.ProvedCoverage:
    gone = removed.get(stream.account_id, ())
    return cov.cover(stream, streams.get(stream, ()), asked.since, asked.until, shaken, removed=gone)


class _Chains:
    """What is to be said of the manifests alone.

    Attributes:
        alone: whether there is one chain, so that it need not be named.
        believed: the manifests that are whole and signed, by chain and number.
        findings: what is wrong.
        ends: what is to be said of where they end.
        valid: how many manifests are whole, signed and in order.
        doubted: chain and number of those that are not believed.
    """

    def __init__(self, records: Records, asked: Asked) -> None:
        chains = records.chains
        self.alone = len(chains) == 1
        self.believed: list[Manifest] = []
        self.findings = [invalid("manifest", escaped(name), "no manifest is named so") for name in records.strangers]
        self.valid = 0
        self.doubted: set[tuple[str, int]] = set()
        for chain, some in chains.items():
            self._add(chain, some, asked)
        self.findings += check_merged(chains, alone=self.alone)
        self.findings += check_anchors(chains, asked.anchors, alone=self.alone)
        if not asked.keys and chains:
            self.findings.append(incomplete("manifest", "Signatures were not checked: no public key was given"))
        self.ends = [finding for chain, some in chains.items() for finding in self._end(chain, some, chains, asked)]

    def _add(self, chain: str, some: Sequence[ManifestRecord], asked: Asked) -> None:
        faults = {one.sequence: one.fault for one in some if one.fault}
        if asked.keys:
            faults |= distrusted(some, asked.keys)
        self.doubted |= {(chain, number) for number in faults}
        self.findings += [
            invalid("manifest", manifest_label(chain, number, alone=self.alone), faults[number])
            for number in sorted(faults)
        ]
        linked = list(check_links(chain, some, alone=self.alone))
        self.findings += linked
        if asked.authorities:
            self.findings += check_stamps(chain, some, asked.authorities, alone=self.alone)
        self.findings += check_resets(chain, some, asked.period, alone=self.alone)
        self.believed += [one.manifest for one in some if one.manifest is not None and one.sequence not in faults]
        broken = {one.name for one in linked if one.kind == "invalid"}
        labels = (manifest_label(chain, one.sequence, alone=self.alone) for one in some if one.sequence not in faults)
        self.valid += sum(label not in broken for label in labels)

    def _end(
        self, chain: str, some: Sequence[ManifestRecord], chains: Mapping[str, Sequence[ManifestRecord]], asked: Asked
    ) -> Iterator[Finding]:
        said = f"{chain}:{some[-1].link}"
        others = (one.manifest for name, records in chains.items() if name != chain for one in records if one.manifest)
        merged = any(said in one.merged_from for one in others)
        return check_end(chain, some, asked.anchors, alone=self.alone, merged=merged)


def _files(place: Location | None, expected: ExpectedFiles, scope: Scope, believed: Sequence[Manifest]) -> CheckedFiles:
    if place is not None:
        return check_files(place, expected, scope, cov.covered_by_account(believed))
    unseen = [name for name in expected.files if scope.has(name)]
    checked = CheckedFiles(expected=len(unseen))
    if unseen:
        what = f"Files were not looked at: say with --data where they are ({len(unseen):,} are named)"
        checked.findings.append(incomplete("file", what))
    return checked


def _rows(
    place: Location | None, files: CheckedFiles, expected: ExpectedFiles, asked: Asked, extract: Tables | None
) -> CheckedRows:
    """Look at rows: those of files, and those of an extract."""
    stored = sum(known.file.rows for known, _ in files.valid)
    if asked.quick:
        return CheckedRows(events=stored)
    checked = CheckedRows()
    if place is not None and files.valid:
        checked = check_files_rows(place, files.valid, expected, asked.limits)
    bare = _without_files(expected, asked)
    if extract is not None:
        found = check_extract(extract, bare, expected.batches, asked.limits)
        checked.events += found.events
        checked.findings += found.findings
        checked.shaken |= found.shaken
    elif bare:
        events = sum(one.entry.rows for one in bare.values())
        what = f"Rows were not looked at: say with --rows where an extract of them is ({events:,} events)"
        checked.findings.append(incomplete("event", what))
    return checked


def _without_files(expected: ExpectedFiles, asked: Asked) -> dict[str, KnownBatch]:
    """Return the batches that are in no file and of which all events lie in the time that is asked about."""
    held = {id_ for known in expected.files.values() for id_ in known.batches}
    return {
        id_: batch
        for id_, batch in expected.batches.items()
        if id_ not in held
        and not batch.entry.files
        and batch.entry.rows
        and batch.is_of(asked.period, asked.accounts)
        and _lies_within(batch, asked.period)
    }


def _lies_within(batch: KnownBatch, period: Window | None) -> bool:
    first, last = batch.entry.first, batch.entry.last
    if period is None or first is None or last is None:
        return period is None
    return period.since <= first and last < period.before


def _end(chain: str, some: Sequence[ManifestRecord], anchors: Sequence[Anchor]) -> End:
    newest, held = some[-1], anchored(some, anchors)
    return End(
        chain,
        newest.sequence,
        newest.manifest.sealed_at if newest.manifest else None,
        held.sequence if held else None,
        held.manifest.sealed_at if held and held.manifest else None,
    )
