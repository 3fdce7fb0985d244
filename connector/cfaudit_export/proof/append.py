"""One more manifest at the end of a chain, written only where there is none of that number yet.

Several programs write one chain: runs, and between them `compact` and others that change on purpose what was sealed. So
a number may be taken when it is to be written. What is there is read then, and the next number is tried.

Where a chain is signed, only what one of the given keys signed is followed, and only with a key: to go on behind
anything else would vouch for it. A chain that was begun without a key may be signed from any number on, and is then
signed for ever.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from datetime import datetime
from importlib.metadata import version
from typing import Protocol

from cfaudit_export.errors import SettingsError, TryAgainError
from cfaudit_export.proof.chain import Link, file_name, link_to, parse_name
from cfaudit_export.proof.envelope import open_envelope, signers, wrap
from cfaudit_export.proof.keys import SigningKey
from cfaudit_export.proof.manifest import ErasedEntry, Kind, Manifest, Replacement
from cfaudit_export.proof.statement import parse_statement, statement
from cfaudit_export.schema import SCHEMA_VERSION

# So often another writer may be faster.
_RACES = 20


class ManifestStore(Protocol):
    """Where manifests are kept. Names are those below `cfaudit_export.proof.chain.FOLDER`: `<chain>/<number>.json`.

    The methods raise what those of a sink raise: `SinkError` for not now, `SinkRefusedError` for never.
    """

    def put_manifest(self, name: str, content: bytes) -> bool:
        """Keep a manifest, durably when it returns; False where there is one of that name, which stays."""
        ...

    def get_manifest(self, name: str) -> bytes | None:
        """Return a manifest, None when there is none."""
        ...

    def manifests(self, chain: str) -> Iterator[str]:
        """Yield the names of all manifests of a chain, ascending."""
        ...


@dataclass(frozen=True, slots=True)
class Entry:
    """A manifest as it is kept.

    Attributes:
        link: its number and digest.
        manifest: what it says.
        is_signed: whether it has a signature; nothing is known yet of whether that is true.
        signers: ids of those of the given keys that signed it.
    """

    link: Link
    manifest: Manifest
    is_signed: bool = False
    signers: frozenset[str] = frozenset()

    def follows(self, link: Link | None) -> bool:
        """Say whether it is the one behind another, or the first."""
        return self.manifest.previous == (link.sha256 if link else None)


def name_of(chain: str, sequence: int) -> str:
    """Return the name of a manifest in a `ManifestStore`."""
    return f"{chain}/{file_name(sequence)}"


def read_entry(store: ManifestStore, chain: str, sequence: int, keys: Sequence[SigningKey] = ()) -> Entry | None:
    """Return a manifest of a chain, None when there is none.

    Raises:
        SettingsError: it is none, or of another chain or number.
        SinkError: it cannot be read now.
    """
    name = name_of(chain, sequence)
    document = store.get_manifest(name)
    if document is None:
        return None
    try:
        envelope = open_envelope(document)
        manifest = parse_statement(envelope.payload)
    except ValueError as error:
        raise SettingsError(f"manifest '{name}' cannot be read: {error}; restore it from a backup") from error
    if (manifest.chain, manifest.sequence) != (chain, sequence):
        raise SettingsError(f"manifest '{name}' is another one that was put there; restore it from a backup")
    known = signers(envelope, {key.id: key.public for key in keys})
    return Entry(link_to(sequence, document), manifest, bool(envelope.signatures), known)


def newest_entry(store: ManifestStore, chain: str, keys: Sequence[SigningKey] = ()) -> Entry | None:
    """Return the manifest of the highest number, None for a chain without any. Raises what `read_entry` raises."""
    numbers = [named[1] for name in store.manifests(chain) if (named := parse_name(name)) and named[0] == chain]
    return read_entry(store, chain, max(numbers), keys) if numbers else None


def write_entry(store: ManifestStore, manifest: Manifest, keys: Sequence[SigningKey] = ()) -> Link | None:
    """Write a manifest, signed by each key, and return its link; None where its number is taken.

    Raises:
        SinkError: it cannot be written now, or it is not known whether it was.
    """
    document, name = wrap(statement(manifest), keys), name_of(manifest.chain, manifest.sequence)
    # Where only the answer to an earlier try was lost, it is there.
    if store.put_manifest(name, document) or store.get_manifest(name) == document:
        return link_to(manifest.sequence, document)
    return None


def append(
    store: ManifestStore,
    chain: str,
    build: Callable[[Link | None, Manifest | None], Manifest],
    keys: Sequence[SigningKey] = (),
) -> Link:
    """Write one more manifest at the end of a chain, and return its link.

    Args:
        store: where the chain is.
        chain: which chain.
        build: makes the manifest from the one that it follows and the link to that; both None for the first. It is
            asked again where another writer was faster.
        keys: what signs it.

    Raises:
        SettingsError: the chain cannot be read, or its end is not signed by one of the keys.
        SinkError: it cannot be read or written now.
        TryAgainError: others write all the time.
    """
    newest = newest_entry(store, chain, keys)
    if newest is not None:
        _require_end(store, newest, keys)
    for _ in range(_RACES):
        made = build(*(newest.link, newest.manifest) if newest else (None, None))
        if link := write_entry(store, made, keys):
            return link
        before, newest = newest, read_entry(store, chain, made.sequence, keys)
        if newest is not None:
            require_trusted(newest, before, keys)
    raise TryAgainError(f"others write manifests of '{chain}' all the time; try again")


def require_trusted(entry: Entry, before: Entry | None, keys: Sequence[SigningKey]) -> None:
    """Refuse to go on behind a manifest that others may have written: unsigned in a signed chain, or by another key.

    Without a key, a signed manifest is refused: what follows it unsigned proves nothing, and breaks the chain.

    Args:
        entry: the manifest.
        before: the one before it.
        keys: what signs what is to follow.

    Raises:
        SettingsError: it is one, or hands over to a key that is not among them.
    """
    name, change = name_of(entry.manifest.chain, entry.link.sequence), entry.manifest.key
    if not keys and (entry.is_signed or (before and before.is_signed)):
        raise SettingsError(
            f"manifest '{name}' is signed, and no key is set; set integrity.key_file to that key, or export without "
            "manifests, which proves nothing from then on, by integrity.manifests = false"
        )
    if keys and change is not None and change.new not in {key.public.pem for key in keys}:
        raise SettingsError(f"manifest '{name}' says that the key was changed; set integrity.key_file to the new one")
    if not keys or entry.signers or not (entry.is_signed or (before and before.is_signed)):
        return
    raise SettingsError(
        f"manifest '{name}' is not signed by the key that is set; use the same integrity.key_file for all that writes "
        "there, and change it with 'cfaudit-export key rotate'"
    )


def _require_end(store: ManifestStore, newest: Entry, keys: Sequence[SigningKey]) -> None:
    """Refuse the end of a chain that is not signed behind a manifest that is; as `require_trusted`."""
    entry = newest
    while keys and not entry.signers and entry.link.sequence > 1:
        before = read_entry(store, entry.manifest.chain, entry.link.sequence - 1, keys)
        require_trusted(entry, before, keys)
        if before is None:
            return
        entry = before
    require_trusted(entry, None, keys)


def append_change(
    store: ManifestStore,
    chain: str,
    kind: Kind,
    replaced: Sequence[Replacement],
    *,
    keys: Sequence[SigningKey],
    clock: Callable[[], datetime],
    erased: Sequence[ErasedEntry] = (),
    reason: str | None = None,
) -> Link:
    """Write that sealed files were changed on purpose, and return the link to that manifest.

    What is covered, open and remembered stays as the manifest before says.

    Args:
        store: where the chain is.
        chain: a chain that has a manifest: one that names the files.
        kind: what was done.
        replaced: files that others took the place of, or that were removed.
        keys: what signs it.
        clock: the time, asked for each try.
        erased: events of which something was erased.
        reason: why files were removed.

    Raises what `append` raises.
    """

    def build(link: Link | None, before: Manifest | None) -> Manifest:
        assert link  # noqa: S101  # the files are named in a manifest of the chain
        assert before  # noqa: S101  # likewise
        return Manifest(
            kind=kind,
            chain=chain,
            sequence=link.sequence + 1,
            previous=link.sha256,
            stream=before.stream,
            sink=before.sink,
            location=before.location,
            sealed_at=clock(),
            program=version("cfaudit-export"),
            schema_version=SCHEMA_VERSION,
            covered_total=before.covered_total,
            gaps_open=before.gaps_open,
            quarantined=before.quarantined,
            replaced=tuple(replaced),
            erased=tuple(erased),
            reason=reason,
            checkpoint=before.checkpoint,
        )

    return append(store, chain, build, keys)
