"""A code or a refresh token -> new tokens: one request to the token endpoint, and what its answer means.

Authlib speaks OAuth; this file only sorts the outcomes into tokens, a refusal, and "not now".
"""

from __future__ import annotations

import ssl
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from datetime import UTC, datetime
from typing import TYPE_CHECKING, Any, Self

from cfaudit_export.auth.web import MOST_BYTES, TIMEOUT_SECONDS, UNTRUSTED, describe, refusal_of
from cfaudit_export.core.causes import is_untrusted
from cfaudit_export.core.escape import shown
from cfaudit_export.errors import CfauditError, ProtocolError, SettingsError
from cfaudit_export.http.retry_after import retry_after_seconds

if TYPE_CHECKING:
    import httpx2
    from authlib.integrations.httpx_client import OAuth2Client

    from cfaudit_export.auth.registration import Client


_LONGEST_SECONDS = 100 * 365 * 86_400.0
# Statuses of a server that has not looked at the request.
_UNTOUCHED = (408, 425, 429, 503)


class RefusedError(Exception):
    """The server refuses: `code` is the OAuth error (RFC 6749, 5.2), the text its description."""

    def __init__(self, code: str, description: str) -> None:
        super().__init__(description or code)
        self.code = code


class NotNowError(Exception):
    """No usable answer: the request may come again.

    Attributes:
        retry_after_seconds: how long the server wants to be left alone, where it says so.
        may_have_worked: the request may have been carried out, so that a refresh token may be used up.
    """

    def __init__(self, message: str, retry_after_seconds: float | None = None, *, may_have_worked: bool = True) -> None:
        super().__init__(message)
        self.retry_after_seconds = retry_after_seconds
        self.may_have_worked = may_have_worked


@dataclass(frozen=True, slots=True, kw_only=True)
class Tokens:
    """What the token endpoint gave; a None was not said."""

    access_token: str = field(repr=False)
    refresh_token: str | None = field(repr=False)
    expires_in_seconds: float | None
    refresh_expires_in_seconds: float | None
    scope: str | None


class TokenEndpoint:
    """A client at a token endpoint. Makes its connection when it is first asked; close it with `with`."""

    def __init__(self, client: Client, url: str, *, verify: ssl.SSLContext | bool = True) -> None:
        """Build it. `verify` replaces the system's trust store."""
        self._client = client
        self._url = url
        self._verify = verify
        self._oauth: OAuth2Client | None = None

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_exc: object) -> None:
        if self._oauth is not None:
            self._oauth.close()

    def exchange(self, code: str, verifier: str, redirect_uri: str, audience: str) -> Tokens:
        """Exchange an authorization code (RFC 6749, 4.1.3, with RFC 7636 and RFC 8707).

        Raises:
            RefusedError, NotNowError: no tokens.
            ProtocolError: an answer that is neither.
        """
        with _sorted():
            return _tokens(
                self._session().fetch_token(
                    self._url,
                    grant_type="authorization_code",
                    code=code,
                    code_verifier=verifier,
                    redirect_uri=redirect_uri,
                    **_naming(audience),
                )
            )

    def refresh(self, refresh_token: str, audience: str) -> Tokens:
        """Exchange a refresh token (RFC 6749, 6).

        Raises what `exchange` raises.
        """
        with _sorted():
            return _tokens(self._session().refresh_token(self._url, refresh_token=refresh_token, **_naming(audience)))

    def revoke(self, url: str, token: str) -> None:
        """End the grant of a refresh token, or just an access token, at the revocation endpoint (RFC 7009).

        Raises what `exchange` raises.
        """
        with _sorted():
            response = self._session().revoke_token(url, token=token)
            _raise_not_now(response)
            if not response.is_success:
                raise ProtocolError(f"the revocation endpoint answered {refusal_of(response)}")

    def _session(self) -> OAuth2Client:
        if self._oauth is None:
            from authlib.integrations.httpx_client import OAuth2Client

            from cfaudit_export.http.exchange import BoundedTransport

            self._oauth = OAuth2Client(
                client_id=self._client.id,
                client_secret=self._client.secret,
                token_endpoint_auth_method=self._client.auth_method,
                revocation_endpoint_auth_method=self._client.auth_method,
                transport=BoundedTransport(TIMEOUT_SECONDS, most_bytes=MOST_BYTES, verify=self._verify),
                timeout=TIMEOUT_SECONDS,
                follow_redirects=False,
            )
            self._oauth.register_compliance_hook("access_token_response", _raise_not_now)
            self._oauth.register_compliance_hook("refresh_token_response", _raise_not_now)
        return self._oauth


def _naming(audience: str) -> dict[str, str]:
    return {"resource": audience} if audience else {}


def _raise_not_now(response: httpx2.Response) -> httpx2.Response:
    if response.status_code in (408, 425, 429) or response.status_code >= 500:
        after = retry_after_seconds(response.headers.get("retry-after"), datetime.now(UTC))
        raise NotNowError(f"HTTP {response.status_code}", after, may_have_worked=response.status_code not in _UNTOUCHED)
    return response


@contextmanager
def _sorted() -> Iterator[None]:
    import httpx2
    from authlib.integrations.base_client import OAuthError

    # The causes are cut off: their frames and texts hold requests and replies.
    try:
        yield
    except OAuthError as error:
        raise RefusedError(shown(error.error), shown(error.description or "")) from None
    except httpx2.HTTPStatusError as error:
        status = error.response.status_code
        raise ProtocolError(f"the token endpoint answered HTTP {status} without an OAuth error") from None
    except (httpx2.ConnectError, httpx2.ConnectTimeout, httpx2.ProxyError) as error:
        if is_untrusted(error):
            raise SettingsError(f"{UNTRUSTED.format('the token endpoint')}: {describe(error)}") from None
        raise NotNowError(describe(error), may_have_worked=False) from None
    except httpx2.TransportError as error:
        raise NotNowError(describe(error)) from None
    except (RefusedError, NotNowError, CfauditError):
        raise
    except Exception:  # noqa: BLE001  # Authlib raises whatever the values of a reply lead to
        # The reply is cut off, or a page of something in between; whatever it was, it may have been carried out.
        raise NotNowError("the reply is not JSON, or does not hold a token") from None


def _tokens(answer: dict[str, Any]) -> Tokens:
    access, refresh = answer.get("access_token"), answer.get("refresh_token")
    if not isinstance(access, str) or not access.isprintable() or not isinstance(refresh, str | None):
        raise ProtocolError("the token endpoint answered without an access token")
    if str(answer.get("token_type", "bearer")).lower() != "bearer":
        raise ProtocolError(f"the token endpoint gave a '{shown(answer['token_type'])}' token, not a bearer token")
    return Tokens(
        access_token=access,
        refresh_token=refresh or None,
        expires_in_seconds=_seconds(answer.get("expires_in")),
        refresh_expires_in_seconds=_seconds(answer.get("refresh_token_expires_in")),
        scope=answer.get("scope") if isinstance(answer.get("scope"), str) else None,
    )


def _seconds(value: object) -> float | None:
    """Return a number of seconds as servers write it, also as text; None when it is none. No grant lasts centuries."""
    try:
        seconds = float(str(value))
    except ValueError:
        return None
    return min(seconds, _LONGEST_SECONDS) if seconds >= 0 else None
