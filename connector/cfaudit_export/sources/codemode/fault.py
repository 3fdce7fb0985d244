"""Everything that can go wrong with a call -> one of a few meanings, whichever of the three layers says it.

The layers are the HTTP status of the MCP server, the text of a failed tool call, and the header of our own reply.
"""

from __future__ import annotations

import json
import re
from dataclasses import dataclass
from typing import Literal

from cfaudit_export.core.escape import shown
from cfaudit_export.errors import AccessError, AccountChoiceError, CfauditError, ProtocolError
from cfaudit_export.sources.codemode.frame import Header
from cfaudit_export.sources.mcp.failures import PERMISSION

Kind = Literal[
    "throttled", "credential", "permission", "refused", "passing", "size", "cut", "account", "arguments", "foreign"
]

_STATUS = (
    re.compile(r"returned HTTP (\d{3})"),  # with or without details behind
    re.compile(r"Cloudflare API error: ([45]\d\d)\b"),  # the oldest generation puts a status or a code there
)
_WAIT = re.compile(r"Wait at least (\d+) seconds")
_LISTED = re.compile(r"^\s*- ([0-9a-f]{32}) \((.*)\)$", re.MULTILINE)


@dataclass(frozen=True, slots=True)
class CodemodeFault:
    """What went wrong.

    Attributes:
        kind: `throttled`: too many calls; `credential`: Cloudflare's API does not accept it; `permission`: it lacks
            a right; `refused`: any other 4xx; `passing`: may work later; `size`: the reply would be too large;
            `cut`: the reply was cut off, and a smaller one is asked for already; `account`: none chosen;
            `arguments`: the tool takes others; `foreign`: the server does not let the snippet do what it does.
        message: the server's message, printable.
        wait_seconds: how long it asks us to wait.
        accounts: id and name of some of the accounts to choose from, with `account`; the text may be cut.
        bytes: of the page that is too large, where that is known.
    """

    kind: Kind
    message: str
    wait_seconds: float | None = None
    accounts: tuple[tuple[str, str], ...] = ()
    bytes: int | None = None


def tool_fault(text: str) -> CodemodeFault:
    """Tell what the text of a failed tool call means."""
    message = shown(text)
    if "limited to 32MiB" in text:
        return CodemodeFault("size", message)
    if "Invalid arguments for tool" in text:
        return CodemodeFault("arguments", message)
    if "account_id parameter" in text or "No account selected" in text:
        return CodemodeFault("account", message, accounts=_accounts(text))
    if found := next(filter(None, (pattern.search(text) for pattern in _STATUS)), None):
        wait = _WAIT.search(text)
        return _status_fault(int(found[1]), message, float(wait[1]) if wait else None)
    return CodemodeFault("passing", message)


def reply_fault(header: Header) -> CodemodeFault | None:
    """Tell what the header of a reply means; None when all went well."""
    if header.err is None:
        return None
    kind, text = header.err.kind, header.err.text
    if kind == "size":
        return CodemodeFault("size", f"a page of {text} bytes", bytes=int(text) if text.isdigit() else None)
    if kind == "status" and header.status is not None:
        return _status_fault(header.status, _said(text), _seconds(header.retry_after))
    if "No account selected" in text:
        return CodemodeFault("account", shown(text), accounts=_accounts(text))
    return CodemodeFault("passing", shown(text))


def _status_fault(status: int, message: str, wait_seconds: float | None) -> CodemodeFault:
    said = f"HTTP {status}: {message}" if f"HTTP {status}" not in message else message
    if status == 429:
        return CodemodeFault("throttled", said, wait_seconds)
    if status == 401:
        return CodemodeFault("credential", said)
    if status == 403:
        return CodemodeFault("foreign" if message.startswith("Forbidden: requests to") else "permission", said)
    if status >= 500 or status in (408, 425):
        return CodemodeFault("passing", said)
    return CodemodeFault("refused", said)


def _said(body: str) -> str:
    """Return the messages of an error of Cloudflare's API, or the beginning of what else it is."""
    try:
        errors = json.loads(body)["errors"]
        return shown("; ".join(f"{error.get('code', 0)}: {error.get('message', '')}" for error in errors))
    except (ValueError, KeyError, TypeError, AttributeError):
        return shown(body[:100])


def _seconds(text: str | None) -> float | None:
    return float(text) if text is not None and text.isascii() and text.isdigit() else None


def _accounts(text: str) -> tuple[tuple[str, str], ...]:
    return tuple((account, shown(name)) for account, name in _LISTED.findall(text))


def fault_error(fault: CodemodeFault, account: str | None) -> CfauditError:
    """Return the error to end the run with."""
    match fault.kind:
        case "account":
            return AccountChoiceError(fault.accounts)
        case "credential":
            return AccessError(
                f"Cloudflare refuses the credential ({fault.message}); check the token, or sign in again"
            )
        case "permission":
            return AccessError(
                f"Cloudflare refuses to read audit logs with this credential ({fault.message}); it needs the "
                f"permission '{PERMISSION}' on account '{account}'"
            )
        case "size":
            return ProtocolError(
                f"an event is too large for this server ({fault.message}); the source 'auditlogs' can read past it"
            )
        case "foreign":
            return ProtocolError(f"the server does not let its code read the audit log any more: {fault.message}")
        case _:
            return ProtocolError(f"the server does not accept what it is asked: {fault.message}")
