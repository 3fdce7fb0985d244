"""The one tool of the Audit Logs server: its input schema, the checks of its arguments, and its answers."""

from __future__ import annotations

import re
from collections.abc import Collection, Mapping
from typing import Any, cast

from cfaudit_sandbox.server.upstream import Caller, Mishap
from cfaudit_sandbox.world import drift
from cfaudit_sandbox.world.options import SandboxOptions
from cfaudit_sandbox.world.query import FILTERS, AuditQuery, BadQueryError
from cfaudit_sandbox.world.schema import (
    ABSENT,
    ACTION_RESULTS,
    ACTION_TYPES,
    ACTOR_CONTEXTS,
    ACTOR_TYPES,
    EMAIL_PATTERN,
    js_type,
)
from cfaudit_sandbox.world.text import instant

TOOL = "auditlogs_by_account_id"
_WINDOW_PATTERN = r"^(\d{4}-\d{2}-\d{2}|(\d{4}-\d{2}-\d{2}T\d{2}:\d{2}:\d{2}\.\d{3}Z))$"
_WINDOW_MESSAGE = "Date must be in YYYY-MM-DD or ISO 8601 format with milliseconds (e.g., YYYY-MM-DDTHH:mm:ss.sssZ)"
_CLIENT_ERROR, _SERVER_ERROR = 400, 500

_ENUMS: Mapping[str, tuple[str, ...]] = {
    "action_result": ACTION_RESULTS,
    "action_type": ACTION_TYPES,
    "actor_context": ACTOR_CONTEXTS,
    "actor_type": ACTOR_TYPES,
    "resource_scope": ("memberships", "accounts", "user", "zones"),
    "direction": ("desc", "asc"),
}
_NUMBERS: Mapping[str, tuple[int, int] | None] = {"raw_status_code": None, "limit": (1, 1000)}
_PATTERNS: Mapping[str, tuple[str, str]] = {
    "actor_email": (EMAIL_PATTERN, "Invalid email address"),
    "since": (_WINDOW_PATTERN, _WINDOW_MESSAGE),
    "before": (_WINDOW_PATTERN, _WINDOW_MESSAGE),
}
_WORDS: Mapping[str, str] = {
    "since": "Start of the time range, a date or a time with milliseconds",
    "before": "End of the time range, a date or a time with milliseconds",
    "direction": "Order of the entries by time",
    "limit": "Most entries to return",
    "cursor": "Where to go on, from the previous answer",
    "account_id": "The account to read; see the server's instructions",
}
_ARGUMENTS = (*FILTERS, "since", "before", "direction", "limit", "cursor")


def input_schema(caller: Caller) -> dict[str, Any]:
    """Build the tool's input schema; `account_id` is offered only where there is a choice."""
    names = _ARGUMENTS if len(caller.accounts) == 1 else (*_ARGUMENTS, "account_id")
    return {
        "type": "object",
        "properties": {name: _property(name) for name in names},
        "required": ["since", "before"],
        "$schema": "https://json-schema.org/draft/2020-12/schema",
    }


def _property(name: str) -> dict[str, Any]:
    words = {"description": _WORDS.get(name, f"Only entries with this {name.replace('_', ' ')}")}
    if name in _ENUMS:
        return words | {"type": "string", "enum": list(_ENUMS[name])}
    if name in _NUMBERS:
        bounds = _NUMBERS[name]
        return words | {"type": "number"} | ({"minimum": bounds[0], "maximum": bounds[1]} if bounds else {})
    body = {"type": "string"} | ({"format": "email"} if name == "actor_email" else {})
    return words | body | ({"pattern": _PATTERNS[name][0]} if name in _PATTERNS else {})


def describe(caller: Caller, options: SandboxOptions) -> dict[str, Any]:
    """Build the tool's entry in tools/list."""
    return {
        "name": tool_name(options),
        "description": "Read the audit log of a Cloudflare account: who changed what, and when.",
        "inputSchema": drift.changed_schema(input_schema(caller), options.drift),
    }


def tool_name(options: SandboxOptions) -> str:
    """Return what the tool is called."""
    return options.tool_prefix + (drift.TOOL if "renamed-tool" in options.drift else TOOL)


def argument_error(
    name: str, arguments: Mapping[str, Any], caller: Caller, changes: Collection[str] = ()
) -> str | None:
    """Check the arguments of a call; return the plain text of the error. Arguments it does not know pass."""
    names = _ARGUMENTS if len(caller.accounts) == 1 else (*_ARGUMENTS, "account_id")
    flaws = []
    for argument in names:
        if argument in arguments or argument in ("since", "before"):
            flaw = _flaw(argument, arguments.get(argument, ABSENT), changes)
            if flaw is not None:
                flaws.append(f"{argument}: {flaw}")
    limit = arguments.get("limit")
    if "small-pages" in changes and isinstance(limit, int | float) and limit > drift.SMALL_PAGE:
        flaws.append(f"limit: Too big: expected number to be <={drift.SMALL_PAGE}")
    if "required-argument" in changes and drift.ARGUMENT not in arguments:
        flaws.append(f"{drift.ARGUMENT}: Invalid input: expected string, received undefined")
    if not flaws:
        return None
    return f"Input validation error: Invalid arguments for tool {name}: " + ", ".join(flaws)


def _flaw(name: str, value: object, changes: Collection[str]) -> str | None:
    """Find what is wrong with one argument."""
    if name in drift.unused_filters(changes) or ("new-values" in changes and (name, value) == ("actor_context", "api")):
        return None
    if name in _ENUMS:
        if value in _ENUMS[name]:
            return None
        return "Invalid option: expected one of " + "|".join(f'"{choice}"' for choice in _ENUMS[name])
    wanted = "number" if name in _NUMBERS else "string"
    if js_type(value) != wanted:
        return f"Invalid input: expected {wanted}, received {js_type(value)}"
    if wanted == "number":
        return _number_flaw(_NUMBERS[name], cast("float", value))
    pattern, message = _PATTERNS.get(name, ("", ""))
    return message if pattern and not re.fullmatch(pattern, str(value), re.ASCII) else None


def _number_flaw(bounds: tuple[int, int] | None, number: float) -> str | None:
    if bounds is None or bounds[0] <= number <= bounds[1]:
        return None
    if number < bounds[0]:
        return f"Too small: expected number to be >={bounds[0]}"
    return f"Too big: expected number to be <={bounds[1]}"


def read_query(arguments: Mapping[str, Any], changes: Collection[str] = ()) -> AuditQuery:
    """Read checked arguments the way upstream reads its parameters; the server's default limit is 10.

    Raises:
        BadQueryError: a day that does not exist, or a limit that is not whole.
    """
    limit: float = arguments.get("limit", 10)
    used = arguments.keys() - set(drift.unused_filters(changes))
    try:
        since_ns, before_ns = (instant(arguments[name]) for name in ("since", "before"))
    except ValueError as error:
        raise BadQueryError("the window names a time that does not exist") from error
    if limit % 1:
        raise BadQueryError("limit is not a whole number")
    return AuditQuery(
        since_ns,
        before_ns,
        direction=arguments.get("direction", "desc"),
        limit=int(limit),
        cursor=arguments.get("cursor", ""),
        filters=tuple((name, arguments[name]) for name in FILTERS if name in used),
    )


def choose_account(caller: Caller, header: str | None, arguments: Mapping[str, Any]) -> str | dict[str, Any]:
    """Choose the account of a call: its id, or the error to answer with.

    A pinned account wins over the `cf-account-id` header, and that over the argument.
    """
    if caller.pinned is not None:
        return caller.pinned.id
    available = [{"id": account.id, "name": account.name} for account in caller.accounts]
    ids = {account.id for account in caller.accounts}
    if header:
        if header in ids:
            return header
        error = f'The cf-account-id header "{header}" is not one of the accounts your credentials can access.'
    elif chosen := arguments.get("account_id"):
        if chosen in ids:
            return cast("str", chosen)
        error = f'Account "{chosen}" is not one of the accounts your credentials can access.'
    else:
        error = (
            "account_id is required because your credentials can access multiple Cloudflare accounts. "
            "Pass account_id, or set a cf-account-id header in your MCP client configuration."
        )
    return {"error": error, "available_accounts": available}


def mishap_message(mishap: Mishap) -> str:
    """Word a failed audit call: everything between 400 and 499 sounds the same."""
    if mishap == "drop":
        return "Network connection lost."
    if mishap == "html":
        return "Unexpected token '<', \"<html>oops</html>\" is not valid JSON"
    if mishap == "empty":
        return "Unexpected end of JSON input"
    if _CLIENT_ERROR <= mishap < _SERVER_ERROR:
        return "Cloudflare API request failed"
    return "Upstream Cloudflare API unavailable"


def instructions(caller: Caller) -> str | None:
    """Write the server's instructions, which only callers with several accounts get."""
    if len(caller.accounts) <= 1:
        return None
    lines = "\n".join(f"  - {account.name} ({account.id})" for account in caller.accounts)
    return (
        "\n\n## Your Cloudflare accounts\nYour credentials can access multiple accounts. "
        f"Pass `account_id` to any account-scoped tool to choose one:\n{lines}\n\n"
        "To avoid passing `account_id` on every call, set a `cf-account-id` header to one of the IDs above "
        "in your MCP client configuration."
    )
