"""What a source read -> rows of the schema, with identity. Columns in, columns out."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterator
from dataclasses import dataclass
from datetime import datetime
from itertools import count

import pyarrow as pa
import pyarrow.compute as pc

from cfaudit_export.core.identity import event_keys, shadow_key
from cfaudit_export.core.identity_key import IdentityKey
from cfaudit_export.core.model import Connection, Stream
from cfaudit_export.errors import ProtocolError
from cfaudit_export.plugin.interfaces import Extract
from cfaudit_export.schema import COLUMNS, SHADOW, schema


def map_extract(extract: Extract, stream: Stream, connection: Connection, key: IdentityKey | None = None) -> pa.Table:
    """Return the events and shadows as a table of the schema, ascending by time.

    `fidelity` of an event is `trimmed` unless the source says otherwise, and `source` the stream's. With an
    identity key, keys of events are made by it, and nonces for the digests of their bodies.

    Raises:
        ProtocolError: a required column is missing or holds nulls, or a column has a type that is not the schema's.
    """
    origin = _Origin(stream.source, connection, extract.read_at)
    table = _table(extract.events, event_keys(connection.account_id, extract.events, key), "trimmed", origin)
    if extract.shadows is not None and extract.shadows.num_rows:
        keys = _shadow_keys(connection.account_id, _times(extract.shadows))
        table = pa.concat_tables([table, _table(extract.shadows, keys, SHADOW, origin)]).sort_by("event_time")
    if key is not None:
        at = table.column_names.index("body_nonce")
        nonces = pa.array([key.nonce(one).hex() for one in table["event_id"].to_pylist()], pa.string())
        table = table.set_column(at, table.schema.field(at), nonces)
    for column in COLUMNS:
        if column.required and table[column.name].null_count:
            raise ProtocolError(f"the source gave {table[column.name].null_count} events without '{column.name}'")
    return table


@dataclass(frozen=True, slots=True)
class _Origin:
    source: str
    connection: Connection
    read_at: datetime


def _table(rows: pa.Table, keys: pa.Array, fidelity: str, origin: _Origin) -> pa.Table:
    given = {name: rows[name] for name in rows.column_names}
    made = {
        "event_key": keys,
        "event_id": pc.coalesce(given["event_id"], keys) if "event_id" in given else keys,
        "account_id": _constant(origin.connection.account_id, rows.num_rows),
        "account_name": _filled(given.get("account_name"), origin.connection.account_name, rows.num_rows),
        "fidelity": _filled(given.get("fidelity"), fidelity, rows.num_rows),
        "source": _filled(given.get("source"), origin.source, rows.num_rows),
        "batch_id": pa.nulls(rows.num_rows, pa.string()),  # known when the rows are staged
        "ingested_at": _constant(origin.read_at, rows.num_rows, pa.timestamp("us", tz="UTC")),
    }
    return _fit({**given, **made}, rows.num_rows)


def _times(rows: pa.Table) -> list[datetime]:
    """Return when rows were; finer than a microsecond is cut."""
    return rows["event_time"].cast(pa.timestamp("us", tz="UTC"), safe=False).to_pylist()  # type: ignore[no-any-return]  # pyarrow has no types


def _shadow_keys(account_id: str, times: list[datetime]) -> pa.Array:
    """Return the keys of shadows; those of one millisecond are numbered."""
    numbers: defaultdict[datetime, Iterator[int]] = defaultdict(count)
    return pa.array([shadow_key(account_id, at, next(numbers[at])) for at in times], pa.string())


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
