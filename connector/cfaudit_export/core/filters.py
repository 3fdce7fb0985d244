"""What events can be filtered by, as settings offer it and sources ask for it."""

from __future__ import annotations

# Every filter of the tool, in the order of its input schema; None: any text, else the values it accepts.
AUDITLOGS_FILTERS: dict[str, tuple[str, ...] | None] = {
    "account_name": None,
    "action_result": ("success", "failure", ""),
    "action_type": ("create", "delete", "view", "update", "login"),
    "actor_context": ("api_key", "api_token", "dash", "oauth", "origin_ca_key"),
    "actor_email": None,
    "actor_id": None,
    "actor_ip_address": None,
    "actor_token_id": None,
    "actor_token_name": None,
    "actor_type": ("cloudflare_admin", "account", "user", "system"),
    "audit_log_id": None,
    "raw_cf_ray_id": None,
    "raw_method": None,
    "raw_status_code": None,
    "raw_uri": None,
    "resource_id": None,
    "resource_product": None,
    "resource_type": None,
    "resource_scope": ("memberships", "accounts", "user", "zones"),
    "zone_id": None,
    "zone_name": None,
}

# The REST endpoint behind it takes the same, any text for each, and one more.
CODEMODE_FILTERS = (*AUDITLOGS_FILTERS, "product_category")
