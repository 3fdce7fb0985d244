"""Attacks, as a person would tell them: what is done, and which rules name the steps, in order."""

from __future__ import annotations

import json
from collections.abc import Callable
from typing import Any

Tell = Callable[[Any], tuple[str, ...]]
HOME = "198.51.100.7"  # from where Jonas works every day


def taken_over(story: Any) -> tuple[str, ...]:
    """The acceptance test: a password that is guessed, and what follows."""
    for _ in range(6):
        story.add("auth/sessions", "login", "LOGIN", action_result="failure")
    story.add("auth/sessions", "login", "LOGIN")
    story.add("api_tokens/tokens", "create", "Create API token", resource_id="t" * 32)
    story.add("dnssec/dnssec", "update", "Disable DNSSEC", zone_name="shop-1.example")
    for number in range(7):
        story.add("dns_records/records", "delete", "Delete DNS record", resource_id=f"r{number}")
    body = json.dumps({"enabled": False})
    story.add("rulesets/rulesets.rules", "update", "Update ruleset rule", resource_request=body)
    story.add("account_members/members", "delete", "Remove account member")
    return ("failed-sign-ins", "token-made", "dnssec-off", "dns-deletes", "waf-off", "member-removed")


def zone_gone(story: Any) -> tuple[str, ...]:
    story.add("zones/zones", "delete", "Delete zone", zone_name="shop-2.example", actor_ip_address=HOME)
    return ("zone-removed",)


def token_carried_away(story: Any) -> tuple[str, ...]:
    story.add("api_tokens/tokens", "create", "Create API token", resource_id="carried", actor_ip_address=HOME)
    story.wait(hours=3)
    token = {"actor_context": "api_token", "actor_token_id": "carried", "actor_token_name": "backup"}
    story.add("dns_records/records", "update", "Update DNS record", **token)
    return ("token-used-elsewhere",)


def crowned(story: Any) -> tuple[str, ...]:
    roles = json.dumps({"roles": [{"name": "Super Administrator - All Privileges"}]})
    story.add("account_members/members", "update", "Update member", resource_request=roles, actor_ip_address=HOME)
    return ("super-admin-made",)


def blinded(story: Any) -> tuple[str, ...]:
    off = json.dumps({"enabled": False})
    story.add("logpush/jobs", "update", "Update Logpush job", resource_request=off, actor_ip_address=HOME)
    story.add("rulesets/rulesets", "delete", "Delete ruleset")
    return ("log-job-off", "waf-off")


def factor_dropped(story: Any) -> tuple[str, ...]:
    body = json.dumps({"settings": {"enforce_twofactor": False}})
    story.add("accounts/accounts", "update", "Update account", resource_request=body, actor_ip_address=HOME)
    story.add("account_members/members", "create", "Invite account member")
    return ("second-factor-off", "member-added")


def domain_carried_away(story: Any) -> tuple[str, ...]:
    story.add("registrar/domains", "update", "Unlock domain", resource_id="shop.example", actor_ip_address=HOME)
    story.add("registrar/contacts", "update", "Update contacts", resource_id="shop.example")
    return ("registrar-unlocked", "registrar-changed")


def door_opened(story: Any) -> tuple[str, ...]:
    body = json.dumps({"decision": "bypass", "include": [{"everyone": {}}]})
    story.add("access/apps.policies", "update", "Update Access policy", resource_request=body, actor_ip_address=HOME)
    return ("access-opened",)


def stranger(story: Any) -> tuple[str, ...]:
    who = {"actor_email": "new@example.net", "actor_ip_address": EVIL_V6}
    story.add("account_members/members", "delete", "Remove account member", **who)
    story.add("api_tokens/tokens", "update", "Roll API token", **who)
    return ("member-removed", "token-made")


def key_stolen(story: Any) -> tuple[str, ...]:
    who = {"actor_email": "mei.tanaka@example.com", "actor_context": "api_key"}
    story.add("workers/scripts", "update", "Upload Worker script", **who)
    return ("global-key-used",)


def records_swept(story: Any) -> tuple[str, ...]:
    for number in range(30):
        story.add("dns_records/records", "delete", "Delete DNS record", resource_id=f"{number}", actor_ip_address=HOME)
    return ("dns-deletes",)


def staff(story: Any) -> tuple[str, ...]:
    who = {"actor_email": "support@cloudflare.example", "actor_type": "cloudflare_admin", "actor_ip_address": EVIL_V6}
    story.add("zones/settings", "update", "Update zone setting", **who)
    return ("staff-change",)


EVIL_V6 = "2001:db8:bad::1"
STORIES: tuple[Tell, ...] = (
    *(taken_over, zone_gone, token_carried_away, crowned, blinded, factor_dropped),
    *(domain_carried_away, door_opened, stranger, key_stolen, records_swept, staff),
)
