"""Past rows that the server refuses: what stands before them, what stands behind them, and the stretch between.

A refusal names the positions of the refused rows in the page, and neither their time nor a cursor behind them. What
stands before the first is read by asking for just so many rows. Then a moment is looked for that lies behind the
refused rows and before the next ones: a question from there tells by its own positions how many rows were passed. What
stands between that moment and the refused rows is read backward. So a run of refused rows costs about four calls,
however long the log is, and what remains is the stretch between two rows that were read.
"""

from __future__ import annotations

from dataclasses import dataclass, field, replace
from typing import Final, Literal

import pyarrow as pa

from cfaudit_export.sources.paging.allowance import Allowance
from cfaudit_export.sources.paging.asking import Asker, NoAnswer
from cfaudit_export.sources.paging.cells import MOST_CELLS, read_cells
from cfaudit_export.sources.paging.evidence import Chain, Dark, Part, clipped
from cfaudit_export.sources.paging.inside import ChangedError, Inside
from cfaudit_export.sources.paging.page import Page
from cfaudit_export.sources.paging.query import MOST_ROWS, Padding, Rejection, Unreadable
from cfaudit_export.sources.paging.reader import CursorDeadError
from cfaudit_export.sources.paging.refused import Search
from cfaudit_export.sources.paging.rows import first_ms, last_ms

_PROBES = 40  # for a moment behind one run of refused rows; beyond, the run is taken to reach to the next
_DOUBTS = 8  # moments that turn out not to be right; beyond, what lies before the last of them is a gap
_BACKWARD_PAGES = 100
_GUESS_MS = 60_000
_MORE: Final = "more"
_CHANGED: Final = "changed"


@dataclass(frozen=True, slots=True)
class StepOutcome:
    """How far it went.

    Attributes:
        parts: what is read and what is not, ascending and adjoining, from where the chain stood; none when the data
            changed meanwhile, so that the question should be asked anew.
        outcome: the answer to a fresh question from the end of `parts` on, where one was asked already.
        doubted_ms: a millisecond in which a row repeats from page to page, which stopped the step.
    """

    parts: list[Part] = field(default_factory=list)
    outcome: Page | Rejection | None = None
    doubted_ms: int | None = None


async def step(
    asker: Asker,
    chain: Chain,
    rejection: Rejection,
    *,
    stop_ms: int,
    allowance: Allowance,
    per_row: float,
    ahead: Page | None = None,
) -> StepOutcome:
    """Read on from where a chain of pages was refused, past the first run of refused rows.

    Args:
        asker: asks the questions.
        chain: the pages so far; its question is the one that was refused.
        rejection: the refusal.
        stop_ms: the end of what is wanted.
        allowance: what may be spent on details.
        per_row: guess of the milliseconds from row to row; 0 for none.
        ahead: the rows before the first refused one, where they were asked for already.
    """
    return await _Stepping(asker, chain, stop_ms, allowance, ahead).run(rejection, per_row)


class _Stepping:
    def __init__(self, asker: Asker, chain: Chain, stop_ms: int, allowance: Allowance, ahead: Page | None) -> None:
        self._asker = asker
        self._ahead = ahead
        self._chain = chain
        self._schema = asker.reader.empty.schema
        self._stop = stop_ms
        # Positions reach as far as a page does, however small the pages are that are wanted.
        limit = max(chain.query.limit, MOST_ROWS)
        self._plain = replace(chain.query, cursor=None, before_ms=stop_ms, limit=limit, padding=asker.reader.padding)
        self._inside = Inside(asker, self._plain, allowance)
        self._allowance = allowance
        self._behind: Rejection | None = None
        self._doubted: int | None = None

    async def run(self, rejection: Rejection, per_row: float) -> StepOutcome:
        if self._chain.query.limit < self._plain.limit:
            try:
                further = await self._asker.ask(replace(self._chain.query, limit=self._plain.limit))
            except CursorDeadError:
                return StepOutcome()
            if not isinstance(further, Rejection):
                return StepOutcome()
            rejection = further
        if not await self._read_before(rejection.issues[0].index):
            return StepOutcome(doubted_ms=self._doubted)
        low, has_rows = self._chain.reached, self._chain.last_ms is not None
        if low >= self._stop:  # the end has come nearer since the page was asked for
            return StepOutcome(clipped(self._chain.take(self._schema), 0, self._stop))
        before = low if has_rows else low - 1
        search = Search(rejection.issues, before, self._stop, self._spacing(per_row), self._plain.limit)
        try:
            return await self._past(search)
        except ChangedError:
            return StepOutcome()

    async def _past(self, search: Search) -> StepOutcome:
        doubts = 0
        for _ in range(3 * _DOUBTS):
            at = await self._moment(search)
            if at == self._stop and (clean := await self._before_stop()):
                return StepOutcome(clipped([*self._chain.take(self._schema), *clean], 0, self._stop))
            back = await self._backward(search, at)
            if back is _MORE:
                continue
            if not isinstance(back, Chain):
                break
            parts = await self._between(search, back, at, forced=doubts >= _DOUBTS)
            if parts is not None:
                mine = [*self._chain.take(self._schema), *parts]
                outcome = search.outcome(at)
                return StepOutcome(clipped(mine, 0, self._stop), outcome)
            search.doubt(at)
            doubts += 1
        return StepOutcome()

    async def _before_stop(self) -> list[Part]:
        """Read up to the end where a question that includes its end is refused only for rows exactly there."""
        exclusive = self._asker.reader.exclusive
        if exclusive.before_ms >= self._plain.padding.before_ms:
            return []
        padding = Padding(self._plain.padding.since_ms, exclusive.before_ms)
        rest = Chain(replace(self._plain, since_ms=self._chain.reached, before_ms=self._stop, padding=padding))
        page = await self._page_of(rest, self._plain.limit) if rest.since_ms < self._stop else None
        if not isinstance(page, Page) or not self._asker.habits.is_last(page):
            return []
        rest.add(page, ended=True)
        # Where the end is included, this question is blind to the fractions of the last millisecond before it.
        return rest.take(self._schema) if await self._is_only_at_stop() else []

    async def _is_only_at_stop(self) -> bool:
        """Say whether the last millisecond, asked with and without its end, holds refused rows at its end alone."""
        last = replace(self._plain, since_ms=self._stop - 1, before_ms=self._stop)
        within = await self._asker.ask(last)
        at_end = await self._asker.ask(replace(last, since_ms=self._stop, padding=Padding(0, 0)))
        return (
            isinstance(within, Rejection)
            and isinstance(at_end, Rejection)
            and [one.field for one in within.issues] == [one.field for one in at_end.issues]
            and not within.issues[0].index
        )

    def _spacing(self, per_row: float) -> float:
        table = self._chain.last_table
        if table is not None and table.num_rows > 2:
            return max((last_ms(table) - first_ms(table)) / int(table.num_rows - 1), 0.1)
        return per_row or float(min(_GUESS_MS, max((self._stop - self._plain.since_ms) / 100, 1)))

    async def _read_before(self, rows: int) -> bool:
        """Read the rows that stand before the first refused one; False if they are not there any more."""
        left = rows
        while left > 0:
            try:
                outcome = self._ahead or await self._asker.ask(replace(self._chain.query, limit=left))
            except CursorDeadError:
                return False
            self._ahead = None
            if not isinstance(outcome, Page) or not outcome.rows.num_rows:
                return False
            left -= len(outcome.unreadable)
            self._doubted = self._chain.shifted(outcome.rows)
            if self._doubted is not None:
                return False
            left -= outcome.rows.num_rows
            if left > 0 and outcome.cursor is None:
                return False
            self._chain.add(outcome, ended=False)
        return True

    async def _moment(self, search: Search) -> int:
        """Return a moment behind the refused rows and before the next ones; the end when there is no better one."""
        low, edge = self._chain.reached, self._plain.padding.since_ms
        least = low if self._chain.last_ms is None else low + 1 + edge
        probes = 0
        while (right := search.right()) is None:
            at = search.guess(least) if probes < _PROBES else None
            if at is None:
                if not search.join():
                    return search.high
                continue
            probes += 1
            outcome = await self._asker.ask(replace(self._plain, since_ms=at))
            if isinstance(outcome, NoAnswer):
                search.doubt(at)
            else:
                search.note(at, outcome)
        return right

    async def _backward(self, search: Search, at: int) -> Chain | Literal["more", "changed"]:
        """Read backward from a moment to the refused rows.

        Returns:
            The rows; `more` when further refused rows were met, which the search knows of now; `changed` when none is
            met any more.
        """
        plain = replace(self._plain, since_ms=self._chain.reached, before_ms=at, direction="desc")
        # Where `since` excludes, a question reaches into the millisecond before, and positions count its rows too.
        left = None if plain.padding.since_ms else search.rows_behind(at)
        back = await self._read_back(Chain(plain), search, left)
        # A row that repeats from page to page may be a twin; where it repeats in a fresh chain it is one.
        return back if self._doubted is None else await self._read_back(Chain(plain, self._doubted), search, left)

    async def _read_back(self, chain: Chain, search: Search, left: int | None) -> Chain | Literal["more", "changed"]:
        at, self._doubted = chain.query.before_ms, None
        for _ in range(_BACKWARD_PAGES):
            if left is not None and left <= 0:
                return chain
            outcome = await self._page_of(chain, self._plain.limit if left is None else left)
            if outcome is None:
                break
            if isinstance(outcome, Rejection):
                if not chain.rows and left is None and search.learn(at, outcome):
                    return _MORE
                await self._last_page(chain, outcome)
                break
            held = chain.rows
            chain.add(outcome, ended=self._asker.habits.is_last(outcome))
            left = None if left is None else left - (chain.rows - held)
            is_over = outcome.cursor is None or not outcome.rows.num_rows
            if is_over and not chain.ended and left != 0:
                return _CHANGED
            if is_over or chain.ended:
                break
        return chain

    async def _last_page(self, chain: Chain, refused: Rejection) -> None:
        """Read the rows of a refused page that stand before the first refused one."""
        self._behind = refused
        if first := refused.issues[0].index:
            page = await self._page_of(chain, first)
            if isinstance(page, Page):
                chain.add(page, ended=False)

    async def _page_of(self, chain: Chain, limit: int) -> Page | Rejection | None:
        try:
            outcome = await self._asker.ask(replace(chain.query, limit=min(limit, self._plain.limit)))
        except CursorDeadError:
            return None
        if isinstance(outcome, NoAnswer):
            return None
        if isinstance(outcome, Page) and (doubted := chain.shifted(outcome.rows)) is not None:
            self._doubted = doubted
            return None
        return outcome

    async def _between(self, search: Search, back: Chain, at: int, *, forced: bool) -> list[Part] | None:
        """Return what lies between the rows before the refused ones and a moment; None if the moment is not right."""
        low, end, first = self._chain.reached, back.reached, back.last_ms
        if end <= low:  # nothing is refused any more
            return clipped(back.take(self._schema), low, at)
        empty = self._asker.reader.empty
        examples = empty if self._chain.last_table is None else self._chain.last_table
        if end - low <= MOST_CELLS:
            here = replace(self._plain, since_ms=low, before_ms=end)
            cells = await read_cells(self._asker, here, examples=examples, allowance=self._allowance)
            if cells is not None:
                return [*cells, *back.take(self._schema)]
        has_rows = self._chain.last_ms is not None
        ahead = self._chain.rows_of(self._schema, low) if has_rows else empty
        behind = empty if first is None else back.rows_of(self._schema, first)
        is_counted = search.rows_behind(at) is not None and not self._plain.padding.since_ms
        rejected = Unreadable(low, end, search.skipped, search.issues[0].reason, search.hidden)
        if end - low == 1 and not is_counted and self._names_another(search):
            rejected = replace(rejected, rows=rejected.rows + 1)
        parts = await self._inside.parts(
            Dark(rejected, pa.concat_tables([ahead, behind])),
            (low + 1 if has_rows else low, end if first is None else first),
            examples,
            is_counted=is_counted,
            forced=forced,
            floor=search.floor,
        )
        return None if parts is None else [*parts, *back.take(self._schema)]

    def _names_another(self, search: Search) -> bool:
        """Say whether the refused row met from behind is another one than those met from before."""
        if self._behind is None:
            return False
        return self._behind.issues[0].field not in {one.field for one in search.issues}
