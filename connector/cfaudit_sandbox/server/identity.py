"""API token -> who is calling, or the HTTP answer that turns the call away (the server's API-token mode)."""

from __future__ import annotations

from dataclasses import dataclass, replace

from cfaudit_sandbox.server.upstream import ACCOUNTS_LISTED, Caller, Probe, Upstream

_DEFAULT_RETRY_AFTER = 30
_SERVER_ERROR = 500
_THROTTLED = 429
_OK = 200


@dataclass(frozen=True, slots=True)
class Refusal:
    """A call turned away before the MCP server sees it: status, OAuth-style error code, description.

    `in_header` says whether the description also stands in the `WWW-Authenticate` header; `challenge` replaces it
    there. `scope` names what is missing, where the server does.
    """

    status: int
    error: str
    description: str
    retry_after: int | None = None
    in_header: bool = False
    challenge: str = ""
    cost: int = 0
    scope: str = ""


NO_TOKEN = Refusal(401, "invalid_token", "Missing or invalid access token", in_header=True)
UNKNOWN_GRANT = Refusal(401, "invalid_token", "Invalid access token")


class Identities:
    """Whom a server has recognised; later generations ask once about each token."""

    def __init__(self, upstream: Upstream) -> None:
        self._upstream = upstream
        self._known: dict[str, Caller] = {}

    def caller(self, token: str) -> Caller | Refusal:
        """Recognise a token; only the first time costs anything."""
        if token in self._known:
            return self._known[token]
        caller = identify(self._upstream, token)
        if isinstance(caller, Caller):
            self._known[token] = replace(caller, cost=0)
        elif caller.error == "insufficient_scope":
            needed = "account:read" if token.startswith("cfat_") else "user:read account:read"
            return replace(caller, scope=needed)
        return caller

    def reset(self) -> None:
        """Forget every caller."""
        self._known.clear()


def identify(upstream: Upstream, token: str) -> Caller | Refusal:
    """Probe upstream for a token, as the server does on every single request."""
    of_account = token.startswith("cfat_")
    user = Probe(_OK) if of_account else upstream.probe(token)
    accounts = upstream.probe(token)
    cost = 1 if of_account else 2
    prefixed = of_account or token.startswith(("cfut_", "cfoat_"))
    # A token of the old form that has no user is taken for an account's, and its first account is used.
    inferred = not prefixed and _OK < user.status < _THROTTLED and accounts.status == _OK
    if not inferred and (refusal := _refusal((user, accounts), cost)) is not None:
        return refusal
    credential = upstream.credential(token)
    seen = credential.accounts[: 1 if inferred else ACCOUNTS_LISTED] if credential else ()
    if of_account and len(seen) != 1:
        message = "Account token must resolve to exactly one Cloudflare account"
        return Refusal(401, "invalid_token", message, cost=cost)
    return Caller(
        owner=credential.owner if credential else token,
        accounts=seen,
        pinned=seen[0] if len(seen) == 1 else None,
        may_audit=credential is not None and credential.may_audit,
        cost=cost,
    )


def _refusal(probes: tuple[Probe, ...], cost: int) -> Refusal | None:
    """Choose the answer for failed probes; the worst of both decides."""
    failed = {probe.status: probe for probe in probes if probe.status != _OK}
    if any(status >= _SERVER_ERROR for status in failed):
        return Refusal(502, "server_error", "Cloudflare API is temporarily unavailable", cost=cost)
    if _THROTTLED in failed:
        wait = failed[_THROTTLED].retry_after
        wait = _DEFAULT_RETRY_AFTER if wait is None else wait
        return Refusal(429, "temporarily_unavailable", "Rate limited, try again later", wait, cost=cost)
    for status, answer in (
        (401, (401, "invalid_token", "Access token is invalid or expired")),
        (403, (403, "insufficient_scope", "Token lacks required user:read or account:read scope")),
        (400, (401, "invalid_token", "Access token appears malformed; reauthenticate and try again")),
    ):
        if status in failed:
            return Refusal(*answer, cost=cost)
    if failed:
        return Refusal(min(failed), "invalid_request", "Failed to verify token", cost=cost)
    return None
