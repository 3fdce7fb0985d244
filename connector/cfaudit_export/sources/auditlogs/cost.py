"""Credential and server -> how many upstream calls one call of the tool costs.

The server looks up who calls. Its first generation does so with every request that carries an API token, later ones
keep the answer; see `Reader` and `Pace` for where the cost is counted.
"""

from __future__ import annotations

import logging
from typing import Any
from urllib.parse import urlsplit

import anyio
import httpx2

from cfaudit_export.core.urls import origin_of
from cfaudit_export.errors import CfauditError
from cfaudit_export.http.exchange import AsyncBoundedTransport
from cfaudit_export.plugin.records import Credential, SourceContext
from cfaudit_export.sources.auditlogs import AuditLogsConfig
from cfaudit_export.sources.mcp.budget import Pace

_LOG = logging.getLogger(__name__)
# By kind of credential: the call itself, and the look-ups of who is asking.
_MOST = {"oauth": 1, "account token": 2, "user token": 3, "token": 3}
_PATHS = ("/mcp", "/sse")
_METADATA = "/.well-known/oauth-authorization-server"
_SECONDS, _MOST_BYTES = 10.0, 100_000


def most_calls(credential: Credential) -> int:
    """Return how many upstream calls one call of the tool costs at most."""
    return _MOST.get(credential.kind, 3)


async def learn_cost(config: AuditLogsConfig, context: SourceContext, pace: Pace) -> None:
    """Let `pace` count one upstream call a page where the server seems to remember an API token's owner.

    The server is asked once in a process, without the token, and at no upstream cost. Without an answer, through what
    may be a gateway with metadata of its own, or with a budget that a person chose, the highest cost stays.
    """
    most, key = most_calls(context.credential), f"cost {config.server_url}"
    if most == 1 or key in context.shared.values or config.budget_calls != AuditLogsConfig().budget_calls:
        return
    context.shared.values[key] = True
    if config.headers or urlsplit(config.server_url).path not in _PATHS:
        return
    if await context.credential.token() is None:
        return
    origin = origin_of(config.server_url)
    if _remembers_callers(await _metadata(origin, min(config.timeout_seconds, _SECONDS)), origin):
        _LOG.info("the server seems to remember who calls: counting one upstream call a page")
        pace.assume(most)


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


def _remembers_callers(metadata: Any, origin: str) -> bool:
    """Say whether metadata are those of a later generation, by two signs that are independent of each other.

    Responses that name their issuer (RFC 9207) came with a version of the server's OAuth library, and that PKCE is
    allowed with S256 only is a setting of the server's own.
    """
    return (
        isinstance(metadata, dict)
        and metadata.get("issuer") == origin
        and metadata.get("authorization_response_iss_parameter_supported") is True
        and metadata.get("code_challenge_methods_supported") == ["S256"]
    )
