"""Credential and server -> how many upstream calls one call of the tool costs, and what its refusals may mean.

The server looks up who calls. Its first generation does so with every request that carries an API token, later ones
keep the answer. `CallBudget` counts the cost. A look-up is refused by name where the user is blocked, and a page is
not: so where each page brings one, as of the first generation, a refused page says that a permission is missing.
"""

from __future__ import annotations

import logging
from typing import Any, Literal
from urllib.parse import urlsplit

import anyio
import httpx2

from cfaudit_export.core.urls import origin_of
from cfaudit_export.errors import CfauditError
from cfaudit_export.http.exchange import AsyncBoundedTransport
from cfaudit_export.plugin.records import Credential, SourceContext
from cfaudit_export.sources.auditlogs import AuditLogsConfig
from cfaudit_export.sources.mcp.budget import CallBudget

Generation = Literal["first", "later"]
"""`first`: each request with an API token looks up who calls; `later`: the answer is kept."""

_LOG = logging.getLogger(__name__)
# By kind of credential: the call itself, and the look-ups of who is asking.
_MOST = {"oauth": 1, "account token": 2, "user token": 3, "token": 3}
_PATHS = ("/mcp", "/sse")
_METADATA = "/.well-known/oauth-authorization-server"
_SECONDS, _MOST_BYTES = 10.0, 100_000


def most_calls(credential: Credential) -> int:
    """Return how many upstream calls one call of the tool costs at most."""
    return _MOST.get(credential.kind, 3)


async def learn_cost(config: AuditLogsConfig, context: SourceContext, budget: CallBudget) -> None:
    """Let `budget` count one upstream call a page where the server seems to remember an API token's owner.

    The server is asked once in a process, without the token, and at no upstream cost. Without an answer, through what
    may be a gateway with metadata of its own, or with a budget that a person chose, the highest cost stays.
    """
    most, key = most_calls(context.credential), f"cost {config.server_url}"
    if most == 1 or key in context.shared.values or config.budget_calls != AuditLogsConfig().budget_calls:
        return
    context.shared.values[key] = True
    if await generation(config, context) == "later":
        _LOG.info("the server seems to remember who calls: counting one upstream call a page")
        budget.assume(most)


async def generation(config: AuditLogsConfig, context: SourceContext) -> Generation | None:
    """Return which generation the server seems to be, asked once in a process; None where nothing tells."""
    values, key = context.shared.values, f"generation of {config.server_url}"
    if key not in values:
        values[key] = await _seen_generation(config, context)
    found: Generation | None = values[key]
    return found


async def _seen_generation(config: AuditLogsConfig, context: SourceContext) -> Generation | None:
    if config.headers or urlsplit(config.server_url).path not in _PATHS or await context.credential.token() is None:
        return None
    origin = origin_of(config.server_url)
    return _generation_of(await _metadata(origin, min(config.timeout_seconds, _SECONDS)), origin)


async def _metadata(origin: str, seconds: float) -> Any:
    """Return the metadata of the authorization server at an origin (RFC 8414), None without one."""
    try:
        transport = AsyncBoundedTransport(seconds, most_bytes=_MOST_BYTES)
        async with httpx2.AsyncClient(transport=transport, timeout=seconds) as http:
            with anyio.fail_after(seconds):
                response = await http.get(origin + _METADATA)
            return response.json() if response.status_code == 200 else None
    except (httpx2.HTTPError, CfauditError, OSError, ValueError, RecursionError) as error:
        _LOG.info("the cost of a page stays at its highest", extra={"reason": type(error).__name__})
        return None


def _generation_of(metadata: Any, origin: str) -> Generation | None:
    """Tell a generation by two signs that are independent of each other.

    Responses that name their issuer (RFC 9207) came with a version of the server's OAuth library, and that PKCE is
    allowed with S256 only is a setting of the server's own.
    """
    if not isinstance(metadata, dict) or metadata.get("issuer") != origin:
        return None
    names_itself = metadata.get("authorization_response_iss_parameter_supported", False)
    methods = metadata.get("code_challenge_methods_supported")
    if names_itself is True and methods == ["S256"]:
        return "later"
    return "first" if names_itself is False and methods == ["plain", "S256"] else None
