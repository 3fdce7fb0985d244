"""A piece -> every sink has its share of it: mapped, staged, promised, loaded, covered."""

from __future__ import annotations

import logging
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, replace
from datetime import datetime

import pyarrow as pa

from cfaudit_export.core.intervals import subtract
from cfaudit_export.core.model import Batch, Intent, Lateness, Receipt, Window
from cfaudit_export.errors import SinkError
from cfaudit_export.pipeline.commit import Loaded, cover, intend, observe, withdraw
from cfaudit_export.pipeline.dedup.missing import Share, Want, is_lacked, shares_of
from cfaudit_export.pipeline.dedup.shadows import name_shadows
from cfaudit_export.pipeline.destination import Places
from cfaudit_export.pipeline.doubt import Answered, Doubt
from cfaudit_export.pipeline.job import Job
from cfaudit_export.pipeline.ledger import Ledger
from cfaudit_export.pipeline.load import Outlet
from cfaudit_export.pipeline.plan import Plan
from cfaudit_export.pipeline.quarantine import Quarantine
from cfaudit_export.pipeline.stage import Staging
from cfaudit_export.plugin.interfaces import Extract

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

    def answered(self, receipt: Receipt) -> Answered:
        """Return what the sink said of the batch."""
        share = self.share
        return Answered(receipt, self.batch, share.window, share.seen, share.late.count, share.trimming)

    def covered(self) -> Loaded:
        """Return what the sink has without a batch, as nothing in the window is new."""
        return Loaded(self.outlet.name, self.share.window, self.share.seen, trimming=self.share.trimming)


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
        self._doubts = {name: Doubt() for name in outlets}

    def alive(self) -> list[Outlet]:
        """Return the sinks that have not failed."""
        return [outlet for outlet in self._outlets.values() if not outlet.error]

    def wants(self, plan: Plan, horizon: datetime) -> Iterator[tuple[Outlet, Want]]:
        """Yield the sinks that have not failed, and what each is to have."""
        for outlet in self.alive():
            held = self._doubts[outlet.name].windows()
            windows, rescan = subtract(plan.wants(outlet.name), held), subtract(plan.rescan[outlet.name], held)
            progress = self._ledger.progress(outlet.name)
            yield outlet, Want(self._job.stream.account_id, windows, rescan, progress, horizon)

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
        receipt = outlet.load(batch) if batch else outlet.find(intent)
        if outlet.error:
            return
        # Neither here nor there: it never arrived, or all of it was refused. Its window is read again.
        if receipt is None or not (batch or receipt.rows):
            _LOG.warning("batch lost, reading again", extra={"sink": outlet.name, "batch": intent.batch_id})
            self._ledger.write(withdraw(outlet.name, intent.batch_id), self._job.clock())
            return
        answered = Answered(receipt, batch, intent.window, intent.seen, intent.late_rows, intent.trimming)
        self._places.write(cover(self._accept(outlet, answered), self._job.horizon(intent.window.before)))

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
        # The gaps are written with the promise: settling it after a crash then covers the window.
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
                loaded.append(part.covered())
                continue
            with self._job.trace("load") as told:
                told.update(sink=outlet.name, batch=batch.batch_id, rows=batch.rows)
                receipt = outlet.load(batch)
                told.update(loaded=receipt is not None)
            if receipt is not None:
                loaded += self._accept(outlet, part.answered(receipt))
        with self._job.trace("commit"):
            self._places.write(cover(loaded, horizon))
        self._forget({one.batch_id for one in loaded if one.batch_id})
        return sum(one.receipt.rows for one in loaded if one.receipt)

    def conclude(self) -> None:
        """End what is still in doubt: batches that sinks took nothing of are quarantined if few, or else withdrawn."""
        for outlet in self._outlets.values():
            doubt = self._doubts[outlet.name]
            few = [] if outlet.error else doubt.few()
            for one in few:
                self._places.write(cover(self._kept(outlet, [one]), self._job.horizon(one.window.before)))
            withdrawn, error = doubt.close()
            if error and not outlet.error:
                outlet.fail(error)
            for one in withdrawn:
                self._ledger.write(withdraw(outlet.name, one.receipt.batch_id), self._job.clock())
            self._forget({one.receipt.batch_id for one in [*few, *withdrawn]})

    def is_settled(self, outlet: Outlet) -> bool:
        """Tell whether a sink has all that it was given in this run."""
        return not (outlet.error or self._doubts[outlet.name].windows())

    def _forget(self, batch_ids: set[str]) -> None:
        """Remove staged batches that are promised to no sink any more."""
        for batch_id in batch_ids - set(self._ledger.promised()):
            self._staging.remove(batch_id)

    def _accept(self, outlet: Outlet, answered: Answered) -> list[Loaded]:
        """Return what counts as delivered with a sink's answer: its batch, and those that were in doubt until then."""
        doubt = self._doubts[outlet.name]
        certain = doubt.judge(answered)
        if error := doubt.fault(self._ledger.progress(outlet.name).covered):
            outlet.fail(error)
        return self._kept(outlet, certain)

    def _kept(self, outlet: Outlet, certain: list[Answered]) -> list[Loaded]:
        return [
            Loaded(outlet.name, one.window, one.seen, one.receipt.batch_id, one.receipt, one.trimming)
            for one in certain
            if self._keep_refused(outlet, one)
        ]

    def _keep_refused(self, outlet: Outlet, answered: Answered) -> bool:
        """Quarantine what the sink refused, before its batch counts as delivered; False if the sink makes no sense."""
        receipt, batch = answered.receipt, answered.batch
        if receipt.rejected:
            facts = {"sink": outlet.name, "batch": receipt.batch_id, "events": len(receipt.rejected)}
            if batch is None:
                _LOG.error("events refused by the sink are lost with their staged file", extra=facts)
                outlet.count(receipt, answered.late_rows)
                return True
            try:
                self._quarantine.set_aside(outlet.name, batch, receipt.rejected)
            except SinkError as error:
                outlet.fail(error)
                return False
            _LOG.warning("events refused by the sink are quarantined", extra=facts)
        outlet.count(receipt, answered.late_rows)
        if batch is not None:
            self._job.after_load(batch, receipt)
        return True
