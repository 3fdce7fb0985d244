"""What the stand-in knows: datasets, tables with their rows in DuckDB, jobs, uploads. One lock for all of it."""

from __future__ import annotations

import hashlib
import json
import re
import threading
import time
from collections.abc import Mapping
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta
from typing import Any

import duckdb
import rows

_COLUMN_TYPES = {"STRING": "VARCHAR", "JSON": "VARCHAR", "TIMESTAMP": "TIMESTAMP", "INTEGER": "BIGINT"}
_CLUSTERABLE = {"STRING", "TIMESTAMP", "INTEGER"}
TABLE_KEYS = {
    "tableReference",
    "schema",
    "timePartitioning",
    "clustering",
    "labels",
    "description",
    "expirationTime",
    "friendlyName",
}
_LABEL = re.compile(r"[a-z0-9_-]{0,63}")


class ApiError(Exception):
    """An answer that is no success, as BigQuery words it."""

    def __init__(self, status: int, reason: str, message: str) -> None:
        super().__init__(message)
        self.status, self.reason, self.message = status, reason, message


@dataclass
class Upload:
    """A resumable upload on its way."""

    resource: dict[str, Any]
    content: bytearray = field(default_factory=bytearray)
    answer: dict[str, Any] | None = None


@dataclass
class State:
    """Everything, in memory."""

    datasets: dict[str, str] = field(default_factory=dict)
    expiry_days: dict[str, int] = field(default_factory=dict)
    tables: dict[str, dict[str, Any]] = field(default_factory=dict)
    jobs: dict[str, dict[str, Any]] = field(default_factory=dict)
    polls: dict[str, int] = field(default_factory=dict)
    uploads: dict[str, Upload] = field(default_factory=dict)
    denied: set[str] = field(default_factory=set)
    needed: set[str] = field(default_factory=set)
    account: str = "export@example.com"
    hides_absence: bool = False
    row_bytes: int = 100 << 20
    count_only: bool = False
    lock: threading.RLock = field(default_factory=threading.RLock)
    made_ms: int = 0
    # One thread: a test has few rows, and starting more is most of what a reset costs.
    store: duckdb.DuckDBPyConnection = field(default_factory=lambda: duckdb.connect(config={"threads": 1}))

    # -- rights and places ------------------------------------------------------------------------------

    def need(self, permission: str, what: str) -> None:
        self.needed.add(permission)
        if permission in self.denied:
            raise ApiError(403, "accessDenied", f"Access Denied: {what}: Permission {permission} denied on {what}")

    def location_of(self, name: str) -> str:
        dataset = name.rpartition(".")[0]
        if dataset not in self.datasets:
            raise ApiError(404, "notFound", f"Not found: Dataset {dataset.replace('.', ':')}")
        return self.datasets[dataset]

    # -- tables -----------------------------------------------------------------------------------------

    def table(self, name: str) -> dict[str, Any]:
        self.location_of(name)
        table = self.tables.get(name)
        if table is None or int(table.get("expirationTime", 1 << 62)) < time.time() * 1000:
            raise ApiError(404, "notFound", f"Not found: Table {_colon(name)}")
        return table

    def create_table(self, name: str, resource: dict[str, Any]) -> dict[str, Any]:
        location = self.location_of(name)
        self.need("bigquery.tables.create", f"Dataset {name.rpartition('.')[0]}")
        if name in self.tables:
            raise ApiError(409, "duplicate", f"Already Exists: Table {_colon(name)}")
        if unknown := set(resource) - TABLE_KEYS:
            raise ApiError(400, "invalid", f"Unknown fields {sorted(unknown)}")
        if (days := self.expiry_days.get(name.rpartition(".")[0])) and "timePartitioning" in resource:
            resource["timePartitioning"].setdefault("expirationMs", str(days * 86_400_000))
        fields = resource["schema"]["fields"]
        _verify_layout(resource, {one["name"]: one for one in fields})
        verify_labels(resource.get("labels", {}))
        columns = ", ".join(f'"{one["name"]}" {_COLUMN_TYPES[one["type"]]}' for one in fields)
        self.store.execute(f'CREATE TABLE "{name}" ({columns})')
        self.made_ms = max(self.made_ms + 1, int(time.time() * 1000))
        table = {
            **resource,
            "kind": "bigquery#table",
            "type": "TABLE",
            "location": location,
            "creationTime": str(self.made_ms),
        }
        self.tables[name] = table
        return self.shown(table)

    def change_table(self, name: str, changes: dict[str, Any], if_match: str | None) -> dict[str, Any]:
        table = self.table(name)
        self.need("bigquery.tables.update", f"Table {_colon(name)}")
        if if_match not in (None, _etag(table)):
            raise ApiError(412, "conditionNotMet", "Precondition check failed.")
        if set(changes) != {"schema"}:
            raise ApiError(400, "invalid", f"the stand-in changes nothing but schemas, not {sorted(changes)}")
        before, after = table["schema"]["fields"], changes["schema"]["fields"]
        if [_bare(one) for one in after[: len(before)]] != [_bare(one) for one in before]:
            raise ApiError(400, "invalid", f"Provided Schema does not match Table {_colon(name)}.")
        for one in after[len(before) :]:
            if one.get("mode", "NULLABLE") == "REQUIRED":
                raise ApiError(
                    400, "invalid", f"Cannot add required fields to an existing schema. (field: {one['name']})"
                )
            self.store.execute(f'ALTER TABLE "{name}" ADD COLUMN "{one["name"]}" {_COLUMN_TYPES[one["type"]]}')
        table["schema"] = changes["schema"]
        return self.shown(table)

    def delete_table(self, name: str) -> None:
        self.table(name)
        self.need("bigquery.tables.delete", f"Table {_colon(name)}")
        self.store.execute(f'DROP TABLE "{name}"')
        del self.tables[name]

    def shown(self, table: dict[str, Any]) -> dict[str, Any]:
        return {**table, "etag": _etag(table)}

    def append(self, name: str, found: list[dict[str, Any]]) -> None:
        found = [row for row in found if not self._is_expired(name, row)]
        if found:
            arrow = rows.as_table(found, self.tables[name]["schema"]["fields"])
            self.store.register("arriving", arrow)
            self.store.execute(f'INSERT INTO "{name}" BY NAME SELECT * FROM arriving')  # noqa: S608 - a name of ours
            self.store.unregister("arriving")

    def _is_expired(self, name: str, row: dict[str, Any]) -> bool:
        """Tell whether a row is of a day that the table does not keep; BigQuery drops it without a word."""
        partitioning = self.tables[name].get("timePartitioning") or {}
        if not partitioning.get("expirationMs") or "field" not in partitioning:
            return False
        oldest = datetime.now(UTC).replace(tzinfo=None) - timedelta(milliseconds=int(partitioning["expirationMs"]))
        return bool(row[partitioning["field"]] < oldest - timedelta(days=1))


def verify_labels(labels: Mapping[str, str]) -> None:
    if len(labels) > 64:
        raise ApiError(400, "invalid", "too many labels")
    for key, value in labels.items():
        if not (_LABEL.fullmatch(key) and key and key[0].isalpha() and _LABEL.fullmatch(value)):
            raise ApiError(400, "invalid", f"Label '{key}' with value '{value}' is invalid")


def _verify_layout(resource: dict[str, Any], fields: dict[str, Any]) -> None:
    if partitioning := resource.get("timePartitioning"):
        column = fields.get(partitioning.get("field"), {})
        if partitioning["type"] != "DAY" or column.get("type") != "TIMESTAMP":
            raise ApiError(400, "invalid", "The field specified for partitioning cannot be found or has the wrong type")
    clustering = resource.get("clustering", {}).get("fields", [])
    if len(clustering) > 4 or any(fields.get(one, {}).get("type") not in _CLUSTERABLE for one in clustering):
        raise ApiError(400, "invalid", "The field specified for clustering cannot be found or has the wrong type")


def _bare(column: Mapping[str, Any]) -> tuple[str, str, str]:
    return (column["name"], column["type"], column.get("mode", "NULLABLE"))


def _etag(table: dict[str, Any]) -> str:
    return hashlib.sha256(json.dumps(table, sort_keys=True).encode()).hexdigest()[:16]


def _colon(name: str) -> str:
    project, _, rest = name.partition(".")
    return f"{project}:{rest}"
