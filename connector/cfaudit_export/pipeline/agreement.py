"""What the checkpoint says of a chain of manifests, compared with the chain, before anything is delivered or sealed.

What was written since by a run that died right then, or by `compact` and its like, is followed. Anything else is the
work of another state folder, or shows that this one was restored from an older copy, or edited: the sink is left alone,
because a run would deliver again what it has, or leave out what it lacks.
"""

from __future__ import annotations

import logging
from dataclasses import replace

from cfaudit_export.core.intervals import subtract
from cfaudit_export.core.model import Proof
from cfaudit_export.errors import SettingsError
from cfaudit_export.pipeline.ledger import Ledger
from cfaudit_export.pipeline.manifests import Sealed, SealingContext, covered_sha256, entries, reset
from cfaudit_export.pipeline.run_context import ManifestPlace
from cfaudit_export.proof.append import Entry, name_of, newest_entry, read_entry, require_trusted, write_entry
from cfaudit_export.proof.chain import FOLDER, Link, chain_of
from cfaudit_export.proof.manifest import Manifest

BESIDE = ("compaction", "retention", "key")
"""Kinds of manifests that others write into a chain between two runs."""

_LOG = logging.getLogger(__name__)


class Agreement:
    """Compares the checkpoint of a stream with its chains, and begins a chain anew where a run is told to."""

    def __init__(self, context: SealingContext, ledger: Ledger) -> None:
        self._context = context
        self._ledger = ledger

    def settled(self, name: str, place: ManifestPlace) -> Proof:
        """Return what is remembered of the chain, with what was written since.

        Raises:
            SettingsError: the chain is another one than the checkpoint knows, or cannot be read.
            SinkError: it cannot be read now.
        """
        progress, chain = self._ledger.progress(name), chain_in(self._ledger, name)
        proof, before = progress.proof, None
        if proof.sequence:
            before = read_entry(place.store, chain, proof.sequence, place.keys)
            if before is None or before.link.sha256 != proof.sha256:
                what = "is not there" if before is None else "is another one than was written"
                return self._begin_anew(name, place, f"{self._path(name, proof.sequence)} {what}; restore it")
            if why := self._fault_of_checkpoint(name, place, before):
                return self._begin_anew(name, place, why)
        # The newest manifest that is remembered may be of an older key, if the next one hands over from that.
        doubt = _distrusted(before, None, place) if before else ""
        while entry := read_entry(place.store, chain, proof.sequence + 1, place.keys):
            if doubt and entry.manifest.kind != "key":
                break
            if not entry.follows(before.link if before else None):
                why = f"{self._path(name, entry.link.sequence)} does not follow the one before it; restore both"
                return self._begin_anew(name, place, why)
            if why := _distrusted(entry, before, place):
                return self._begin_anew(name, place, why)
            if entry.manifest.kind in BESIDE:
                proof = replace(proof, sequence=entry.link.sequence, sha256=entry.link.sha256)
            elif _is_ours(entry.manifest, proof):
                proof = after(proof, entry.manifest, entry.link)
            else:
                return self._of_others(name, place, entry)
            before, doubt = entry, ""
        return self._begin_anew(name, place, doubt) if doubt else proof

    def _fault_of_checkpoint(self, name: str, place: ManifestPlace, newest: Entry) -> str:
        """Return why the checkpoint is not the one with which its newest manifest was written, empty if it is."""
        said, of = newest.manifest.checkpoint, f"the checkpoint of stream '{self._ledger.checkpoint.stream.id}'"
        if said is not None and said != covered_sha256(self._ledger.progress(name)):
            return (
                f"{of} was edited: it covers other time than {self._path(name, newest.link.sequence)} says; restore it "
                "from a backup"
            )
        if said is not None and newest.is_signed and place.signs_checkpoints and not self._ledger.was_signed:
            return f"{of} is not signed, as runs with integrity.key_file sign it; restore it from a backup"
        return ""

    def _path(self, name: str, sequence: int) -> str:
        return path_of(self._context, self._ledger, name, sequence)

    def _of_others(self, name: str, place: ManifestPlace, entry: Entry) -> Proof:
        """Go on where a state folder was lost, and else refuse to."""
        progress = self._ledger.progress(name)
        if not (progress.proof.sequence or progress.proof.unsealed or progress.rows or progress.intents):
            newest = newest_entry(place.store, chain_in(self._ledger, name), place.keys)
            if newest and newest.manifest.kind == "reset":  # written by a run that died right then
                return Proof(newest.link.sequence, newest.link.sha256)
            return self._reset(name, place, "the checkpoint was lost")
        return self._begin_anew(name, place, conflict(self._path(name, entry.link.sequence)))

    def _begin_anew(self, name: str, place: ManifestPlace, why: str) -> Proof:
        """Begin anew where the run is told to.

        Raises:
            SettingsError: it is not.
        """
        if not self._context.request.reset_proof:
            raise SettingsError(
                f"{why}, or go on with 'run --reset-proof', once, which records the break and may deliver events twice"
            )
        return self._reset(name, place, f"asked for: {why}")

    def _reset(self, name: str, place: ManifestPlace, why: str) -> Proof:
        newest = newest_entry(place.store, chain_in(self._ledger, name), place.keys)
        if newest and not place.keys:
            require_trusted(newest, None, ())
        made = reset(
            Sealed(self._context, self._ledger.checkpoint, name, chain_in(self._ledger, name), place.location),
            newest.link if newest else None,
            why,
        )
        link = write_entry(place.store, made, place.keys)
        if link is None:
            raise SettingsError(conflict(self._path(name, made.sequence)))
        _LOG.warning("chain of manifests begins anew", extra={"sink": name, "manifest": link.sequence, "why": why})
        proof = self._ledger.progress(name).proof
        return Proof(link.sequence, link.sha256, fresh=(), unsealed=proof.unsealed)


def require_key(context: SealingContext, ledger: Ledger) -> None:
    """Refuse to go on without a key where the manifests of a stream are signed.

    Raises:
        SettingsError: they are, and none is set.
        SinkError: they cannot be read now.
    """
    for name, place in context.manifests.items():
        sequence = ledger.progress(name).proof.sequence
        if sequence and not place.keys:
            entry = read_entry(place.store, chain_of(ledger.checkpoint.stream.id, name), sequence)
            if entry is not None:
                require_trusted(entry, None, ())


def _is_ours(manifest: Manifest, proof: Proof) -> bool:
    """Say whether a manifest seals what waits in the checkpoint, and so was written by a run that died right then."""
    waiting = entries(proof)
    is_known = manifest.kind == "seal" and all(one in waiting for one in manifest.batches)
    return is_known and not subtract(manifest.covered_total, proof.covered)


def after(proof: Proof, manifest: Manifest, link: Link) -> Proof:
    """Return what is remembered, and still waits, once a manifest is written."""
    named = {one.batch_id for one in manifest.batches}
    closed = {one.window for one in manifest.gaps_closed}
    return Proof(
        link.sequence,
        link.sha256,
        covered=proof.covered,
        fresh=subtract(proof.fresh, manifest.covered),
        unsealed=tuple(one for one in proof.unsealed if one.batch_id not in named),
        listed=tuple(sorted({*proof.listed, *(one.window for one in manifest.gaps_opened)} - closed)),
        merged=tuple(one for one in proof.merged if one not in manifest.merged_from),
        outside=proof.outside,
    )


def _distrusted(entry: Entry, before: Entry | None, place: ManifestPlace) -> str:
    """Return why a manifest is not to be followed, empty if it is.

    Raises:
        SettingsError: it is signed, and no key is set: there is no way to go on without.
    """
    try:
        require_trusted(entry, before, place.keys)
    except SettingsError as error:
        if not place.keys:
            raise
        return str(error)
    return ""


def conflict(path: str) -> str:
    """Return what is said of a manifest that others have written."""
    return (
        f"{path} was written by another run; two state folders write one chain, or this one was restored from an older "
        "copy: restore the newest copy of the state folder"
    )


def chain_in(ledger: Ledger, sink: str) -> str:
    """Return the chain of a stream and a sink."""
    return chain_of(ledger.checkpoint.stream.id, sink)


def path_of(context: SealingContext, ledger: Ledger, sink: str, sequence: int) -> str:
    """Return how a manifest is called in an error."""
    return f"'{context.manifests[sink].location}: {FOLDER}/{name_of(chain_in(ledger, sink), sequence)}'"
