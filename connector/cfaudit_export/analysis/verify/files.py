"""Files that manifests name, against those that are there: missing, of another size or content, or too many."""

from __future__ import annotations

import hashlib
import os
from collections import Counter
from collections.abc import Callable, Iterable, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field

from cfaudit_export.analysis.files.location import FoundFile, Location
from cfaudit_export.analysis.verify.expected import ExpectedFiles, KnownFile, Scope, account_in, is_before, is_between
from cfaudit_export.analysis.verify.findings import Finding, files_of, incomplete, invalid, note
from cfaudit_export.core.escape import escaped
from cfaudit_export.core.model import Window

_S3_THREADS = 16
_CHUNK = 4 << 20


@dataclass(slots=True)
class CheckedFiles:
    """What was found.

    Attributes:
        valid: the files that are as they were stored, with where they are.
        expected: how many were to be there.
        findings: what is wrong.
        shaken: ids of the batches of which a file is not valid.
        unerased: ids of batches of which a file is as it was before something in it was erased.
    """

    valid: list[tuple[KnownFile, FoundFile]] = field(default_factory=list)
    expected: int = 0
    findings: list[Finding] = field(default_factory=list)
    shaken: set[str] = field(default_factory=set)
    unerased: set[str] = field(default_factory=set)


def check_files(
    place: Location, expected: ExpectedFiles, scope: Scope, covered: Mapping[str, Sequence[Window]]
) -> CheckedFiles:
    """Compare the files of a place with those that manifests name.

    Args:
        place: where the files lie.
        expected: what manifests name.
        scope: which files are asked about.
        covered: by account, the time that manifests cover: files of other days are of before the chain.

    Raises:
        OSError: the place cannot be read.
    """
    there = {one.name: one for one in place.files(lambda _: True) if scope.has(one.name)}
    wanted = {name: known for name, known in expected.files.items() if scope.has(name)}
    checked = CheckedFiles(expected=len(wanted))
    present = [(known, there[name]) for name, known in sorted(wanted.items()) if name in there]
    with ThreadPoolExecutor(os.cpu_count() if place.is_local else _S3_THREADS) as threads:
        faults = dict(
            zip(
                (known.file.name for known, _ in present),
                threads.map(lambda one: _fault(place, *one), present),
                strict=True,
            )
        )
    for name, known in sorted(wanted.items()):
        fault = faults.get(name, "not found")
        if fault and name in there and _is_before_erasure(place, expected, there[name]):
            what = "has what a record says was erased: run 'cfaudit-export erase' again, or an older copy was restored"
            checked.findings.append(incomplete("file", what, name=escaped(name)))
            checked.unerased |= known.batches
        elif fault:
            checked.findings.append(invalid("file", name, fault))
            checked.shaken |= known.batches
    checked.valid += [(known, found) for known, found in present if not faults[known.file.name]]
    checked.findings += _strangers(place, expected, there.values(), covered)
    return checked


def _is_before_erasure(place: Location, expected: ExpectedFiles, found: FoundFile) -> bool:
    """Say whether a file is one whose place another of the same name was to take."""
    digests = expected.replaced.get(found.name, ())
    return bool(digests) and not found.fault and sha256_of(place, found) in digests


def _fault(place: Location, known: KnownFile, found: FoundFile) -> str:
    """Return what is wrong with a file, empty if nothing is."""
    if found.fault:
        return found.fault
    if found.bytes != known.file.bytes:
        return f"its bytes are not those that were exported ({found.bytes:,}, not {known.file.bytes:,})"
    try:
        digest = sha256_of(place, found)
    except FileNotFoundError:
        return "not found"
    return "" if digest == known.file.sha256 else "its bytes are not those that were exported"


def sha256_of(place: Location, found: FoundFile) -> str:
    """Return the SHA-256 of a file, hex.

    Raises:
        OSError: it cannot be read.
    """
    digest = hashlib.sha256()
    with place.open(found) as stream:
        while chunk := stream.read(_CHUNK):
            digest.update(chunk)
    return digest.hexdigest()


def _strangers(
    place: Location, expected: ExpectedFiles, there: Iterable[FoundFile], covered: Mapping[str, Sequence[Window]]
) -> list[Finding]:
    """Return what is to be said of files that no manifest names, or that another took the place of."""
    findings: list[Finding] = []
    counted: Counter[str] = Counter()
    for found in there:
        if found.name in expected.files:
            continue
        kind = _kind_of_stranger(place, expected, found, covered)
        if kind in _STRANGERS:
            counted[kind] += 1
        else:
            findings.append(invalid("file", escaped(found.name), kind))
    for kind, (make, text) in _STRANGERS.items():
        if counted[kind]:
            findings.append(make("file", text.format(files_of(counted[kind]))))
    return findings


_STRANGERS: dict[str, tuple[Callable[[str, str], Finding], str]] = {
    "older": (note, "Of before the first manifest, and not looked at: {}"),
    "between": (incomplete, "Of days that no manifest covers, and not proved: {}"),
    "removed": (note, "Still there though a record says that they were removed: {} (run 'retention' again)"),
    "merged": (note, "Still there though others hold their rows: {}"),
}


def _kind_of_stranger(
    place: Location, expected: ExpectedFiles, found: FoundFile, covered: Mapping[str, Sequence[Window]]
) -> str:
    """Return which of `_STRANGERS` a file is, or what is wrong with it."""
    if digests := expected.replaced.get(found.name):
        if found.fault or sha256_of(place, found) not in digests:
            return "its bytes are not those that were exported"
        return "removed" if expected.is_removed(found.name) else "merged"
    windows = covered.get(account_in(found.name) or "", ())
    if is_before(found.name, windows):
        return "older"
    return "between" if is_between(found.name, windows) else "no manifest names it"
