"""The tool's contract: what is asked, and what each of its error texts means."""

from __future__ import annotations

import json
from dataclasses import dataclass
from typing import Any, Literal

from cfaudit_export.core.escape import shown
from cfaudit_export.sources.paging.query import Issue, Rejection

TOOL = "auditlogs_by_account_id"
# Thousands of issues, far more than a page has rows; an error beyond is not read.
_LONGEST_FAULT = 8_000_000
_PREFIX = "Error reading audit logs: "


FaultKind = Literal["refused", "unavailable", "account", "arguments", "unknown"]


@dataclass(frozen=True, slots=True)
class ToolFault:
    """Any other error of the tool.

    Attributes:
        kind: `refused`: any 4xx upstream, be it throttling, a dead cursor, a lost permission or a bad argument;
            `unavailable`: upstream fails and may recover; `account`: no or wrong account chosen; `arguments`: the
            tool's own validation; `unknown`: none of these.
        message: the server's message, printable.
        accounts: id and name of the accounts to choose from, with kind `account`.
    """

    kind: FaultKind
    message: str
    accounts: tuple[tuple[str, str], ...] = ()


def read_fault(text: str) -> Rejection | ToolFault:  # noqa: PLR0911  # one text, one meaning
    """Tell what the text of a tool error means."""
    if text.startswith("Input validation error"):
        return ToolFault("arguments", shown(text))
    if len(text) > _LONGEST_FAULT:
        return ToolFault("unknown", f"an error of {len(text):,} characters: {shown(text[:1_000])}")
    try:
        body = json.loads(text)
        error = body["error"]
    except (ValueError, KeyError, TypeError, RecursionError):
        return ToolFault("unknown", shown(text))
    if not isinstance(error, str):
        return ToolFault("unknown", shown(text))
    if "available_accounts" in body:
        return ToolFault("account", shown(error), tuple(_accounts(body["available_accounts"])))
    said = error.removeprefix(_PREFIX)
    if said.startswith("["):
        return _rejection(said) or ToolFault("unknown", shown(said))
    if said == "Cloudflare API request failed":
        return ToolFault("refused", said)
    passing = ("Upstream Cloudflare API unavailable", "Network connection lost", "Unexpected ")
    if said.startswith(passing) or said.endswith("is not valid JSON"):
        return ToolFault("unavailable", shown(said))
    return ToolFault("unknown", shown(error))


def _accounts(listed: Any) -> list[tuple[str, str]]:
    if not isinstance(listed, list):
        return []
    return [
        (shown(account["id"]), shown(account.get("name", "")))
        for account in listed
        if isinstance(account, dict) and "id" in account
    ]


def _rejection(text: str) -> Rejection | None:
    """Read the list of validation issues: zod 3 and zod 4 agree on `path` and `message`, which is all we need."""
    try:
        listed = json.loads(text)
        rows: dict[int, Issue] = {}
        for issue in listed:
            root, index, *field = issue["path"]
            if root != "result" or not isinstance(index, int):
                return None
            rows.setdefault(index, Issue(index, ".".join(map(str, field)), shown(issue["message"])))
    except (ValueError, KeyError, TypeError, RecursionError):
        return None
    return Rejection(tuple(rows[index] for index in sorted(rows))) if rows else None
