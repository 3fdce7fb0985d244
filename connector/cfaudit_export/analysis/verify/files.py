"""Files that manifests name, against those that are there: missing, of another size or content, or too many."""

from __future__ import annotations

import hashlib
import os
from collections.abc import Iterable, Mapping, Sequence
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
    """

    valid: list[tuple[KnownFile, FoundFile]] = field(default_factory=list)
    expected: int = 0
    findings: list[Finding] = field(default_factory=list)
    shaken: set[str] = field(default_factory=set)


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
        if fault := faults.get(name, "not found"):
            checked.findings.append(invalid("file", name, fault))
            checked.shaken |= known.batches
    checked.valid += [(known, found) for known, found in present if not faults[known.file.name]]
    checked.findings += _strangers(place, expected, there.values(), covered)
    return checked


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
    older = between = merged = 0
    for found in there:
        name = found.name
        if name in expected.files:
            continue
        if digests := expected.replaced.get(name):
            if not found.fault and sha256_of(place, found) in digests:
                merged += 1
            else:
                findings.append(invalid("file", escaped(name), "its bytes are not those that were exported"))
        elif is_before(name, windows := covered.get(account_in(name) or "", ())):
            older += 1
        elif is_between(name, windows):
            between += 1
        else:
            findings.append(invalid("file", escaped(name), "no manifest names it"))
    if older:
        findings.append(note("file", f"Of before the first manifest, and not looked at: {files_of(older)}"))
    if between:
        what = f"Of days that no manifest covers, and not proved: {files_of(between)}"
        findings.append(incomplete("file", what))
    if merged:
        findings.append(note("file", f"Still there though others hold their rows: {files_of(merged)}"))
    return findings
