"""The text of a page -> columns. Rows become texts in native code, and Arrow's columns at once."""

from __future__ import annotations

import json
from collections.abc import Sequence
from typing import Any

import msgspec
import pyarrow as pa
import pyarrow.compute as pc

from cfaudit_export.errors import ProtocolError
from cfaudit_export.sources.mcp.json_text import column_of, cover_surrogates, originals
from cfaudit_export.sources.paging.moments import nanoseconds, untimed
from cfaudit_export.sources.paging.page import TIME, Page, as_count
from cfaudit_export.sources.paging.query import Unreadable

# Column of the schema <- key of the tool's row.
FIELDS = {
    "action_description": "description",
    "event_time": "time",
    "actor_email": "actor_email",
    "actor_token_name": "actor_token_name",
    "resource_product": "product",
    "resource_type": "type",
}
_UNKNOWN_FORM = "the server's page is not of the known form; please report this"
_NO_TIME = "the server sent a row without a time that can be read"
_MOST_DIGITS = 4_000
PAGE_SCHEMA = pa.schema(
    [(column, TIME if column == "event_time" else pa.string()) for column in FIELDS] + [("event_raw", pa.string())]
)


class _ResultInfo(msgspec.Struct):
    count: Any = None
    cursor: str | None = None
    cursors: dict[str, Any] | None = None  # one SDK of Cloudflare's reads `cursors.after` instead


class _Texts(msgspec.Struct):
    logs: list[msgspec.Raw]
    result_info: _ResultInfo


class _Row(msgspec.Struct, gc=False, forbid_unknown_fields=True):
    description: str | None = None
    time: str | None = None
    actor_email: str | None = None
    actor_token_name: str | None = None
    product: str | None = None
    type: str | None = None


class _Rows(msgspec.Struct):
    logs: list[_Row]


_TEXTS = msgspec.json.Decoder(_Texts)
_ROWS = msgspec.json.Decoder(_Rows)


def decode_page(text: str) -> Page:
    """Decode the text of a successful call.

    Raises:
        ProtocolError: the text is not a page.
    """
    body = text.encode("utf-8", "backslashreplace")
    # The columns are made of texts without lone surrogates; the rows as received keep theirs.
    clean = cover_surrogates(body)
    rows: Sequence[bytes | msgspec.Raw]
    try:
        reply = _TEXTS.decode(clean)
    except msgspec.DecodeError:
        rows, info = _split_tolerantly(text)
        received = column_of(rows)
    else:
        rows, info = reply.logs, reply.result_info
        received = column_of(rows) if clean is body else _received(text, body, clean, rows)
    cursor, count = info.cursor or (info.cursors or {}).get("after") or None, as_count(info.count)
    if not rows:
        return Page(PAGE_SCHEMA.empty_table(), cursor, count=count)
    columns = _columns(clean, rows)
    further = frozenset(columns) - set(FIELDS.values())
    table, unreadable = _table(columns, received)
    return Page(table, cursor, further, unreadable, count)


def _received(text: str, body: bytes, clean: bytes, rows: Sequence[bytes | msgspec.Raw]) -> pa.Array:
    """Return the rows as they are in `body`, in which the texts are as long as in `clean`."""
    found = originals(body, clean, rows, clean.index(b"[") + 1)
    return column_of(_row_texts(text, len(rows))) if found is None else found


def _columns(page: bytes, rows: Sequence[bytes | msgspec.Raw]) -> dict[str, Sequence[str | None]]:
    """Return the values of each field, row by row."""
    try:
        known = _ROWS.decode(page).logs
    except msgspec.DecodeError:
        return _columns_of_odd(rows)
    return dict(zip(_Row.__struct_fields__, zip(*map(msgspec.structs.astuple, known), strict=True), strict=True))


def _columns_of_odd(texts: Sequence[bytes | msgspec.Raw]) -> dict[str, Sequence[str | None]]:
    """Return the same of rows that have further fields, or values that are no texts; slower."""
    rows = [_object(bytes(text)) for text in texts]
    names = dict.fromkeys([*FIELDS.values(), *(key for row in rows for key in row)])
    return {key: [_as_text(row.get(key)) for row in rows] for key in names}


def _object(text: bytes) -> dict[str, Any]:
    """Read a row; what is no object has no fields, and so no time."""
    try:
        row = json.loads(text, parse_int=_whole_number)
    except ValueError:
        return {}
    return row if isinstance(row, dict) else {}


def _whole_number(text: str) -> int | str:
    return int(text) if len(text) <= _MOST_DIGITS else text  # Python refuses very long ones


def _table(columns: dict[str, Sequence[str | None]], received: pa.Array) -> tuple[pa.Table, tuple[Unreadable, ...]]:
    """Return the rows that have a time, and where those without one lie."""
    unreadable: tuple[Unreadable, ...] = ()
    try:
        times = pc.cast(pa.array(columns["time"], pa.string()), TIME)
    except pa.ArrowInvalid:
        times = None
    if times is None or times.null_count:
        read = list(map(nanoseconds, columns["time"]))
        times, unreadable = pa.array(read, pa.int64()).cast(TIME), untimed(read, _NO_TIME)
    arrays = [times if key == "time" else _texts(columns[key]) for key in FIELDS.values()]
    table = pa.Table.from_arrays([*arrays, received], schema=PAGE_SCHEMA)
    return table.filter(pc.is_valid(times)) if unreadable else table, unreadable


def _texts(values: Sequence[str | None]) -> pa.Array:
    # An absent description arrives as an empty text; both mean that there is none.
    return pa.array([value or None for value in values] if "" in values else values, pa.string())


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
        msgspec.convert(logs, list[Any])
    except (ValueError, KeyError, TypeError) as error:  # msgspec raises a ValueError
        raise ProtocolError(_UNKNOWN_FORM) from error
    return _row_texts(text, len(logs)), info


def _row_texts(text: str, rows: int) -> list[bytes]:
    """Return the exact text of each row, by letting the scanner say where each ends."""
    scanner = json.JSONDecoder()
    position = text.index("[", text.index('"logs"')) + 1
    texts = []
    for _ in range(rows):
        position = _skip(text, position, " \t\r\n,")
        _, end = scanner.raw_decode(text, position)
        texts.append(text[position:end].encode("utf-8", "backslashreplace"))
        position = end
    return texts


def _skip(text: str, position: int, characters: str) -> int:
    while text[position] in characters:
        position += 1
    return position
