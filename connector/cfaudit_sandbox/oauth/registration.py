"""Client metadata -> a registered client (RFC 7591), as each generation of the OAuth half checks it."""

from __future__ import annotations

import secrets
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any
from urllib.parse import urlsplit

from cfaudit_sandbox.oauth.dialect import OAuthGeneration
from cfaudit_sandbox.world.schema import js_type

CLIENT_SECONDS = 90 * 86_400.0
METHODS = ("client_secret_basic", "client_secret_post", "none")
_GRANTS = ("authorization_code", "refresh_token")
_LINKS = ("logo_uri", "client_uri", "policy_uri", "tos_uri", "jwks_uri")
_TEXTS = ("client_name", *_LINKS, "token_endpoint_auth_method")
_LISTS = ("redirect_uris", "contacts", "grant_types", "response_types")
_ECHOED = ("client_name", *_LINKS, "contacts")


class OAuthFault(Exception):  # noqa: N818 - an answer of the protocol, not an error of the program
    """An error answer of the OAuth server: status, OAuth error code, description, and seconds to wait."""

    def __init__(self, status: int, error: str, description: str, *, retry_after: int | None = None) -> None:
        super().__init__(description)
        self.status = status
        self.error = error
        self.retry_after = retry_after


@dataclass(frozen=True, slots=True)
class Registration:
    """A client as it registered; `secret` is empty for a public one."""

    id: str
    name: str
    redirect_uris: tuple[str, ...]
    auth_method: str
    secret: str
    issued_at: float

    def allows(self, redirect_uri: str) -> bool:
        """Say whether a redirect is a registered one; for loopback addresses whatever the port (RFC 8252, 7.3)."""
        return any(_same_redirect(known, redirect_uri) for known in self.redirect_uris)


def registered(metadata: object, now: float, dialect: OAuthGeneration) -> tuple[Registration, dict[str, Any]]:
    """Return a new client, and the answer to its registration.

    Raises:
        OAuthFault: the metadata is not accepted.
    """
    body = _checked(metadata, dialect)
    method = body.get("token_endpoint_auth_method", METHODS[0])
    secret = "" if method == "none" else secrets.token_urlsafe(24)
    redirects = tuple(body["redirect_uris"])
    client = Registration(secrets.token_urlsafe(12), body.get("client_name", ""), redirects, method, secret, now)
    answer: dict[str, Any] = {"client_id": client.id, "redirect_uris": list(redirects)}
    answer |= {name: body[name] for name in _ECHOED if name in body}
    answer |= {"grant_types": body.get("grant_types", list(_GRANTS[: 1 if dialect.strict else 2]))}
    answer |= {"response_types": body.get("response_types", ["code"]), "token_endpoint_auth_method": method}
    if not dialect.strict:
        answer |= {"registration_client_uri": f"{dialect.prefix}/register/{client.id}"}
    answer |= {"client_id_issued_at": int(now)}
    if secret:
        answer |= {"client_secret": secret, "client_secret_expires_at": int(now + CLIENT_SECONDS)}
        answer |= {"client_secret_issued_at": int(now)}
    return client, answer


def _checked(metadata: object, dialect: OAuthGeneration) -> Mapping[str, Any]:
    if not isinstance(metadata, dict):
        # The first library looks for members of whatever it was sent, and misses the same one of each.
        if dialect.strict:
            raise _refused("Client metadata must be a JSON object")
        metadata = {}
    body: dict[str, Any] = metadata
    for name in _TEXTS:
        if name in body and not isinstance(body[name], str):
            raise _refused(f"Invalid {name}: expected string, got {_typeof(body[name])}")
    for name in _LISTS:
        _check_list(name, body.get(name, []), dialect)
    if not body.get("redirect_uris"):
        missing = "redirect_uris is required and must not be empty"
        raise _refused(missing if dialect.strict else "At least one redirect URI is required")
    for uri in body["redirect_uris"]:
        _check_redirect(uri, dialect)
    for name in _LINKS:
        if name in body and _scheme(body[name]) not in ("http", "https"):
            raise _refused(f"Invalid {name}: must be an absolute http: or https: URL")
    return _strictly(body) if dialect.strict else body


def _check_list(name: str, value: object, dialect: OAuthGeneration) -> None:
    if not isinstance(value, list):
        array = f"Invalid {name}: expected array, got {_typeof(value)}"
        raise _refused(array if dialect.strict else "Field must be an array")
    if name != "redirect_uris" and not all(isinstance(one, str) for one in value):
        raise _refused("All array elements must be strings")


def _check_redirect(uri: object, dialect: OAuthGeneration) -> None:
    scheme = _scheme(uri)
    if scheme in ("", "javascript", "data", "vbscript"):
        raise _refused("Invalid redirect URI")
    if not dialect.strict:
        return
    host = _host(str(uri))
    if host is None or "#" in str(uri):
        raise _refused("Invalid redirect URI")
    if dialect.resource and scheme != "https" and not (scheme == "http" and _is_loopback(host)):
        raise _refused("Redirect URI must use https, or http on a loopback host")


def _strictly(body: Mapping[str, Any]) -> Mapping[str, Any]:
    method = body.get("token_endpoint_auth_method", METHODS[0])
    if method not in METHODS:
        known = f"Supported methods: {', '.join(METHODS)}. Client advertised: {method}"
        raise _refused(f"Client does not support an accepted token endpoint authentication method. {known}")
    for grant in body.get("grant_types", ()):
        if grant not in _GRANTS:
            raise _refused(f"Unsupported grant_type: {grant}")
    for response in body.get("response_types", ()):
        if response != "code":
            raise _refused(f"Unsupported response_type: {response}")
    return body


def _typeof(value: object) -> str:
    return {"null": "object", "array": "object"}.get(found := js_type(value), found)


def _refused(problem: str) -> OAuthFault:
    return OAuthFault(400, "invalid_client_metadata", problem)


def _scheme(uri: object) -> str:
    """Return the scheme of a URI; nothing where it has none, or cannot be written to a header."""
    if not isinstance(uri, str) or not uri.isprintable():
        return ""
    return uri.partition(":")[0].lower() if ":" in uri and uri[0].isalpha() else ""


def _host(uri: str) -> str | None:
    try:
        return urlsplit(uri).hostname or ""
    except ValueError:
        return None


def _is_loopback(host: str) -> bool:
    return host in ("localhost", "::1") or host.startswith("127.")


def _same_redirect(known: str, asked: str) -> bool:
    if known == asked:
        return True
    try:
        one, other = urlsplit(known), urlsplit(asked)
        host = one.hostname or ""
        same = (one.scheme, host, one.path, one.query) == (other.scheme, other.hostname, other.path, other.query)
    except ValueError:
        return False
    return same and _is_loopback(host)
