"""Columns -> Splunk's Common Information Model: the data models Change and, for sign-ins, Authentication.

https://docs.splunk.com/Documentation/CIM/latest/User/Change. What a model requires and an event does not say is
`unknown`, as Splunk's own add-ons have it, but for whether it succeeded: that is left out.
"""

from __future__ import annotations

from cfaudit_export.shapes.field import ShapeField

VERSIONS = ("1.0.0",)
"""The version of the data models."""

CHANGE, AUTHENTICATION = 1, 2
KIND = "cim_model"

_AAA = "'access', 'members', 'memberships', 'tokens', 'account', 'accounts', 'user', 'iam', 'roles'"
_NETWORK = "'dns', 'rulesets', 'firewall', 'load_balancing', 'magic', 'spectrum', 'zones', 'zone'"
# A value with a quotation mark is none to the model.
_CHANGED = (
    "CASE WHEN json_valid(resource_request) AND json_type(resource_request) = 'OBJECT' "
    "THEN nullif(replace(array_to_string(json_keys(resource_request), ','), '\"', ''), '') END"
)

COMPUTED = {
    KIND: f"""CASE
        WHEN (lower(action_type) = 'login' OR upper(action_description) = 'LOGIN')
            AND coalesce(actor_id, actor_email) IS NOT NULL THEN {AUTHENTICATION}
        ELSE {CHANGE} END""",
    "outcome": "CASE WHEN lower(action_result) IN ('success', 'failure') THEN lower(action_result) END",
}

_BOTH = (
    ShapeField("_time", "event_time"),
    ShapeField("tag", "'change'", (CHANGE,)),
    ShapeField("tag", "'authentication'", (AUTHENTICATION,)),
    ShapeField("vendor_product", "'Cloudflare Audit Logs'"),
    ShapeField("vendor_account", "account_id"),
    ShapeField("dvc", "coalesce(account_name, account_id)"),
    ShapeField("dest", "'Cloudflare'"),
    ShapeField("src", "coalesce(actor_ip_address, 'unknown')"),
    ShapeField("user", "coalesce(actor_email, actor_token_name, actor_id, actor_type, 'unknown')"),
    ShapeField("user_id", "actor_id"),
    ShapeField("user_name", "actor_email", (CHANGE,)),
    ShapeField("user_type", "actor_type"),
    ShapeField("user_agent", "raw_user_agent"),
)
_OWN = (
    ShapeField("action", "outcome", (AUTHENTICATION,)),
    ShapeField(
        "action",
        "CASE lower(action_type) WHEN 'create' THEN 'created' WHEN 'update' THEN 'modified' "
        "WHEN 'delete' THEN 'deleted' WHEN 'view' THEN 'read' "
        "ELSE coalesce(replace(action_type, '\"', ''), 'unknown') END",
        (CHANGE,),
    ),
    ShapeField("app", "'Cloudflare'", (AUTHENTICATION,)),
    ShapeField("authentication_method", "actor_context", (AUTHENTICATION,)),
    ShapeField(
        "change_type",
        f"CASE WHEN lower(resource_product) IN ({_AAA}) THEN 'AAA' "
        f"WHEN lower(resource_product) IN ({_NETWORK}) THEN 'network' ELSE 'cloud' END",
        (CHANGE,),
    ),
    ShapeField("command", "coalesce(action_description, action_type, 'unknown')", (CHANGE,)),
    ShapeField("object", "coalesce(resource_type, resource_product, 'unknown')", (CHANGE,)),
    ShapeField(
        "object_category",
        "CASE WHEN resource_product = 'user' THEN 'account' ELSE coalesce(resource_product, 'unknown') END",
        (CHANGE,),
    ),
    ShapeField("object_id", "coalesce(nullif(replace(resource_id, '\"', ''), ''), 'unknown')", (CHANGE,)),
    ShapeField("object_attrs", f"coalesce({_CHANGED}, replace(zone_name, '\"', ''), 'unknown')", (CHANGE,)),
    ShapeField("status", "outcome", (CHANGE,)),
    ShapeField("result", "CASE WHEN outcome = 'failure' THEN coalesce(action_description, 'unknown') END", (CHANGE,)),
    ShapeField("result_id", "raw_status_code", (CHANGE,)),
)
_AS_THEY_ARE = (
    ("event_id", "event_id"),
    ("event_key", "event_key"),
    ("fidelity", "fidelity"),
    ("cfaudit_source", "source"),
    ("replaces", "replaces"),
    ("actor_context", "actor_context"),
    ("token_id", "actor_token_id"),
    ("token_name", "actor_token_name"),
    ("http_method", "raw_method"),
    ("url", "raw_uri"),
    ("http_user_agent", "raw_user_agent"),
    ("ray_id", "raw_cf_ray_id"),
    ("zone_id", "zone_id"),
    ("zone_name", "zone_name"),
    ("resource_scope", "resource_scope"),
    ("resource_request", "resource_request"),
    ("resource_response", "resource_response"),
    ("resource_value", "resource_value"),
    ("event_raw", "event_raw"),
)


def fields(_version: str) -> tuple[ShapeField, ...]:
    """Return the fields; there is one version."""
    return (*_BOTH, *_OWN, *(ShapeField(name, column) for name, column in _AS_THEY_ARE))
