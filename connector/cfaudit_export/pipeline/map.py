"""What a source read -> rows of the schema, with identity. Columns in, columns out."""

from __future__ import annotations

import pyarrow as pa
import pyarrow.compute as pc

from cfaudit_export.errors import ProtocolError
from cfaudit_export.identity import event_keys
from cfaudit_export.interfaces import Extract
from cfaudit_export.model import Connection, Stream
from cfaudit_export.schema import COLUMNS, schema


def map_extract(extract: Extract, stream: Stream, connection: Connection) -> pa.Table:
    """Return the events as a table of the schema, ascending by time.

    `fidelity` is `trimmed` unless the source says otherwise, and `source` the stream's.

    Raises:
        ProtocolError: a required column is missing or holds nulls, or a column has a type that is not the schema's.
    """
    events = extract.events
    given = {name: events[name] for name in events.column_names}
    keys = event_keys(connection.account_id, events)
    made = {
        "event_key": keys,
        "event_id": pc.coalesce(given["event_id"], keys) if "event_id" in given else keys,
        "account_id": _constant(connection.account_id, events.num_rows),
        "account_name": _filled(given.get("account_name"), connection.account_name, events.num_rows),
        "fidelity": _filled(given.get("fidelity"), "trimmed", events.num_rows),
        "source": _filled(given.get("source"), stream.source, events.num_rows),
        "ingested_at": _constant(extract.read_at, events.num_rows, pa.timestamp("us", tz="UTC")),
    }
    table = _fit({**given, **made}, events.num_rows)
    for column in COLUMNS:
        if column.required and table[column.name].null_count:
            raise ProtocolError(f"the source gave {table[column.name].null_count} events without '{column.name}'")
    return table


def _fit(columns: dict[str, pa.ChunkedArray | pa.Array], rows: int) -> pa.Table:
    fields = []
    for field in schema():
        column = columns.get(field.name)
        if column is None:
            fields.append(pa.nulls(rows, field.type))
            continue
        # Finer than a microsecond is cut; identity has used the full time already.
        options = pc.CastOptions(target_type=field.type, allow_time_truncate=True)
        try:
            fields.append(column if column.type == field.type else pc.cast(column, options=options))
        except (pa.ArrowInvalid, pa.ArrowNotImplementedError) as error:
            raise ProtocolError(f"the source gave '{field.name}' as {column.type}, not {field.type}") from error
    return pa.Table.from_arrays(fields, schema=schema())


def _filled(column: pa.ChunkedArray | None, value: str | None, rows: int) -> pa.ChunkedArray | pa.Array:
    """Return the column with the value wherever it says nothing."""
    filling = _constant(value, rows)
    return filling if column is None else pc.coalesce(column, filling)


def _constant(value: object, rows: int, type_: pa.DataType | None = None) -> pa.Array:
    return pa.repeat(pa.scalar(value, type_ or pa.string()), rows)
