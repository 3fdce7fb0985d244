"""What a habit is: one act at one layer of the server, at certain moments."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any, Literal

Layer = Literal["ask", "page", "tool", "http", "wire"]
During = Literal["calls", "opening", "all"]


@dataclass(frozen=True, repr=False)
class When:
    """Moments, counted from 0 among the requests that a habit can meet.

    Attributes:
        first: the first request that meets it.
        times: how many in a row do; None for all from there on.
        every: of those in a row, each so many-th.
        during: `calls` of the tool, the `opening` of a session, or `all` requests.
    """

    first: int = 0
    times: int | None = None
    every: int = 1
    during: During = "calls"

    def __repr__(self) -> str:
        return f"({self.first}, {self.times}, {self.every}, {self.during!r})"

    def holds(self, number: int) -> bool:
        at = number - self.first
        return at >= 0 and (self.times is None or at < self.times) and at % self.every == 0


@dataclass(frozen=True, repr=False)
class Habit:
    """A bad habit of a server.

    Attributes:
        name: which; with `when` it is all that a failing example shows.
        layer: what `act` takes and gives back: an `Ask` that the log hears (`ask`), the `Page` that it answers
            (`page`), the text of the tool (`tool`), the HTTP answer (`http`), or how that is written (`wire`).
        act: takes the thing and the `Moment`, returns the thing.
        when: the moments.
        detail: what the name leaves open.
    """

    name: str
    layer: Layer
    act: Callable[..., Any] = field(repr=False, compare=False)
    when: When = When()
    detail: str = ""

    def __repr__(self) -> str:
        return f"<{self.label}>.at{self.when!r}"

    def at(self, first: int = 0, times: int | None = None, every: int = 1, during: During | None = None) -> Habit:
        """The same habit at other moments."""
        when = When(first, times, every, during or self.when.during)
        return Habit(self.name, self.layer, self.act, when, self.detail)

    @property
    def label(self) -> str:
        return f"{self.name} {self.detail}".strip()
