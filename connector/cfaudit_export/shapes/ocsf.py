"""Columns -> OCSF (https://schema.ocsf.io), versions 1.1.0 to 1.8.0, with the profile `cloud`.

An event is a sign-in (3002 Authentication), a call of which the caller is known (6003 API Activity), or a change of
something (3004 Entity Management), the first that fits. Classes that other versions deprecate are not used.
"""

from __future__ import annotations

from cfaudit_export.shapes.field import ShapeField

VERSIONS = ("1.8.0", "1.6.0", "1.1.0")
"""What can be asked for, the default first. 1.1.0 is what Amazon Security Lake takes."""

AUTHENTICATION, API, ENTITY = 3002, 6003, 3004
KIND = "class_uid"

_KNOWN = "coalesce(actor_id, actor_email) IS NOT NULL"
_OCTET = "(25[0-5]|2[0-4][0-9]|1[0-9][0-9]|[1-9]?[0-9])"
_HEX = "[0-9A-Fa-f]{1,4}"
_IP = rf"({_OCTET}\.){{3}}{_OCTET}|({_HEX}:){{7}}{_HEX}|({_HEX}(:{_HEX}){{0,5}})?::({_HEX}(:{_HEX}){{0,5}})?"
_IS_IP = f"(regexp_full_match(coalesce(actor_ip_address, ''), '{_IP}') AND length(actor_ip_address) < 40)"
# The patterns of the schema: no letters but those of ASCII, and a dot in the domain. The first is that of 1.1.0.
_OLD_EMAIL = r"[a-zA-Z0-9_.+-]+@[a-zA-Z0-9-]+\.[a-zA-Z0-9.-]+"
_EMAIL = r"[a-zA-Z0-9!#$%&''*+,./=?^_`{|}~-]+@[a-zA-Z0-9-]+\.[a-zA-Z0-9.-]+"
_METHODS = "'OPTIONS', 'GET', 'HEAD', 'POST', 'PUT', 'DELETE', 'TRACE', 'CONNECT'"

COMPUTED = {
    KIND: f"""CASE
        WHEN (lower(action_type) = 'login' OR upper(action_description) = 'LOGIN') AND {_KNOWN} THEN {AUTHENTICATION}
        WHEN {_KNOWN} AND ({_IS_IP} OR actor_type IN ('system', 'delegated_service')) THEN {API}
        ELSE {ENTITY} END""",
    "activity": f"""CASE
        WHEN (lower(action_type) = 'login' OR upper(action_description) = 'LOGIN') AND {_KNOWN} THEN 1
        WHEN action_type IS NULL THEN 0
        ELSE CASE lower(action_type) WHEN 'create' THEN 1 WHEN 'view' THEN 2 WHEN 'update' THEN 3 WHEN 'delete' THEN 4
            ELSE 99 END END""",
    "ip": f"CASE WHEN {_IS_IP} THEN actor_ip_address END",
    "path": "nullif(split_part(raw_uri, '?', 1), '')",
}
"""Columns that are computed first, as others are made of them."""


def _millis(column: str) -> str:
    return f"epoch_ms({column})"


def _digits(column: str) -> str:
    return f"strftime({column} AT TIME ZONE 'UTC', '%Y-%m-%dT%H:%M:%S.%fZ')"


_FULL = (AUTHENTICATION, API)


def _email(pattern: str) -> str:
    return f"CASE WHEN regexp_full_match(actor_email, '{pattern}') THEN actor_email END"


def _user(path: str, kinds: tuple[int, ...], since: str = "0") -> tuple[ShapeField, ...]:
    """Return the fields of a user."""
    kind = "CASE actor_type WHEN 'user' THEN 1 WHEN 'cloudflare_admin' THEN 2 WHEN 'system' THEN 3"
    newer = f"{kind} WHEN 'account' THEN 4 WHEN 'delegated_service' THEN 4 ELSE 99 END"
    named = f"CASE WHEN {_KNOWN} AND actor_type IS NOT NULL THEN "
    return (
        ShapeField(f"{path}.uid", "actor_id", kinds, since),
        ShapeField(f"{path}.name", "actor_email", kinds, since),
        ShapeField(f"{path}.email_addr", _email(_EMAIL), kinds, max(since, "1.6.0")),
        ShapeField(f"{path}.email_addr", _email(_OLD_EMAIL), kinds, since, "1.6.0"),
        ShapeField(f"{path}.type", f"{named}actor_type END", kinds, since),
        ShapeField(f"{path}.type_id", f"{named}{newer} END", kinds, max(since, "1.6.0")),
        ShapeField(f"{path}.type_id", f"{named}{kind} ELSE 99 END END", kinds, since, "1.6.0"),
    )


def _of_calls(path: str, sql: str, since: str = "0") -> tuple[ShapeField, ShapeField]:
    """Return a field that the class of changes has from 1.6.0 on, and others from an earlier version on."""
    return ShapeField(path, sql, _FULL, since), ShapeField(path, sql, (ENTITY,), "1.6.0")


def _homeless(*columns: str, kinds: tuple[int, ...] = (), before: str = "999") -> tuple[ShapeField, ...]:
    """Return columns that the schema has no field for."""
    return tuple(ShapeField(f"unmapped.{name}", name, kinds, before=before) for name in columns)


def fields(version: str) -> tuple[ShapeField, ...]:
    """Return the fields of a version."""
    return tuple(one for one in (*_COMMON, *_WHO, *_WHAT, _version(version), *_REST) if one.is_in(version))


def _version(version: str) -> ShapeField:
    return ShapeField("metadata.version", f"'{version}'", is_constant=True)


_COMMON = (
    ShapeField("class_uid", KIND),
    ShapeField("category_uid", f"{KIND} // 1000"),
    ShapeField("type_uid", f"{KIND} * 100 + activity"),
    ShapeField("activity_id", "activity"),
    ShapeField("activity_name", "'Logon'", (AUTHENTICATION,)),
    ShapeField(
        "activity_name",
        "CASE activity WHEN 0 THEN 'Unknown' WHEN 1 THEN 'Create' WHEN 2 THEN 'Read' WHEN 3 THEN 'Update' "
        "WHEN 4 THEN 'Delete' ELSE action_type END",
        (API, ENTITY),
    ),
    ShapeField("severity_id", "1", is_constant=True),
    ShapeField("time", _millis("event_time")),
    ShapeField(
        "status_id",
        "CASE WHEN action_result IS NULL THEN 0 WHEN lower(action_result) = 'success' THEN 1 "
        "WHEN lower(action_result) = 'failure' THEN 2 ELSE 99 END",
    ),
    ShapeField("status", "action_result"),
    ShapeField("message", "action_description"),
    ShapeField("metadata.uid", "event_id"),
    ShapeField("metadata.original_time", _digits("event_time")),
    ShapeField("metadata.logged_time", _millis("ingested_at")),
    ShapeField("metadata.tenant_uid", "account_id"),
    ShapeField("metadata.log_name", "'audit_logs_v2'", is_constant=True),
    ShapeField("metadata.profiles", "['cloud']", is_constant=True),
    ShapeField("metadata.product.name", "'Audit Logs v2'", is_constant=True),
    ShapeField("metadata.product.vendor_name", "'Cloudflare'", is_constant=True),
    ShapeField("cloud.provider", "'Cloudflare'", is_constant=True),
    ShapeField("cloud.account.uid", "account_id"),
    ShapeField("cloud.account.name", "account_name"),
    ShapeField("cloud.org.uid", "organization_id"),
    ShapeField("cloud.org.name", "organization_name"),
)
_WHO = (
    *_user("user", (AUTHENTICATION,)),
    *_user("actor.user", (API,)),
    *_user("actor.user", (ENTITY,), "1.6.0"),
    *_of_calls("actor.app_name", "actor_context", "1.6.0"),
    ShapeField("actor.invoked_by", "actor_context", (API,), before="1.6.0"),
    *_of_calls("src_endpoint.ip", "ip"),
    ShapeField("src_endpoint.svc_name", "CASE WHEN ip IS NULL THEN 'Cloudflare' END", (API,)),
    ShapeField("api.token.uid", "actor_token_id", since="1.8.0"),
    ShapeField("api.token.name", "actor_token_name", since="1.8.0"),
    *_homeless("actor_token_id", "actor_token_name", before="1.8.0"),
    *_homeless("actor_id", "actor_email", "actor_type", kinds=(ENTITY,), before="1.6.0"),
    *_homeless("actor_context", kinds=(AUTHENTICATION, ENTITY), before="1.6.0"),
    ShapeField("unmapped.actor_ip_address", "CASE WHEN ip IS NULL THEN actor_ip_address END", since="1.6.0"),
    ShapeField("unmapped.actor_ip_address", "actor_ip_address", (ENTITY,), before="1.6.0"),
)
_WHAT = (
    ShapeField("api.operation", "coalesce(action_description, action_type, 'unknown')"),
    ShapeField("api.service.name", "resource_product"),
    ShapeField("api.request.uid", "raw_cf_ray_id"),
    ShapeField("api.response.code", "raw_status_code"),
    ShapeField(
        "resources",
        "CASE WHEN coalesce(resource_id, resource_type, resource_product) IS NOT NULL THEN "
        "[{'uid': resource_id, 'name': coalesce(resource_type, resource_product), 'type': resource_type}] END",
        (API,),
    ),
    ShapeField("entity.uid", "resource_id", (ENTITY,)),
    ShapeField("entity.name", "coalesce(resource_type, resource_product, 'unknown')", (ENTITY,)),
    ShapeField("entity.type", "resource_type", (ENTITY,)),
    ShapeField("service.name", "'Cloudflare'", (AUTHENTICATION,)),
    *_homeless("resource_id", "resource_type", kinds=(AUTHENTICATION,)),
    *_of_calls(
        "http_request.http_method",
        f"CASE WHEN upper(raw_method) IN ({_METHODS}, 'PATCH') THEN upper(raw_method) END",
        "1.6.0",
    ),
    ShapeField(
        "http_request.http_method",
        f"CASE WHEN upper(raw_method) IN ({_METHODS}) THEN upper(raw_method) END",
        _FULL,
        before="1.6.0",
    ),
    *_of_calls("http_request.url.path", "path"),
    *_of_calls(
        "http_request.url.query_string",
        "CASE WHEN path IS NOT NULL AND contains(raw_uri, '?') THEN nullif(substr(raw_uri, length(path) + 2), '') END",
    ),
    *_of_calls("http_request.user_agent", "raw_user_agent"),
    *_of_calls("http_request.uid", "raw_cf_ray_id"),
    *_of_calls("http_response.code", "raw_status_code", "1.6.0"),
    *_homeless("raw_method", "raw_uri", "raw_user_agent", kinds=(ENTITY,), before="1.6.0"),
    ShapeField(
        "unmapped.raw_method", "CASE WHEN upper(raw_method) = 'PATCH' THEN raw_method END", _FULL, before="1.6.0"
    ),
)
_REST = (
    *_homeless("event_key", "fidelity", "source", "replaces", "resource_scope", "zone_id", "zone_name"),
    *_homeless("resource_request", "resource_response", "resource_value"),
    ShapeField("raw_data", "event_raw"),
)
