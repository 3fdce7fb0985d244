"""The manifests of a place -> records, by chain and number; whatever is wrong with one is kept beside it."""

from __future__ import annotations

import os
from collections.abc import Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field

from cfaudit_export.analysis.files.location import FoundFile, Location
from cfaudit_export.core.escape import escaped
from cfaudit_export.proof.chain import FOLDER, Link, chain_of, link_to, parse_name
from cfaudit_export.proof.envelope import LARGEST, Envelope, open_envelope
from cfaudit_export.proof.manifest import Manifest
from cfaudit_export.proof.statement import parse_statement
from cfaudit_export.proof.timestamp import STAMP

_S3_THREADS = 16


@dataclass(frozen=True, slots=True)
class ManifestRecord:
    """A file that is named as a manifest.

    Attributes:
        chain: the chain that its folder names.
        link: its number by its name, and the digest of its bytes; empty where they were not read.
        envelope: its content and signatures; None where it has not the form.
        manifest: what it says; None where it has not the form.
        fault: why it has not, empty if it has.
        stamp: what a time stamping authority answered about it; None where there is no answer.
    """

    chain: str
    link: Link
    envelope: Envelope | None = None
    manifest: Manifest | None = None
    fault: str = ""
    stamp: bytes | None = field(default=None, repr=False)

    @property
    def sequence(self) -> int:
        """Return its number."""
        return self.link.sequence


@dataclass(frozen=True, slots=True)
class Records:
    """What lies where manifests lie.

    Attributes:
        chains: the records of each chain, ascending.
        strangers: names of files that are no manifests.
    """

    chains: Mapping[str, Sequence[ManifestRecord]]
    strangers: Sequence[str]


def read_records(place: Location) -> Records:
    """Read the manifests below a place: in its folder for them, or in itself where that is such a folder.

    Raises:
        OSError: the place cannot be read.
    """
    files = {one.name: one for one in place.below(FOLDER)}
    ours = bool(files)
    files = files or {one.name: one for one in place.below("")}
    named = {name: found for name in files if (found := parse_name(name))}
    stamps = {name for name in files if name.removesuffix(STAMP) in named and name.endswith(STAMP)}
    hidden = {name for name in files if any(part.startswith(".") for part in name.split("/"))}
    strangers = sorted(files.keys() - named.keys() - stamps - hidden) if ours else []

    def read(name: str) -> ManifestRecord:
        stamp = _content(place, files[name + STAMP]) if name + STAMP in stamps else None
        return _record(*named[name], _content(place, files[name]), stamp)

    with ThreadPoolExecutor(os.cpu_count() if place.is_local else _S3_THREADS) as threads:
        some = list(threads.map(read, sorted(named, key=named.__getitem__)))
    chains: dict[str, list[ManifestRecord]] = {}
    for one in some:
        chains.setdefault(one.chain, []).append(one)
    return Records(chains, strangers)


def _content(place: Location, found: FoundFile) -> bytes | None:
    """Return the bytes of a file, None for one that is too large to be read."""
    if found.bytes > LARGEST:
        return None
    with place.open(found) as file:
        return file.read(LARGEST + 1)


def _record(chain: str, sequence: int, document: bytes | None, stamp: bytes | None) -> ManifestRecord:
    if document is None:
        return ManifestRecord(chain, Link(sequence, ""), fault=f"invalid format: it is larger than {LARGEST >> 20} MiB")
    link = link_to(sequence, document)
    try:
        envelope = open_envelope(document)
        manifest = parse_statement(envelope.payload)
    except ValueError as error:
        said = escaped(str(error), 200)
        fault = said if said.endswith("names a file outside the data") else f"invalid format: {said}"
        return ManifestRecord(chain, link, fault=fault, stamp=stamp)
    said_chain = chain_of(manifest.stream.id, manifest.sink)
    if (manifest.chain, manifest.sequence) != (chain, sequence) or said_chain != chain:
        fault = f"has been moved from its place, which is {escaped(manifest.chain, 80)}, number {manifest.sequence}"
        return ManifestRecord(chain, link, envelope, fault=fault, stamp=stamp)
    return ManifestRecord(chain, link, envelope, manifest, stamp=stamp)
