"""The table that events go into: made when missing, grown by columns it lacks, refused when it is another one."""

from __future__ import annotations

import hashlib
import json
import logging
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta

from google.cloud.bigquery import SchemaField, Table, TimePartitioning

from cfaudit_bigquery import BigQueryConfig
from cfaudit_bigquery.columns import CLUSTER, PARTITION, missing, obstacles
from cfaudit_bigquery.service import AlreadyThereError, ChangedMeanwhileError, TableService
from cfaudit_export import SinkError, SinkRefusedError
from cfaudit_export.schema_formats import as_bigquery

_LOG = logging.getLogger(__name__)

# How often another client may change the table while we do.
_RACES = 5


@dataclass(frozen=True, slots=True)
class DestinationTable:
    """A table as jobs know it.

    Attributes:
        name: `project.dataset.table`.
        location: where its jobs run.
        made_at: when it was made.
        keeps: how long it keeps the events of a day, None for ever. What is older when it is loaded is dropped at once.
        may_drop: whether the settings ask for that.
    """

    name: str
    location: str | None
    made_at: datetime
    keeps: timedelta | None = None
    may_drop: bool = False

    def job_name(self, batch_id: str) -> str:
        """Return what the jobs that put a batch into this table are called, up to the number of the attempt.

        A table that was dropped and made anew is another one: it lacks what the old one had.
        """
        table = hashlib.sha256(f"{self.name} {self.made_at.timestamp():.3f}".encode()).hexdigest()[:12]
        return f"cfaudit_{batch_id}_{table}"


def needed_columns() -> list[SchemaField]:
    """Return the columns that events need."""
    return [SchemaField.from_api_repr(field) for field in json.loads(as_bigquery())]


def ready(service: TableService, config: BigQueryConfig) -> DestinationTable:
    """Return the table, fit to take events; make it or add to it where that is allowed.

    Raises:
        SinkRefusedError: it is missing or does not fit, and must not or cannot be made to.
        SinkError: others keep changing it.
    """
    for _ in range(_RACES):
        table = service.get_table(service.table)
        try:
            if table is None:
                demand_create(config, f"table '{service.table}' does not exist")
                table = service.create_table(_new_table(service.table, config))
            if lacking := missing_columns(table, config):
                demand_create(config, lack(service.table, lacking))
                table.schema = [*table.schema, *lacking]
                table = service.set_schema(table)
        except (AlreadyThereError, ChangedMeanwhileError):
            continue
        if words := warning_of(table, config):
            _LOG.warning("the table does not keep events", extra={"table": service.table, "error": words})
        return target_of(table, config)
    raise SinkError(f"table '{service.table}' is being changed by others; the batch comes again with the next run")


def missing_columns(table: Table, config: BigQueryConfig) -> list[SchemaField]:
    """Return the columns that a table lacks.

    Raises:
        SinkRefusedError: it cannot take events, whatever is added.
    """
    name = f"{table.project}.{table.dataset_id}.{table.table_id}"
    if table.table_type not in (None, "TABLE"):
        raise SinkRefusedError(f"'{name}' is a {table.table_type}, not a table; name a table for the events")
    if config.location and table.location and config.location.lower() != table.location.lower():
        raise SinkRefusedError(f"table '{name}' is in '{table.location}', not in '{config.location}'; correct location")
    needed = [column.to_api_repr() for column in needed_columns()]
    present = [column.to_api_repr() for column in table.schema]
    if found := obstacles(needed, present):
        raise SinkRefusedError(f"table '{name}' does not fit: {'; '.join(found)}; name another table")
    return [SchemaField.from_api_repr(field) for field in missing(needed, present)]


def target_of(table: Table, config: BigQueryConfig) -> DestinationTable:
    """Return a table as jobs know it."""
    expiration_ms = table.time_partitioning.expiration_ms if table.time_partitioning else None
    keeps = timedelta(milliseconds=int(expiration_ms)) if expiration_ms else None
    days = config.partition_expiry_days
    return DestinationTable(
        f"{table.project}.{table.dataset_id}.{table.table_id}",
        table.location,
        table.created or datetime.fromtimestamp(0, UTC),
        keeps,
        keeps is not None and days is not None and keeps >= timedelta(days=days),
    )


def warning_of(table: Table, config: BigQueryConfig) -> str:
    """Say what of a table makes events vanish without a setting that asks for it; empty for nothing.

    A dataset may have a default for both, and that of a sandbox always has.
    """
    target = target_of(table, config)
    words = []
    if target.keeps and not target.may_drop:
        words.append(
            f"table '{target.name}' drops the events of a day after {target.keeps.days} days, which is not in the"
            f" settings: set partition_expiry_days = {target.keeps.days} if that is wanted, or remove the expiry"
        )
    if table.expires:
        words.append(f"table '{target.name}' itself is dropped on {table.expires:%Y-%m-%d}: remove its expiration time")
    return "; ".join(words)


def lack(name: str, columns: list[SchemaField]) -> str:
    """Say that a table lacks columns."""
    return f"table '{name}' lacks the columns {', '.join(column.name for column in columns)}"


def demand_create(config: BigQueryConfig, fact: str) -> None:
    """Refuse to go on where the settings do not allow to change what is wrong with the table."""
    if not config.create:
        raise SinkRefusedError(f"{fact}; change the table, or set create = true")


def _new_table(name: str, config: BigQueryConfig) -> Table:
    table = Table(name, needed_columns())
    table.description = "Audit events of Cloudflare accounts, one row an event"
    table.labels = config.labels
    days = config.partition_expiry_days
    table.time_partitioning = TimePartitioning(
        field=PARTITION, expiration_ms=days and days * (timedelta(days=1) // timedelta(milliseconds=1))
    )
    table.clustering_fields = list(CLUSTER)
    return table
