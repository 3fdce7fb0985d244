"""The BigQuery sink: batches in, rows of one partitioned table out, by load jobs.

The table is made from the schema and grows with it; loading a batch again adds nothing. `sink` has the promise and
how it is kept, `body` what is sent, `service` what is asked of BigQuery.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING
from urllib.parse import urlsplit

from cfaudit_export import SinkPlugin, hookimpl

if TYPE_CHECKING:
    from cfaudit_bigquery.sink import BigQuerySink

__all__ = ["BigQueryConfig", "cfaudit_sinks"]

# A project may begin with the domain of its organization: `example.com:logs`.
_PROJECT = r"(?:[a-z0-9.-]+:)?[a-z0-9-]+"
_TABLE = re.compile(rf"(?:{_PROJECT}\.)?[A-Za-z0-9_]+\.[\w -]+")
# A job has 64 labels at most, of which the sink needs 34: the batch, its rows, and as many events that were refused.
_MOST_LABELS = 30
_LABEL = re.compile(r"[\w-]{0,63}")
_OWN_LABELS = "cfaudit-"


@dataclass(frozen=True, slots=True, kw_only=True)
class BigQueryConfig:
    """What `[sinks.bigquery]` holds. Credentials are Google's application default ones, unless a file is named.

    Attributes:
        table: `dataset.table`, or `project.dataset.table`; the dataset must exist.
        project: where the jobs run and are paid for; by default what the credentials say, else the table's project.
        location: where the dataset is, such as `EU`; only to be sure, BigQuery knows it.
        labels: put on the table when it is made, and on every job; 30 at most, and none that begins with `cfaudit-`.
        create: make the table when it is missing, and add columns that it lacks.
        partition_expiry_days: let BigQuery drop the events of a day after so many days; set when the table is made.
        merge: store only events whose `event_id` the table does not have, and remove rows that others replace; for
            those who export a time again.
        endpoint_url: another place than Google's public one; one with `http://` is asked without credentials.
        credentials_file: the key of a service account.
        job_timeout_seconds: how long a job may take.
        retry_seconds: for how long a load is tried again when what stopped it may pass.
    """

    table: str
    project: str | None = None
    location: str | None = None
    labels: dict[str, str] = field(default_factory=dict)
    create: bool = True
    partition_expiry_days: int | None = None
    merge: bool = False
    endpoint_url: str | None = None
    credentials_file: Path | None = None
    job_timeout_seconds: float = 1800.0
    retry_seconds: float = 300.0

    def __post_init__(self) -> None:
        if not _TABLE.fullmatch(self.table):
            raise ValueError(f"table must be like 'dataset.table' or 'project.dataset.table', not '{self.table}'")
        _verify_labels(self.labels)
        if self.partition_expiry_days is not None and self.partition_expiry_days < 1:
            raise ValueError(f"partition_expiry_days must be at least 1, not {self.partition_expiry_days}")
        if self.job_timeout_seconds <= 0:
            raise ValueError(f"job_timeout_seconds must be positive, not {self.job_timeout_seconds:g}")
        if self.retry_seconds < 0:
            raise ValueError(f"retry_seconds must not be negative, as {self.retry_seconds:g} is")
        if self.endpoint_url is not None:
            _verify_endpoint(self.endpoint_url, self.credentials_file)


@hookimpl
def cfaudit_sinks() -> Iterable[SinkPlugin]:
    """Offer the sink `bigquery`."""
    summary = "rows of a BigQuery table, by load jobs"
    yield SinkPlugin("bigquery", BigQueryConfig, _build, summary, "bigquery", destination=_destination)


def _destination(config: BigQueryConfig) -> str:
    """Return the table, with the project where the settings name one, and the service where it is not Google's."""
    is_full = config.table.count(".") > 1 or config.project is None
    where = f" at {config.endpoint_url.rstrip('/')}" if config.endpoint_url else ""
    return (config.table if is_full else f"{config.project}.{config.table}") + where


def _build(config: BigQueryConfig) -> BigQuerySink:
    from cfaudit_bigquery.sink import BigQuerySink  # Google's client is too heavy for a listing of plugins

    return BigQuerySink(config)


def _verify_labels(labels: Mapping[str, str]) -> None:
    if len(labels) > _MOST_LABELS:
        raise ValueError(f"labels must be at most {_MOST_LABELS}, not {len(labels)}")
    for key, value in labels.items():
        if not key[:1].isalpha() or not all(_LABEL.fullmatch(text) and text == text.lower() for text in (key, value)):
            raise ValueError(
                f"label '{key}' = '{value}' is none that BigQuery takes: lower case letters, digits, '_' and '-',"
                " 63 at most, and a letter first in the key"
            )
        if key.startswith(_OWN_LABELS):
            raise ValueError(f"label '{key}' must not begin with '{_OWN_LABELS}', which marks the sink's own")


def _verify_endpoint(url: str, credentials_file: Path | None) -> None:
    parts = urlsplit(url)
    if "@" in parts.netloc:  # not shown: what stands before it may be a password
        raise ValueError("endpoint_url must not hold credentials; use credentials_file")
    if parts.scheme not in {"http", "https"} or not parts.hostname:
        raise ValueError(f"endpoint_url must be like 'https://bigquery.example.com', not '{url}'")
    if parts.scheme == "http" and credentials_file:
        raise ValueError(f"credentials are not sent to '{url}', which is not encrypted; leave out credentials_file")
