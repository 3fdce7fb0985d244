"""A new signing key takes the place of the one that is set, in every chain of manifests that is remembered."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import closing
from dataclasses import dataclass, replace
from datetime import datetime
from importlib.metadata import version
from typing import TYPE_CHECKING

from cfaudit_export.app.manifests import manifest_places
from cfaudit_export.app.resolve import resolve_sink
from cfaudit_export.errors import SettingsError
from cfaudit_export.proof.append import append, newest_entry
from cfaudit_export.proof.chain import Link, chain_of
from cfaudit_export.proof.keys import SigningKey, load_key
from cfaudit_export.proof.manifest import KeyEntry, Manifest
from cfaudit_export.stores.signed import SignedStore

if TYPE_CHECKING:
    from cfaudit_export.pipeline.run_context import ManifestPlace
    from cfaudit_export.plugin.interfaces import CheckpointStore
    from cfaudit_export.plugin.registry import Plugins
    from cfaudit_export.settings import Settings


@dataclass(frozen=True, slots=True)
class Rotated:
    """A chain, and the manifest of it from which on the new key signs."""

    chain: str
    link: Link


def rotate(
    settings: Settings, plugins: Plugins, store: CheckpointStore, new: SigningKey, clock: Callable[[], datetime]
) -> Iterator[Rotated]:
    """Append to each chain that the key is changed, signed by the old key and by the new one; yield each when done.

    A chain that says so already is passed over, so that this may be done again after an error. Checkpoints are signed
    by the new key once all chains of theirs are.

    Raises:
        SettingsError: no key is set, it is the new one, or a chain cannot be read or is signed by another key.
        CheckpointConflictError: a run goes on meanwhile.
        SinkError: a chain cannot be read or written now.
    """
    if settings.integrity.key_file is None:
        raise SettingsError("no key is set in integrity.key_file, so there is none to take the place of")
    old = load_key(settings.integrity.key_file)
    if old.id == new.id:
        raise SettingsError("the new key is the one that is set in integrity.key_file; make another one")
    for stream_id in store.streams():
        found = SignedStore(store, (new, old)).load(stream_id)
        for name, progress in (found.checkpoint.sinks if found else {}).items():
            if not progress.proof.sequence:
                continue
            plugin, config = resolve_sink(settings, plugins, name)
            destination = plugin.destination(config) if plugin.destination else None
            with (
                closing(plugin.build(config)) as sink,
                manifest_places(settings, plugins, {name: sink}, {name: destination or name}) as places,
            ):
                if name in places:
                    yield Rotated(chain := chain_of(stream_id, name), _changed(places[name], chain, old, new, clock))
        if found and found.checkpoint.signature is not None:
            SignedStore(store, (new,)).save(found.checkpoint, expected=found.version)


def _changed(place: ManifestPlace, chain: str, old: SigningKey, new: SigningKey, clock: Callable[[], datetime]) -> Link:
    """Return the manifest of a chain that hands over from one key to the other, written if it is not there."""
    entry = newest_entry(place.store, chain, (old, new))
    if entry is not None and new.id in entry.signers:  # it has signed the change, or since
        return entry.link

    def build(link: Link | None, newest: Manifest | None) -> Manifest:
        if link is None or newest is None:
            raise SettingsError(f"the manifests of '{chain}' are gone; restore them from a backup")
        return replace(
            newest,
            kind="key",
            sequence=link.sequence + 1,
            previous=link.sha256,
            sealed_at=clock(),
            program=version("cfaudit-export"),
            key=KeyEntry(old.public.pem, new.public.pem),
            read=None,
            covered=(),
            batches=(),
            gaps_opened=(),
            gaps_closed=(),
            replaces=(),
            fidelity={},
            replaced=(),
            erased=(),
            merged_into=None,
            merged_from=(),
            reason=None,
        )

    return append(place.store, chain, build, (old, new))
