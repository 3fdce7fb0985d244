"""The jobs of a batch: what they are called, which was the last, what they say about themselves."""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import dataclass, field

from google.cloud.bigquery import LoadJob

from cfaudit_bigquery.body import Gzipped, events_at, json_lines
from cfaudit_bigquery.faults import PassingError, row_faults
from cfaudit_bigquery.service import Job, TableService
from cfaudit_bigquery.table import DestinationTable
from cfaudit_export import Batch, LoadUnknownError, Receipt, Rejected, SinkError

# Labels of jobs. One of ours that succeeded has `_ROWS`, or it puts nothing into the table.
FENCE = {"cfaudit-fence": "yes"}
_BATCH, _ROWS, _REFUSED = "cfaudit-batch", "cfaudit-rows", "cfaudit-refused-"
_LABEL = re.compile(r"[a-z0-9_-]{1,63}")
_MOST_REFUSED = 32
_FORGOTTEN = "BigQuery refused the row; its reason was lost with the run that read it"


@dataclass(slots=True)
class Loading:
    """A batch on its way, as far as this process knows.

    Attributes:
        batch: what is loaded.
        target: into which table.
        refused: events that BigQuery will not take, with its reasons.
        started: True once this process may have started a job.
    """

    batch: Batch
    target: DestinationTable
    refused: dict[str, str] = field(default_factory=dict)
    started: bool = False

    @property
    def empty(self) -> bool:
        """Tell whether no event is left to send."""
        return len(self.refused) >= self.batch.rows

    def body(self) -> Gzipped:
        """Return what is sent: all events but the refused ones."""
        return Gzipped(lines for _, lines in json_lines(self.batch.path, self.refused))

    def labels(self) -> dict[str, str]:
        """Return the labels of the job that puts the batch into the table; who finds it later has nothing else."""
        refused = {f"{_REFUSED}{number:02}": event_id for number, event_id in enumerate(self.refused)}
        return {_BATCH: self.batch.batch_id, _ROWS: str(self.batch.rows - len(self.refused)), **refused}

    def learn(self, job: Job) -> int:
        """Note the events that a failed job names as the reason; return how many, 0 when it failed for another one.

        It is another one, too, when there are more of them than a job can have labels for.
        """
        faults = row_faults(job.errors or []) if isinstance(job, LoadJob) else {}
        named = events_at(self.batch.path, self.refused, faults)
        self.refused.update((event_id, faults[position]) for position, event_id in named.items())
        too_many = len(self.refused) > _MOST_REFUSED or not all(map(_LABEL.fullmatch, self.refused))
        return 0 if too_many else len(named)


def last_attempt(service: TableService, job_name: str, location: str | None) -> tuple[int, Job | None]:
    """Return the number of the last attempt at a batch and its job, done; -1 when there was none.

    Attempts are numbered without holes, so that the last is found by doubling and halving.
    """
    last, job, beyond = -1, None, 0
    while later := service.get_job(f"{job_name}_{beyond}", location):
        last, job, beyond = beyond, later, 2 * beyond + 1
    while beyond - last > 1:
        middle = (last + beyond) // 2
        if later := service.get_job(f"{job_name}_{middle}", location):
            last, job = middle, later
        else:
            beyond = middle
    if job:
        service.wait(job)
    return last, job


def stored(job: Job | None) -> bool:
    """Tell whether a job has put its batch into the table."""
    return job is not None and not job.error_result and _ROWS in job.labels


def is_fence(job: Job | None) -> bool:
    """Tell whether a job only keeps its name from being used."""
    return job is not None and FENCE.items() <= job.labels.items()


def receipt_of(job: Job, target: DestinationTable, words: Mapping[str, str], *, already: bool) -> Receipt:
    """Return the receipt of the batch that a job has stored.

    Raises:
        SinkError: the job did not store what it was given.
        PassingError: it does not say how much it stored.
    """
    rows = int(job.labels[_ROWS])
    if isinstance(job, LoadJob):
        if job.output_rows is None:
            raise PassingError(LoadUnknownError(f"job '{job.job_id}' does not say how many of {rows} events it stored"))
        if job.output_rows != rows and not target.may_drop:
            raise SinkError(f"job '{job.job_id}' stored {job.output_rows} of {rows} events; look at it in the console")
    refused = [event_id for name, event_id in sorted(job.labels.items()) if name.startswith(_REFUSED)]
    return Receipt(
        job.labels[_BATCH],
        rows,
        (target.name,),
        already=already,
        rejected=tuple(Rejected(event_id, words.get(event_id, _FORGOTTEN)) for event_id in refused),
    )
