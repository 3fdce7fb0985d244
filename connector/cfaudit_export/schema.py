"""The Arrow schema of an exported audit event, version 1, and the few facts that go with it.

`schema()` is the single source: the files under `schemas/`, the documentation and every sink's table derive from it.
Version 1 may only grow at the end and by nullable columns; anything else is version 2.
"""

from __future__ import annotations

from dataclasses import dataclass
from functools import cache
from typing import TYPE_CHECKING, Literal

if TYPE_CHECKING:
    import pyarrow as pa

SCHEMA_VERSION = 1
SHADOW = "shadow"
"""The fidelity of an event that is known to exist, while its row cannot be read."""

Kind = Literal["string", "json", "timestamp", "int32"]


@dataclass(frozen=True, slots=True)
class Column:
    """One column.

    Attributes:
        name: its name everywhere.
        kind: `string`, `json` (text that holds JSON), `timestamp` (microseconds, UTC) or `int32`.
        origin: the path in Cloudflare's v2 record, or how it is made.
        meaning: one sentence.
        required: True when it is never null.
    """

    name: str
    kind: Kind
    origin: str
    meaning: str
    required: bool = False


COLUMNS: tuple[Column, ...] = (
    Column(
        "event_id",
        "string",
        "id, else computed",
        "Identity of the event: the record's own id, or 32 hex digits computed from its content.",
        required=True,
    ),
    Column("event_key", "string", "computed", "The computed identity, the same in every source.", required=True),
    Column("event_time", "timestamp", "action.time", "When it happened.", required=True),
    Column("account_id", "string", "account.id", "The account the event belongs to.", required=True),
    Column("account_name", "string", "account.name", "Name of that account."),
    Column("action_type", "string", "action.type", "create, update, delete, view, login; open to others."),
    Column("action_result", "string", "action.result", "success or failure; open to others."),
    Column("action_description", "string", "action.description", "What was done, as Cloudflare describes it."),
    Column("actor_id", "string", "actor.id", "Who did it."),
    Column(
        "actor_type",
        "string",
        "actor.type",
        "user, account, system, cloudflare_admin, delegated_service, ...",
    ),
    Column("actor_email", "string", "actor.email", "E-mail address of the actor."),
    Column(
        "actor_context",
        "string",
        "actor.context",
        "How: dash, api_key, api_token, oauth, origin_ca_key, api.",
    ),
    Column("actor_ip_address", "string", "actor.ip_address", "From where."),
    Column("actor_token_id", "string", "actor.token.id or actor.token_id", "Which API token was used."),
    Column("actor_token_name", "string", "actor.token.name or actor.token_name", "Name of that API token."),
    Column("resource_id", "string", "resource.id", "What it was done to."),
    Column("resource_type", "string", "resource.type", "Kind of that thing."),
    Column("resource_product", "string", "resource.product", "Product it belongs to."),
    Column(
        "resource_scope",
        "string",
        "resource.scope",
        "accounts, user, zones, memberships, or the JSON of an object.",
    ),
    Column("resource_request", "json", "resource.request", "What was sent."),
    Column("resource_response", "json", "resource.response", "What was answered."),
    Column("resource_value", "json", "resource.value", "The value after the change."),
    Column("raw_cf_ray_id", "string", "raw.cf_ray_id", "Ray ID of the request."),
    Column("raw_method", "string", "raw.method", "HTTP method of the request."),
    Column("raw_uri", "string", "raw.uri", "URI of the request."),
    Column("raw_user_agent", "string", "raw.user_agent", "User agent of the request."),
    Column("raw_status_code", "int32", "raw.status_code", "HTTP status of the answer."),
    Column("zone_id", "string", "zone.id", "Zone it concerns."),
    Column("zone_name", "string", "zone.name", "Name of that zone."),
    Column("organization_id", "string", "organization.id", "Organization, in organization logs."),
    Column("organization_name", "string", "organization.name", "Name of that organization."),
    Column(
        "fidelity",
        "string",
        "how it was read",
        "full: whole record; recovered: trimmed, columns rebuilt; trimmed: six fields; shadow: known only to exist.",
        required=True,
    ),
    Column("source", "string", "how it was read", "Name of the source plugin.", required=True),
    Column("ingested_at", "timestamp", "how it was read", "When the page was read.", required=True),
    Column("event_raw", "json", "the whole event", "The event exactly as received; a shadow has none."),
    Column(
        "replaces",
        "string",
        "computed",
        "event_id of the shadow, or of the trimmed event, whose place this one takes; readers drop what is so named.",
    ),
    Column(
        "batch_id",
        "string",
        "how it was delivered",
        "The batch that brought it, by which manifests name it; null in what earlier versions wrote.",
    ),
    Column(
        "body_nonce",
        "string",
        "computed",
        "With an identity key, hex of bytes that manifests hash before the JSON columns; null where those were erased.",
    ),
)


@cache
def schema() -> pa.Schema:
    """Return the Arrow schema: the columns in order, `nullable` as declared, the meaning as field metadata."""
    import pyarrow as pa

    types = {
        "string": pa.string(),
        "json": pa.string(),
        "timestamp": pa.timestamp("us", tz="UTC"),
        "int32": pa.int32(),
    }
    return pa.schema(
        [
            pa.field(
                column.name,
                types[column.kind],
                nullable=not column.required,
                metadata={"description": column.meaning, "origin": column.origin, "kind": column.kind},
            )
            for column in COLUMNS
        ],
        metadata={"cfaudit_schema_version": str(SCHEMA_VERSION)},
    )


def of_batch(table: pa.Table, batch_id: str) -> pa.Table:
    """Return rows that say which batch brings them; a table without that column is returned as it is."""
    import pyarrow as pa

    index = table.schema.get_field_index("batch_id")
    if index < 0:
        return table
    named = pa.repeat(pa.scalar(batch_id, pa.string()), table.num_rows)
    return table.set_column(index, table.schema.field(index), named)
