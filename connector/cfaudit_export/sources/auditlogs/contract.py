"""The tool's contract: what is asked, and what each of its error texts means."""

from __future__ import annotations

import json
from dataclasses import dataclass, replace
from typing import Any, Literal

from cfaudit_export.core.escape import shown
from cfaudit_export.core.model import from_ms, iso

TOOL = "auditlogs_by_account_id"
MOST_ROWS = 1000  # that the tool returns per call
# Thousands of issues, far more than a page has rows; an error beyond is not read.
_LONGEST_FAULT = 8_000_000
_PREFIX = "Error reading audit logs: "


@dataclass(frozen=True, slots=True)
class Edges:
    """Milliseconds to add on either side of a question, because nobody says whether `since` and `before` include.

    One on both sides is right whatever the answer is. Odd rows in that margin would refuse the page, so it is made
    narrower once an answer has shown what the ends do; `learned` says so.
    """

    since_ms: int = 1
    before_ms: int = 1
    learned: bool = False


@dataclass(frozen=True, slots=True)
class Query:
    """One page's worth of question.

    Attributes:
        since_ms: first millisecond that is wanted.
        before_ms: first millisecond that is not wanted any more.
        limit: rows at most.
        direction: `asc` or `desc`.
        cursor: where the page starts; None for the first.
        filters: further conditions, name and value.
        edges: how much wider than wanted to ask; the reader of the answer cuts exactly.
    """

    since_ms: int
    before_ms: int
    limit: int
    direction: Literal["asc", "desc"] = "asc"
    cursor: str | None = None
    filters: tuple[tuple[str, str], ...] = ()
    edges: Edges = Edges()

    def arguments(self) -> dict[str, Any]:
        """Return the tool's arguments.

        A numeric filter travels as a number, which is what the tool's schema wants.
        """
        arguments: dict[str, Any] = {
            name: int(value) if name == "raw_status_code" else value for name, value in self.filters
        }
        arguments |= {
            "since": iso(from_ms(self.since_ms - self.edges.since_ms)),
            "before": iso(from_ms(self.before_ms + self.edges.before_ms)),
            "direction": self.direction,
            "limit": self.limit,
        }
        if self.cursor is not None:
            arguments["cursor"] = self.cursor
        return arguments

    def at(self, cursor: str | None) -> Query:
        """Return the same question, one page on."""
        return replace(self, cursor=cursor)


@dataclass(frozen=True, slots=True)
class Issue:
    """A row that the server refuses to return, and why.

    Attributes:
        index: its position in the page, from 0.
        field: path of the field, for example `resource.response`.
        message: the server's word on it.
    """

    index: int
    field: str
    message: str

    @property
    def reason(self) -> str:
        """Return both in one line."""
        return f"{self.field}: {self.message}"


@dataclass(frozen=True, slots=True)
class Rejection:
    """A page that the server refuses because of some of its rows: one issue a row, ascending by index."""

    issues: tuple[Issue, ...]


@dataclass(frozen=True, slots=True)
class Unreadable:
    """Rows that the server refuses to return.

    Attributes:
        since_ms: the millisecond they lie in, or the one before it.
        before_ms: the one after it.
        rows: how many they are.
        reason: the field at fault and the server's word.
        hidden: readable rows of the millisecond that could not be separated from them.
    """

    since_ms: int
    before_ms: int
    rows: int
    reason: str
    hidden: int = 0


Fault = Literal["refused", "unavailable", "account", "arguments", "unknown"]


@dataclass(frozen=True, slots=True)
class ToolFault:
    """Any other error of the tool.

    Attributes:
        kind: `refused`: any 4xx upstream, be it throttling, a dead cursor, a lost permission or a bad argument;
            `unavailable`: upstream fails and may recover; `account`: no or wrong account chosen; `arguments`: the
            tool's own validation; `unknown`: none of these.
        message: the server's words, printable.
        accounts: id and name of the accounts to choose from, with kind `account`.
    """

    kind: Fault
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
