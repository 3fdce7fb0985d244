"""Rows of events as the files of an export."""

from __future__ import annotations

from collections.abc import Iterable
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import pyarrow as pa

from cfaudit_export.parquet import write_parquet
from cfaudit_export.schema import schema

Row = dict[str, Any]
ACCOUNT = "0f3c1e5a7b9d2468ace013579bdf2468"
NOW = datetime(2026, 11, 20, 1, tzinfo=UTC)


def write_rows(root: Path, rows: Iterable[Row], name: str = "batch", **notes: str) -> Path:
    """Write rows, completed by what is required, as one file a day and account; return the folder."""
    days: dict[tuple[str, str], list[Row]] = {}
    for number, row in enumerate(rows):
        full = complete(row, f"{name}-{number:06}")
        days.setdefault((full["account_id"], f"{full['event_time']:%Y-%m-%d}"), []).append(full)
    for (account, day), members in days.items():
        folder = root / f"account_id={account}" / f"event_date={day}"
        folder.mkdir(parents=True, exist_ok=True)
        members.sort(key=lambda one: one["event_time"])
        table = pa.Table.from_pylist(members, schema=schema())
        said = {"cfaudit_schema_version": "1", "cfaudit_batch": name, "cfaudit_stream": "s" * 16, **notes}
        with (folder / f"{name}.parquet").open("wb") as file:
            write_parquet(file, schema(), [table], said)
    return root


def complete(row: Row, number: str) -> Row:
    """Return the row with what no event is without."""
    required = {
        "event_id": number,
        "event_key": number,
        "account_id": ACCOUNT,
        "fidelity": "full",
        "source": "auditlogs",
        "ingested_at": NOW,
    }
    return required | row
