"""Chains that are whole -> what they say that is there. Where one is not, nothing is removed: that would hide it."""

from __future__ import annotations

import hashlib
from collections.abc import Sequence
from dataclasses import dataclass

from cfaudit_export.analysis.files.location import FoundFile, Location
from cfaudit_export.analysis.verify.expected import ExpectedFiles, KnownFile, Scope, account_in, expect
from cfaudit_export.analysis.verify.files import sha256_of
from cfaudit_export.analysis.verify.findings import manifest_label
from cfaudit_export.analysis.verify.links import check_links
from cfaudit_export.analysis.verify.records import Records, read_records
from cfaudit_export.analysis.verify.trust import distrusted
from cfaudit_export.core.model import StoredFile
from cfaudit_export.errors import SettingsError
from cfaudit_export.proof.keys import SigningKey


@dataclass(frozen=True, slots=True)
class Trusted:
    """What is there, and what manifests say of it.

    Attributes:
        place: where it lies.
        expected: what manifests say.
        there: the files, by name.
    """

    place: Location
    expected: ExpectedFiles
    there: dict[str, FoundFile]

    def fault_of(self, known: KnownFile) -> str:
        """Return why a file is not the one that manifests name, empty if it is.

        Raises:
            OSError: it cannot be read.
        """
        found = self.there.get(known.file.name)
        if found is None:
            return "not found"
        if found.fault:
            return found.fault
        return "" if self.is_as_stored(known.file, found) else "its bytes are not those that were exported"

    def is_as_stored(self, file: StoredFile, found: FoundFile) -> bool:
        """Say whether a file has the bytes that a manifest names. Raises what `fault_of` raises."""
        return found.bytes == file.bytes and sha256_of(self.place, found) == file.sha256

    def content(self, known: KnownFile) -> bytes | str:
        """Return the bytes of a file, or why they are not those that it has to have. Raises what `fault_of` raises."""
        found = self.there.get(known.file.name)
        if found is None:
            return "not found"
        if found.fault:
            return found.fault
        with self.place.open(found) as file:
            content = file.read()
        if hashlib.sha256(content).hexdigest() == known.file.sha256:
            return content
        if self.is_before_erasure(found):
            return "has what a record says was erased, and what was to take its place is gone; restore that"
        return "its bytes are not those that were exported"

    def is_before_erasure(self, found: FoundFile) -> bool:
        """Say whether a file is one whose place another of the same name was to take."""
        digests = self.expected.replaced.get(found.name, ())
        return bool(digests) and sha256_of(self.place, found) in digests


def require_trusted_chains(place: Location, keys: Sequence[SigningKey], accounts: Sequence[str] = ()) -> Trusted:
    """Return what the manifests of a place say, and what is there.

    Raises:
        SettingsError: there are none, or they are not whole, or signed by none of the keys.
        OSError: the place cannot be read.
    """
    records = read_records(place)
    if not records.chains:
        raise SettingsError(
            f"'{place.shown}' has no manifests, so nothing could say later that files were changed on purpose; name "
            "the folder that has '_cfaudit' in it"
        )
    _require_whole(records, keys)
    scope = Scope(None, frozenset(accounts))
    there = {one.name: one for one in place.files(lambda _: True) if scope.has(one.name)}
    return Trusted(place, expect(records.chains, alone=len(records.chains) == 1), there)


def _require_whole(records: Records, keys: Sequence[SigningKey]) -> None:
    for chain, some in records.chains.items():
        signed = any(one.envelope and one.envelope.signatures for one in some)
        if signed and not keys:
            raise SettingsError("the manifests there are signed; set integrity.key_file, as for the runs that export")
        faults = {one.sequence: one.fault for one in some if one.fault}
        if signed:
            faults |= distrusted(some, [key.public for key in keys])
        alone = len(records.chains) == 1
        said = [f"{manifest_label(chain, number, alone=alone)}: {why}" for number, why in sorted(faults.items())]
        said += [one.line for one in check_links(chain, some, alone=alone) if one.kind == "invalid"]
        if said:
            raise SettingsError(f"the manifests are not whole ({said[0]}); see 'cfaudit-export verify'")


def is_asked(name: str, accounts: Sequence[str]) -> bool:
    """Say whether a file is of one of the accounts; none named means any."""
    return not accounts or account_in(name) in accounts
