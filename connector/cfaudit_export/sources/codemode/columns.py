"""Records -> the columns of the schema that a record has, all but the event as received.

A column is made by one short loop over the rows, or by none: the parts of which only few different ones come, such as
actors, are told apart as texts by Arrow, and only the different ones are read.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

import msgspec
import pyarrow as pa
import pyarrow.compute as pc
from msgspec import Raw

from cfaudit_export.sources.codemode.record import (
    ABSENT,
    NULL,
    Http,
    Named,
    Record,
    RecordAccount,
    RecordActor,
    RecordObject,
    Resource,
    as_text,
    read_part,
)
from cfaudit_export.sources.mcp.json_text import column_of
from cfaudit_export.sources.paging.moments import nanoseconds, untimed
from cfaudit_export.sources.paging.page import TIME
from cfaudit_export.sources.paging.query import Unreadable

_NO_TIME = "the server sent a record without a time, and without an id that holds one"
_NO_RESOURCE, _NO_HTTP = Resource(), Http()
_TEXT = pa.string()


def columns_of(records: list[Record]) -> dict[str, pa.Array]:
    """Return the columns by name, but for the time."""
    actions = [record.action for record in records]
    resources = [record.resource or _NO_RESOURCE for record in records]
    https = [record.raw or _NO_HTTP for record in records]
    texts: dict[str, list[str | None]] = {
        "event_id": [record.id or None for record in records],
        "action_type": [action.type for action in actions],
        "action_result": [action.result for action in actions],
        "action_description": [action.description or None for action in actions],
        "resource_id": [resource.id for resource in resources],
        "resource_type": [resource.type for resource in resources],
        "resource_product": [resource.product for resource in resources],
        "raw_cf_ray_id": [http.cf_ray_id for http in https],
        "raw_method": [http.method for http in https],
        "raw_uri": [http.uri for http in https],
        "raw_user_agent": [http.user_agent for http in https],
    }
    return {
        **{name: pa.array(values, _TEXT) for name, values in texts.items()},
        "raw_status_code": pa.array([http.status_code for http in https], pa.int32()),
        "resource_scope": _scopes([resource.scope for resource in resources]),
        "resource_request": _free_form([resource.request for resource in resources]),
        "resource_response": _free_form([resource.response for resource in resources]),
        "resource_value": _free_form([resource.value for resource in resources]),
        **_recurring(RecordAccount, _ACCOUNT, [record.account for record in records]),
        **_recurring(RecordActor, _ACTOR, [record.actor for record in records]),
        **_recurring(Named, _named("zone"), [record.zone for record in records]),
        **_recurring(Named, _named("organization"), [record.organization for record in records]),
    }


# -- parts that recur -------------------------------------------------------------------------------

_Columns = dict[str, Callable[[Any], str | None]]

_ACCOUNT: _Columns = {"account_name": lambda account: account.name}
_ACTOR: _Columns = {
    "actor_id": lambda actor: actor.id,
    "actor_type": lambda actor: actor.type,
    "actor_email": lambda actor: actor.email,
    "actor_context": lambda actor: actor.context,
    "actor_ip_address": lambda actor: actor.ip_address,
    "actor_token_id": lambda actor: (actor.token and actor.token.id) or actor.token_id,
    "actor_token_name": lambda actor: (actor.token and actor.token.name) or actor.token_name,
    # The six-field source knows the flat form only, and identity must be the same from both.
    "key_token_name": lambda actor: actor.token_name,
}


def _named(what: str) -> _Columns:
    return {f"{what}_id": lambda one: one.id, f"{what}_name": lambda one: one.name}


def _recurring(kind: type[RecordObject], columns: _Columns, texts: list[Raw]) -> dict[str, pa.Array]:
    """Return the columns that are made of a part."""
    which = _column_of(texts).dictionary_encode()
    parts = [_read(kind, text) for text in which.dictionary.to_pylist()]
    return {name: pa.array(map(of, parts), _TEXT, size=len(parts)).take(which.indices) for name, of in columns.items()}


def _read(kind: type[RecordObject], text: str) -> Any:
    try:
        return msgspec.json.decode(text, type=kind | None) or kind()
    except msgspec.DecodeError:
        return read_part(kind, Raw(text))


def _scopes(texts: list[Raw]) -> pa.Array:
    """Return a text as itself and an object as its JSON; there are few different ones."""
    which = _column_of(texts).dictionary_encode()
    return pa.array([as_text(text.encode()) for text in which.dictionary.to_pylist()], _TEXT).take(which.indices)


# -- texts that stay JSON, and times ----------------------------------------------------------------


def _column_of(texts: Sequence[bytes | Raw]) -> pa.Array:
    """Return texts as a column, null where one is empty."""
    column = column_of(texts)
    _, ends, values = column.buffers()
    # The bits of a column of booleans are laid out as those that say which values of a column are there.
    there = pc.greater(pc.binary_length(column), 0).buffers()[1]
    return pa.StringArray.from_buffers(len(texts), ends, values, there)


def _free_form(texts: list[Raw]) -> pa.Array:
    """Return JSON texts as a column; `null` says no more than absence does."""
    return _column_of([ABSENT if text == NULL else text for text in texts])


def times_of(records: list[Record]) -> tuple[pa.Array, tuple[Unreadable, ...]]:
    """Return the times of records, null where neither the time nor the id tells, and where these lie."""
    texts = [record.action.time for record in records]
    try:
        times = pc.cast(pa.array(texts, _TEXT), TIME)
        if not times.null_count:
            return times, ()
    except pa.ArrowInvalid:
        pass
    read = [_time(record.action.time, record.id) for record in records]
    return pa.array(read, pa.int64()).cast(TIME), untimed(read, _NO_TIME)


def time_ms(text: str | None, event_id: str | None) -> int | None:
    """Return the millisecond of a single event, None when neither its time nor its id tells."""
    time = _time(text, event_id)
    return None if time is None else time // 1_000_000


def _time(text: str | None, event_id: str | None) -> int | None:
    """Read one time on its own, and where there is none, that of a UUIDv7 (RFC 9562) as id."""
    found = nanoseconds(text)
    digits = (event_id or "").replace("-", "")
    if found is None and len(digits) == 32 and digits[12] == "7":
        try:
            found = int(digits[:12], 16) * 1_000_000
        except ValueError:
            return None
        return found if found < 1 << 63 else None
    return found
