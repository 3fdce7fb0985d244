"""Which manifests of a chain are believed: signed by a key that is, or linked to by one that is signed.

Keys that are believed are those that were given, and those to which one of them handed over: a manifest of kind `key`
is signed by the old key and by the new one. From there on the old one signs nothing more. Manifests from before
signing was switched on have no signature; a later one that is signed has the digest of the one before it. Behind the
first that is signed, all are.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from math import inf

from cfaudit_export.analysis.verify.records import ManifestRecord
from cfaudit_export.proof.envelope import Envelope, signers
from cfaudit_export.proof.keys import PublicKey, parse_public_key


@dataclass(frozen=True, slots=True)
class _Term:
    """A key that is believed, and the numbers of the manifests that it signs."""

    key: PublicKey
    first: float = 1
    last: float = inf


def distrusted(records: Sequence[ManifestRecord], keys: Iterable[PublicKey]) -> dict[int, str]:
    """Return for each manifest of a chain that is not believed, by its number, why.

    Manifests that could not be read are left out: they have a fault of their own.
    """
    terms = _terms(records, {key.id: _Term(key) for key in keys})
    faults: dict[int, str] = {}
    following: ManifestRecord | None = None
    signed = (one.sequence for one in records if one.envelope and one.manifest and not _fault(one, one.envelope, terms))
    first_signed = min(signed, default=0)
    for record in reversed(records):
        if record.envelope is None or record.manifest is None:
            following = None
            continue
        fault = _fault(record, record.envelope, terms)
        is_older = record.sequence < first_signed and not record.envelope.signatures
        if fault and is_older and following is not None and _follows(following, record):
            fault = ""
        if fault:
            faults[record.sequence] = fault
        following = None if fault else record
    return faults


def _follows(later: ManifestRecord, earlier: ManifestRecord) -> bool:
    return (
        later.sequence == earlier.sequence + 1
        and later.manifest is not None
        and later.manifest.previous == earlier.link.sha256
    )


def _terms(records: Sequence[ManifestRecord], terms: dict[str, _Term]) -> Mapping[str, _Term]:
    """Return the keys that are believed, with those that were handed over to, forwards and backwards."""
    changes = [one for one in records if one.manifest is not None and one.manifest.key is not None]
    while any(_hand_over(record, terms) for record in changes):
        pass
    return terms


def _hand_over(record: ManifestRecord, terms: dict[str, _Term]) -> bool:
    """Believe what a change of keys says, if one of them is believed and both have signed; say whether that is new."""
    assert record.manifest is not None  # noqa: S101  # the caller chose these
    assert record.envelope is not None  # noqa: S101  # likewise
    entry, at = record.manifest.key, record.sequence
    if entry is None or entry.old is None:
        return False
    try:
        old, new = parse_public_key(entry.old.encode()), parse_public_key(entry.new.encode())
    except ValueError:
        return False
    if len(signers(record.envelope, {old.id: old, new.id: new})) != 2:
        return False
    before = dict(terms)
    if old.id in terms and terms[old.id].first <= at <= terms[old.id].last:
        terms[old.id] = _Term(old, terms[old.id].first, at)
        terms.setdefault(new.id, _Term(new, first=at))
    elif new.id in terms and terms[new.id].first <= at <= terms[new.id].last:
        terms.setdefault(old.id, _Term(old, last=at))
    return terms != before


def _fault(record: ManifestRecord, envelope: Envelope, terms: Mapping[str, _Term]) -> str:
    """Return why a manifest is not signed by a key that is believed, empty if it is."""
    if not envelope.signatures:
        return "not signed"
    true = signers(envelope, {id_: term.key for id_, term in terms.items()})
    if any(terms[id_].first <= record.sequence <= terms[id_].last for id_ in true):
        return ""
    if true:
        id_ = min(true)
        return f"signature verification failed (key {id_[:4]}… was retired by manifest {terms[id_].last:g})"
    said = envelope.signatures[0].key_id
    if said in terms:
        return "signature verification failed"
    return f"signature verification failed (key {said[:4] if said.isalnum() else '?'}… is not the one given)"
