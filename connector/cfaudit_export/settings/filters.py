"""Which events are exported: a filter an option; part of the one table in `options`."""

from __future__ import annotations

from cfaudit_export.core.filters import AUDITLOGS_FILTERS
from cfaudit_export.settings import values
from cfaudit_export.settings.option import FILTERS, Option

_MEANINGS = {
    "account_name": "name of the account",
    "action_result": "how the action ended",
    "action_type": "type of action",
    "actor_context": "how the actor signed in",
    "actor_email": "the actor's email address",
    "actor_id": "the actor's id",
    "actor_ip_address": "the actor's IP address",
    "actor_token_id": "id of the token that was used",
    "actor_token_name": "name of the token that was used",
    "actor_type": "type of actor",
    "audit_log_id": "id of the event",
    "raw_cf_ray_id": "Cloudflare Ray ID of the request",
    "raw_method": "HTTP method of the request",
    "raw_status_code": "HTTP status of the reply",
    "raw_uri": "URI of the request",
    "resource_id": "id of the resource",
    "resource_product": "product of the resource",
    "resource_type": "type of resource",
    "resource_scope": "scope of the resource",
    "zone_id": "id of the zone",
    "zone_name": "name of the zone",
}
_SHORT_FLAGS = {"action_result": "--result", "actor_context": "--context", "resource_product": "--product"}
_FILTER_READERS: dict[str, tuple[values.Reader, str]] = {
    "actor_email": (values.email, "EMAIL"),
    "raw_status_code": (values.status, "STATUS"),
}


def _option(name: str, choices: tuple[str, ...] | None) -> Option:
    read, metavar = _FILTER_READERS.get(name, (values.text, "TEXT"))
    if choices is not None:
        read, metavar = values.choice(*choices), "|".join(one for one in choices if one)
    flags = (*([_SHORT_FLAGS[name]] if name in _SHORT_FLAGS else []), "--" + name.replace("_", "-"))
    return Option(f"filters.{name}", read, _MEANINGS[name], FILTERS, metavar, flags)


FILTER_OPTIONS: tuple[Option, ...] = tuple(_option(name, choices) for name, choices in AUDITLOGS_FILTERS.items())
