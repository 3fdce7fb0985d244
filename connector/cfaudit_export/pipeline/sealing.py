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
from cfaudit_export.pipeline.agreement import BESIDE, Agreement, after, chain_in, conflict, path_of
from cfaudit_export.pipeline.ledger import Change, Ledger
from cfaudit_export.pipeline.load import SinkRun
from cfaudit_export.pipeline.manifests import Sealed, SealingContext, following
from cfaudit_export.pipeline.run_context import ManifestPlace
from cfaudit_export.plugin.interfaces import Sink
from cfaudit_export.proof.append import read_entry, require_trusted, write_entry
from cfaudit_export.proof.chain import Link, chain_of
from cfaudit_export.proof.manifest import Manifest, ReadEntry

_MOST_WAITING = 10  # times as many as may wait, where manifests cannot be written
_LOG = logging.getLogger(__name__)


def seal_rest(context: SealingContext, sinks: Mapping[str, Sink], ledger: Ledger) -> None:
    """Seal what waits of a stream that is not run.

    Raises:
        SinkError: it cannot be sealed now, or its manifests do not agree with its checkpoint.
    """
    sink_runs = {name: SinkRun(name, sink) for name, sink in sinks.items()}
    sealing = Sealing(context, ledger, sink_runs)
    sealing.compare()
    sealing.finish(None)
    for one in sink_runs.values():
        if error := one.error or one.proof_error:
            raise error


class Sealing:
    """The manifests of one stream in a run. What a manifest could not be written for stays unsealed."""

    def __init__(self, context: SealingContext, ledger: Ledger, sink_runs: Mapping[str, SinkRun]) -> None:
        self._context = context
        self._ledger = ledger
        self._sink_runs = sink_runs
        self._agreement = Agreement(context, ledger)
        self._compared: set[str] = set()

    def compare(self) -> None:
        """Compare what the checkpoint says with the newest manifests; a sink where they disagree fails."""
        for name, place in self._context.manifests.items():
            sink_run = self._sink_runs[name]
            if sink_run.error:
                continue
            try:
                proof = self._agreement.settled(name, place)
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
        proof = after(self._ledger.progress(name).proof, made, link)
        self._ledger.write(_with(name, proof), self._context.clock())
        sink_run.sealed(f"{chain_in(self._ledger, name)}:{link}")

    def _written(self, name: str, place: ManifestPlace, read: ReadEntry | None) -> tuple[Manifest, Link]:
        """Write the next manifest; where others wrote one meanwhile that may stand there, behind that."""
        sealed, proof = self._sealed(name, place), self._ledger.progress(name).proof
        link = Link(proof.sequence, proof.sha256) if proof.sequence else None
        before = read_entry(place.store, chain_in(self._ledger, name), link.sequence, place.keys) if link else None
        while True:
            made = following(sealed, link, read, merged_into=self._merged_into(name))
            if (written := write_entry(place.store, made, place.keys)) is not None:
                return made, written
            entry = read_entry(place.store, made.chain, made.sequence, place.keys)
            if entry is None or entry.manifest.kind not in BESIDE or not entry.follows(link):
                raise SettingsError(conflict(path_of(self._context, self._ledger, name, made.sequence)))
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
        return Sealed(self._context, self._ledger.checkpoint, name, chain_in(self._ledger, name), place.location)

    def _merged_into(self, name: str) -> str | None:
        """Return the chain that goes on with that of a slice once all of the slice is delivered."""
        stream, progress = self._context.stream, self._ledger.progress(name)
        if stream.slice is None or progress.intents or subtract([stream.slice], progress.covered):
            return None
        return chain_of(replace(stream, slice=None).id, name)


def with_end(progress: SinkProgress, own: Checkpoint, sink: str) -> SinkProgress:
    """Return what a stream's checkpoint says of a sink, with the end of a slice's chain, which its next manifest names.

    Args:
        progress: what it says.
        own: the checkpoint of the slice.
        sink: which sink.
    """
    proof = own.sinks[sink].proof
    if not proof.sequence:
        return progress
    chain = chain_of(own.stream.id, sink)
    end = f"{chain}:{proof.sequence}:{proof.sha256}"
    merged = tuple(dict.fromkeys((*progress.proof.merged, end)))
    return replace(progress, proof=replace(progress.proof, merged=merged))


def _with(name: str, proof: Proof) -> Change:
    def change(checkpoint: Checkpoint) -> Checkpoint:
        progress = checkpoint.sinks.get(name, SinkProgress())
        if progress.proof == proof:
            return checkpoint
        return replace(checkpoint, sinks={**checkpoint.sinks, name: replace(progress, proof=proof)})

    return change
