"""What is asked for a page, and what is said of rows that a server refuses."""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import Any, Literal

from cfaudit_export.core.model import from_ms, iso

MOST_ROWS = 1000  # that the tool returns per call


@dataclass(frozen=True, slots=True)
class Padding:
    """Milliseconds to add on either side of a question, as servers do not say whether `since` and `before` include.

    One on both sides is right whatever the answer is. Rejected rows in that margin would refuse the page, so it is made
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
        padding: how much wider than wanted to ask; the reader of the answer cuts exactly.
    """

    since_ms: int
    before_ms: int
    limit: int
    direction: Literal["asc", "desc"] = "asc"
    cursor: str | None = None
    filters: tuple[tuple[str, str], ...] = ()
    padding: Padding = Padding()

    def arguments(self) -> dict[str, Any]:
        """Return the tool's arguments.

        A numeric filter travels as a number, which is what the tool's schema wants.
        """
        arguments: dict[str, Any] = {
            name: int(value) if name == "raw_status_code" else value for name, value in self.filters
        }
        arguments |= {
            "since": iso(from_ms(self.since_ms - self.padding.since_ms)),
            "before": iso(from_ms(self.before_ms + self.padding.before_ms)),
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
