"""Manifests -> what is to be there: batches, the files that hold them now, and those that others took the place of."""

from __future__ import annotations

import re
from collections.abc import Collection, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace
from datetime import date, datetime, timedelta
from urllib.parse import unquote

from cfaudit_export.analysis.verify.findings import Finding, invalid, manifest_label
from cfaudit_export.analysis.verify.records import ManifestRecord
from cfaudit_export.core.model import StoredFile, Stream, Window
from cfaudit_export.proof.manifest import BatchEntry, BatchPart, ErasedEntry, Manifest, Replacement

_FOLDERS = re.compile(r"(?:^|/)account_id=([^/]+)/event_date=(\d{4}-\d{2}-\d{2})/[^/]+$")


@dataclass(frozen=True, slots=True)
class KnownBatch:
    """A batch that a manifest names.

    Attributes:
        entry: what the manifest says.
        stream: whose events, without the time of a slice: what it delivered belongs to the stream.
        removed_rows: how many of its rows were removed on purpose.
        erased: those of its events of which something was erased, by id.
    """

    entry: BatchEntry
    stream: Stream
    removed_rows: int = 0
    erased: Mapping[str, ErasedEntry] = field(default_factory=dict)

    @property
    def rests_on_record(self) -> bool:
        """Say whether the digest of its rows cannot be made any more, as no leaves of what was erased are kept."""
        return any(one.leaf is None for one in self.erased.values())

    def is_of(self, period: Window | None, accounts: Collection[str]) -> bool:
        """Say whether events of it may lie in a period, and belong to one of the accounts (none named: any)."""
        if accounts and self.stream.account_id not in accounts:
            return False
        first, last = self.entry.first, self.entry.last
        return (
            period is None
            or (self.entry.window.since < period.before and period.since < self.entry.window.before)
            or (first is not None and last is not None and first < period.before and period.since <= last)
        )


@dataclass(frozen=True, slots=True)
class KnownFile:
    """A file that is to be there.

    Attributes:
        file: as it was stored.
        batches: ids of the batches whose rows it holds.
        only: the batch whose rows they all are, where it is one.
        chain: whose manifest names it.
    """

    file: StoredFile
    batches: frozenset[str]
    only: str | None
    chain: str


@dataclass(frozen=True, slots=True)
class Removal:
    """What was removed or erased on purpose, by one manifest.

    Attributes:
        label: how the manifest is called.
        sealed_at: when it was written.
        reason: why.
        removed: the files that were removed.
        rewritten: how many were rewritten.
        erased: events of which something was erased.
    """

    label: str
    sealed_at: datetime
    reason: str
    removed: tuple[StoredFile, ...]
    rewritten: int
    erased: int


@dataclass(slots=True)
class ExpectedFiles:
    """What manifests say that is there.

    Attributes:
        batches: by id.
        files: those that are to be there, by name.
        parts: how many rows of each batch a file holds that took the place of others, by its name and digest.
        replaced: files that may still be there though others hold their rows, by name; with their digests.
        removals: what was removed or erased on purpose.
        findings: where manifests contradict each other.
    """

    batches: dict[str, KnownBatch] = field(default_factory=dict)
    files: dict[str, KnownFile] = field(default_factory=dict)
    parts: dict[tuple[str, str], tuple[BatchPart, ...]] = field(default_factory=dict)
    replaced: dict[str, set[str]] = field(default_factory=dict)
    removals: list[Removal] = field(default_factory=list)
    findings: list[Finding] = field(default_factory=list)

    def is_removed(self, name: str) -> bool:
        """Say whether a file was removed on purpose, and none has its name since."""
        return name not in self.files and any(one.name == name for some in self.removals for one in some.removed)


def expect(
    chains: Mapping[str, Sequence[ManifestRecord]], *, alone: bool, doubted: Collection[tuple[str, int]] = ()
) -> ExpectedFiles:
    """Return what the manifests of all chains say that is there.

    Args:
        chains: the manifests.
        alone: whether there is one chain, so that it need not be named.
        doubted: chain and number of manifests that are not believed: that files were replaced or removed is not taken
            from those, as it would hide what is missing.
    """
    found = ExpectedFiles()
    everything = [
        (one.manifest, manifest_label(chain, one.sequence, alone=alone), (chain, one.sequence) in doubted)
        for chain, records in chains.items()
        for one in records
        if one.manifest is not None
    ]
    labelled = [
        (replace(manifest, replaced=(), erased=()) if is_doubted else manifest, label)
        for manifest, label, is_doubted in everything
    ]
    for manifest, label in labelled:
        for entry in manifest.batches:
            _add_batch(found, entry, manifest, label)
    versions = dict(_versions(manifest for manifest, _ in labelled))
    for manifest, label in labelled:
        for change in manifest.replaced:
            found.findings += _replace(found, versions, change, label)
        if manifest.kind == "retention":
            found.removals.append(_removal(manifest, label))
            _erase(found, manifest)
    for (name, digest), known in versions.items():
        if digest in found.replaced.get(name, ()):
            continue
        if name in found.files:
            found.findings.append(invalid("file", name, "two manifests name it, with other contents"))
        found.files[name] = known
    return found


def _versions(manifests: Iterable[Manifest]) -> Iterator[tuple[tuple[str, str], KnownFile]]:
    """Yield all that was ever stored, by name and digest."""
    for manifest in manifests:
        for entry in manifest.batches:
            for file in entry.files:
                whole = KnownFile(file, frozenset([entry.batch_id]), entry.batch_id, manifest.chain)
                yield (file.name, file.sha256), whole
        for change in manifest.replaced:
            if change.new is not None:
                ids = frozenset(part.batch_id for part in change.parts)
                only = next(iter(ids)) if len(ids) == 1 else None
                yield (change.new.name, change.new.sha256), KnownFile(change.new, ids, only, manifest.chain)


def _removal(manifest: Manifest, label: str) -> Removal:
    removed = tuple(old for one in manifest.replaced if one.new is None for old in one.old)
    rewritten = sum(one.new is not None for one in manifest.replaced)
    return Removal(label, manifest.sealed_at, manifest.reason or "", removed, rewritten, len(manifest.erased))


def _erase(found: ExpectedFiles, manifest: Manifest) -> None:
    """Note of batches which of their events are not whole any more; of one erased twice, the first leaf counts."""
    for one in manifest.erased:
        if (batch := found.batches.get(one.batch_id)) is not None:
            erased = {**batch.erased, one.event_id: batch.erased.get(one.event_id, one)}
            found.batches[one.batch_id] = replace(batch, erased=erased)


def _add_batch(found: ExpectedFiles, entry: BatchEntry, manifest: Manifest, label: str) -> None:
    before = found.batches.get(entry.batch_id)
    stream = replace(manifest.stream, slice=None)
    if before is None:
        found.batches[entry.batch_id] = KnownBatch(entry, stream)
    elif (before.entry.rows, before.entry.ids_sha256) != (entry.rows, entry.ids_sha256):
        found.findings.append(
            invalid("manifest", label, f"names batch {entry.batch_id}, with other events than before")
        )
    elif before.entry.rows_sha256 is None:
        found.batches[entry.batch_id] = replace(before, entry=entry)


def _replace(
    found: ExpectedFiles, versions: Mapping[tuple[str, str], KnownFile], change: Replacement, label: str
) -> Iterator[Finding]:
    """Note what took the place of files; yield what cannot be so."""
    for old in change.old:
        if (old.name, old.sha256) not in versions:
            yield invalid("manifest", label, f"replaces a file that no manifest names: {old.name}")
        found.replaced.setdefault(old.name, set()).add(old.sha256)
    old_rows, part_rows = sum(one.rows for one in change.old), sum(one.rows for one in change.parts)
    if part_rows != old_rows or (change.new is not None and change.new.rows != old_rows):
        yield invalid("manifest", label, f"replaces files of {old_rows:,} events by others than these")
    if change.new is not None:
        found.parts[change.new.name, change.new.sha256] = change.parts
    else:
        for part in change.parts:
            if (batch := found.batches.get(part.batch_id)) is not None:
                removed = batch.removed_rows + part.rows
                found.batches[part.batch_id] = replace(batch, removed_rows=removed)


@dataclass(frozen=True, slots=True)
class Scope:
    """Which files a question is about.

    Attributes:
        period: the time; None for all.
        accounts: ids of the accounts; none for all.
    """

    period: Window | None
    accounts: frozenset[str]

    def has(self, name: str) -> bool:
        """Say whether a file may hold events that are asked about, by its name alone."""
        if (match := _FOLDERS.search(name)) is None:
            return True
        if self.accounts and unquote(match[1]) not in self.accounts:
            return False
        day = day_in(name)
        return self.period is None or day is None or _overlaps(day, [self.period])


def is_before(name: str, windows: Sequence[Window]) -> bool:
    """Say whether a file is of a day before the first of some windows; False where its name says no day."""
    day = day_in(name)
    return bool(windows) and day is not None and day < windows[0].since.date()


def is_between(name: str, windows: Sequence[Window]) -> bool:
    """Say whether a file is of a day that lies between windows, and has nothing of any."""
    day = day_in(name)
    return bool(windows) and day is not None and day < windows[-1].before.date() and not _overlaps(day, windows)


def account_in(name: str) -> str | None:
    """Return the account that a file's folder names, None if it names none."""
    match = _FOLDERS.search(name)
    return unquote(match[1]) if match else None


def day_in(name: str) -> date | None:
    """Return the day that a file's folder names, None if it names none."""
    match = _FOLDERS.search(name)
    try:
        return date.fromisoformat(match[2]) if match else None
    except ValueError:
        return None


def _overlaps(day: date, windows: Iterable[Window]) -> bool:
    ends = ((one.since.date(), (one.before - timedelta(microseconds=1)).date()) for one in windows)
    return any(first <= day <= last for first, last in ends)
