"""The body of a page -> columns: whole records, every column of the schema that a record has.

The hot path of this source. Structs without garbage collection take the typed fields, free-form bodies stay bytes;
no dictionary is made. A record of other types than the documented ones is read once more, tolerantly.
"""

from __future__ import annotations

from bisect import bisect_right
from collections import Counter
from typing import Any

import msgspec
import pyarrow as pa
import pyarrow.compute as pc
from msgspec import Raw

from cfaudit_export.errors import ProtocolError
from cfaudit_export.sources.codemode.columns import columns_of, times_of
from cfaudit_export.sources.codemode.mask import cover_depths
from cfaudit_export.sources.codemode.record import RECORD, UNKNOWN_FORM, Record, read_tolerantly
from cfaudit_export.sources.mcp.json_text import column_of, cover, lone_surrogates
from cfaudit_export.sources.paging.page import TIME, Page, as_count


class _Body(msgspec.Struct):
    result: list[Raw] | None = None
    result_info: Any = None


_BODY = msgspec.json.Decoder(_Body)
_SPECIAL = {"event_time": TIME, "raw_status_code": pa.int32()}
_NAMES = (
    "event_id",
    "event_time",
    "account_name",
    "action_type",
    "action_result",
    "action_description",
    "actor_id",
    "actor_type",
    "actor_email",
    "actor_context",
    "actor_ip_address",
    "actor_token_id",
    "actor_token_name",
    "key_token_name",
    "resource_id",
    "resource_type",
    "resource_product",
    "resource_scope",
    "resource_request",
    "resource_response",
    "resource_value",
    "raw_cf_ray_id",
    "raw_method",
    "raw_uri",
    "raw_user_agent",
    "raw_status_code",
    "zone_id",
    "zone_name",
    "organization_id",
    "organization_name",
    "event_raw",
)
WHOLE_SCHEMA = pa.schema([(name, _SPECIAL.get(name, pa.string())) for name in _NAMES])


def decode_page(body: bytes | memoryview, cursor: str | None) -> Page:
    """Decode the body of a page.

    Raises:
        ProtocolError: the body is not a page.
    """
    received, records, info = _records(body)
    once = _once(records, received)
    said = as_count(info.get("count")) if isinstance(info, dict) else None
    count = None if said is None else said - (len(records) - len(once))
    if len(once) < len(records):
        received, records = [received[place] for place in once], [records[place] for place in once]
    if not records:
        return Page(WHOLE_SCHEMA.empty_table(), cursor, count=count)
    columns = columns_of(records)
    columns["event_time"], unreadable = times_of(records)
    columns["event_raw"] = column_of(received)
    table = pa.Table.from_arrays([columns[name] for name in _NAMES], schema=WHOLE_SCHEMA)
    if unreadable:
        table = table.filter(pc.is_valid(table["event_time"]))
    return Page(table, cursor, unreadable=unreadable, count=count)


def _once(records: list[Record], received: list[bytes | Raw]) -> list[int]:
    """Return the places of the records, one that is given twice once: the same id, and the same to the letter."""
    found: dict[tuple[str, bytes], int] = {}
    seen: dict[str, int] = Counter(record.id for record in records if record.id)
    for place, record in enumerate(records):
        is_doubled = record.id is not None and seen.get(record.id, 0) > 1
        key = (record.id or "", bytes(received[place])) if is_doubled else (f"/{place}", b"")
        found.setdefault(key, place)
    return list(found.values())


def _records(body: bytes | memoryview) -> tuple[list[bytes | Raw], list[Record], Any]:
    """Return the records as received and as read, and what the page says of itself."""
    readable: Any = body
    covered: list[int] = []
    for cover_odd in (_cover_surrogates, cover_depths, None):
        try:
            page = _BODY.decode(readable)
            raws = page.result or []
            break
        except (msgspec.DecodeError, RecursionError) as error:
            if cover_odd is None:
                raise ProtocolError(UNKNOWN_FORM) from error
            readable = readable if covered else bytearray(body)
            covered += cover_odd(readable)
    try:
        records = list(map(RECORD.decode, raws))
    except msgspec.DecodeError:
        records = [read_tolerantly(raw) for raw in raws]
    return _as_received(raws, body, readable, covered), records, page.result_info


def _cover_surrogates(body: bytearray) -> list[int]:
    places = lone_surrogates(body)
    cover(body, places)
    return places


def _as_received(raws: list[Any], body: bytes | memoryview, readable: Any, covered: list[int]) -> list[bytes | Raw]:
    """Return the text of each record; one of which something was covered stands at the same place in the body."""
    received = list(raws) if covered else raws
    begin = _address(readable)
    for place in covered:
        row = bisect_right(raws, begin + place, key=_address) - 1
        if row >= 0:
            start = _address(raws[row]) - begin
            received[row] = bytes(body[start : start + len(raws[row])])
    return received


def _address(text: Any) -> int:
    """Return where a text is in memory; records are views of the body that they were found in."""
    return int(pa.py_buffer(text).address)
