"""Which account answers, and which others there are: told by the server, or by Cloudflare's API."""

from __future__ import annotations

import logging
from functools import partial
from typing import Any

import httpx2

from cfaudit_export.core.escape import shown
from cfaudit_export.core.model import UNNAMED_ACCOUNT
from cfaudit_export.errors import AccessError, AccountChoiceError, SettingsError
from cfaudit_export.http.exchange import AsyncBoundedTransport
from cfaudit_export.plugin.records import SourceContext
from cfaudit_export.plugin.resources import FIRST_ACCOUNT
from cfaudit_export.sources.auditlogs import AUDITLOGS_URL, CLOUDFLARE_API_URL, AuditLogsConfig
from cfaudit_export.sources.auditlogs.contract import ToolFault, read_fault
from cfaudit_export.sources.mcp.budget import CallBudget
from cfaudit_export.sources.mcp.failures import CallFailedError, failure_of
from cfaudit_export.sources.mcp.retry import RetryPolicy
from cfaudit_export.sources.mcp.session import Session, check_url

_LOG = logging.getLogger(__name__)
# The server reads one page of the credential's accounts, and knows nothing of those behind it.
MOST_LISTED = 20
_API_PAGE = 50
_API_PAGES = 200
_API_ANSWER = "Cloudflare's API does not list accounts in a way this version knows; set sources.auditlogs.api_url=''"

Accounts = tuple[tuple[str, str], ...]


class AccountFinder:
    """Finds the account of a stream, and remembers for the next one what the server said."""

    def __init__(self, config: AuditLogsConfig, context: SourceContext, budget: CallBudget) -> None:
        self._config = config
        self._context = context
        self._budget = budget

    async def find(self, session: Session, tool: str, *, takes_account: bool) -> tuple[str, Accounts]:
        """Return the account that will answer, and all that are known; prove that it is the one that was asked for.

        Raises:
            AccountChoiceError: none was asked for, and there are several.
            SettingsError: the credential cannot use the one that was asked for.
            AccessError: the credential can use none.
        """
        asked = self._context.stream.asked_account
        if takes_account:
            return await self._chosen(session, tool, asked)
        known = await self._once("api", self._of_api)
        if asked and known and asked not in dict(known):
            raise SettingsError(
                f"the credential belongs to account {known[0][0]} ({known[0][1]}), not to '{asked}'; "
                "use the token of that account, or drop --account"
            )
        if asked or len(known) == 1:
            return self._pinned(asked or known[0][0], is_known=bool(known)), known
        return UNNAMED_ACCOUNT, known

    def _pinned(self, account: str, *, is_known: bool) -> str:
        """Return the account of a credential that has one only; what it gives must not be taken for two accounts."""
        values = self._context.shared.values
        first = values.setdefault("pinned", values.get(FIRST_ACCOUNT, account))
        if not is_known and first != account:
            raise SettingsError(
                f"the credential belongs to one account, and the server does not say whether that is '{first}' or "
                f"'{account}'; export each with a credential of its own"
            )
        return account

    async def _chosen(self, session: Session, tool: str, asked: str) -> tuple[str, Accounts]:
        listed: Accounts | None = await self._once("server", lambda: self._of_server(session, tool))
        if listed is None:
            return asked or UNNAMED_ACCOUNT, ()
        if asked in dict(listed):
            return asked, listed
        if not asked and len(listed) == 1:
            return listed[0][0], listed
        if not asked and not listed:
            raise AccessError("this credential has access to no account; grant it 'Account Settings: Read' on one")
        if not asked:
            raise AccountChoiceError(await self._beyond(listed))
        raise SettingsError(f"this credential cannot use account '{asked}'; {_help(listed)}")

    async def _once(self, name: str, ask: Any) -> Any:
        values = self._context.shared.values
        key = f"accounts of {name} {self._config.server_url}"
        if key not in values:
            values[key] = await ask()
        return values[key]

    async def _of_server(self, session: Session, tool: str) -> Accounts | None:
        """Let the server itself say which accounts there are, by asking it for none of them; None if it does not."""
        session.choose_account(None)
        none = {"account_id": "none", "since": "2026-01-01", "before": "2026-01-01"}
        retry = RetryPolicy(self._budget, self._config.retry_seconds, self._config.server_url)
        # The server looks up who is asking, and then refuses.
        reply = await retry.persist(2, lambda: session.call(tool, none))
        fault = read_fault(reply.text) if reply.is_error else None
        return fault.accounts if isinstance(fault, ToolFault) and fault.kind == "account" else None

    async def _beyond(self, listed: Accounts) -> Accounts:
        """Return the accounts of the server, and those that only the API knows: they are to be missed aloud."""
        if len(listed) < MOST_LISTED:
            return listed
        known = await self._once("api", self._of_api)
        if not known:
            facts = {"listed": len(listed), "do": "export further accounts with an account token each"}
            _LOG.warning("the server lists no more accounts than these, whether there are more or not", extra=facts)
        return (*listed, *(one for one in known if one[0] not in dict(listed)))

    async def _of_api(self) -> Accounts:
        """Ask Cloudflare's API which accounts an API token can use; nothing when it is not to be asked."""
        url = self._config.api_url
        if url is None:
            url = CLOUDFLARE_API_URL if self._config.server_url == AUDITLOGS_URL else ""
        token = await self._context.credential.token()
        if not url or token is None or self._context.credential.kind == "oauth":
            return ()
        check_url(url, insecure_http=self._config.insecure_http)
        found: list[tuple[str, str]] = []
        headers = {"Authorization": f"Bearer {token}"}
        seconds, most_bytes = self._config.timeout_seconds, self._config.max_reply_bytes
        transport = AsyncBoundedTransport(seconds, most_bytes=most_bytes)
        async with httpx2.AsyncClient(transport=transport, timeout=seconds, headers=headers) as http:
            for page in range(1, _API_PAGES + 1):
                retry = RetryPolicy(self._budget, self._config.retry_seconds, url)
                rows = await retry.persist(1, partial(_api_page, http, url, page))
                found += rows
                if len(rows) < _API_PAGE:
                    break
        return tuple(dict(found).items())


async def _api_page(http: httpx2.AsyncClient, url: str, page: int) -> list[tuple[str, str]]:
    try:
        response = await http.get(f"{url}/accounts", params={"page": page, "per_page": _API_PAGE})
    except httpx2.HTTPError as error:
        raise failure_of(error) from error
    if response.status_code != 200:
        raise CallFailedError(f"HTTP {response.status_code}", status=response.status_code)
    try:
        listed = response.json()["result"]
        return [(shown(account["id"]), shown(account.get("name", ""))) for account in listed]
    except (ValueError, KeyError, TypeError, AttributeError, RecursionError) as error:
        raise SettingsError(_API_ANSWER) from error


def _help(listed: Accounts) -> str:
    if len(listed) >= MOST_LISTED:
        return (
            f"the server only reads the first {len(listed)} that the credential can use; "
            "export this one with an account token of its own"
        )
    return str(AccountChoiceError(listed))
