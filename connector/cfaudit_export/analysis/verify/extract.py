"""Rows that were taken out of a warehouse, as Parquet or as lines of JSON -> tables with the columns of the schema.

Warehouses hold JSON as values, and give them back in another text than they got. Such columns are left out: no digest
can be made of them.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping
from datetime import UTC, datetime
from itertools import islice
from pathlib import Path
from typing import Any

import msgspec
import pyarrow as pa
import pyarrow.parquet as pq

from cfaudit_export.core.escape import escaped
from cfaudit_export.errors import SettingsError
from cfaudit_export.schema import schema

_AT_ONCE = 16_384
_PARQUET = b"PAR1"
_ID = "event_id"
# What sinks call a column whose name is taken there.
_RENAMED = {"cfaudit_source": "source"}


def read_extract(paths: Iterable[Path]) -> Iterator[tuple[str, pa.Table]]:
    """Yield the rows of files, each table with the name of its file.

    A file is Parquet, or has a JSON object on each line, which may be wrapped as `{"result": {...}}`. Columns that the
    schema does not know are left out.

    Raises:
        SettingsError: a file cannot be read, or its rows are no events.
    """
    for path in paths:
        try:
            with path.open("rb") as file:
                is_parquet = file.read(len(_PARQUET)) == _PARQUET
            for table in _parquet(path) if is_parquet else _lines(path):
                yield str(path), table
        except (ValueError, pa.ArrowException) as error:  # what Arrow says of content are both
            said = escaped(str(error).partition("\n")[0], 200)
            raise SettingsError(f"'{path}' holds no rows of events: {said}") from error
        except OSError as error:
            raise SettingsError(f"'{path}' cannot be read: {(error.strerror or str(error)).lower()}") from error


def _parquet(path: Path) -> Iterator[pa.Table]:
    with pq.ParquetFile(path) as file:
        for batch in file.iter_batches(_AT_ONCE):
            columns = {_RENAMED.get(name, name): column for name, column in zip(batch.schema.names, batch, strict=True)}
            yield _table(
                {
                    one.name: pa.chunked_array([columns[one.name].cast(one.type)])
                    for one in schema()
                    if one.name in columns and _fits(columns[one.name].type, one.type)
                }
            )


def _fits(found: pa.DataType, wanted: pa.DataType) -> bool:
    """Say whether values of a type are those of the column, and not JSON that was text once."""
    return not pa.types.is_string(wanted) or any(
        check(found) for check in (pa.types.is_string, pa.types.is_large_string, pa.types.is_dictionary)
    )


def _lines(path: Path) -> Iterator[pa.Table]:
    with path.open("rb") as file:
        while some := [_row(line) for line in islice(file, _AT_ONCE)]:
            rows = [row for row in some if row is not None]
            names = dict.fromkeys(name for row in rows for name in row)
            fields = [one for one in schema() if one.name in names]
            columns = {one.name: pa.array([_value(row.get(one.name), one) for row in rows], one.type) for one in fields}
            if rows:
                yield _table({name: pa.chunked_array([column]) for name, column in columns.items()})


def _row(line: bytes) -> Mapping[str, Any] | None:
    if not line.strip():
        return None
    row: Mapping[str, Any] = msgspec.json.decode(line, type=dict[str, Any])
    row = row["result"] if isinstance(row.get("result"), dict) else row
    return {_RENAMED.get(name, name): value for name, value in row.items()}


def _value(value: Any, field: pa.Field) -> Any:
    """Return a value as the column has it; JSON that is no text any more has none."""
    if value is None:
        return None
    if pa.types.is_timestamp(field.type):
        at = datetime.fromisoformat(str(value).replace(" UTC", "+00:00"))
        return at if at.tzinfo else at.replace(tzinfo=UTC)
    if pa.types.is_integer(field.type):
        return int(value)
    return value if isinstance(value, str) else None


def _table(columns: Mapping[str, pa.ChunkedArray]) -> pa.Table:
    if _ID not in columns:
        raise ValueError(f"they have no column {_ID}")
    return pa.table(columns)
