"""An answer in, text or Parquet out: CSV, JSON, NDJSON for programs, a table for people.

Times are ISO 8601 with their offset. What is null is empty in CSV and null in JSON; numbers that JSON does not know
are null too.

CSV is opened in spreadsheets, and its texts are written by others. So `csv` puts an apostrophe before a text that a
spreadsheet would take for a formula, and shows control characters and marks that reorder text as escapes; `raw-csv`,
for programs, leaves texts as they are. https://owasp.org/www-community/attacks/CSV_Injection
"""

from __future__ import annotations

import base64
import csv
import json
import math
import re
from collections.abc import Callable, Iterator
from datetime import date, datetime, time, timedelta
from decimal import Decimal
from itertools import chain
from typing import IO, Any

import pyarrow as pa
import pyarrow.parquet as pq

from cfaudit_export.analysis.files.statement import Answer
from cfaudit_export.core.escape import escaped
from cfaudit_export.errors import UsageError

TEXT_FORMS: dict[str, Callable[[Answer, IO[str]], None]]
"""Forms that are text, by name."""

_BREAKS = re.compile("[\\n\\r\\v\\f\\x1c-\\x1e\\x85\\u2028\\u2029]")
_FORMULAS = ("=", "+", "-", "@", "\t", "\r", "\n", "＝", "＋", "－", "＠")  # noqa: RUF001  # spreadsheets read them so


def write_parquet(answer: Answer, stream: IO[bytes]) -> None:
    """Write the answer as a Parquet file."""
    with pq.ParquetWriter(stream, answer.columns, compression="zstd") as writer:
        for batch in answer.batches:
            writer.write_batch(batch)


def rows(answer: Answer) -> Iterator[list[Any]]:
    """Yield the rows as values that JSON knows."""
    for batch in answer.batches:
        columns = [[_plain(value) for value in _values(batch, name)] for name in answer.columns.names]
        yield from (list(row) for row in zip(*columns, strict=True))


def shown(value: Any) -> str:
    """Return a value as a cell of text."""
    if value is None:
        return ""
    return value if isinstance(value, str) else json.dumps(value, ensure_ascii=False)


def _write_csv(answer: Answer, stream: IO[str]) -> None:
    # On a terminal a line is a row.
    cell = (lambda value: escaped(_harmless(value))) if stream.isatty() else _harmless
    _write_cells(answer, stream, cell)


def _write_raw_csv(answer: Answer, stream: IO[str]) -> None:
    _write_cells(answer, stream, shown)


def _write_cells(answer: Answer, stream: IO[str], cell: Callable[[Any], str]) -> None:
    writer = csv.writer(stream, lineterminator="\n")
    for row in chain([answer.columns.names], rows(answer)):
        cells = [cell(value) for value in row]
        if _BREAKS.search("".join(cells)):
            stream.write(",".join(map(_quoted, cells)) + "\n")
        else:
            writer.writerow(cells)


def _quoted(cell: str) -> str:
    """Return a cell with quotes where it needs them: `csv` knows of LF alone, readers of more ends of lines."""
    needs_quotes = _BREAKS.search(cell) or {'"', ","} & {*cell}
    return '"' + cell.replace('"', '""') + '"' if needs_quotes else cell


def _harmless(value: Any) -> str:
    """Return a cell that a spreadsheet takes for text, and that a terminal does not obey."""
    if not isinstance(value, str):
        return shown(value)
    text = f"'{value}" if value.startswith(_FORMULAS) else value
    return text if text.isprintable() else "\n".join(map(escaped, text.split("\n")))


def _write_json(answer: Answer, stream: IO[str]) -> None:
    between = "["
    for line in _objects(answer):
        stream.write(f"{between}\n  {line}")
        between = ","
    stream.write("[]\n" if between == "[" else "\n]\n")


def _write_ndjson(answer: Answer, stream: IO[str]) -> None:
    for line in _objects(answer):
        stream.write(f"{line}\n")


def _objects(answer: Answer) -> Iterator[str]:
    names = answer.columns.names
    for row in rows(answer):
        yield json.dumps(dict(zip(names, row, strict=True)), allow_nan=False)


def _values(batch: pa.RecordBatch, name: str) -> list[Any]:
    column = batch[name]
    try:
        if pa.types.is_interval(column.type):
            return [None if value is None else str(value) for value in column.to_pylist()]
        return list(column.to_pylist())
    except (OverflowError, ValueError) as error:  # a time behind the year 9999, nanoseconds
        said = str(error).partition(".")[0].partition("\n")[0]
        raise UsageError(
            f"SQL: a value of column '{escaped(name)}' cannot be shown ({said}); cast it to VARCHAR"
        ) from error


def _plain(value: Any) -> Any:
    """Return a value as JSON knows it."""
    for kinds, form in _FORMS:
        if isinstance(value, kinds):
            return form(value)
    return str(value)


def _moment(at: datetime) -> str:
    text = at.isoformat(timespec="microseconds" if at.microsecond % 1000 else "milliseconds")
    return text.removesuffix("+00:00") + "Z" if text.endswith("+00:00") else text


_FORMS: tuple[tuple[Any, Callable[[Any], Any]], ...] = (
    (bool | int | str | None, lambda one: one),
    (float, lambda one: one if math.isfinite(one) else None),
    (datetime, _moment),
    (date | time, lambda one: one.isoformat()),
    (timedelta, lambda one: one.total_seconds()),
    (Decimal, lambda one: int(one) if one == one.to_integral_value() else float(one)),
    (bytes, lambda one: base64.b64encode(one).decode()),
    (dict, lambda one: {str(key): _plain(value) for key, value in one.items()}),
    (list | tuple, lambda one: [_plain(value) for value in one]),
)

TEXT_FORMS = {"csv": _write_csv, "raw-csv": _write_raw_csv, "json": _write_json, "ndjson": _write_ndjson}
