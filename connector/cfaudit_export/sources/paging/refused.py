"""The positions of refused rows in a page -> which of them a further refusal, asked from later on, still names.

Positions are all that a refusal gives. The distances between them, and the fields at fault, are the same in every
question that meets the same rows; so two refusals laid over each other tell how many rows lie between their starts.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field, replace
from math import isqrt

from cfaudit_export.sources.paging.page import Page
from cfaudit_export.sources.paging.query import Issue, Rejection

_GUESSES = 6  # then halves


def run_length(issues: Sequence[Issue], start: int = 0) -> int:
    """Return how many refused rows stand next to each other, from one of them on."""
    end = start + 1
    while end < len(issues) and issues[end].index == issues[end - 1].index + 1:
        end += 1
    return end - start


def passed(issues: Sequence[Issue], later: Page | Rejection) -> int:
    """Return how many of the refused rows lie before the start of a later question; all if it names none of them."""
    if isinstance(later, Page):
        return len(issues)
    return next((number for number in range(len(issues)) if _fits(issues, number, later.issues)), len(issues))


def _fits(issues: Sequence[Issue], number: int, others: Sequence[Issue]) -> bool:
    """Say whether others are the same rows from one of them on; they are asked for from behind all rows before."""
    rest, first = issues[number:], others[0].index
    room = issues[number].index - issues[number - 1].index - 1 if number else 0
    if first > room or len(others) < len(rest):
        return False
    return all(
        one.index - issues[number].index == other.index - first and one.field == other.field
        for one, other in zip(rest, others, strict=False)
    )


@dataclass(slots=True)
class Search:
    """A search for a moment behind the first refused rows of a page, and before the next ones.

    Attributes:
        issues: the refused rows of the page.
        low: all before it lies before the first refused row.
        high: the end of what is wanted.
        spacing: guess of the milliseconds from row to row.
        page: how many rows the refused page has at most.
        skipped: rows of the run to get past; grows where no moment separates it from the next run.
        hidden: readable rows between the runs that were joined that way.
    """

    issues: tuple[Issue, ...]
    low: int
    high: int
    spacing: float
    page: int
    skipped: int = 0
    hidden: int = 0
    _ends: tuple[int, int] = (0, 0)
    _rank: float = 0.0  # of the last row at `low`
    _misses: int = 0
    _asked: dict[int, tuple[int, Page | Rejection | None]] = field(default_factory=dict)
    _ranks: dict[int, int] = field(default_factory=dict)

    def __post_init__(self) -> None:
        self._ends = (self.low, self.high)
        self._rank = self.issues[0].index - 1.0
        self.skipped = run_length(self.issues)

    def note(self, at_ms: int, outcome: Page | Rejection) -> None:
        """Take note of the answer to a question from there on."""
        self._set(at_ms, passed(self.issues, outcome), outcome)
        self._misses += 1

    def learn(self, at_ms: int, behind: Rejection) -> bool:
        """Take in the refusal of a page that was read backward from a moment; True when it names further runs.

        Then these, and how many rows lie before the moment, are known from now on.
        """
        mine, others = self.skipped, behind.issues
        if self.hidden or len(others) <= mine:
            return False
        run = others[-mine:]
        if run[-1].index - run[0].index != mine - 1 or any(
            one.field != other.field for one, other in zip(run, reversed(self.issues[:mine]), strict=True)
        ):
            return False
        last, nearest = self.issues[mine - 1].index, run[0].index
        found = [replace(one, index=last + nearest - one.index) for one in reversed(others[:-mine])]
        further = [one for one in self.issues[mine:] if one.index > found[-1].index]
        self.issues = (*self.issues[:mine], *found, *further)
        self._ranks[at_ms] = last + nearest + 1
        self._misses = 0
        self.low, self.high = self._ends
        for moment, (_, outcome) in list(self._asked.items()):
            if outcome is not None:
                self._set(moment, passed(self.issues, outcome), outcome)
        self._set(at_ms, mine + len(found), self._asked.get(at_ms, (0, None))[1])
        return True

    def doubt(self, at_ms: int) -> None:
        """Take back that a moment is right: more rows were passed than it seemed."""
        self._misses += 1
        if at_ms in self._asked:
            self._set(at_ms, self.skipped + 1, self._asked[at_ms][1])
        else:
            self.high = min(self.high, at_ms)
            self._ends = (self._ends[0], self.high)

    def _set(self, at_ms: int, count: int, outcome: Page | Rejection | None) -> None:
        self._asked[at_ms] = (count, outcome)
        self._narrow(at_ms, count)

    def _narrow(self, at_ms: int, count: int) -> None:
        if count < self.skipped:
            self.low = max(at_ms, self.low)
        elif count > self.skipped:
            self.high = min(at_ms, self.high)

    def join(self) -> bool:
        """Take the next run of refused rows for a part of this one; False when there is no next one."""
        if self.skipped >= len(self.issues):
            return False
        self.hidden += self.issues[self.skipped].index - self.issues[self.skipped - 1].index - 1
        self.skipped += run_length(self.issues, self.skipped)
        self.low, self.high = self._ends
        for at_ms, (count, _) in self._asked.items():
            self._narrow(at_ms, count)
        return True

    def right(self) -> int | None:
        """Return the first moment that is known to be right, None for none."""
        return min((at_ms for at_ms, (count, _) in self._asked.items() if count == self.skipped), default=None)

    @property
    def floor(self) -> int:
        """The last millisecond before which no refused row lies, as far as questions have shown."""
        asked = (at_ms for at_ms, (count, outcome) in self._asked.items() if not count and outcome is not None)
        return max(asked, default=self._ends[0]) - 1

    def outcome(self, at_ms: int) -> Page | Rejection | None:
        """Return the answer that was noted there."""
        return self._asked.get(at_ms, (0, None))[1]

    def guess(self, least: int) -> int | None:
        """Return a moment to ask from, at least `least`; None when none is left but the end."""
        low, high = max(self.low + 1, least), self.high
        if low >= high:
            return None
        wanted = self._target()
        before = self._known(self.low) or (self._ends[0], self._rank)
        ranks = (self._known(at_ms) for at_ms in {*self._asked, *self._ranks})
        behind = min((one for one in ranks if one is not None and one[1] >= wanted > before[1]), default=None)
        if behind is not None:
            guess = before[0] + (behind[0] - before[0]) * (wanted - before[1]) / (behind[1] - before[1])
        else:
            guess = before[0] + self.spacing * max(wanted - before[1], 1.0) * 4.0 ** max(self._misses - 1, 0)
        if guess >= high and high == self._ends[1] and self.skipped == len(self.issues):
            return None
        if guess < high and self._misses <= _GUESSES:
            return max(int(guess), low)
        # Nothing is known of the scale at first: a month or a second. Its root is nearer in either case.
        return low + (isqrt(high - low) if self._misses <= _GUESSES else (high - low) // 2)

    def rows_behind(self, at_ms: int) -> int | None:
        """Return how many readable rows lie between the refused ones and a moment; None when that is not known."""
        rank = self._known(at_ms)
        return None if rank is None else max(int(rank[1]) - self.issues[self.skipped - 1].index - 1, 0)

    def _known(self, at_ms: int) -> tuple[int, float] | None:
        """Return a moment with the number of rows before it, where an answer tells."""
        if at_ms in self._ranks:
            return at_ms, float(self._ranks[at_ms])
        count, outcome = self._asked.get(at_ms, (0, None))
        if not isinstance(outcome, Rejection) or count >= len(self.issues):
            return None
        return at_ms, self.issues[count].index - outcome.issues[0].index

    def _target(self) -> float:
        last = self.issues[self.skipped - 1].index
        behind = self.issues[self.skipped].index if self.skipped < len(self.issues) else max(self.page, last + 2)
        return (last + 1 + behind) / 2
