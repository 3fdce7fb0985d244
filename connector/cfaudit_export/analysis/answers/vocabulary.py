"""What counts as an actor, a credential, a sign-in, a sensitive change: SQL over the columns of `audit_events`.

Nothing is guessed. What a record does not say is unknown, and what was read off the description of a record, because
the column that would say it is null, is marked so. The six-field source says no more of an actor than an e-mail
address and the name of an API token.
"""

from __future__ import annotations

from dataclasses import dataclass

_UNKNOWN = "unknown"


@dataclass(frozen=True, slots=True, order=True)
class Actor:
    """Who acted.

    Attributes:
        kind: what the name is: `email`, `id`, `token`, `type`; `unknown` without a name.
        name: the name.
    """

    kind: str
    name: str | None = None

    @property
    def shown(self) -> str:
        """Return what people read."""
        forms = {"token": f"token {self.name}", "type": f"({self.name})", _UNKNOWN: _UNKNOWN}
        return forms.get(self.kind, str(self.name))


@dataclass(frozen=True, slots=True, order=True)
class UsedCredential:
    """The credential with which an actor acted.

    Attributes:
        kind: `dash`, `api_key`, `api_token`, `oauth`, `origin_ca_key`, `api`, another word of the record, `unknown`.
        name: of the API token; its id where it has no name.
    """

    kind: str
    name: str | None = None

    @property
    def shown(self) -> str:
        """Return what people read."""
        word = CREDENTIALS.get(self.kind, self.kind)
        return f"{word} {self.name}" if self.name else word


CREDENTIALS = {
    "dash": "dashboard",
    "api_key": "API key",
    "api_token": "API token",
    "oauth": "OAuth",
    "origin_ca_key": "Origin CA key",
    "api": "API, credential not recorded",
    _UNKNOWN: _UNKNOWN,
}
"""Kinds of credential, and what people call them; the order in which they are shown."""

SENSITIVE = {
    "members": "Members and roles",
    "tokens": "API tokens and keys",
    "access": "Access policies",
    "dns": "DNS",
    "deletes": "Other deletes",
}
"""Sorts of sensitive changes; a change belongs to the first that fits."""


def _given(column: str) -> str:
    return f"nullif(trim({column}), '')"


_TOKEN = f"coalesce({_given('actor_token_name')}, {_given('actor_token_id')})"
THING = "lower(concat_ws('/', resource_product, resource_type))"
"""Product and type of the resource, as one text in lower case."""

_DELETES = "'^(delete|remove|revoke|destroy)(d|s|ed)?\\b'"

ACTOR_KIND = f"""CASE
    WHEN {_given("actor_email")} IS NOT NULL THEN 'email'
    WHEN {_given("actor_id")} IS NOT NULL THEN 'id'
    WHEN {_TOKEN} IS NOT NULL THEN 'token'
    WHEN {_given("actor_type")} IS NOT NULL THEN 'type'
    ELSE '{_UNKNOWN}' END"""
ACTOR_NAME = f"coalesce({_given('actor_email')}, {_given('actor_id')}, {_TOKEN}, {_given('actor_type')})"

# A record that names a token was made with it, whether or not it says so in `actor_context`.
CREDENTIAL_KIND = f"""CASE
    WHEN {_given("actor_context")} IS NOT NULL THEN {_given("actor_context")}
    WHEN {_TOKEN} IS NOT NULL THEN 'api_token'
    ELSE '{_UNKNOWN}' END"""
CREDENTIAL_NAME = _TOKEN

# Live records call a sign-in an update, described as LOGIN.
SIGN_IN = """(coalesce(action_type, '') = 'login'
    OR regexp_matches(coalesce(action_description, ''), '^\\s*(log|sign)[ -]?in\\s*$', 'i'))"""

ACTION = f"""CASE
    WHEN {SIGN_IN} THEN 'login'
    ELSE coalesce({_given("action_type")}, '{_UNKNOWN}') END"""
RESULT = f"coalesce({_given('action_result')}, '{_UNKNOWN}')"

BY_DESCRIPTION = f"""({_given("action_type")} IS NULL
    AND regexp_matches(coalesce(action_description, ''), {_DELETES}, 'i'))"""

_SORTS = {
    "members": r"(^|[^a-z])(members?|memberships?|invites?|roles?|user_groups?)([^a-z]|$)",
    "tokens": r"(^|[^a-z])(tokens?|api_?keys?)([^a-z]|$)",
    "access": r"^access([^a-z]|$)|(^|[^a-z])polic(y|ies)([^a-z]|$)",
    "dns": r"(^|[^a-z])dns(sec)?([^a-z]|$)",
}
SENSITIVE_SORT = f"""CASE
    WHEN {SIGN_IN} OR coalesce(action_type, '') = 'view' THEN NULL
    {" ".join(f"WHEN regexp_matches({THING}, '{pattern}') THEN '{sort}'" for sort, pattern in _SORTS.items())}
    WHEN coalesce(action_type, '') = 'delete' OR {BY_DESCRIPTION} THEN 'deletes'
    END"""
