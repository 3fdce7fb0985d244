"""A person, a browser and the URL of an MCP server -> a grant that is kept (RFC 6749, 4.1, as OAuth 2.1 wants it)."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass, field, replace
from datetime import datetime, timedelta
from urllib.parse import urlsplit

from cfaudit_export.auth.attempt import Attempt, code_in
from cfaudit_export.auth.discovery import STANDARD, AuthorizationServer, Dialect, discover
from cfaudit_export.auth.endpoint import NotNowError, RefusedError, TokenEndpoint
from cfaudit_export.auth.grants import Grant, after, login_command
from cfaudit_export.auth.loopback import HOST, PATH, Loopback
from cfaudit_export.auth.registration import Client, known_client, register
from cfaudit_export.auth.signout import revoke
from cfaudit_export.auth.store import GrantStore
from cfaudit_export.auth.web import open_http
from cfaudit_export.core.escape import shown
from cfaudit_export.errors import AccessError, SettingsError, SourceUnavailableError
from cfaudit_export.settings.options import DEFAULT_PROFILE

# Cloudflare's servers end a grant so long after the sign-in, however often it is refreshed, and do not say so.
_CLOUDFLARE_GRANT = timedelta(days=30)
# Refusals that servers give to a parameter that they do not know.
_OF_RESOURCE = ("invalid_target", "invalid_request")
_LOCK_SECONDS = 120.0
_PASTES = 3
_PASTE_PORT = 33418


@dataclass(frozen=True, slots=True, kw_only=True)
class SignIn:
    """How to sign in.

    Attributes:
        server_url: the MCP server, exactly as it will be called.
        profile: tells several sign-ins at one server apart.
        client_id: a client that was registered by hand, or the https URL of a client id metadata document; None to
            register.
        client_secret: the secret of that client.
        scope: what to ask for; None for what the server suggests.
        headers: further headers for the MCP server, such as the key of a gateway.
        redirect_port: loopback port of the redirect; 0 for any that is free.
        limit_seconds: how long to wait for the person.
        grant_days: how long a sign-in lasts; None for what the server says, or is known of Cloudflare's servers.
        insecure_http: send secrets over plain http also to other machines.
        dialect: what to leave out, or to do without, for servers that do not follow all of the standards.
    """

    server_url: str
    profile: str = DEFAULT_PROFILE
    client_id: str | None = None
    client_secret: str | None = field(default=None, repr=False)
    scope: str | None = None
    headers: Mapping[str, str] = field(default_factory=dict, repr=False)
    redirect_port: int = 0
    limit_seconds: float = 300.0
    grant_days: float | None = None
    insecure_http: bool = False
    dialect: Dialect = STANDARD


@dataclass(frozen=True, slots=True)
class _Way:
    """Where the answer comes to, and how to get it: shown the URL, `answer` returns the redirect's query or None."""

    redirect_uri: str
    answer: Callable[[str], str | None]


def sign_in(
    options: SignIn,
    store: GrantStore,
    *,
    clock: Callable[[], datetime],
    tell: Callable[[str], None],
    open_browser: Callable[[str], object] | None = None,
    ask: Callable[[str], str] | None = None,
    hide: Callable[[str], None] = lambda _secret: None,
) -> Grant:
    """Sign a person in, keep the grant, and return it. One of `open_browser` and `ask` is needed.

    Args:
        options: where and how.
        store: where the grant is to be kept.
        clock: the time.
        tell: shows a line to the person.
        open_browser: opens a URL; the redirect then comes back to a port of this machine.
        ask: shows a prompt and returns the redirect that the person pasted; used without `open_browser`.
        hide: told of every secret that comes to hand.

    Raises:
        SettingsError: the server wants no sign-in, or another kind of client than the options describe.
        AccessError: the person or the server refused, or there was no answer in time.
        ProtocolError, SourceUnavailableError: from discovery, registration and the token endpoint.
        TryAgainError: the grant cannot be kept.
    """
    old = _old_grant(options, store, tell)
    with open_http(options.server_url, options.headers) as http, ExitStack() as stack:
        server = discover(http, options.server_url, options.dialect, insecure_http=options.insecure_http)
        attempt = Attempt(server=replace(server, scope=options.scope or server.scope))
        hide(attempt.verifier)
        client = _client_without_registering(options, server, old, clock(), tell)
        port = options.redirect_port or _port_of(old)
        if open_browser is not None:
            way = stack.enter_context(_browser_way(attempt, options, port, tell, open_browser))
        elif ask is not None:
            way = _paste_way(attempt, port, tell, ask)
        else:
            raise AccessError(f"signing in needs a person; run: {login_command(options.profile)}")
        client = client or register(
            http, attempt.server, way.redirect_uri, clock(), names_scope=options.dialect.registers_scope
        )
        query = way.answer(attempt.url(client, way.redirect_uri))
    if query is None:
        _distrust(store, old, client)
        raise AccessError(
            "the browser returned no usable answer; the server may have shown an error there; "
            f"run: {login_command(options.profile)}"
        )
    code = code_in(query)
    hide(code)
    with store.hold(options.server_url, options.profile, wait_seconds=_LOCK_SECONDS):
        grant = _exchange(attempt, options, client, way.redirect_uri, code, clock=clock)
        for secret in grant.secrets:
            hide(secret)
        if old is None:  # or it could not be read, and would stand in the way of this one
            store.clear(options.server_url, options.profile)
        store.add(grant)
    _end_old(store, old, grant, tell)
    return grant


def _old_grant(options: SignIn, store: GrantStore, tell: Callable[[str], None]) -> Grant | None:
    try:
        return store.find(options.server_url, options.profile)
    except AccessError as error:
        tell(f"the earlier sign-in is replaced: {error}")
        return None


def _client_without_registering(
    options: SignIn, server: AuthorizationServer, old: Grant | None, now: datetime, tell: Callable[[str], None]
) -> Client | None:
    if options.client_id:
        return known_client(server, options.client_id, options.client_secret)
    if old is None or old.issuer != server.issuer:
        return None
    if old.client.refused:
        tell(f"'{shown(server.issuer)}' seems to have forgotten this program; it is registered again")
    return old.client if old.client.is_reusable(now) else None


@contextmanager
def _browser_way(
    attempt: Attempt, options: SignIn, port: int, tell: Callable[[str], None], open_browser: Callable[[str], object]
) -> Iterator[_Way]:
    with _listening(attempt, options, port) as loopback:

        def answer(url: str) -> str | None:
            tell(f"sign in with your browser; if none opens, open this URL on this machine:\n{url}")
            open_browser(url)
            query = loopback.wait(options.limit_seconds)
            if query is None:
                tell(f"waited {options.limit_seconds:.0f} s")
            return query

        # The port is ours before the browser knows of it, so that no other program can take the answer.
        yield _Way(loopback.redirect_uri, answer)


def _listening(attempt: Attempt, options: SignIn, port: int) -> Loopback:
    try:
        return Loopback(attempt.why_not, port=port)
    except OSError as error:
        if options.redirect_port:
            raise SettingsError(f"cannot bind redirect_port {port}: {error.strerror}; choose another") from error
    return Loopback(attempt.why_not)


def _paste_way(attempt: Attempt, port: int, tell: Callable[[str], None], ask: Callable[[str], str]) -> _Way:
    def answer(url: str) -> str | None:
        tell(f"open this URL in any browser and sign in:\n{url}")
        tell(f"at the end the browser fails to open a page of {HOST}; copy the whole URL of that page")
        for _ in range(_PASTES):
            try:
                query = urlsplit(ask("paste the URL here: ").strip()).query
            except EOFError:
                return None
            if (refusal := attempt.why_not(query)) is None:
                return query
            tell(f"this is not the URL to paste. {refusal}")
        return None

    return _Way(f"http://{HOST}:{port or _PASTE_PORT}{PATH}", answer)


def _port_of(old: Grant | None) -> int:
    """Return the port of the registered redirect: any should do (RFC 8252, 7.3), the same one certainly does."""
    return (urlsplit(old.client.redirect_uri).port or 0) if old else 0


def _exchange(
    attempt: Attempt, options: SignIn, client: Client, redirect_uri: str, code: str, *, clock: Callable[[], datetime]
) -> Grant:
    server = attempt.server
    with TokenEndpoint(client, server.token_endpoint) as endpoint:
        try:
            tokens = endpoint.exchange(code, attempt.verifier, redirect_uri, server.audience)
        except RefusedError as error:
            hint = "; if it refuses the parameter 'resource', set oauth_resource = 'omit'" if server.audience else ""
            raise AccessError(
                f"the server did not complete the sign-in: '{error}' ({error.code}); "
                f"run: {login_command(options.profile)}" + (hint if error.code in _OF_RESOURCE else "")
            ) from None
        except NotNowError as error:
            raise SourceUnavailableError(
                f"the server could not complete the sign-in: {error}; run: {login_command(options.profile)}"
            ) from None
    now = clock()
    return Grant(
        issuer=server.issuer,
        resource=options.server_url,
        profile=options.profile,
        audience=server.audience,
        client=client,
        token_endpoint=server.token_endpoint,
        revocation_endpoint=server.revocation_endpoint,
        access_token=tokens.access_token,
        refresh_token=tokens.refresh_token,
        signed_in_at=now,
        renewed_at=now,
        expires_at=after(now, tokens.expires_in_seconds),
        grant_expires_at=_grant_end(options, server, tokens.refresh_expires_in_seconds, now),
        scope=tokens.scope or server.scope,
    )


def _grant_end(options: SignIn, server: AuthorizationServer, said: float | None, now: datetime) -> datetime | None:
    if options.grant_days is not None:
        return now + timedelta(days=options.grant_days)
    if said is not None:
        return after(now, said)
    host = urlsplit(server.issuer).hostname or ""
    known = host == "mcp.cloudflare.com" or host.endswith(".mcp.cloudflare.com")
    return now + _CLOUDFLARE_GRANT if known else None


def _distrust(store: GrantStore, old: Grant | None, client: Client) -> None:
    """Note that a registration used again led nowhere: a server that forgot it shows an error and never redirects."""
    if old is not None and client == old.client and client.registered_at is not None:
        store.update(replace(old, client=replace(client, refused=True)))


def _end_old(store: GrantStore, old: Grant | None, new: Grant, tell: Callable[[str], None]) -> None:
    """End the sign-in that was replaced. The same client's at the same server ended with the new one."""
    if old is None or (old.issuer, old.client.id) == (new.issuer, new.client.id):
        return
    if (problem := revoke(old)) is not None:
        tell(f"the earlier sign-in could not be revoked ({problem}); it ends by itself")
    if old.issuer != new.issuer:
        store.remove(old)
