"""SQL in, its answer out, batch by batch."""

from __future__ import annotations

import re
from collections.abc import Iterator
from dataclasses import dataclass
from functools import partial
from typing import Any

import pyarrow as pa

from cfaudit_export.analysis.files.columns import require_text
from cfaudit_export.analysis.files.database import EVENTS, EventDatabase
from cfaudit_export.analysis.files.engine import import_duckdb
from cfaudit_export.errors import CfauditError, UsageError

_BATCH_ROWS = 10_000
_KIND = re.compile(r"^[A-Z][A-Za-z ]* Error: ")
_LINE = re.compile(r"\n\s*LINE (\d+):.*", re.DOTALL)


@dataclass(frozen=True, slots=True)
class Answer:
    """What a statement answers: its columns, no two of one name, and its rows as they are read."""

    columns: pa.Schema
    batches: Iterator[pa.RecordBatch]


def answers(data: EventDatabase, text: str) -> Iterator[Answer]:
    """Run the statements of a text one after the other, and yield the answer of each; take it before the next.

    Raises:
        UsageError: a statement is wrong; what was asked before it has been answered.
        CfauditError: the data cannot be read.
    """
    duckdb = import_duckdb()
    try:
        for statement in data.connection.extract_statements(text):
            run = _run if statement.type == duckdb.StatementType.SELECT else _run_guarded
            reader = data.stoppable(partial(run, data, statement))
            columns = _distinct(reader.schema)
            yield Answer(columns, _batches(data, reader, columns))
    except duckdb.Error as error:
        raise _wrong(data, error) from error


def select(data: EventDatabase, text: str, batch_rows: int = _BATCH_ROWS) -> Answer:
    """Return the answer of one SELECT; nothing else is run. Take it before the next.

    Raises:
        UsageError: it is none, or wrong.
        CfauditError: the data cannot be read.
    """
    duckdb = import_duckdb()
    try:
        found = data.connection.extract_statements(text)
        if len(found) != 1 or found[0].type != duckdb.StatementType.SELECT:
            raise UsageError("SQL: expected one SELECT")
        reader = data.stoppable(partial(_run, data, found[0], batch_rows))
        columns = _distinct(reader.schema)
        return Answer(columns, _batches(data, reader, columns))
    except (duckdb.Error, OSError, pa.ArrowException, MemoryError) as error:
        raise _wrong(data, error) from error


def is_complete(text: str) -> bool:
    """Say whether a text that is being typed ends its last statement, by a semicolon outside of quotes and comments."""
    bare = re.sub(r"'(?:[^']|'')*'|\"(?:[^\"]|\"\")*\"|--[^\n]*(?:\n|$)|/\*.*?\*/", " ", text, flags=re.DOTALL)
    return bare.rstrip().endswith(";") and not set(bare) & {"'", '"'}


def _run(data: EventDatabase, statement: Any, batch_rows: int = _BATCH_ROWS) -> pa.RecordBatchReader:
    return data.connection.sql(statement.query).to_arrow_reader(batch_rows)


def _run_guarded(data: EventDatabase, statement: Any) -> pa.RecordBatchReader:
    """Run a statement that may define something, and undo it if that is what the events are called."""
    if statement.type == import_duckdb().StatementType.TRANSACTION:
        raise UsageError("SQL: transactions are not supported")
    before = data.definitions()
    data.connection.begin()
    try:
        answer = data.connection.sql(statement.query).to_arrow_table()
        _require_same(before, data.definitions())
        data.connection.commit()
    except BaseException:
        data.connection.rollback()
        raise
    return pa.RecordBatchReader.from_batches(answer.schema, answer.to_batches(_BATCH_ROWS))


def _require_same(before: object, after: object) -> None:
    if before != after:
        raise UsageError(f"SQL: {EVENTS} cannot be redefined; use another name")


def _batches(data: EventDatabase, reader: pa.RecordBatchReader, columns: pa.Schema) -> Iterator[pa.RecordBatch]:
    with reader:  # one that is left open would keep the next statement from being answered
        try:
            while (batch := data.stoppable(partial(next, reader, None))) is not None:
                require_text(batch.columns)
                yield pa.RecordBatch.from_arrays(batch.columns, schema=columns)
        except (import_duckdb().Error, OSError, pa.ArrowInvalid) as error:
            raise _wrong(data, error) from error


def _distinct(columns: pa.Schema) -> pa.Schema:
    """Return the columns with a number behind every name that was there before."""
    names: list[str] = []
    for name in columns.names:
        count, free = 1, name
        while free in names:
            count += 1
            free = f"{name}_{count}"
        names.append(free)
    return pa.schema([field.with_name(name) for field, name in zip(columns, names, strict=True)])


def _wrong(data: EventDatabase, error: Exception) -> CfauditError:
    """Return what is wrong, in one line; what the files or the disk did is another thing than what was typed."""
    duckdb = import_duckdb()
    said = str(error)
    if isinstance(error, duckdb.PermissionException):
        return UsageError(f"SQL can read {EVENTS} here, and no file, network or setting: {_first(said)}")
    is_theirs = isinstance(error, duckdb.Error) and not isinstance(
        error, (duckdb.IOException, duckdb.OutOfMemoryException)
    )
    if not is_theirs or " registered as " in said:  # what it says of what it reads through Arrow
        return data.failed(error)
    line = _LINE.search(said)
    where = f" (line {line[1]})" if line else ""
    hint = f"; the events are in {EVENTS}" if "Table with name" in said else ""
    return UsageError(f"SQL: {_first(said)}{where}{hint}")


def _first(said: str) -> str:
    """Return the message of DuckDB as one line, without its marks, and without its guesses at names of tables."""
    lines = [one.strip().rstrip("!.") for one in _KIND.sub("", _LINE.sub("", said)).splitlines()]
    message = "; ".join(one for one in lines if one and not one.startswith("Did you mean"))
    return message[:1].lower() + message[1:]
