"""The vocabulary of the generated audit log: what happens, who does it, and how it ends.

Three short tables, each entry with a weight. A generated record is one entry of each, one resource and an instant;
so a column of the log is one byte per record. The rare entries are there for their shape: every form that the
real log is known to take occurs, in rows that the server accepts.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

RESOURCES = 24
"""How many resources of a kind an account has."""
ZONES = 5
"""How many zones an account has."""


@dataclass(frozen=True, slots=True)
class ActionKind:
    """One kind of entry: an operation on a type of resource.

    `shape` names what is unusual about its records; see `cfaudit_sandbox.world.composer`.
    """

    weight: int
    product: str
    type: str
    action: str
    description: str | None
    method: str = "POST"
    zonal: bool = False
    shape: str = ""


@dataclass(frozen=True, slots=True)
class Identity:
    """An actor with a credential. `credential` is the name of the API token, `shape` where a record keeps it."""

    weight: int
    person: str | None
    context: str | None
    kind: str | None = "user"
    credential: str | None = None
    shape: Literal["nested", "flat", "none"] = "nested"
    address: str | None = None
    agent: str = "Mozilla/5.0 (X11; Linux x86_64) Gecko/20100101 Firefox/143.0"


@dataclass(frozen=True, slots=True)
class OutcomeKind:
    """How the request ended; `result` is empty in a few live rows."""

    weight: int
    result: str
    status: int


ACTIONS = (
    ActionKind(300, "workers", "scripts.versions", "create", "Create Worker version"),
    ActionKind(200, "workers", "scripts.deployments", "create", "Create Worker deployment"),
    ActionKind(160, "workers", "scripts.assets-upload-session", "create", "Create Assets Upload Session"),
    ActionKind(120, "workers", "scripts", "update", "Upload Worker script", "PUT"),
    ActionKind(70, "workers", "scripts.secrets", "update", "Put Worker secret", "PUT"),
    ActionKind(30, "workers", "routes", "create", "Create Worker route", zonal=True),
    ActionKind(260, "dns_records", "records", "update", "Update DNS record", "PATCH", zonal=True),
    ActionKind(220, "dns_records", "records", "create", "Create DNS record", zonal=True),
    ActionKind(110, "dns_records", "records", "delete", "Delete DNS record", "DELETE", zonal=True),
    ActionKind(140, "rulesets", "rulesets.rules", "update", "Update ruleset rule", "PATCH", zonal=True),
    ActionKind(60, "rulesets", "rulesets", "create", "Create ruleset", zonal=True),
    ActionKind(130, "purge_cache", "purge_cache", "create", "Purge cache by prefix", zonal=True),
    ActionKind(120, "access", "apps.policies", "update", "Update Access policy", "PUT"),
    ActionKind(60, "access", "apps", "create", "Create Access application"),
    ActionKind(40, "access", "service_tokens", "create", "Create Access service token"),
    ActionKind(90, "r2", "buckets", "create", "Create R2 bucket"),
    ActionKind(30, "r2", "buckets.lifecycle", "update", "Update R2 bucket lifecycle", "PUT"),
    ActionKind(110, "d1", "database.query", "create", "Run a query"),
    ActionKind(60, "kv", "namespaces.values", "update", "Write key-value pair", "PUT"),
    ActionKind(60, "stream", "live_inputs", "create", "Create stream live_inputs"),
    ActionKind(40, "stream", "live_inputs", "delete", "Delete stream live_inputs", "DELETE"),
    ActionKind(70, "zones", "settings", "update", "Update zone setting", "PATCH", zonal=True),
    ActionKind(20, "zones", "zones", "create", "Create zone"),
    ActionKind(40, "ssl", "certificate_packs", "create", "Order certificate pack", zonal=True),
    ActionKind(50, "load_balancing", "pools", "update", "Update load balancer pool", "PATCH"),
    ActionKind(40, "waiting_rooms", "waiting_rooms", "update", "Update waiting room", "PATCH", zonal=True),
    ActionKind(70, "account_members", "members", "create", "Invite account member"),
    ActionKind(30, "account_members", "members", "delete", "Remove account member", "DELETE"),
    ActionKind(50, "api_tokens", "tokens", "create", "Create API token", shape="user-scope"),
    ActionKind(40, "api_tokens", "tokens", "update", "Roll API token", "PUT", shape="user-scope"),
    ActionKind(30, "memberships", "memberships", "update", "Accept membership", "PUT", shape="membership-scope"),
    ActionKind(90, "auth", "sessions", "login", "LOGIN", shape="user-scope"),
    ActionKind(30, "billing", "subscriptions", "update", "Update subscription", "PUT"),
    ActionKind(30, "logpush", "jobs", "view", "Download Logpush sample", "GET"),
    ActionKind(24, "tunnels", "cfd_tunnel", "create", "Create tunnel", shape="value"),
    ActionKind(16, "gateway", "lists", "update", "Replace list entries", "PUT", shape="object-scope"),
    ActionKind(14, "pages", "projects.deployments", "create", "Create Pages deployment", shape="no-ray"),
    ActionKind(10, "workers", "scripts.schedules", "update", "Cron schedule réglé: café ☕ 🚀", "PUT"),
    ActionKind(8, "email_routing", "rules", "update", "Rule renamed to \u201cnews\u2028letter\u201d\tünïcode", "PUT"),
    ActionKind(8, "images", "variants", "create", "Create variant \ud83d (cut off)"),
    ActionKind(8, "registrar", "domains", "update", "", "PUT", shape="no-id"),
    ActionKind(8, "registrar", "contacts", "update", None, "PUT"),
    ActionKind(8, "", "", "update", "Change account name", "PUT", shape="no-resource"),
    ActionKind(8, "ssl", "universal", "update", "Renew universal certificate", shape="no-raw"),
    ActionKind(8, "dnssec", "dnssec", "update", "Enable DNSSEC", "PATCH", shape="empty-zone"),
    ActionKind(8, "turnstile", "widgets", "create", 'Widget "signup" \\ created', shape="bare-resource"),
)

_TERRAFORM = "Terraform/1.13.4 terraform-provider-cloudflare/5.12.0"
_WRANGLER = "wrangler/4.48.0"

IDENTITIES = (
    Identity(120, "dana.whitfield", "dash", address="203.0.113.24"),
    Identity(60, "dana.whitfield", "api_token", credential="dana-laptop", address="203.0.113.24", agent=_WRANGLER),
    Identity(110, "jonas.ekberg", "dash", address="198.51.100.7"),
    Identity(70, "jonas.ekberg", "oauth", address="198.51.100.7", agent=_WRANGLER),
    Identity(90, "mei.tanaka", "dash", address="2001:db8:41::a7"),
    Identity(50, "mei.tanaka", "api_key", address="2001:db8:41::a7", agent="curl/8.16.0"),
    Identity(70, "priya.raman", "dash", address="192.0.2.88"),
    Identity(50, "tomas.varga", "dash", address="192.0.2.131"),
    Identity(30, "tomas.varga", "api_token", credential="tomas-ci", shape="flat", address="192.0.2.131"),
    Identity(40, "amina.osei", "dash", address="203.0.113.190"),
    Identity(30, "l.o'brien+audit", "oauth", address="198.51.100.77"),
    Identity(190, "terraform", "api_token", credential="terraform-prod", address="198.51.100.201", agent=_TERRAFORM),
    Identity(150, "deploy", "api_token", credential="github-actions", shape="flat", agent=_WRANGLER),
    Identity(60, "deploy", "api_token", credential="github-actions-eu", shape="flat", agent=_WRANGLER),
    Identity(
        50, None, "api_token", "account", credential="log-shipper", address="192.0.2.9", agent="Go-http-client/2.0"
    ),
    Identity(20, None, "origin_ca_key", "account", address="192.0.2.10", agent="cfssl/1.6"),
    Identity(30, None, "dash", "cloudflare_admin"),
    Identity(20, None, None, "system"),
    Identity(8, "noor.haddad", "api_token", credential="Schlüssel № 7 🔑", shape="flat", address="203.0.113.61"),
    Identity(8, None, None, None, shape="none"),
)

OUTCOMES = (
    OutcomeKind(930, "success", 200),
    OutcomeKind(40, "success", 201),
    OutcomeKind(10, "success", 204),
    OutcomeKind(30, "failure", 500),
    OutcomeKind(12, "failure", 502),
    OutcomeKind(4, "", 200),
)


def slots(weights: list[int]) -> bytes:
    """Make a table of 256 slots that turns a random byte into an entry's number, by weight, none left out."""
    total, count = sum(weights), len(weights)
    table = bytearray(range(count))
    edges, so_far = [], 0
    for weight in weights:
        so_far += weight
        edges.append(round(so_far / total * (256 - count)))
    for entry, (low, high) in enumerate(zip([0, *edges[:-1]], edges, strict=True)):
        table += bytes([entry]) * (high - low)
    return bytes(table)
