"""One attempt to sign in: the URL for the browser, and whether an answer belongs to it."""

from __future__ import annotations

import hmac
import secrets
from dataclasses import dataclass, field
from urllib.parse import parse_qsl

from cfaudit_export.auth.discovery import AuthorizationServer
from cfaudit_export.auth.registration import Client
from cfaudit_export.core.escape import shown
from cfaudit_export.errors import AccessError


@dataclass(frozen=True, slots=True, kw_only=True)
class Attempt:
    """A server, and the two secrets that tie its answer to us (RFC 6749, 10.12, and RFC 7636)."""

    server: AuthorizationServer
    state: str = field(default_factory=lambda: secrets.token_urlsafe(32), repr=False)
    verifier: str = field(default_factory=lambda: secrets.token_urlsafe(64), repr=False)

    def url(self, client: Client, redirect_uri: str) -> str:
        """Return where to send the browser."""
        from authlib.oauth2 import OAuth2Client

        oauth = OAuth2Client(None, client_id=client.id, code_challenge_method="S256", scope=self.server.scope)
        url, _state = oauth.create_authorization_url(
            self.server.authorization_endpoint,
            state=self.state,
            code_verifier=self.verifier,
            redirect_uri=redirect_uri,
            **({"resource": self.server.audience} if self.server.audience else {}),
        )
        return str(url)

    def why_not(self, query: str) -> str | None:
        """Return why the query of a redirect is not the answer to this attempt, None when it is."""
        answer = dict(parse_qsl(query))
        if not hmac.compare_digest(answer.get("state", "").encode(), self.state.encode()):
            return "It belongs to another sign-in (the state differs)."
        issuer = answer.get("iss")
        # RFC 9207, 2.4: an answer of another issuer is not looked at any further.
        if issuer != self.server.issuer and (issuer is not None or self.server.names_itself):
            return "It does not come from the server that was asked (the issuer differs)."
        return None if "code" in answer or "error" in answer else "It holds neither a code nor an error."


def code_in(query: str) -> str:
    """Return the authorization code of an answer.

    Raises:
        AccessError: the answer is a refusal.
    """
    answer = dict(parse_qsl(query))
    if "error" in answer:
        said = shown(answer.get("error_description") or answer["error"])
        raise AccessError(f"the server ended the sign-in: '{said}' ({shown(answer['error'])})")
    return answer["code"]
