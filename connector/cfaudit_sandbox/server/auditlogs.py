"""The Audit Logs server as an MCP service: what it is called, what it offers, and a call of its tool."""

from __future__ import annotations

import asyncio
from collections.abc import Mapping
from typing import Any

from cfaudit_sandbox.server.pages import PageCache, ToolText, json_error, plain_error, read_error, render
from cfaudit_sandbox.server.rpc import CHANGING_TOOLS, Exchange
from cfaudit_sandbox.server.tool import (
    argument_error,
    choose_account,
    describe,
    instructions,
    mishap_message,
    read_query,
    tool_name,
)
from cfaudit_sandbox.server.upstream import Caller, Upstream
from cfaudit_sandbox.world.query import BadQueryError
from cfaudit_sandbox.world.world import World


class AuditLogs:
    """The service behind `/mcp`."""

    info: Mapping[str, str] = {"name": "auditlogs", "version": "1.0.0"}
    capabilities = CHANGING_TOOLS

    def __init__(self, world: World, upstream: Upstream) -> None:
        self._world = world
        self._upstream = upstream
        self.cache = PageCache(world)

    def instructions(self, caller: Caller) -> str | None:
        """Name the accounts where there is a choice."""
        return instructions(caller)

    def tools(self, caller: Caller) -> list[dict[str, Any]]:
        """List the one tool."""
        return [describe(caller, self._world.options)]

    async def call(self, name: str, arguments: Mapping[str, Any], exchange: Exchange) -> ToolText | None:
        """Read a page of the audit log, after the checks and in the order in which the server makes them."""
        options = self._world.options
        if name != tool_name(options):
            return None
        caller = exchange.caller
        if (flaw := argument_error(name, arguments, caller, options.drift)) is not None:
            return plain_error(flaw)
        account = choose_account(caller, exchange.headers.get("cf-account-id"), arguments)
        if not isinstance(account, str):
            return json_error(account)
        if options.latency_seconds:
            await asyncio.sleep(options.latency_seconds)
        exchange.seen.cost += 1
        if (mishap := self._upstream.audit(caller)) is not None:
            return read_error(mishap_message(mishap))
        try:
            return self._page(account, arguments)
        except BadQueryError:
            return read_error(mishap_message(400))

    def _page(self, account_id: str, arguments: Mapping[str, Any]) -> ToolText:
        query = read_query(arguments, self._world.options.drift)
        key = self.cache.key(account_id, query)
        text = self.cache.get(key)
        if text is None:
            text = render(self._world, account_id, self._world.query(account_id, query))
            self.cache.put(key, text)
        return text
