"""The credential of a source on each of its requests."""

from __future__ import annotations

from collections.abc import AsyncGenerator

import httpx2

from cfaudit_export.errors import CfauditError
from cfaudit_export.plugin.records import Credential


class Bearer(httpx2.Auth):
    """Put the credential's token of the moment on each request, and renew it once when it is refused.

    What the credential raises is kept in `problem`: raised here, it would take down the SDK's whole session.
    """

    def __init__(self, credential: Credential) -> None:
        self._credential = credential
        self.problem: CfauditError | None = None

    async def async_auth_flow(self, request: httpx2.Request) -> AsyncGenerator[httpx2.Request, httpx2.Response]:
        """Send the request with the token, and once more with another one where that was refused."""
        token = await self._token()
        if token is None:
            yield request
            return
        request.headers["Authorization"] = f"Bearer {token}"
        response = yield request
        if response.status_code == 401 and (renewed := await self._token(refused=token)) is not None:
            request.headers["Authorization"] = f"Bearer {renewed}"
            yield request

    async def _token(self, refused: str | None = None) -> str | None:
        try:
            if refused is None or await self._credential.renew(refused):
                return await self._credential.token()
        except CfauditError as error:
            self.problem = error
        return None
