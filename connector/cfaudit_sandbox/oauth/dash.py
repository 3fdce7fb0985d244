"""The emulated dashboard behind the OAuth server: it asks the person, and gives the tokens that calls really use."""

from __future__ import annotations

import asyncio
import html
import secrets
from collections import deque
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Literal
from urllib.parse import urlencode

from starlette.responses import HTMLResponse, RedirectResponse, Response

DASH_PATH = "/dash/oauth2/auth"
_OK = 200

TokenMishap = int | Literal["lost", "drop", "html", "garbled"]
"""What becomes of a token request: dash answers with a status; `lost`: carried out, but the connection breaks before
the answer; `drop`: it breaks before anything is done; `html`: a page of the edge; `garbled`: carried out, but the
answer is cut off."""


@dataclass(frozen=True, slots=True, kw_only=True)
class OAuthKnobs:
    """How the OAuth half behaves; may be replaced while it runs.

    Attributes:
        dash_expires_in: life of the inner token in seconds, and of every refreshed access token with it.
        dash_rotates: an inner refresh token works once.
        dash_latency_seconds: how long dash takes, so that requests can overtake each other.
        probe_status: what the lookup of the user answers during a sign-in.
        lag_seconds: how long the server goes on reading a grant as it was before its last refresh.
        grant_seconds: life of a grant, counted from the exchange of its code.
        client_id_documents: an https URL is taken for a client id.
        names_itself: the redirect carries `iss`.
        openid_only: the metadata stands where OpenID puts it.
    """

    dash_expires_in: int = 57_600
    dash_rotates: bool = True
    dash_latency_seconds: float = 0.0
    probe_status: int = 200
    lag_seconds: float = 0.0
    grant_seconds: float = 30 * 86_400.0
    client_id_documents: bool = False
    names_itself: bool = False
    openid_only: bool = False


@dataclass(frozen=True, slots=True)
class Inner:
    """A pair of dash's own tokens and when the access token ends."""

    access: str
    refresh: str
    expires_at: float


class DashError(Exception):
    """Dash answered with a status other than 200."""

    def __init__(self, status: int) -> None:
        super().__init__(f"dash answered {status}")
        self.status = status


class Dash:
    """The token half: issues, rotates and kills inner tokens."""

    def __init__(self, clock: Callable[[], float]) -> None:
        self.knobs = OAuthKnobs()
        self._clock = clock
        self._refresh_tokens: set[str] = set()
        self._alive: set[str] = set()
        self._statuses: deque[int] = deque()

    def fail_next(self, status: int) -> None:
        """Answer the next token request with a status."""
        self._statuses.append(status)

    async def exchange(self) -> Inner:
        """Give the first tokens of a sign-in.

        Raises:
            DashError: not now.
        """
        await self._answer()
        return self._issue()

    async def refresh(self, refresh: str) -> Inner:
        """Give new tokens for a refresh token.

        Raises:
            DashError: not now, or 400 for a token that is spent.
        """
        await self._answer()
        if refresh not in self._refresh_tokens:
            raise DashError(400)
        if self.knobs.dash_rotates:
            self._refresh_tokens.remove(refresh)
        return self._issue(None if self.knobs.dash_rotates else refresh)

    def is_alive(self, inner: Inner) -> bool:
        """Say whether calls with an inner token still work."""
        return inner.access in self._alive and self._clock() < inner.expires_at

    def kill(self) -> None:
        """End all inner access tokens, as when a user revokes them in the dashboard; refresh tokens go on."""
        self._alive.clear()

    def revoke(self) -> None:
        """End all inner refresh tokens."""
        self._refresh_tokens.clear()

    async def _answer(self) -> None:
        await asyncio.sleep(self.knobs.dash_latency_seconds)
        if self._statuses and (status := self._statuses.popleft()) != _OK:
            raise DashError(status)

    def _issue(self, refresh: str | None = None) -> Inner:
        inner = Inner(
            secrets.token_hex(20), refresh or secrets.token_hex(20), self._clock() + self.knobs.dash_expires_in
        )
        self._alive.add(inner.access)
        self._refresh_tokens.add(inner.refresh)
        return inner


def ask_person(query: Mapping[str, str], path: str) -> Response:
    """Show the page on which a person lets the OAuth server in, or does not; its form goes to `path`."""
    fields = "".join(
        f'<input type="hidden" name="{name}" value="{html.escape(query.get(name, ""))}">'
        for name in ("redirect_uri", "state", "scope")
    )
    return HTMLResponse(
        f'<!doctype html><html lang="en"><meta charset="utf-8"><title>Emulated dashboard</title>'
        f"<h1>Authorize access?</h1><p>This stands in for the Cloudflare dashboard.</p>"
        f'<form method="post" action="{html.escape(path)}">{fields}'
        f'<button id="allow" name="decision" value="allow">Authorize</button> '
        f'<button id="deny" name="decision" value="deny">Deny</button></form>'
    )


def heed_person(form: Mapping[str, str], callback: str) -> Response:
    """Send the browser back to the callback of the OAuth server with the person's decision."""
    if form.get("redirect_uri") != callback:
        return HTMLResponse("The redirect_uri is not registered.", 400)
    answer = {"state": form.get("state", "")}
    if form.get("decision") == "allow":
        answer |= {"code": secrets.token_hex(20), "scope": form.get("scope", "")}
    else:
        answer |= {"error": "access_denied", "error_description": "The resource owner denied the request"}
    return RedirectResponse(f"{callback}?{urlencode(answer)}", 302)
