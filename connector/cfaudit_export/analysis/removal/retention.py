"""Old days -> removed, on record: which files, of how many events, and that this was on purpose.

Each file is compared with its manifest before: one that was changed is left, as its removal would hide that. Files that
no manifest names are left, too: they may be of a run that goes on just now, and no record could name them.
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from datetime import date

from cfaudit_export.analysis.removal.record import Work, record
from cfaudit_export.analysis.removal.trusted import Trusted, is_asked
from cfaudit_export.analysis.verify.expected import KnownFile, day_in
from cfaudit_export.proof.manifest import BatchPart, Replacement

_AT_ONCE = 1_000  # files in one manifest


@dataclass(frozen=True, slots=True)
class RemovedFiles:
    """Files that were removed, or would be.

    Attributes:
        chain: the chain that names them.
        first: the first of their days.
        last: the last.
        files: how many.
        rows: events in them.
        bytes: their size.
        sequence: number of the manifest that says so; None for a dry run, and for what an earlier run had recorded.
    """

    chain: str
    first: date
    last: date
    files: int
    rows: int
    bytes: int
    sequence: int | None


@dataclass(frozen=True, slots=True)
class LeftFile:
    """A file that is old and was left, and why."""

    name: str
    why: str
    is_wrong: bool


def remove_before(trusted: Trusted, work: Work, before: date) -> Iterator[RemovedFiles | LeftFile]:
    """Remove the files of all days before one; yield what was removed, and what was left.

    Raises:
        SettingsError: a chain cannot be read, or is signed by another key.
        SinkError: a file or a manifest cannot be written now; what was recorded is finished by the next run.
        OSError: a file cannot be read.
    """
    yield from _finished(trusted, work)
    chosen: dict[str, list[KnownFile]] = defaultdict(list)
    for name, known in sorted(trusted.expected.files.items()):
        day = day_in(name)
        if day is None or day >= before or not is_asked(name, work.accounts):
            continue
        if why := trusted.fault_of(known):
            yield LeftFile(name, why, is_wrong=True)
        else:
            chosen[known.chain].append(known)
    for chain, some in sorted(chosen.items()):
        for start in range(0, len(some), _AT_ONCE):
            yield _removed(trusted, work, chain, some[start : start + _AT_ONCE], before)
    for name in sorted(trusted.there.keys() - trusted.expected.files.keys()):
        day = day_in(name)
        if day is not None and day < before and name not in trusted.expected.replaced:
            yield LeftFile(name, "no manifest names it", is_wrong=False)


def _removed(trusted: Trusted, work: Work, chain: str, some: Sequence[KnownFile], before: date) -> RemovedFiles:
    sequence = None
    if not work.dry_run:
        replaced = [Replacement((one.file,), None, _parts(trusted, one)) for one in some]
        sequence = record(work, chain, replaced, f"older than {before}").sequence
        for one in some:
            work.storage.remove_file(one.file.name)
    days = [day for one in some if (day := day_in(one.file.name))]
    rows, size = sum(one.file.rows for one in some), sum(one.file.bytes for one in some)
    return RemovedFiles(chain, min(days), max(days), len(some), rows, size, sequence)


def _parts(trusted: Trusted, known: KnownFile) -> tuple[BatchPart, ...]:
    """Return how many rows of each batch a file holds, as the manifest says that names it."""
    if known.only is not None:
        return (BatchPart(known.only, known.file.rows, None),)
    return trusted.expected.parts[known.file.name, known.file.sha256]


def _finished(trusted: Trusted, work: Work) -> Iterator[RemovedFiles]:
    """Remove what an earlier run had recorded and did not get to."""
    for removal in trusted.expected.removals:
        left = [
            one
            for one in removal.removed
            if trusted.expected.is_removed(one.name)
            and is_asked(one.name, work.accounts)
            and (found := trusted.there.get(one.name)) is not None
            and trusted.is_as_stored(one, found)
        ]
        days = [day for one in left if (day := day_in(one.name))]
        if not days:
            continue
        if not work.dry_run:
            for one in left:
                work.storage.remove_file(one.name)
        rows, size = sum(one.rows for one in left), sum(one.bytes for one in left)
        yield RemovedFiles(removal.label, min(days), max(days), len(left), rows, size, None)


def said(removed: RemovedFiles, *, dry_run: bool) -> str:
    """Return in words what was removed."""
    verb = "would be removed" if dry_run else "removed"
    by = f", as manifest {removed.sequence} says" if removed.sequence else ""
    days = str(removed.first) if removed.first == removed.last else f"{removed.first} to {removed.last}"
    files = f"{removed.files:,} file{'s' * (removed.files != 1)}"
    return f"{removed.chain}: {days}, {files}, {removed.rows:,} events, {removed.bytes:,} bytes {verb}{by}"
