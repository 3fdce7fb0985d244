"""What sinks have, sealed: a manifest after each run, each naming the one before it, and compared before the next run.

Delivered batches wait in the checkpoint until a manifest names them. Its number is one more than that of the newest,
and it is written only where there is none of that number; then the checkpoint forgets the batches and remembers number
and digest. A crash between the two is seen by the next run: the manifest is there, and says what the checkpoint says.

Anything else that is there is the work of another state folder, or shows that this one was restored from an older copy.
Then the sink is left alone, because a run would deliver again what it has, or leave out what it lacks.
"""

from __future__ import annotations

import logging
from collections.abc import Mapping
from dataclasses import replace

from cfaudit_export.core.intervals import subtract
from cfaudit_export.core.model import Checkpoint, Proof, SinkProgress
from cfaudit_export.errors import CfauditError, SettingsError, SinkError, SinkRefusedError
from cfaudit_export.pipeline.ledger import Change, Ledger
from cfaudit_export.pipeline.load import SinkRun
from cfaudit_export.pipeline.manifests import Sealed, entries, following, reset
from cfaudit_export.pipeline.run_context import ManifestPlace, RunContext
from cfaudit_export.proof.append import Entry, name_of, newest_entry, read_entry, require_trusted, write_entry
from cfaudit_export.proof.chain import FOLDER, Link, chain_of
from cfaudit_export.proof.manifest import Manifest, ReadEntry

_MOST_WAITING = 10  # times as many as may wait, where manifests cannot be written
_BESIDE = ("compaction", "retention", "key")  # what others write into a chain between two runs
_LOG = logging.getLogger(__name__)


def seal_rest(context: RunContext, ledger: Ledger) -> None:
    """Seal what waits of a stream that is not run.

    Raises:
        SinkError: it cannot be sealed now, or its manifests do not agree with its checkpoint.
    """
    sink_runs = {name: SinkRun(name, sink) for name, sink in context.sinks.items()}
    sealing = Sealing(context, ledger, sink_runs)
    sealing.compare()
    sealing.finish(None)
    for one in sink_runs.values():
        if error := one.error or one.proof_error:
            raise error


class Sealing:
    """The manifests of one stream in a run. What a manifest could not be written for stays unsealed."""

    def __init__(self, context: RunContext, ledger: Ledger, sink_runs: Mapping[str, SinkRun]) -> None:
        self._context = context
        self._ledger = ledger
        self._sink_runs = sink_runs
        self._compared: set[str] = set()

    def compare(self) -> None:
        """Compare what the checkpoint says with the newest manifests; a sink where they disagree fails."""
        for name, place in self._context.manifests.items():
            sink_run = self._sink_runs[name]
            if sink_run.error:
                continue
            try:
                proof = self._settled(name, place)
            except CfauditError as error:
                sink_run.fail(error if isinstance(error, SinkError) else SinkRefusedError(str(error)))
                continue
            self._compared.add(name)
            self._ledger.write(_with(name, proof), self._context.clock())

    def seal_due(self) -> None:
        """Seal where too many batches wait to wait for the end of the run."""
        for name, place in self._context.manifests.items():
            waiting = len(self._ledger.progress(name).proof.unsealed)
            if waiting and waiting % place.most_unsealed == 0:  # not at each batch where that fails
                self._seal(name, None)

    def finish(self, read: ReadEntry | None) -> None:
        """Seal what a run did.

        Args:
            read: what it read; also where nothing was new. None for a run that did not get to its end, or before one
                begins: then only what was delivered is sealed, if anything was.
        """
        for name in self._context.manifests:
            proof = self._ledger.progress(name).proof
            if read or proof.unsealed or proof.fresh:
                self._seal(name, read)

    # -- the checkpoint and the chain ---------------------------------------------------------------

    def _settled(self, name: str, place: ManifestPlace) -> Proof:
        """Return what is remembered of the chain, with what was written since.

        Raises:
            SettingsError: the chain is another one than the checkpoint knows, or cannot be read.
            SinkError: it cannot be read now.
        """
        progress, chain = self._ledger.progress(name), self._chain(name)
        proof, before = progress.proof, None
        if proof.sequence:
            before = read_entry(place.store, chain, proof.sequence, place.keys)
            if before is None or before.link.sha256 != proof.sha256:
                what = "is not there" if before is None else "is another one than was written"
                return self._begin_anew(name, place, f"{self._path(name, proof.sequence)} {what}; restore it")
        while entry := read_entry(place.store, chain, proof.sequence + 1, place.keys):
            if not entry.follows(before.link if before else None):
                why = f"{self._path(name, entry.link.sequence)} does not follow the one before it; restore both"
                return self._begin_anew(name, place, why)
            require_trusted(entry, before, place.keys)
            if entry.manifest.kind in _BESIDE:
                proof = replace(proof, sequence=entry.link.sequence, sha256=entry.link.sha256)
            elif _is_ours(entry.manifest, proof):
                proof = _sealed(proof, entry.manifest, entry.link)
            else:
                return self._of_others(name, place, entry)
            before = entry
        return proof

    def _of_others(self, name: str, place: ManifestPlace, entry: Entry) -> Proof:
        """Go on where a state folder was lost, and else refuse to."""
        progress = self._ledger.progress(name)
        if not (progress.proof.sequence or progress.proof.unsealed or progress.rows or progress.intents):
            newest = newest_entry(place.store, self._chain(name), place.keys)
            if newest and newest.manifest.kind == "reset":  # written by a run that died right then
                return Proof(newest.link.sequence, newest.link.sha256)
            return self._reset(name, place, "the checkpoint was lost")
        return self._begin_anew(name, place, _conflict(self._path(name, entry.link.sequence)))

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
        newest = newest_entry(place.store, self._chain(name), place.keys)
        made = reset(self._sealed(name, place), newest.link if newest else None, why)
        link = write_entry(place.store, made, place.keys)
        if link is None:
            raise SettingsError(_conflict(self._path(name, made.sequence)))
        _LOG.warning("chain of manifests begins anew", extra={"sink": name, "manifest": link.sequence, "why": why})
        proof = self._ledger.progress(name).proof
        return Proof(link.sequence, link.sha256, fresh=(), unsealed=proof.unsealed)

    # -- one manifest --------------------------------------------------------------------------------

    def _seal(self, name: str, read: ReadEntry | None) -> None:
        sink_run, place = self._sink_runs[name], self._context.manifests[name]
        is_down = sink_run.error is not None and place.in_sink
        if name not in self._compared or is_down:
            return
        try:
            made, link = self._written(name, place, read)
        except CfauditError as error:
            self._not_written(name, error)
            return
        proof = _sealed(self._ledger.progress(name).proof, made, link)
        self._ledger.write(_with(name, proof), self._context.clock())
        sink_run.sealed(f"{self._chain(name)}:{link}")

    def _written(self, name: str, place: ManifestPlace, read: ReadEntry | None) -> tuple[Manifest, Link]:
        """Write the next manifest; where others wrote one meanwhile that may stand there, behind that."""
        sealed, proof = self._sealed(name, place), self._ledger.progress(name).proof
        link = Link(proof.sequence, proof.sha256) if proof.sequence else None
        before = read_entry(place.store, self._chain(name), link.sequence, place.keys) if link else None
        while True:
            made = following(sealed, link, read, merged_into=self._merged_into(name))
            if (written := write_entry(place.store, made, place.keys)) is not None:
                return made, written
            entry = read_entry(place.store, made.chain, made.sequence, place.keys)
            if entry is None or entry.manifest.kind not in _BESIDE or not entry.follows(link):
                raise SettingsError(_conflict(self._path(name, made.sequence)))
            require_trusted(entry, before, place.keys)
            link, before = entry.link, entry

    def _not_written(self, name: str, error: CfauditError) -> None:
        """Leave all unsealed; stop the sink where others write its chain, or too much waits."""
        sink_run, place = self._sink_runs[name], self._context.manifests[name]
        waiting = len(self._ledger.progress(name).proof.unsealed)
        _LOG.warning("manifest not written", extra={"sink": name, "batches": waiting, "error": str(error)})
        sink_run.proof_error = SinkError(f"the manifest is not written, and {waiting} batches wait for it: {error}")
        is_for_good = isinstance(error, SettingsError)
        if not sink_run.error and (is_for_good or waiting >= _MOST_WAITING * place.most_unsealed):
            sink_run.fail(SinkRefusedError(str(error)) if is_for_good else error)

    def _sealed(self, name: str, place: ManifestPlace) -> Sealed:
        return Sealed(self._context, self._ledger.checkpoint, name, self._chain(name), place.location)

    def _merged_into(self, name: str) -> str | None:
        """Return the chain that goes on with that of a slice once all of the slice is delivered."""
        stream, progress = self._context.stream, self._ledger.progress(name)
        if stream.slice is None or progress.intents or subtract([stream.slice], progress.covered):
            return None
        return chain_of(replace(stream, slice=None).id, name)

    def _chain(self, name: str) -> str:
        return chain_of(self._ledger.checkpoint.stream.id, name)

    def _path(self, name: str, sequence: int) -> str:
        """Return how a manifest is called in an error."""
        return f"'{self._context.manifests[name].location}: {FOLDER}/{name_of(self._chain(name), sequence)}'"


def _is_ours(manifest: Manifest, proof: Proof) -> bool:
    """Say whether a manifest seals what waits in the checkpoint, and so was written by a run that died right then."""
    waiting = entries(proof)
    is_known = manifest.kind == "seal" and all(one in waiting for one in manifest.batches)
    return is_known and not subtract(manifest.covered_total, proof.covered)


def _sealed(proof: Proof, manifest: Manifest, link: Link) -> Proof:
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
    )


def _with(name: str, proof: Proof) -> Change:
    def change(checkpoint: Checkpoint) -> Checkpoint:
        progress = checkpoint.sinks.get(name, SinkProgress())
        if progress.proof == proof:
            return checkpoint
        return replace(checkpoint, sinks={**checkpoint.sinks, name: replace(progress, proof=proof)})

    return change


def _conflict(path: str) -> str:
    return (
        f"{path} was written by another run; two state folders write one chain, or this one was restored from an older "
        "copy: restore the newest copy of the state folder"
    )
