"""The code-mode server as an MCP service, in three generations: its tools, and the calls of `execute`."""

from __future__ import annotations

import json
from collections import OrderedDict, deque
from collections.abc import Mapping
from dataclasses import asdict
from typing import Any

import msgspec

from cfaudit_export.sources.codemode.snippet import Parameters, read_code
from cfaudit_sandbox.codemode.api import ApiReply, AuditApi
from cfaudit_sandbox.codemode.run import UnreadableError, run_snippet
from cfaudit_sandbox.server.pages import ToolText, plain_error
from cfaudit_sandbox.server.rpc import CHANGING_TOOLS, Exchange
from cfaudit_sandbox.server.upstream import Caller, Upstream
from cfaudit_sandbox.world.schema import ABSENT, js_type
from cfaudit_sandbox.world.world import World

TOOL = "execute"
CUT_UNITS = 24_000
"""UTF-16 units of a reply that is not asked for whole."""
_RPC_BYTES = 32 * 1024 * 1024
_ACCOUNTS_NAMED = 30
_TITLES = {"docs": "Cloudflare Documentation", "search": "Cloudflare API Search", "whoami": "Who Am I"}
_CODE_WORDS = "JavaScript async arrow function to execute"
_ACCOUNT_WORDS = {
    "G0": "Your Cloudflare account ID. Optional if you have only one account (will be auto-selected)",
    "A": "Cloudflare account ID to run against. Optional when the session is authorized for exactly one account, "
    "and for account-independent calls such as GET /accounts.",
}


class Isolates:
    """What the calls of one sandbox share.

    Attributes:
        world: the data and the options.
        api: the endpoint that the snippet asks.
        faults: texts with which the next calls of `execute` fail, whatever they are.
        spoil: changes the text of every reply, as something between server and client might.
    """

    def __init__(self, world: World, upstream: Upstream) -> None:
        self.world = world
        self.api = AuditApi(world, upstream)
        self.faults: deque[str] = deque()
        self.spoil: list[tuple[str, str]] = []
        self._quoted: OrderedDict[bytes, bytes] = OrderedDict()
        self._quoted_bytes = 0

    def quoted(self, body: bytes) -> bytes:
        """Write the body of a page as it stands within a reply; once for each page, like the page itself."""
        found = self._quoted.get(body)
        if found is None:
            found = self._quoted[body] = _quoted(body.decode())
            self._quoted_bytes += len(found)
            while self._quoted_bytes > self.world.options.cache_bytes:
                self._quoted_bytes -= len(self._quoted.popitem(last=False)[1])
        return found


class CodeMode:
    """The service behind `/codemode/mcp`, for one request; `whole` says that its URL turns the cutting off."""

    info: Mapping[str, str] = {"name": "cloudflare-api", "version": "0.1.0"}

    def __init__(self, shared: Isolates, *, whole: bool) -> None:
        self._shared = shared
        self._whole = whole
        self._generation = shared.world.options.codemode_generation

    @property
    def capabilities(self) -> Mapping[str, Any]:
        """Announce changes of the tools, as the first generation does though they never change."""
        return CHANGING_TOOLS if self._generation == "G0" else {"tools": {}}

    def instructions(self, _caller: Caller) -> str | None:
        """Say nothing."""
        return None

    def tools(self, caller: Caller) -> list[dict[str, Any]]:
        """List the tools: the first generation's depend on the token, later ones' do not."""
        prefix = self._shared.world.options.tool_prefix
        if self._generation == "G0":
            return [_first_tool(prefix + name, caller) for name in ("search", TOOL)]
        return [self._late_tool(name) for name in ("docs", "search", TOOL, "whoami")]

    def _late_tool(self, name: str) -> dict[str, Any]:
        title = "Cloudflare API Code Executor" if name == TOOL else _TITLES[name]
        properties: dict[str, Any] = {}
        if name == TOOL:
            properties = {"code": _text(_CODE_WORDS), "account_id": _text(_ACCOUNT_WORDS["A"])}
        tool: dict[str, Any] = {
            "name": self._shared.world.options.tool_prefix + name,
            "title": title,
            "description": title,
            "inputSchema": _schema("https://json-schema.org/draft/2020-12/schema", properties),
            "annotations": {
                "title": title,
                "readOnlyHint": name != TOOL,
                "destructiveHint": name == TOOL,
                "openWorldHint": True,
            },
        }
        return tool | ({"_meta": {"securitySchemes": [{"type": "oauth2"}]}} if self._generation == "B" else {})

    async def call(self, name: str, arguments: Mapping[str, Any], exchange: Exchange) -> ToolText | None:
        """Run the snippet; anything else is refused."""
        prefix = self._shared.world.options.tool_prefix
        if name not in [tool["name"] for tool in self.tools(exchange.caller)]:
            return plain_error(f"MCP error -32602: Tool {name} not found") if self._generation == "G0" else None
        if name != prefix + TOOL:
            return plain_error(f"Error: the sandbox emulates {TOOL} only")
        if self._shared.faults:
            return plain_error(self._shared.faults.popleft())
        for argument, absent in (("code", ABSENT), ("account_id", "")):
            if not isinstance(value := arguments.get(argument, absent), str):
                return plain_error(self._argument_error(name, argument, js_type(value)))
        return await self._execute(arguments["code"], arguments.get("account_id"), exchange)

    def _argument_error(self, name: str, argument: str, received: str) -> str:
        if self._generation == "G0":
            return f"MCP error -32602: Input validation error: Invalid arguments for tool {name}: []"
        problem = f"{argument}: Invalid input: expected string, received {received}"
        return f"Input validation error: Invalid arguments for tool {name}: {problem}"

    async def _execute(self, code: str, account: str | None, exchange: Exchange) -> ToolText:
        caller, options = exchange.caller, self._shared.world.options
        parameters = _parameters(code)
        if parameters is None:
            return plain_error("Error: the sandbox runs no other code than the exporter's snippet")
        chosen = account or (caller.pinned.id if caller.pinned else None)
        if chosen is None and self._generation == "G0":
            return plain_error(_no_account_at_first(caller))

        def account_id() -> str:
            if chosen is None:
                raise UnreadableError(_no_account(caller))
            return chosen

        def fetch(account_id: str | None, query: list[tuple[str, str]]) -> ApiReply:
            exchange.seen.cost += 1
            if account_id is None:
                return self._shared.api.accounts(caller, query)
            return self._shared.api.answer(caller, account_id, query)

        head, bodies = await run_snippet(parameters, account_id, fetch, options.latency_seconds)
        return self._reply(head, bodies)

    def _reply(self, head: str, bodies: list[bytes]) -> ToolText:
        size = len(head) + 1 + sum(map(len, bodies))
        if size <= CUT_UNITS or (self._whole and self._generation != "G0" and size <= _RPC_BYTES // 2):
            return self._sent_whole(head, bodies)
        text = f"{head}\n{b''.join(bodies).decode()}"
        units = len(text.encode("utf-16-le")) // 2
        rpc_bytes = units if ord(max(text)) < 0x100 else 2 * units
        if rpc_bytes > _RPC_BYTES:
            return plain_error(
                "Error: Serialized RPC arguments or return values are limited to 32MiB, "
                f"but the size of this value was: {rpc_bytes} bytes."
            )
        if (self._whole and self._generation != "G0") or units <= CUT_UNITS:
            return self._sent(text)
        kept = text.encode("utf-16-le")[: 2 * CUT_UNITS].decode("utf-16-le", "surrogatepass")
        return self._sent(
            f"{kept}\n\n--- TRUNCATED ---\nResponse was ~{-(-units // 4):,} tokens (limit: 6,000). "
            "Use more specific queries to reduce response size."
        )

    def _sent_whole(self, head: str, bodies: list[bytes]) -> ToolText:
        if self._shared.spoil:
            return self._sent(f"{head}\n{b''.join(bodies).decode()}")
        return ToolText(b"".join([_quoted(f"{head}\n"), *map(self._shared.quoted, bodies)]))

    def _sent(self, text: str) -> ToolText:
        for found, instead in self._shared.spoil:
            text = text.replace(found, instead)
        return ToolText(_quoted(text))


def _parameters(code: str) -> Parameters | None:
    """Return the parameters of a call's code; None when it is not our snippet, or they are not of their types."""
    found = read_code(code)
    try:
        return None if found is None else msgspec.convert(asdict(found), Parameters)
    except msgspec.ValidationError:
        return None


def _quoted(text: str) -> bytes:
    """Write a text as it stands between quotes; decoded from UTF-8, it has a surrogate only where a pair was cut."""
    return json.dumps(text, ensure_ascii=False)[1:-1].encode("utf-8", "backslashreplace")


def _text(words: str) -> dict[str, str]:
    return {"type": "string", "description": words}


def _schema(dialect: str, properties: dict[str, Any]) -> dict[str, Any]:
    return {
        "$schema": dialect,
        "type": "object",
        "properties": properties,
        **({"required": ["code"]} if properties else {}),
    }


def _first_tool(name: str, caller: Caller) -> dict[str, Any]:
    """Describe a tool of the first generation; an account token is not asked for the account."""
    properties: dict[str, Any] = {"code": _text(_CODE_WORDS)}
    if caller.owner != "account" and name.endswith(TOOL):
        properties["account_id"] = _text(_ACCOUNT_WORDS["G0"])
    return {
        "name": name,
        "description": "Run JavaScript against the Cloudflare API",
        "inputSchema": _schema("http://json-schema.org/draft-07/schema#", properties),
        "execution": {"taskSupport": "forbidden"},
    }


def _no_account_at_first(caller: Caller) -> str:
    listed = "\n".join(f"  - {account.id} ({account.name})" for account in caller.accounts)
    return "Error: Multiple accounts available. Please specify account_id parameter.\n\nAvailable accounts:\n" + listed


def _no_account(caller: Caller) -> str:
    if not caller.accounts:
        return "No account selected: no Cloudflare accounts are authorized for this session."
    if len(caller.accounts) > _ACCOUNTS_NAMED:
        many = f"this token has access to {len(caller.accounts)} accounts"
        return f"No account selected: {many}. Call GET /accounts to discover available accounts."
    listed = "\n".join(f"- {account.id} ({account.name})" for account in caller.accounts)
    return f"No account selected. Pass account_id with one of this session's accounts:\n{listed}"
