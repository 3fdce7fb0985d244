"""Which columns answers have, and which columns of a file can be read as those.

Answers have the columns of the schema, whatever files hold: who can add a file chooses its columns, and must not choose
those of answers. A file whose known columns are not those of events is no export; its other columns are not read.
"""

from __future__ import annotations

from collections import Counter, defaultdict
from collections.abc import Iterable
from functools import cache

import pyarrow as pa

from cfaudit_export.proof.rows import PLACED
from cfaudit_export.schema import schema

DAY = "event_date"
"""The column that the name of a folder gives."""

_NEEDED = ("event_id", "event_time", "account_id")
_MOST = 1_000


@cache
def unlike(columns: pa.Schema) -> str:
    """Return why these are not the columns of events, empty if they are."""
    if len(columns) > _MOST:
        return f"no export: it has {len(columns):,} columns"
    for name in _NEEDED:
        if name not in columns.names:
            return f"no export: it has no column {name}"
    for wanted in schema():
        found = columns.get_all_field_indices(wanted.name)
        if len(found) > 1:
            return f"no export: it has column {wanted.name} {len(found)} times"
        if found and not _fits(columns.field(found[0]).type, wanted.type):
            return f"no export: column {wanted.name} is {columns.field(found[0]).type}, not {wanted.type}"
    return ""


def converted(columns: pa.Schema) -> pa.Schema:
    """Return the known columns that have another type in a file, with the type that they are read as.

    Not every value of such a type is one of the other.
    """
    return pa.schema(
        [one for one in schema() if one.name in columns.names and columns.field(one.name).type != one.type]
    )


@cache
def event_columns() -> pa.Schema:
    """Return the columns of answers: those of the schema, then the day."""
    return pa.schema([*(pa.field(one.name, one.type) for one in schema()), pa.field(DAY, pa.string())])


def unknown_columns(columns: pa.Schema) -> list[str]:
    """Return the names of the columns of a file that answers do not have."""
    known = [*event_columns().names, *PLACED]  # of erased rows, some have digests
    return [name for name in columns.names if name not in known]


def stored_columns(files: Iterable[pa.Schema]) -> pa.Schema:
    """Return the columns of the schema, then those that only newer or other writers know, for files that are merged.

    A column that files have by several types has the type that most files have. One whose type this program does not
    read, or whose name differs from another in upper and lower case alone, is left out.
    """
    known = schema()
    taken = {name.casefold() for name in (*known.names, DAY)}
    types: dict[str, Counter[pa.DataType]] = defaultdict(Counter)
    for columns in files:
        for one in columns:
            if one.name not in known.names and one.name != DAY:
                types[one.name][one.type] += 1
    further: list[pa.Field] = []
    for name, found in sorted(types.items(), key=lambda item: (-item[1].total(), item[0])):
        type_, _ = min(found.items(), key=lambda item: (-item[1], str(item[0])))
        if name.casefold() not in taken and _is_readable(type_) and len(further) < _MOST:
            taken.add(name.casefold())
            further.append(pa.field(name, type_))
    return pa.schema([*known, *sorted(further, key=lambda one: one.name)], metadata=known.metadata)


def misfits(have: pa.Schema, wanted: pa.Schema) -> tuple[str, ...]:
    """Return the names of the wanted columns that a file has, but not by the wanted type, or several times.

    Known columns are not among them: `unlike` and `converted` are about those.
    """
    further = (one for one in wanted if one.name not in schema().names)
    return tuple(one.name for one in further if _is_misfit(have, one))


def require_text(columns: Iterable[pa.Array | pa.ChunkedArray]) -> None:
    """Look whether texts are UTF-8, which neither Arrow nor DuckDB does when a file is read.

    Raises:
        pa.ArrowInvalid: one is not.
    """
    for one in columns:
        if pa.types.is_string(one.type) or pa.types.is_large_string(one.type):
            one.validate(full=True)


def _is_misfit(have: pa.Schema, wanted: pa.Field) -> bool:
    found = have.get_all_field_indices(wanted.name)
    return len(found) > 1 or any(have.field(at).type != wanted.type for at in found)


def _fits(found: pa.DataType, wanted: pa.DataType) -> bool:
    if pa.types.is_timestamp(wanted):
        return pa.types.is_timestamp(found) and found.tz is not None
    if pa.types.is_integer(wanted):
        return bool(pa.types.is_integer(found) or pa.types.is_null(found))
    texts = (pa.types.is_string, pa.types.is_large_string, pa.types.is_dictionary, pa.types.is_null)
    return any(is_text(found) for is_text in texts)


_PLAIN = (
    pa.types.is_boolean,
    pa.types.is_integer,
    pa.types.is_float32,
    pa.types.is_float64,
    pa.types.is_decimal128,
    pa.types.is_string,
    pa.types.is_large_string,
    pa.types.is_binary,
    pa.types.is_large_binary,
    pa.types.is_null,
)


def _is_readable(found: pa.DataType) -> bool:
    """Say whether DuckDB can read a type, and every value of it has a form in an answer."""
    if pa.types.is_timestamp(found):
        return bool(found.unit != "ns")
    return bool(pa.types.is_date32(found)) or _is_plain(found)


def _is_plain(found: pa.DataType) -> bool:
    if pa.types.is_list(found) or pa.types.is_large_list(found):
        return _is_plain(found.value_type)
    if pa.types.is_struct(found):
        names = [one.name.casefold() for one in found]
        return len(names) == len(set(names)) > 0 and all(_is_plain(one.type) for one in found)
    return any(is_one(found) for is_one in _PLAIN)
