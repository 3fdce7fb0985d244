"""The rules that come with the program.

Descriptions of records change, and products are missing in some: patterns are tolerant, and look for words. The columns
that `when`, `sure` and `body` may use are those of `scan.EVENT` and `scan.BODIES`.
"""

from __future__ import annotations

from cfaudit_export.analysis.rules.model import Rule

_CHANGE = "did IN ('create', 'update', 'delete')"
_OFF = r"regexp_matches(said, '\b(disabl\w*|deactivat\w*|(turn|switch)\w* off|remov\w*|delet\w*|cancel\w*)\b')"
_MEMBERS = r"regexp_matches(thing, '(^|[^a-z])(members?|memberships?|invites?)([^a-z]|$)')"
_TOKENS = r"regexp_matches(thing, '(^|[^a-z])(tokens?|api_?keys?)([^a-z]|$)')"
_DNSSEC = "(contains(thing, 'dnssec') OR contains(said, 'dnssec'))"
_FACTOR = r"regexp_matches(said, '\b(2fa|mfa|sso|two.?factor|multi.?factor|single sign.?on)\b')"

_HIGH = (
    Rule(
        "dnssec-off",
        "DNSSEC switched off",
        "high",
        "match",
        "ask who wanted it, and switch DNSSEC on again: without it, answers about the zone can be forged",
        when=f"{_DNSSEC} AND {_CHANGE}",
        sure=f"did = 'delete' OR {_OFF}",
        body=r"""regexp_matches(request, '"status"\s*:\s*"disabled"')""",
        alone=True,
        key="target",
    ),
    Rule(
        "zone-removed",
        "zone deleted or moved",
        "high",
        "match",
        "restore the zone if this was not planned: its names stop to resolve",
        when=r"""regexp_matches(thing, '^zones?(/zones?)?$')
            AND (did = 'delete' OR regexp_matches(said, '\b(delet|remov|mov|transfer)\w*\b.*\bzone\b'))""",
        alone=True,
        key="target",
    ),
    Rule(
        "registrar-unlocked",
        "registrar domain unlocked or transferred",
        "high",
        "match",
        "lock the domain again, and look for transfers that are under way",
        when=f"regexp_matches(thing, '^registrar([^a-z]|$)') AND {_CHANGE}",
        sure=r"regexp_matches(said, '\bunlock\w*|\btransfer\w*|\bauth\w* code\b')",
        body=r"""regexp_matches(request, '"(locked|transfer_lock)"\s*:\s*false')""",
        alone=True,
        key="target",
    ),
    Rule(
        "super-admin-made",
        "member made super administrator",
        "high",
        "match",
        "confirm with the owner of the account; a super administrator can do everything",
        when=f"{_MEMBERS} AND did IN ('create', 'update')",
        sure="contains(said, 'super admin')",
        body="contains(request, 'super admin') OR contains(response, 'super admin')",
        alone=True,
    ),
    Rule(
        "second-factor-off",
        "second factor or single sign-on no longer enforced",
        "high",
        "match",
        "enforce it again, and look at the sign-ins since then",
        when=rf"({_FACTOR} OR regexp_matches(thing, '^accounts?([^a-z_]|$)|(^|[^a-z])sso([^a-z]|$)')) AND {_CHANGE}",
        sure=f"{_FACTOR} AND (did = 'delete' OR {_OFF})",
        body=r"""regexp_matches(request, '"(enforce_twofactor|enforce_sso|sso_enforced)"\s*:\s*false')""",
        alone=True,
    ),
    Rule(
        "log-job-off",
        "log export deleted or turned off",
        "high",
        "match",
        "turn it on again: what happened meanwhile is not in the logs that it wrote",
        when=r"regexp_matches(thing, '(^|[^a-z])(logpush|audit_?logs?)([^a-z]|$)') AND did IN ('update', 'delete')",
        sure=f"did = 'delete' OR {_OFF}",
        body=r"""regexp_matches(request, '"enabled"\s*:\s*false')""",
        alone=True,
    ),
    Rule(
        "dns-deletes",
        "many DNS records deleted",
        "high",
        "burst",
        "compare the zone with its last good state, and restore what is missing",
        when="starts_with(thing, 'dns') AND NOT contains(thing, 'dnssec') AND did = 'delete'",
        count=5,
        per_address=True,
    ),
    Rule(
        "token-used-elsewhere",
        "new API token used from another address",
        "high",
        "window",
        "roll the token if its owner does not work from both addresses",
        needs=("actor_ip_address", "actor_token_id"),
    ),
)

_MEDIUM = (
    Rule(
        "token-made",
        "API token or key made or rolled",
        "medium",
        "match",
        "ask its maker what it is for, and look at its permissions",
        when=rf"{_TOKENS} AND (did = 'create' OR regexp_matches(said, '\b(roll|rotat|regenerat|refresh)\w*\b'))",
    ),
    Rule(
        "global-key-used",
        "change by a global API key",
        "medium",
        "match",
        "replace the key by a token with few permissions, and change the key",
        when=f"context = 'api_key' AND {_CHANGE}",
        needs=("actor_context",),
    ),
    Rule(
        "member-added",
        "member added",
        "medium",
        "match",
        "confirm that the person is expected, and with which roles",
        when=f"{_MEMBERS} AND did = 'create'",
    ),
    Rule(
        "member-removed",
        "member removed",
        "medium",
        "match",
        "confirm that it was meant: who loses access cannot help any more",
        when=f"{_MEMBERS} AND did = 'delete'",
    ),
    Rule(
        "access-opened",
        "access policy opened to everyone",
        "medium",
        "match",
        "close the policy, unless the application is meant to be public",
        when=f"(starts_with(thing, 'access') OR contains(thing, 'polic')) AND {_CHANGE}",
        sure=r"regexp_matches(said, '\bbypass\b')",
        body=r"""did <> 'delete'
            AND regexp_matches(request, '"decision"\s*:\s*"(bypass|non_identity)"|"everyone"\s*:')""",
        alone=True,
        key="target",
    ),
    Rule(
        "waf-off",
        "firewall ruleset or rule deleted or disabled",
        "medium",
        "match",
        "enable it again if nothing takes its place",
        when=r"regexp_matches(thing, '(^|[^a-z])(rulesets?|firewall|waf)([^a-z]|$)') AND did IN ('update', 'delete')",
        sure=f"did = 'delete' OR {_OFF}",
        body=r"""regexp_matches(request, '"enabled"\s*:\s*false')""",
    ),
    Rule(
        "failed-sign-ins",
        "many failed sign-ins",
        "medium",
        "burst",
        "ask the person; if it was another one, change the password and end all sessions",
        when="did = 'login' AND result = 'failure'",
        count=5,
        needs=("action_result",),
    ),
    Rule(
        "staff-change",
        "Cloudflare staff changed something",
        "medium",
        "match",
        "look for the support case that it belongs to",
        when=f"type = 'cloudflare_admin' AND {_CHANGE}",
        needs=("actor_type",),
    ),
    Rule(
        "registrar-changed",
        "registrar domain changed",
        "medium",
        "match",
        "compare contacts and name servers of the domain with what they should be",
        when=f"regexp_matches(thing, '^registrar([^a-z]|$)') AND {_CHANGE}",
        key="target",
    ),
)

_LOW = (
    Rule(
        "first-address",
        "first time from this address",
        "low",
        "first",
        "nothing, if the person travels or the network is known: name it in known_addresses",
        needs=("actor_ip_address",),
    ),
    Rule(
        "first-credential",
        "first use of a credential",
        "low",
        "first",
        "nothing, if the credential is known: name it in known_tokens",
    ),
    Rule(
        "first-product",
        "first change of a product",
        "low",
        "first",
        "nothing, if it belongs to the work of the actor",
    ),
    Rule("new-actor", "new actor", "low", "first", "confirm that the actor is expected"),
    Rule(
        "unusual-hours",
        "change at an unusual hour",
        "low",
        "window",
        "nothing, if the person was at work then",
    ),
    Rule(
        "out-of-band",
        "change by hand of what tokens change otherwise",
        "low",
        "window",
        "carry the change over to the program that keeps the configuration, or it will be undone",
        needs=("actor_context",),
    ),
)

SHIPPED: tuple[Rule, ...] = (*_HIGH, *_MEDIUM, *_LOW)
"""Every rule that comes with the program."""
