"""The body of a page -> columns: whole records, every column of the schema that a record has.

The hot path of this source. Structs without garbage collection take the typed fields, free-form bodies stay bytes;
no dictionary is made. A record of other types than the documented ones is read once more, tolerantly.
"""

from __future__ import annotations

import re
from typing import Any

import msgspec
import pyarrow as pa
import pyarrow.compute as pc
from msgspec import Raw

from cfaudit_export.errors import ProtocolError
from cfaudit_export.sources.auditlogs.decode import TIME, Page
from cfaudit_export.sources.codemode.mask import cover_depths
from cfaudit_export.sources.codemode.record import (
    RECORD,
    UNKNOWN_FORM,
    Account,
    Actor,
    Http,
    Named,
    Record,
    Resource,
    Token,
    as_text,
    read_tolerantly,
)
from cfaudit_export.sources.texts import column_of, cover_surrogates, originals

_BETWEEN = re.compile(rb"[,\s]*")
_FINER_THAN_NANOSECONDS = re.compile(r"(\.\d{9})\d+")


class _Body(msgspec.Struct):
    result: list[Raw] | None = None


_BODY = msgspec.json.Decoder(_Body)

_NO_ACCOUNT, _NO_ACTOR, _NO_TOKEN, _NO_RESOURCE, _NO_HTTP, _NO_NAMED = (
    Account(),
    Actor(),
    Token(),
    Resource(),
    Http(),
    Named(),
)
_TEXT = pa.string()
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
WHOLE_SCHEMA = pa.schema([(name, _SPECIAL.get(name, _TEXT)) for name in _NAMES])


def decode_page(body: bytes | memoryview, cursor: str | None) -> Page:
    """Decode the body of a page.

    Raises:
        ProtocolError: the body is not a page, or a record has no time.
    """
    records, received = _records(body)
    if not records:
        return Page(WHOLE_SCHEMA.empty_table(), cursor)
    columns = _columns(records)
    columns["event_raw"] = received
    return Page(pa.table([columns[name] for name in _NAMES], schema=WHOLE_SCHEMA), cursor)


def _records(body: bytes | memoryview) -> tuple[list[Record], pa.Array]:
    """Return the records as read and as received."""
    readable: Any = body
    for cover in (cover_surrogates, cover_depths, None):
        try:
            raws = _BODY.decode(readable).result or []
            break
        except (msgspec.DecodeError, RecursionError) as error:
            if cover is None:
                raise ProtocolError(UNKNOWN_FORM) from error
            readable = cover(bytes(readable))
    try:
        records = list(map(RECORD.decode, raws))
    except msgspec.DecodeError:
        records = [read_tolerantly(raw) for raw in raws]
    return records, column_of(raws) if readable is body else _received(bytes(body), readable, raws)


def _received(body: bytes, covered: bytes, raws: list[Raw]) -> pa.Array:
    """Return the text of each record as received, which stands where the covered one stands."""
    end = covered.index(bytes(raws[0])) if raws else 0
    if (compact := originals(body, covered, raws, end)) is not None:
        return compact
    found = []
    for raw in raws:
        start = _BETWEEN.match(covered, end).end()  # type: ignore[union-attr]  # it matches the empty text too
        end = start + len(raw)
        found.append(body[start:end])
    return column_of(found)


def _columns(records: list[Record]) -> dict[str, Any]:
    accounts = [record.account or _NO_ACCOUNT for record in records]
    actions = [record.action for record in records]
    actors = [record.actor or _NO_ACTOR for record in records]
    tokens = [actor.token or _NO_TOKEN for actor in actors]
    resources = [record.resource or _NO_RESOURCE for record in records]
    https = [record.raw or _NO_HTTP for record in records]
    zones = [record.zone or _NO_NAMED for record in records]
    organizations = [record.organization or _NO_NAMED for record in records]
    flat_names = [actor.token_name for actor in actors]
    texts = {
        "event_id": [record.id or None for record in records],
        "account_name": [account.name for account in accounts],
        "action_type": [action.type for action in actions],
        "action_result": [action.result for action in actions],
        "action_description": [action.description or None for action in actions],
        "actor_id": [actor.id for actor in actors],
        "actor_type": [actor.type for actor in actors],
        "actor_email": [actor.email for actor in actors],
        "actor_context": [actor.context for actor in actors],
        "actor_ip_address": [actor.ip_address for actor in actors],
        "actor_token_id": [token.id or actor.token_id for token, actor in zip(tokens, actors, strict=True)],
        "actor_token_name": [token.name or flat for token, flat in zip(tokens, flat_names, strict=True)],
        # The six-field source knows the flat form only, and identity must be the same from both.
        "key_token_name": flat_names,
        "resource_id": [resource.id for resource in resources],
        "resource_type": [resource.type for resource in resources],
        "resource_product": [resource.product for resource in resources],
        "resource_scope": _scopes([resource.scope for resource in resources]),
        "raw_cf_ray_id": [http.cf_ray_id for http in https],
        "raw_method": [http.method for http in https],
        "raw_uri": [http.uri for http in https],
        "raw_user_agent": [http.user_agent for http in https],
        "zone_id": [zone.id for zone in zones],
        "zone_name": [zone.name for zone in zones],
        "organization_id": [organization.id for organization in organizations],
        "organization_name": [organization.name for organization in organizations],
    }
    columns: dict[str, Any] = {name: pa.array(values, _TEXT) for name, values in texts.items()}
    columns["event_time"] = _times(records)
    columns["raw_status_code"] = pa.array([http.status_code for http in https], pa.int32())
    columns["resource_request"] = _free_form([resource.request for resource in resources])
    columns["resource_response"] = _free_form([resource.response for resource in resources])
    columns["resource_value"] = _free_form([resource.value for resource in resources])
    return columns


def _free_form(texts: list[Raw]) -> pa.Array:
    """Return JSON texts as a column; `null` says no more than absence does."""
    column = column_of(texts)
    return pc.replace_with_mask(column, pc.equal(column, "null"), pa.scalar(None, _TEXT))


def _scopes(texts: list[Raw]) -> list[str | None]:
    """Return a text as itself and an object as its JSON; there are few different ones."""
    scopes = [bytes(text) for text in texts]
    known = {scope: as_text(scope) for scope in set(scopes)}
    return [known[scope] for scope in scopes]


def _times(records: list[Record]) -> pa.Array:
    texts = [record.action.time for record in records]
    try:
        times = pc.cast(pa.array(texts, _TEXT), TIME)
        if not times.null_count:
            return times
    except pa.ArrowInvalid:
        pass
    return pa.concat_arrays([_time(record.action.time, record.id) for record in records])


def time_ms(text: str | None, event_id: str | None) -> int:
    """Return the millisecond of a single event.

    Raises:
        ProtocolError: neither its time nor its id tells.
    """
    return int(_time(text, event_id)[0].value // 1_000_000)


def _time(text: str | None, event_id: str | None) -> pa.Array:
    """Read one time on its own: cut to nanoseconds, and where there is none, that of a UUIDv7 (RFC 9562) as id."""
    if text is not None:
        try:
            return pc.cast(pa.array([_FINER_THAN_NANOSECONDS.sub(r"\1", text)]), TIME)
        except pa.ArrowInvalid:
            pass
    digits = (event_id or "").replace("-", "")
    if len(digits) == 32 and digits[12] == "7":
        try:
            return pa.array([int(digits[:12], 16) * 1_000_000], pa.int64()).cast(TIME)
        except (ValueError, OverflowError):
            pass
    raise ProtocolError("the server sent a record without a time, and without an id that holds one; please report this")
