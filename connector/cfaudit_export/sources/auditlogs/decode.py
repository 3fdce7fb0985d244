"""The text of a page -> columns. Bytes stay in native code; no Python loop touches a row unless a row is odd."""

from __future__ import annotations

import json
import re
from collections.abc import Iterable
from dataclasses import dataclass
from itertools import accumulate, pairwise
from typing import Any

import msgspec
import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.json as pj

from cfaudit_export.errors import ProtocolError

# Column of the schema <- key of the tool's row.
FIELDS = {
    "action_description": "description",
    "event_time": "time",
    "actor_email": "actor_email",
    "actor_token_name": "actor_token_name",
    "resource_product": "product",
    "resource_type": "type",
}
_TEXT = pa.schema([(key, pa.string()) for key in FIELDS.values()])
_UNKNOWN_FORM = "the server's page is not of the known form; please report this"
TIME = pa.timestamp("ns", tz="UTC")
PAGE_SCHEMA = pa.schema(
    [(column, TIME if column == "event_time" else pa.string()) for column in FIELDS] + [("event_raw", pa.string())]
)


class _ResultInfo(msgspec.Struct):
    cursor: str | None = None
    cursors: dict[str, Any] | None = None  # one SDK of Cloudflare's reads `cursors.after` instead


class _Reply(msgspec.Struct):
    logs: list[msgspec.Raw]
    result_info: _ResultInfo


_DECODER = msgspec.json.Decoder(_Reply)
# Every escape of a JSON text; group 1 is half of a pair without its other half.
_ESCAPES = re.compile(
    rb"\\(?:u[dD][89abAB][0-9a-fA-F]{2}\\u[dD][c-fC-F][0-9a-fA-F]{2}|(u[dD][89a-fA-F][0-9a-fA-F]{2})|.)"
)


@dataclass(frozen=True, slots=True)
class Page:
    """One reply of the tool.

    Attributes:
        rows: the rows in the order of the reply, columns as `PAGE_SCHEMA`.
        cursor: where the next page starts; None at the end of the walk.
        further: names of fields that the rows have beyond those of `FIELDS`.
    """

    rows: pa.Table
    cursor: str | None
    further: frozenset[str] = frozenset()


def decode_page(text: str) -> Page:
    """Decode the text of a successful call.

    Raises:
        ProtocolError: the text is not a page, or a row lacks its time.
    """
    try:
        reply = _DECODER.decode(text)
        clean = received = [bytes(raw) for raw in reply.logs]
        info = reply.result_info
    except msgspec.DecodeError:
        clean, received, info = _decode_odd(text)
    cursor = info.cursor or (info.cursors or {}).get("after") or None
    if not clean:
        return Page(PAGE_SCHEMA.empty_table(), cursor)
    columns = _columns(clean)
    return Page(_with_time(columns, received), cursor, frozenset(columns.column_names) - set(_TEXT.names))


def _decode_odd(text: str) -> tuple[list[bytes], list[bytes], _ResultInfo]:
    """Decode a page that holds lone surrogates, which are legal JSON as escapes but not legal text.

    They are replaced, by an escape of the same length, in what the columns are made of; the rows as received keep
    theirs. Returns both, and what follows the rows.
    """
    body = text.encode("utf-8", "backslashreplace")
    replaced = _ESCAPES.sub(_without_surrogate, body)
    try:
        reply = _DECODER.decode(replaced)
        # Not views: thousands of those a page would have the garbage collector at work all the time.
        clean = [bytes(raw) for raw in reply.logs]
    except msgspec.DecodeError:
        raws, info = _split_tolerantly(text)
        return raws, raws, info
    ends = list(accumulate((len(raw) + 1 for raw in clean), initial=replaced.index(b"[") + 1))
    received = [body[start : end - 1] for start, end in pairwise(ends)]
    if b",".join(clean) != replaced[ends[0] : ends[-1] - 1]:
        raws, info = _split_tolerantly(text)  # rows are not where a compact text has them
        return raws, raws, info
    return clean, received, reply.result_info


def _without_surrogate(escape: re.Match[bytes]) -> bytes:
    return rb"\ufffd" if escape[1] else escape[0]


def _columns(raws: list[bytes]) -> pa.Table:
    lines = b"\n".join(raws)
    try:
        return pj.read_json(
            pa.BufferReader(lines),
            read_options=pj.ReadOptions(use_threads=False, block_size=len(lines) + 1),
            parse_options=pj.ParseOptions(explicit_schema=_TEXT, unexpected_field_behavior="infer"),
        )
    except pa.ArrowInvalid:
        rows = [json.loads(raw) for raw in raws]
        if not all(isinstance(row, dict) for row in rows):
            raise ProtocolError(_UNKNOWN_FORM) from None
        names = dict.fromkeys([*_TEXT.names, *(key for row in rows for key in row)])
        return pa.table({key: pa.array([_as_text(row.get(key)) for row in rows], pa.string()) for key in names})


def _with_time(text: pa.Table, raws: list[bytes]) -> pa.Table:
    try:
        times = pc.cast(text["time"], TIME)
    except pa.ArrowInvalid as error:
        raise ProtocolError("the server sent a time that is not ISO 8601 in UTC; please report this") from error
    if times.null_count:
        raise ProtocolError(f"the server sent {times.null_count} rows without a time; please report this")
    columns = [times if column == "event_time" else _blank_to_null(text[key]) for column, key in FIELDS.items()]
    return pa.Table.from_arrays([*columns, _raw_column(raws)], schema=PAGE_SCHEMA)


def _raw_column(raws: list[bytes]) -> pa.Array:
    """Return the rows as received; one buffer, no copy per row."""
    body = b"".join(raws)
    ends = pc.cumulative_sum(pa.array([0, *map(len, raws)], pa.int32()))
    return pa.StringArray.from_buffers(len(raws), ends.buffers()[1], pa.py_buffer(body))


def _blank_to_null(column: pa.ChunkedArray) -> pa.ChunkedArray:
    """An absent description arrives as an empty text; both mean that there is none."""
    return pc.if_else(pc.equal(column, ""), pa.scalar(None, pa.string()), column)


def _as_text(value: Any) -> str | None:
    if value is None:
        return None
    text = value if isinstance(value, str) else json.dumps(value, separators=(",", ":"))
    # Arrow text is UTF-8, which has no lone surrogates; the event as received keeps its escape.
    return text.encode("utf-16", "surrogatepass").decode("utf-16", "replace")


def _split_tolerantly(text: str) -> tuple[list[bytes], _ResultInfo]:
    try:
        reply = json.loads(text)
        logs, info = reply["logs"], msgspec.convert(reply["result_info"], _ResultInfo)
        msgspec.convert(logs, list[dict[str, Any]])
    except (ValueError, KeyError, TypeError) as error:  # msgspec raises a ValueError
        raise ProtocolError(_UNKNOWN_FORM) from error
    return list(_row_texts(text, len(logs))), info


def _row_texts(text: str, rows: int) -> Iterable[bytes]:
    """Yield the exact text of each row, by letting the scanner say where each ends."""
    scanner = json.JSONDecoder()
    position = text.index("[", text.index('"logs"')) + 1
    for _ in range(rows):
        position = _skip(text, position, " \t\r\n,")
        _, end = scanner.raw_decode(text, position)
        yield text[position:end].encode("utf-8", "backslashreplace")
        position = end


def _skip(text: str, position: int, characters: str) -> int:
    while text[position] in characters:
        position += 1
    return position
