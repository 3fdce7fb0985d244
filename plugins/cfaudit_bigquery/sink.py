"""Batch -> rows of a BigQuery table, exactly once.

What puts a batch into the table is one job, and a job does all or nothing. Its name is derived from the table and the
batch, and BigQuery never takes a name twice. So a load first asks for the job of its batch, waits for it if it
runs, and starts it only where there is none; of two who do so at once, one is told. Where an answer is lost, the
question is asked again. A job that failed keeps its name: the next attempt has the next number, and the last number
that exists decides.

With `merge`, events go into a table of their own first, and the job is a MERGE on `event_id`, which also removes the
rows whose place others take.
"""

from __future__ import annotations

import logging
import uuid
from collections.abc import Callable
from contextlib import suppress
from datetime import UTC, datetime, timedelta
from typing import TypeVar

import pyarrow as pa
import pyarrow.compute as pc
from google.api_core.exceptions import RetryError
from google.api_core.retry import Retry, if_exception_type
from google.cloud.bigquery import Table

from cfaudit_bigquery import BigQueryConfig
from cfaudit_bigquery.attempts import FENCE, Loading, is_fence, last_attempt, receipt_of, stored
from cfaudit_bigquery.faults import PassingError
from cfaudit_bigquery.service import AlreadyThereError, Job, TableService
from cfaudit_bigquery.table import (
    DestinationTable,
    demand_create,
    lack,
    missing_columns,
    needed_columns,
    ready,
    target_of,
    warning_of,
)
from cfaudit_export import Batch, LoadUnknownError, Receipt, SinkError, SinkRefusedError, Window, read_batch

_LOG = logging.getLogger(__name__)

T = TypeVar("T")

# BigQuery forgets a job after half a year; a month less, so that nothing depends on a day.
_HISTORY = timedelta(days=150)
_EVENTS_LIVE = timedelta(days=1)
# A day's events may go when it begins to be too old, while a job is under way.
_A_DAY = timedelta(days=1)
# A shadow stands at most so far from the time of the event that takes its place.
_SHADOW_OFF = timedelta(milliseconds=2)
# The query of a job that is wanted for its name alone.
_NOTHING = "SELECT 1"


class BigQuerySink:
    """Stores batches in a BigQuery table. Fits `cfaudit_export.Sink`."""

    def __init__(self, config: BigQueryConfig, clock: Callable[[], datetime] = lambda: datetime.now(UTC)) -> None:
        self._config = config
        self._clock = clock
        self._service = TableService(config)
        self._target: DestinationTable | None = None

    def check(self) -> str:
        """Look at the table, and have BigQuery rehearse what a load does; as `Sink.check`."""
        return self._retried(self._check)

    def load(self, batch: Batch) -> Receipt:
        """Store the batch by one job, or find that it is stored; as `Sink.load`."""
        staged_at = datetime.fromtimestamp(batch.path.stat().st_mtime, UTC)
        if not self._config.merge and not self._remembered(staged_at):
            raise LoadUnknownError(_too_old(batch.batch_id))
        if self._target is None:
            self._target = self._retried(lambda: ready(self._service, self._config))
        self._refuse_expired(batch, self._target)
        loading = Loading(batch, self._target)
        return self._retried(lambda: self._load(loading))

    def find(self, batch_id: str, window: Window) -> Receipt | None:
        """Ask for the job of the batch; if there is none, make sure that none will come. As `Sink.find`."""
        return self._retried(lambda: self._find(batch_id, window))

    def marked(self) -> str | None:
        """Return when the table was made, which tells it from another of its name; as `Sink.marked`."""
        table = self._retried(lambda: self._service.get_table(self._service.table))
        return f"made {table.created.isoformat()}" if table and table.created else None

    def mark(self, token: str) -> str:  # noqa: ARG002 - a table has a mark by itself
        """Return when the table was made; as `Sink.mark`."""
        if (found := self.marked()) is None:
            raise SinkError(f"BigQuery does not say when table '{self._service.table}' was made")
        return found

    def close(self) -> None:
        """Close the connections."""
        self._service.close()

    def _retried(self, ask: Callable[[], T]) -> T:
        """Ask until an answer comes or the time for it is over; ever longer pauses of random length between."""
        retry = Retry(
            predicate=if_exception_type(PassingError),
            initial=0.5,
            maximum=30.0,
            timeout=self._config.retry_seconds,
            on_error=lambda error: _LOG.warning("bigquery is asked again", extra={"error": str(error)}),
        )
        try:
            return retry(ask)()
        except RetryError as over:
            if isinstance(over.cause, PassingError):
                raise over.cause.error from over.cause
            raise

    # -- rehearsing -------------------------------------------------------------------------------------

    def _check(self) -> str:
        name = self._service.table
        table = self._service.get_table(name)
        if table is None:
            demand_create(self._config, f"table '{name}' does not exist")
            self._rehearse_create(name, self._config.location)
            return f"can create table '{name}' and start jobs"
        rights = ["bigquery.tables.updateData"]
        if lacking := missing_columns(table, self._config):
            demand_create(self._config, lack(name, lacking))
            rights.append("bigquery.tables.update")
        if self._config.merge:
            rights.append("bigquery.tables.getData")
        if refused := self._service.lacking(rights):
            raise SinkRefusedError(
                f"missing permissions {', '.join(refused)} on table '{name}'; grant the role BigQuery Data Editor on"
                f" the dataset '{self._service.place.dataset}'"
            )
        if self._config.merge:
            self._rehearse_create(_name_for_events(name), table.location)
        else:
            self._service.rehearse(_NOTHING, table.location)
        warning = warning_of(table, self._config)
        return f"can write to table '{name}' in {table.location}, whose columns fit, and start jobs" + (
            warning and f"; {warning}"
        )

    def _rehearse_create(self, name: str, location: str | None) -> None:
        self._service.rehearse(f"CREATE TABLE `{name}` (event_id STRING)", location)

    # -- loading ----------------------------------------------------------------------------------------

    def _load(self, loading: Loading) -> Receipt:
        target, batch_id = loading.target, loading.batch.batch_id
        while True:
            last, job = last_attempt(self._service, target.job_name(batch_id), target.location)
            if not job or not stored(job):
                if loading.started and is_fence(job):
                    raise SinkError(f"another run has abandoned batch '{batch_id}'; run again")
                loading.started = True
                job = self._attempt(loading, f"{target.job_name(batch_id)}_{last + 1}")
            if not job.error_result:
                return receipt_of(job, target, loading.refused, already=not loading.started)
            events = loading.learn(job)
            if not events:
                raise self._service.job_fault(job)
            if loading.empty and not (loading.batch.taken_before or loading.batch.refused_before):
                # Where nothing was ever taken, it is not the events: something in between may break them all.
                words = next(iter(loading.refused.values()))
                raise SinkRefusedError(f"BigQuery refuses every event it is given: {words}; none was quarantined")
            _LOG.warning("bigquery refuses events", extra={"batch": batch_id, "events": events})

    def _refuse_expired(self, batch: Batch, target: DestinationTable) -> None:
        """Load nothing that the table would drop at once, unless the settings ask for that: it would be lost unseen."""
        if target.keeps is None or target.may_drop:
            return
        kept_since = self._clock() - target.keeps + _A_DAY
        times = read_batch(batch)["event_time"]
        expired = pc.sum(pc.less(times, pa.scalar(kept_since, times.type))).as_py() or 0
        if expired:
            raise SinkRefusedError(
                f"table '{target.name}' drops the events of a day after {target.keeps.days} days, and {expired} of"
                f" {batch.rows} events are older; remove the expiry from the table, or set partition_expiry_days ="
                f" {target.keeps.days} to lose them, or begin later with --since"
            )

    def _attempt(self, loading: Loading, job_id: str) -> Job:
        """Try to put the batch into the table; return the job that did or failed."""
        try:
            if loading.empty:  # a later `find` must hear of the refused ones; an empty load is not documented
                return self._run_query(job_id, loading.target, _NOTHING, loading.labels())
            if self._config.merge:
                return self._merge(loading, job_id)
            return self._upload(loading, job_id, loading.target.name, loading.labels())
        except AlreadyThereError as error:
            words = f"job '{job_id}' exists, but these credentials cannot see it; use those that started it"
            raise PassingError(LoadUnknownError(words)) from error

    def _upload(self, loading: Loading, job_id: str, table: str, labels: dict[str, str]) -> Job:
        job = self._service.start_load(job_id, loading.target.location, table, loading.body(), labels)
        self._service.wait(job)
        return job

    def _run_query(self, job_id: str, target: DestinationTable, sql: str, labels: dict[str, str]) -> Job:
        job = self._service.start_query(job_id, target.location, sql, labels)
        self._service.wait(job)
        return job

    def _merge(self, loading: Loading, job_id: str) -> Job:
        """Load the events into a table of their own, and from there those that are new."""
        target = loading.target
        table = Table(_name_for_events(target.name), needed_columns())
        table.expires = self._clock() + _EVENTS_LIVE
        events = str(self._service.create_table(table).reference)
        job = self._upload(loading, f"{job_id}_events_{uuid.uuid4().hex[:12]}", events, {})
        if not job.error_result:
            statement = _merge_statement(target.name, events, loading.batch)
            job = self._run_query(job_id, target, statement, loading.labels())
        with suppress(PassingError, SinkError):  # it goes by itself tomorrow
            self._service.delete_table(events)
        return job

    # -- asking without the batch -----------------------------------------------------------------------

    def _find(self, batch_id: str, window: Window) -> Receipt | None:
        table = self._service.get_table(self._service.table)
        if table is None:
            return None
        target = target_of(table, self._config)
        last, job = last_attempt(self._service, target.job_name(batch_id), target.location)
        if job and stored(job):
            return receipt_of(job, target, {}, already=True)
        if self._config.merge:
            return None  # a MERGE adds nothing that is there, whenever it was put there
        # A batch is loaded after its window has ended, and after its table was made.
        if not self._remembered(max(window.before, target.made_at)):
            raise LoadUnknownError(_too_old(batch_id))
        # BigQuery may not know yet of a job that is started at this moment. With its name taken, it cannot start.
        try:
            self._service.start_query(f"{target.job_name(batch_id)}_{last + 1}", target.location, _NOTHING, FENCE)
        except AlreadyThereError as error:
            raise PassingError(LoadUnknownError(f"the job of batch '{batch_id}' was started just now")) from error
        return None

    def _remembered(self, at: datetime) -> bool:
        """Tell whether a job that was started at or after this moment would still be known."""
        return self._clock() - at < _HISTORY


def _name_for_events(table: str) -> str:
    return f"{table}_cfaudit_{uuid.uuid4().hex[:12]}"


def _merge_statement(table: str, events: str, batch: Batch) -> str:
    """Return the MERGE; the times of the batch keep it from reading the whole table.

    A row that names another one in `replaces` stands in the source a second time, by that name, to remove the other
    one: a join by one or the other of two columns is none that BigQuery takes. What is replaced already is not added.
    """
    names = ", ".join(f"`{column.name}`" for column in needed_columns())
    first, last = (bound.as_py() for bound in pc.min_max(read_batch(batch)["event_time"]).values())
    bounds = (first - _SHADOW_OFF, last + _SHADOW_OFF)
    between = "event_time BETWEEN " + " AND ".join(f"TIMESTAMP '{at.isoformat(sep=' ')}'" for at in bounds)
    return (
        f"MERGE INTO `{table}` AS kept USING ("  # noqa: S608 - made of verified names
        f"SELECT *, event_id AS named, FALSE AS is_gone FROM `{events}` WHERE event_id NOT IN"
        f" (SELECT replaces FROM `{table}` WHERE replaces IS NOT NULL AND {between})"
        f" UNION ALL SELECT *, replaces AS named, TRUE AS is_gone FROM `{events}` WHERE replaces IS NOT NULL"
        f") AS new ON kept.event_id = new.named AND kept.{between}"
        " WHEN MATCHED AND new.is_gone AND kept.account_id = new.account_id"
        " AND kept.fidelity IN ('shadow', 'trimmed') THEN DELETE"
        f" WHEN NOT MATCHED AND NOT new.is_gone THEN INSERT ({names}) VALUES ({names})"
    )


def _too_old(batch_id: str) -> str:
    return (
        f"BigQuery forgets jobs after half a year, so it is unknown whether batch '{batch_id}' is there; set"
        " merge = true, which adds only events that are missing"
    )
