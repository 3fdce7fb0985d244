"""The URL of an MCP server -> the authorization server that guards it.

The way of the MCP authorization specification: the 401 names the protected-resource metadata (RFC 9728), that names
the issuer, the issuer's own metadata (RFC 8414, or the OpenID form of it) names the endpoints.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any
from urllib.parse import urlsplit

from cfaudit_export.auth.web import first_object, refusal_of, send
from cfaudit_export.core.escape import shown
from cfaudit_export.core.urls import canonical, is_safe, is_within, origin_of
from cfaudit_export.errors import ProtocolError, SettingsError

if TYPE_CHECKING:
    import httpx2

# A request that every revision of MCP knows, so that every server and gateway gets as far as asking who we are.
_HELLO = {
    "jsonrpc": "2.0",
    "id": 1,
    "method": "initialize",
    "params": {
        "protocolVersion": "2025-11-25",
        "capabilities": {},
        "clientInfo": {"name": "cfaudit-export", "version": "1"},
    },
}
_ENDPOINTS = ("authorization_endpoint", "token_endpoint", "registration_endpoint", "revocation_endpoint")
_PARAMETER = r'\b{}\s*=\s*(?:"((?:[^"\\]|\\.)*)"|([^\s,]+))'


@dataclass(frozen=True, slots=True, kw_only=True)
class Dialect:
    """How far an authorization server is from the standards, as a person says of it.

    Attributes:
        names_resource: requests for tokens may name the MCP server (RFC 8707).
        registers_scope: a registration may name the scope (RFC 7591).
        lists_pkce: its metadata lists PKCE with S256 (RFC 8414); else it is used without being listed.
        origins: further origins that its metadata may name, beside the issuer's own.
    """

    names_resource: bool = True
    registers_scope: bool = True
    lists_pkce: bool = True
    origins: tuple[str, ...] = ()


STANDARD = Dialect()


@dataclass(frozen=True, slots=True, kw_only=True)
class AuthorizationServer:
    """What discovery found.

    Attributes:
        audience: the name of the resource to ask tokens for (RFC 8707); empty to leave it out.
        issuer: the authorization server's name, exactly as it spells it.
        authorization_endpoint: where the browser goes.
        token_endpoint: where codes and refresh tokens are exchanged.
        registration_endpoint: where clients register (RFC 7591); None where they cannot.
        revocation_endpoint: where grants end (RFC 7009); None where they cannot be ended.
        auth_methods: how clients may prove who they are at the token endpoint.
        scope: what to ask for; None to leave it to the server.
        names_itself: the redirect will carry `iss` (RFC 9207).
        client_id_documents: a URL is accepted as client id.
    """

    audience: str
    issuer: str
    authorization_endpoint: str
    token_endpoint: str
    registration_endpoint: str | None
    revocation_endpoint: str | None
    auth_methods: tuple[str, ...]
    scope: str | None
    names_itself: bool
    client_id_documents: bool


def discover(
    http: httpx2.Client, server_url: str, dialect: Dialect = STANDARD, *, insecure_http: bool = False
) -> AuthorizationServer:
    """Find the authorization server of the MCP server at `server_url`.

    The server's word alone takes a request to few places: the metadata of the resource is on the server's own origin,
    the endpoints are on the issuer's, and nothing is on this machine or in a private network unless the server is
    there too. Endpoints of another origin than the issuer's are how a mix-up of two servers is done (RFC 9700, 4.4).

    Raises:
        SettingsError: the URL is not one to sign in at, or the server does not require authentication.
        ProtocolError: the metadata is missing, contradicts itself, or lacks what a safe sign-in needs.
        SourceUnavailableError: a server cannot answer now.
    """
    if not is_safe(server_url, insecure_http=insecure_http):
        raise SettingsError(f"cannot sign in at '{server_url}': expected a URL like https://host/mcp")
    challenge = _challenge(http, server_url)
    named = challenge.get("resource_metadata")
    if named is not None:
        _check_place(named, server_url, "the protected-resource metadata", server_url, dialect)
    resource = _resource_metadata(http, server_url, named, insecure_http=insecure_http)
    if resource is None:
        # Servers of the 2025-03-26 revision have no such document: the issuer is their own origin.
        issuer, audience, scopes = origin_of(server_url), canonical(server_url), None
    else:
        issuer, audience = _issuer_of(resource), str(resource["resource"])
        scopes = _texts(resource, "scopes_supported")
    if is_within(issuer) and not is_within(server_url):
        raise ProtocolError(
            f"refusing to contact '{shown(issuer)}', which '{server_url}' names: it is in another network"
        )
    metadata = _server_metadata(http, issuer, insecure_http=insecure_http)
    for name in _ENDPOINTS:
        endpoint = metadata.get(name)
        if isinstance(endpoint, str) and is_safe(endpoint, insecure_http=insecure_http):
            _check_place(endpoint, issuer, f"the {name.replace('_', ' ')}", server_url, dialect)
    scope = challenge.get("scope") or " ".join(scopes or ()) or None
    if not dialect.names_resource:
        audience = ""
    return _described(metadata, audience, scope, dialect, insecure_http=insecure_http)


def _check_place(url: str, home: str, what: str, server_url: str, dialect: Dialect) -> None:
    """Refuse a URL that a server names, where it lies at another origin than it may."""
    try:
        origin, near = origin_of(url), origin_of(home)
    except ValueError:
        raise ProtocolError(f"{what} is at '{shown(url)}', which is not a URL") from None
    if origin == near:
        return
    if origin not in {origin_of(one) for one in dialect.origins}:
        raise ProtocolError(
            f"refusing to fetch {what} from '{shown(url)}', as it is not at '{near}'; "
            f"if that is right, set oauth_origins = ['{shown(origin)}']"
        )
    if is_within(url) and not is_within(server_url):
        raise ProtocolError(
            f"refusing to fetch {what} from '{shown(url)}': it is in another network than '{server_url}'"
        )


def _challenge(http: httpx2.Client, server_url: str) -> dict[str, str]:
    """Return what the server's 401 says: `resource_metadata` and `scope`, as far as they are there."""
    accept = {"Accept": "application/json, text/event-stream"}
    response = send(http, "POST", server_url, json=_HELLO, headers=accept)
    if response.is_success:
        raise SettingsError(f"'{server_url}' does not require authentication; there is nothing to sign in to")
    if response.is_redirect:
        target = shown(response.headers.get("location", ""))
        raise SettingsError(f"'{server_url}' redirects to '{target}'; if that is right, use it as the server's URL")
    if response.status_code == 404:
        raise ProtocolError(f"there is no MCP server at '{server_url}' ({refusal_of(response)})")
    return _parameters(", ".join(response.headers.get_list("www-authenticate")))


def _parameters(challenge: str) -> dict[str, str]:
    found = {}
    for name in ("resource_metadata", "scope"):
        if match := re.search(_PARAMETER.format(name), challenge, re.IGNORECASE):
            found[name] = re.sub(r"\\(.)", r"\1", match[1]) if match[1] is not None else match[2]
    return found


def _resource_metadata(
    http: httpx2.Client, server_url: str, named: str | None, *, insecure_http: bool
) -> dict[str, Any] | None:
    """Return the RFC 9728 document about `server_url`: where the 401 says, else at its own place, else at the root."""
    what = "the protected-resource metadata"
    place = f"{origin_of(server_url)}/.well-known/oauth-protected-resource"
    places = [named, f"{place}{urlsplit(server_url).path.rstrip('/')}", place]
    unique = dict.fromkeys(url for url in places if url)
    answer = first_object(http, unique, what, insecure_http=insecure_http)
    if answer is None:
        if named:
            raise ProtocolError(f"there is no document at '{shown(named)}', which '{server_url}' names as {what}")
        return None
    url, document = answer
    if not _covers(document.get("resource"), server_url):
        raise ProtocolError(
            f"{what} at '{shown(url)}' is about '{shown(document.get('resource'))}', not about '{server_url}'"
        )
    return document


def _covers(resource: object, server_url: str) -> bool:
    """Say whether a document about `resource` speaks for `server_url`: it is the same, or a folder above it.

    A slash at the end is no difference: frameworks add one, and redirect to it.
    """
    if not isinstance(resource, str) or not is_safe(resource, insecure_http=True):
        return False
    named, wanted = canonical(resource), canonical(server_url)
    return wanted.rstrip("/") == named.rstrip("/") or wanted.startswith(named.rstrip("/") + "/")


def _issuer_of(resource: Mapping[str, Any]) -> str:
    issuers = _texts(resource, "authorization_servers")
    if not issuers:
        raise ProtocolError(f"'{shown(resource['resource'])}' names no authorization server")
    return issuers[0]


def _server_metadata(http: httpx2.Client, issuer: str, *, insecure_http: bool) -> dict[str, Any]:
    from authlib.oauth2.rfc8414 import get_well_known_url

    what = "the metadata of the authorization server"
    places = [get_well_known_url(issuer.rstrip("/"), external=True)]
    places += [get_well_known_url(issuer.rstrip("/"), external=True, suffix="openid-configuration")]
    if urlsplit(issuer).path not in ("", "/"):
        places += [f"{issuer.rstrip('/')}/.well-known/openid-configuration"]
    answer = first_object(http, places, what, insecure_http=insecure_http)
    if answer is None:
        raise ProtocolError(f"there is no metadata of the authorization server '{shown(issuer)}' at {places}")
    url, metadata = answer
    named = metadata.get("issuer")
    # RFC 8414, 3.3: what another issuer says about itself must not be used. A bare slash is the same URL.
    if not isinstance(named, str) or named.removesuffix("/") != issuer.removesuffix("/"):
        raise ProtocolError(f"'{url}' is the metadata of issuer '{shown(named)}', not of '{shown(issuer)}'")
    return metadata


def _described(
    metadata: Mapping[str, Any], audience: str, scope: str | None, dialect: Dialect, *, insecure_http: bool
) -> AuthorizationServer:
    def endpoint(name: str) -> str | None:
        url = metadata.get(f"{name}_endpoint")
        if url is not None and not (isinstance(url, str) and is_safe(url, insecure_http=insecure_http)):
            raise ProtocolError(f"the {name} endpoint '{shown(url)}' is not an https URL")
        return url

    authorization, token = endpoint("authorization"), endpoint("token")
    if authorization is None or token is None:
        raise ProtocolError(f"'{shown(metadata['issuer'])}' names no endpoint for authorization or tokens")
    if dialect.lists_pkce and "S256" not in (_texts(metadata, "code_challenge_methods_supported") or ()):
        raise ProtocolError(
            f"'{shown(metadata['issuer'])}' does not offer PKCE with S256, so signing in is unsafe; "
            "if it supports S256 without listing it, set oauth_pkce = 'always'"
        )
    # Where refresh tokens have to be asked for, they are: an unattended run lives on them.
    offline = "offline_access" in (_texts(metadata, "scopes_supported") or ())
    if offline and scope and "offline_access" not in scope.split():
        scope = f"{scope} offline_access"
    return AuthorizationServer(
        audience=audience,
        issuer=str(metadata["issuer"]),
        authorization_endpoint=authorization,
        token_endpoint=token,
        registration_endpoint=endpoint("registration"),
        revocation_endpoint=endpoint("revocation"),
        # RFC 8414, 2: this is what the absence of the list means.
        auth_methods=_texts(metadata, "token_endpoint_auth_methods_supported") or ("client_secret_basic",),
        scope=scope,
        names_itself=metadata.get("authorization_response_iss_parameter_supported") is True,
        client_id_documents=metadata.get("client_id_metadata_document_supported") is True,
    )


def _texts(document: Mapping[str, Any], key: str) -> tuple[str, ...] | None:
    values = document.get(key)
    if values is None:
        return None
    if not isinstance(values, list) or not all(isinstance(value, str) for value in values):
        raise ProtocolError(f"'{key}' in the server's metadata is not a list of texts")
    return tuple(values)
