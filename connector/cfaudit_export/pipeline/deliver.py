"""A piece -> every sink has its share of it: mapped, staged, promised, loaded, covered."""

from __future__ import annotations

import logging
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, replace
from datetime import datetime

import pyarrow as pa

from cfaudit_export.errors import SinkError
from cfaudit_export.interfaces import Extract
from cfaudit_export.model import Batch, Intent, Lateness, Receipt, Window
from cfaudit_export.pipeline.commit import Loaded, cover, intend, observe, withdraw
from cfaudit_export.pipeline.destination import Places
from cfaudit_export.pipeline.job import Job
from cfaudit_export.pipeline.ledger import Ledger
from cfaudit_export.pipeline.load import Outlet
from cfaudit_export.pipeline.plan import Plan
from cfaudit_export.pipeline.quarantine import Quarantine
from cfaudit_export.pipeline.shadows import name_shadows
from cfaudit_export.pipeline.share import Share, Want, is_lacked, shares_of
from cfaudit_export.pipeline.stage import Staging

_LOG = logging.getLogger(__name__)


@dataclass(frozen=True, slots=True)
class Part:
    """A sink's share of a piece, and the batch of what is new there, if anything is."""

    outlet: Outlet
    share: Share
    batch: Batch | None

    def intent(self) -> Iterator[tuple[str, Intent]]:
        """Yield the sink and what is promised to it, if anything is."""
        if batch := self.batch:
            share = self.share
            kept = share.seen, share.late.count, share.trimming
            intent = Intent(batch.batch_id, batch.window, batch.rows, batch.digest, *kept)
            yield self.outlet.name, intent

    def loaded(self, receipt: Receipt | None) -> Loaded:
        """Return what the sink has now."""
        batch_id = self.batch.batch_id if self.batch else None
        share = self.share
        return Loaded(self.outlet.name, share.window, share.seen, batch_id, receipt, share.trimming)


class Delivery:
    """What a run does with a piece; it keeps the order in which things become durable."""

    def __init__(self, job: Job, ledger: Ledger, outlets: Mapping[str, Outlet], quarantine: Quarantine) -> None:
        """Build it.

        Args:
            job: what the run is given.
            ledger: the checkpoint, open for writing.
            outlets: the sinks by name; one that fails is left alone from then on.
            quarantine: takes what sinks refuse for good.
        """
        self._job = job
        self._ledger = ledger
        self._outlets = outlets
        self._quarantine = quarantine
        self._places = Places(job, ledger)
        self._staging = Staging(job.staging / job.stream.id)

    def alive(self) -> list[Outlet]:
        """Return the sinks that have not failed."""
        return [outlet for outlet in self._outlets.values() if not outlet.error]

    def wants(self, plan: Plan, horizon: datetime) -> Iterator[tuple[Outlet, Want]]:
        """Yield the sinks that have not failed, and what each is to have."""
        for outlet in self.alive():
            progress, rescan = self._ledger.progress(outlet.name), plan.rescan[outlet.name]
            yield outlet, Want(self._job.stream.account_id, plan.wants(outlet.name), rescan, progress, horizon)

    # -- what an earlier run promised ---------------------------------------------------------------

    def settle_leftovers(self) -> None:
        """Load what an earlier run promised, and remove what it staged and did not promise.

        A sink that would go on in another destination than it has delivered to fails before.
        """
        for name, error in self._places.refused().items():
            self._outlets[name].fail(error)
        for outlet in self._outlets.values():
            for intent in self._ledger.progress(outlet.name).intents:
                if not outlet.error:
                    self._settle(outlet, intent)
        self._staging.sweep(set(self._ledger.promised()))

    def _settle(self, outlet: Outlet, intent: Intent) -> None:
        """Load a promised batch again, or ask the sink for it where the staged file is lost."""
        batch = self._staging.find(intent, self._ledger.earlier)
        receipt = outlet.load(batch, intent.late_rows) if batch else outlet.find(intent)
        if receipt is not None:
            self._accept(outlet, batch, receipt)
        if outlet.error:
            return
        if receipt is None:  # neither here nor there: it never arrived, and its window is read again
            _LOG.warning("batch lost, reading again", extra={"sink": outlet.name, "batch": intent.batch_id})
            self._ledger.write(withdraw(outlet.name, intent.batch_id), self._job.clock())
            return
        loaded = Loaded(outlet.name, intent.window, intent.seen, intent.batch_id, receipt, intent.trimming)
        self._places.write(cover([loaded], self._job.horizon(intent.window.before)))

    # -- a piece ------------------------------------------------------------------------------------

    def promise(self, extract: Extract, table: pa.Table, plan: Plan, horizon: datetime) -> list[Part]:
        """Stage what is new in a piece for each sink, and promise it: it is loaded, whatever happens.

        Args:
            extract: the piece; its events are not looked at.
            table: its rows, mapped.
            plan: what the run is to do.
            horizon: from here on keys are remembered.
        """
        trace = self._job.trace
        with trace("stage") as facts:
            parts = list(self._parts(table, extract, plan, horizon))
            facts.update(rows=sum(part.batch.rows for part in parts if part.batch))
        shares = [part.share for part in parts]
        late = max((share.late for share in shares), key=lambda late: late.count, default=Lateness())
        # The gaps are written with the promise: whoever settles it after a crash covers the window.
        gaps = [gap for gap in extract.gaps if is_lacked(shares, gap)]
        observed = observe(extract.window, name_shadows(gaps, table), late)
        promised = intend([promise for part in parts for promise in part.intent()], horizon)
        with trace("promise"):
            self._ledger.write(lambda checkpoint: promised(observed(checkpoint)), self._job.clock())
        return parts

    def _parts(self, table: pa.Table, extract: Extract, plan: Plan, horizon: datetime) -> Iterator[Part]:
        staged: list[tuple[pa.Table, Batch]] = []
        for outlet, want in self.wants(plan, horizon):
            for share, new in shares_of(table, extract, want):
                yield Part(outlet, share, self._stage(new, share.window, staged) if new.num_rows else None)

    def _stage(self, rows: pa.Table, window: Window, staged: list[tuple[pa.Table, Batch]]) -> Batch:
        """Stage rows once, however many sinks lack them."""
        for others, known in staged:
            if all(others[name].equals(rows[name]) for name in ("event_id", "replaces")):
                return replace(known, window=window)
        batch = self._staging.stage(rows, self._job.stream, window, self._ledger.promised())
        staged.append((rows, batch))
        return batch

    def load(self, parts: list[Part], horizon: datetime) -> int:
        """Load the parts, only then call the piece covered, and return how many rows were taken by all sinks together.

        One sink after the other, in this thread, because a run that is told to stop can break off a load only in its
        own thread, and a sink that fails is left alone, so that it holds the others back once at most.
        """
        loaded = []
        for part in parts:
            outlet, batch = part.outlet, part.batch
            if outlet.error:
                continue
            if batch is None:
                loaded.append(part.loaded(None))
                continue
            with self._job.trace("load") as told:
                told.update(sink=outlet.name, batch=batch.batch_id, rows=batch.rows)
                receipt = outlet.load(batch, part.share.late.count)
                told.update(loaded=receipt is not None)
            if receipt is not None and self._accept(outlet, batch, receipt):
                loaded.append(part.loaded(receipt))
        with self._job.trace("commit"):
            self._places.write(cover(loaded, horizon))
        promised = self._ledger.promised()
        for batch_id in {part.batch.batch_id for part in parts if part.batch}:
            if batch_id not in promised:
                self._staging.remove(batch_id)
        return sum(one.receipt.rows for one in loaded if one.receipt)

    def _accept(self, outlet: Outlet, batch: Batch | None, receipt: Receipt) -> bool:
        """Set aside what the sink refused, before its batch counts as delivered; False when the sink makes no sense."""
        if receipt.rejected:
            facts = {"sink": outlet.name, "batch": receipt.batch_id, "events": len(receipt.rejected)}
            if batch is None:
                _LOG.error("events refused by the sink are lost with their staged file", extra=facts)
                return True
            try:
                self._quarantine.set_aside(outlet.name, batch, receipt.rejected)
            except SinkError as error:
                outlet.fail(error)
                return False
            _LOG.warning("events refused by the sink are set aside", extra=facts)
        if batch is not None:
            self._job.after_load(batch, receipt)
        return True
