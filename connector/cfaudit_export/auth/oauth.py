"""A grant that is kept -> the bearer token of the moment, for weeks, without a person.

A renewal happens once for all: threads of this process wait for each other, processes wait at a lock and then
take what the other one got. The new refresh token is durable before any part of the new grant is used; until
then the server still takes its predecessor, so a lost reply or a crash loses nothing.
"""

from __future__ import annotations

import logging
import random
import ssl
import threading
import time
from collections.abc import Callable
from contextlib import suppress
from dataclasses import replace
from datetime import datetime, timedelta

from cfaudit_export.auth.endpoint import NotNowError, RefusedError, TokenEndpoint, Tokens
from cfaudit_export.auth.grants import Grant, login_command
from cfaudit_export.auth.store import GrantStore
from cfaudit_export.errors import AccessError, ProtocolError, SourceUnavailableError, TryAgainError
from cfaudit_export.settings.options import DEFAULT_PROFILE

_LOG = logging.getLogger(__name__)

# A token is renewed so long before its end, or for the last fifth of a short life.
_EARLY = timedelta(minutes=5)
_EARLY_SHARE = 5
# While the old token is still good, a renewal that failed is not tried again for so long.
_BREATH = timedelta(seconds=30)
# Pauses before each round of asking when the server calls the grant invalid. Its memory is only eventually
# consistent, so that a refresh token of a moment ago may be unknown for a few seconds.
_PATIENCE_SECONDS = (0.0, 4.0, 8.0)
# Refusals after which only a person can help.
_DEAD = (
    "invalid_grant",
    "invalid_client",
    "invalid_target",
    "invalid_scope",
    "unauthorized_client",
    "access_denied",
)
_FIRST_DELAY_SECONDS, _LONGEST_DELAY_SECONDS = 1.0, 16.0


class OAuthCredential:
    """The credential `oauth`: a token from a kept grant, renewed in time. Never opens a browser."""

    def __init__(
        self,
        store: GrantStore,
        resource: str,
        profile: str = DEFAULT_PROFILE,
        *,
        clock: Callable[[], datetime],
        sleep: Callable[[float], None] = time.sleep,
        jitter: Callable[[], float] = random.random,
        retry_seconds: float = 60.0,
        hide: Callable[[str], None] = lambda _secret: None,
        verify: ssl.SSLContext | bool = True,
    ) -> None:
        """Build a credential; does no I/O.

        Args:
            store: where the grant is.
            resource: the URL of the MCP server.
            profile: which of several sign-ins there.
            clock: the time.
            sleep: waits that many seconds.
            jitter: a number between 0 and 1, another one each time.
            retry_seconds: how long a renewal is tried for while the server cannot answer.
            hide: told of every secret that comes to hand.
            verify: replaces the system's trust store.
        """
        self._store = store
        self._resource = resource
        self._profile = profile
        self._clock = clock
        self._sleep = sleep
        self._jitter = jitter
        self._retry_seconds = retry_seconds
        self._hide = hide
        self._verify = verify
        self._grant: Grant | None = None
        self._rest_until: datetime | None = None
        self._presented: dict[str, Exception] = {}
        self._used: set[str] = set()
        self._turn = threading.Lock()

    @property
    def kind(self) -> str:
        """Return `oauth`."""
        return "oauth"

    async def token(self) -> str:
        """Return the access token, renewed beforehand when it is about to end.

        Raises:
            AccessError: there is no sign-in, or the grant is gone; the message says what to run.
            SourceUnavailableError, TryAgainError: it had to be renewed, and that cannot be done now.
            ProtocolError: the token endpoint answered what no token endpoint should.
        """
        grant = self._grant
        if grant is None or self._is_due(grant):
            grant = await self._in_thread(None)
        return grant.access_token

    async def renew(self, refused: str) -> bool:
        """Get a token other than `refused`; callers who name the same one share one renewal.

        Also the cure for a token that is accepted while all calls with it fail, because what it stands for at
        Cloudflare ended first. False when the server never gave a refresh token.

        Raises what `token` raises.
        """
        grant = self._grant
        if grant is not None and grant.access_token != refused:
            return True
        return (await self._in_thread(refused)).access_token != refused

    async def _in_thread(self, refused: str | None) -> Grant:
        import anyio.to_thread

        # Locks, disks and keyrings block. A renewal that no caller waits for any more is still completed.
        return await anyio.to_thread.run_sync(self._current, refused, abandon_on_cancel=True)

    def _current(self, refused: str | None) -> Grant:
        """Return a grant whose access token is good and not `refused`, from the store or from the server."""
        with self._turn:
            self._grant = self._kept()
            if self._is_good(self._grant, refused):
                return self._grant
            spare = refused is None and not self._is_over(self._grant)
            try:
                self._grant = self._renewed(refused, hurried=spare)
            except (TryAgainError, ProtocolError) as error:
                if not spare:
                    raise
                self._rest_until = self._clock() + _BREATH
                _LOG.warning("sign-in not renewed, the old token still works", extra={"error": str(error)})
            return self._grant

    def _renewed(self, refused: str | None, *, hurried: bool) -> Grant:
        """Return the grant after a refresh, by this process or by another one."""
        wait_seconds, retry_seconds = (0.0, 0.0) if hurried else (2 * self._retry_seconds, self._retry_seconds)
        with self._store.hold(self._resource, self._profile, wait_seconds=wait_seconds):
            for pause in _PATIENCE_SECONDS:
                if pause > self._retry_seconds:
                    break
                self._sleep(pause)
                # The holder of the lock before us was faster; so may be a machine on a shared disk that knows no locks.
                grant = self._kept()
                if self._is_good(grant, refused):
                    return grant
                if grant.refresh_token is None:
                    return self._last_of(grant)
                try:
                    renewed = self._refreshed(grant, retry_seconds)
                except RefusedError as error:
                    refusal = error
                    if error.code != "invalid_grant":
                        break
                else:
                    self._store.update(renewed)
                    self._hide_all(renewed)
                    _LOG.info("sign-in renewed", extra={"resource": self._resource, "expires_at": renewed.expires_at})
                    return renewed
            raise self._refusal(grant, refusal)

    def _last_of(self, grant: Grant) -> Grant:
        """Return a grant that cannot be renewed as long as it is not over."""
        if self._is_over(grant):
            raise AccessError(f"the sign-in for '{self._resource}' has ended; {self._advice()}")
        return grant

    def _refreshed(self, grant: Grant, retry_seconds: float) -> Grant:
        """Return the grant after a refresh by its newest refresh token or, when that is refused, by the one before."""
        with TokenEndpoint(grant.client, grant.token_endpoint, verify=self._verify) as endpoint:
            newest, previous = grant.refresh_token or "", grant.previous_refresh_token
            try:
                return grant.renewed(self._asked(endpoint, newest, grant, retry_seconds), newest, self._clock())
            except RefusedError as error:
                if previous is None or error.code != "invalid_grant":
                    raise
                if previous in self._used:  # by this run, a moment ago: the server may not know yet what it gave
                    raise SourceUnavailableError(
                        f"the server does not accept the renewed sign-in yet ({error}); try again later"
                    ) from None
            return grant.renewed(self._asked(endpoint, previous, grant, retry_seconds), previous, self._clock())

    def _asked(self, endpoint: TokenEndpoint, presented: str, grant: Grant, retry_seconds: float) -> Tokens:
        """Ask until there is an answer, or the pauses would exceed `retry_seconds`.

        No refresh token is presented again in this process once it may have been used: servers that see one twice take
        it for stolen, and end the sign-in.
        """
        if (outcome := self._presented.get(presented)) is not None:
            raise outcome
        delay, slept, began_at = _FIRST_DELAY_SECONDS, 0.0, self._clock()
        while True:
            try:
                tokens = endpoint.refresh(presented, grant.audience)
            except RefusedError as error:
                if not _is_not_ours(error, grant):
                    self._presented[presented] = error
                    raise
                problem, wait, is_lost = str(error), None, False
            except NotNowError as error:
                problem, wait, is_lost = str(error), error.retry_after_seconds, error.may_have_worked
            else:
                self._used.add(presented)
                self._presented[presented] = RefusedError("invalid_grant", "this refresh token was used already")
                return tokens
            pause = max(delay * (0.5 + self._jitter() / 2), wait or 0.0)
            if is_lost or max(slept, (self._clock() - began_at).total_seconds()) + pause > retry_seconds:
                failed = SourceUnavailableError(
                    f"the sign-in cannot be renewed now: '{grant.token_endpoint}': {problem}; try again later"
                )
                if is_lost:
                    self._presented[presented] = failed
                raise failed
            self._sleep(pause)
            slept += pause
            delay = min(2 * delay, _LONGEST_DELAY_SECONDS)

    def _refusal(self, grant: Grant, error: RefusedError) -> AccessError | ProtocolError:
        said = f"the server says '{error}' ({error.code})"
        if error.code in _DEAD:
            # Remembered: the next sign-in registers instead of showing the browser an error page, and `status`
            # says that a person is needed.
            is_unknown = error.code == "invalid_client" and "not found" in str(error).lower()
            client = replace(grant.client, refused=True) if is_unknown else grant.client
            with suppress(TryAgainError, AccessError):
                self._store.update(replace(grant, client=client, refused_at=self._clock(), refusal=said))
        if error.code == "invalid_client":
            check = "" if grant.client.registered_at else "check client_id and client_secret, then "
            return AccessError(f"'{grant.issuer}' refuses this program: {said}; {check}{self._advice()}")
        if error.code in _DEAD:
            hint = "" if error.code != "invalid_target" else "; if it refuses 'resource', set oauth_resource = 'omit'"
            return AccessError(f"the sign-in for '{self._resource}' has ended: {said}; {self._advice()}{hint}")
        return ProtocolError(f"the sign-in for '{self._resource}' cannot be renewed: {said}")

    def _kept(self) -> Grant:
        grant = self._store.find(self._resource, self._profile)
        if grant is None:
            raise AccessError(f"not signed in at '{self._resource}'; {self._advice()}")
        self._hide_all(grant)
        return grant

    def _hide_all(self, grant: Grant) -> None:
        for secret in grant.secrets:
            self._hide(secret)

    def _advice(self) -> str:
        return f"run: {login_command(self._profile)}"

    def _is_good(self, grant: Grant, refused: str | None) -> bool:
        return grant.access_token != refused and not self._is_due(grant)

    def _is_due(self, grant: Grant) -> bool:
        now = self._clock()
        if grant.expires_at is None or (self._rest_until is not None and now < self._rest_until < grant.expires_at):
            return False
        if grant.refresh_token is None:
            return now >= grant.expires_at
        early = min(_EARLY, (grant.expires_at - grant.renewed_at) / _EARLY_SHARE)
        return now >= grant.expires_at - early

    def _is_over(self, grant: Grant) -> bool:
        return grant.expires_at is not None and self._clock() >= grant.expires_at


def _is_not_ours(error: RefusedError, grant: Grant) -> bool:
    """Say whether a refusal is the server's own trouble: it blames the client, and a public client proves nothing."""
    if error.code == "invalid_client":
        return grant.client.auth_method == "none" and "not found" not in str(error).lower()
    return error.code in ("temporarily_unavailable", "slow_down")
