"""Access tokens that an authorization server signed: whether they are for this server, and whom they stand for."""

from __future__ import annotations

import base64
import json
import logging
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from threading import Lock
from typing import Any
from urllib.parse import urlsplit

import anyio.to_thread
import httpx2
from joserfc import jwt
from joserfc.errors import JoseError
from joserfc.jwk import KeySet
from mcp.server.auth.provider import AccessToken

from cfaudit_export.core.escape import shown
from cfaudit_export.core.urls import is_safe
from cfaudit_export.errors import CfauditError, SettingsError, TryAgainError
from cfaudit_export.http.exchange import open_client

# Signatures by keys of which the server publishes one half; none of secrets that both sides would have.
ALGORITHMS = ("RS256", "RS384", "RS512", "PS256", "PS384", "PS512", "ES256", "ES384", "ES512", "Ed25519", "EdDSA")
_LEEWAY_SECONDS = 60
_FRESH_SECONDS, _PAUSE_SECONDS, _OLDEST_SECONDS = 900.0, 30.0, 86_400.0
_TIMEOUT_SECONDS, _MOST_BYTES = 10.0, 1_000_000
_LONGEST_TOKEN = 16_384
_LOG = logging.getLogger(__name__)


@dataclass(frozen=True, slots=True)
class TokenIssuer:
    """Whose tokens are accepted.

    Attributes:
        issuer: the authorization server, as its tokens name it.
        audience: what its tokens for this server are for; the URL of this server, as a rule.
        jwks_url: where its keys are; None to find that in its metadata.
        scopes: what a token must allow.
    """

    issuer: str
    audience: str
    jwks_url: str | None = None
    scopes: tuple[str, ...] = ()


def require_https(option: str, url: str) -> str:
    """Return a URL.

    Raises:
        SettingsError: what comes from there could be another's.
    """
    if not is_safe(url):
        raise SettingsError(f"{option}: expected an https URL, not '{shown(url)}'")
    return url


class IssuedTokenVerifier:
    """Accepts tokens of one issuer. The protocol is that of the SDK."""

    def __init__(self, issuer: TokenIssuer, now: Callable[[], float]) -> None:
        """Build it; `now` is the time in seconds since 1970."""
        self._issuer = issuer
        self._now = now
        self._keys = IssuerKeys(issuer, now)

    async def verify_token(self, token: str) -> AccessToken | None:
        """Return what a token allows, None if it is not accepted; the log says why not."""
        return await anyio.to_thread.run_sync(self._verified, token)

    def _verified(self, token: str) -> AccessToken | None:
        try:
            if len(token) > _LONGEST_TOKEN:
                raise ValueError("too long")  # noqa: TRY301  # one place says what is refused
            claims = self._claims(token)
        except (JoseError, ValueError, TypeError, KeyError, CfauditError) as error:
            why = shown(getattr(error, "description", "") or str(error) or type(error).__name__)
            _LOG.warning("a token is refused", extra={"why": why})
            return None
        return AccessToken(
            token=token,
            client_id=str(claims.get("client_id") or claims.get("azp") or claims.get("sub") or "unknown"),
            scopes=_scopes(claims),
            expires_at=int(claims["exp"]),
            resource=self._issuer.audience,
            subject=str(claims["sub"]) if "sub" in claims else None,
            claims={"iss": self._issuer.issuer},
        )

    def _claims(self, token: str) -> Mapping[str, Any]:
        """Return the claims of a token.

        Raises:
            JoseError, ValueError: it is not accepted.
            CfauditError: the keys of the issuer cannot be read.
        """
        found = jwt.decode(token, self._keys.of(_header(token)), algorithms=list(ALGORITHMS))
        registry = jwt.JWTClaimsRegistry(
            now=lambda: int(self._now()),
            leeway=_LEEWAY_SECONDS,
            iss={"essential": True, "value": self._issuer.issuer},
            aud={"essential": True, "value": self._issuer.audience},
            exp={"essential": True},
        )
        registry.validate(found.claims)
        return found.claims


class IssuerKeys:
    """The keys of an issuer: fetched when they are needed, and again when a token names one that is not among them."""

    def __init__(self, issuer: TokenIssuer, now: Callable[[], float]) -> None:
        self._issuer = issuer
        self._now = now
        self._lock = Lock()
        self._keys: KeySet | None = None
        self._tried_at = self._read_at = float("-inf")

    def of(self, header: Mapping[str, Any]) -> KeySet:
        """Return the keys by which a token with such a header may be signed.

        Raises:
            CfauditError: they cannot be read.
        """
        with self._lock:
            age = self._now() - self._read_at
            is_known = self._keys is not None and _has(self._keys, header.get("kid"))
            if (not is_known or age > _FRESH_SECONDS) and self._now() - self._tried_at > _PAUSE_SECONDS:
                self._tried_at = self._now()
                self._renew(age)
            if self._keys is None:
                raise TryAgainError("the keys of the issuer could not be read a moment ago")
            return self._keys

    def _renew(self, age: float) -> None:
        try:
            url = self._issuer.jwks_url or self._found()
            self._keys = KeySet.import_key_set(self._fetched(url))
            self._read_at = self._now()
        except (httpx2.HTTPError, ValueError, TypeError, KeyError, JoseError, CfauditError) as error:
            _LOG.warning("the keys of the issuer cannot be read", extra={"why": shown(error)})
            if age > _OLDEST_SECONDS:
                self._keys = None

    def _found(self) -> str:
        """Return where the metadata of the issuer says that its keys are (RFC 8414, OpenID Connect Discovery)."""
        parts = urlsplit(self._issuer.issuer)
        origin, path = f"{parts.scheme}://{parts.netloc}", parts.path.rstrip("/")
        places = (
            f"{origin}/.well-known/oauth-authorization-server{path}",
            f"{origin}{path}/.well-known/openid-configuration",
        )
        why: Exception = ValueError("no metadata")
        for place in places:
            try:
                document = self._fetched(place)
                if document["issuer"] != self._issuer.issuer:
                    raise ValueError("its metadata is that of another issuer")  # noqa: TRY301  # as for what is no metadata
                return require_https("jwks_uri", str(document["jwks_uri"]))
            except (httpx2.HTTPError, ValueError, TypeError, KeyError) as error:
                why = error
        raise ValueError(f"no metadata at '{shown(self._issuer.issuer)}': {shown(why)}")

    def _fetched(self, url: str) -> Any:
        with open_client(_TIMEOUT_SECONDS, most_bytes=_MOST_BYTES) as http:
            response = http.get(url)
        if response.status_code != 200:
            raise ValueError(f"HTTP {response.status_code}")
        return response.json()


def _has(keys: KeySet, name: object) -> bool:
    return name is None or any(one.kid == name for one in keys.keys)


def _header(token: str) -> dict[str, Any]:
    """Return what a token says of itself, which is not proved yet."""
    part = token.partition(".")[0]
    header = json.loads(base64.urlsafe_b64decode(part + "=" * (-len(part) % 4)))
    if not isinstance(header, dict):
        raise ValueError("no header")  # noqa: TRY004  # of a stranger's text, as what is no JSON
    return header


def _scopes(claims: Mapping[str, Any]) -> list[str]:
    given = claims.get("scope", claims.get("scp", ""))
    return given.split() if isinstance(given, str) else [str(one) for one in given] if isinstance(given, list) else []
