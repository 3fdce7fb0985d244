"""A stretch between two rows that were read, with refused ones in it -> where these are, and what else is there."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from math import ceil, log2

import pyarrow as pa
import pyarrow.compute as pc

from cfaudit_export.sources.paging.allowance import Allowance
from cfaudit_export.sources.paging.asking import Asker, NoAnswer
from cfaudit_export.sources.paging.cells import MOST_CELLS, read_cells
from cfaudit_export.sources.paging.counted import placed
from cfaudit_export.sources.paging.disambiguate import separate
from cfaudit_export.sources.paging.evidence import Dark, Part
from cfaudit_export.sources.paging.page import Page
from cfaudit_export.sources.paging.query import MOST_ROWS, Issue, Padding, Query, Rejection
from cfaudit_export.sources.paging.rows import NANOSECONDS, between

RefusedSpan = tuple[int, int, int]  # first millisecond, the one after the last, refused rows
_DENSE = "the millisecond holds more rows than a page, and some of them may be missing"
_HALVES = 26  # 18 hours; the millisecond within a longer stretch is not worth its calls
_NO_MORE = Rejection((Issue(0, "", "no calls left"),))


class ChangedError(Exception):
    """The rows are not what they were a moment ago; ask again."""


class Inside:
    """Looks into stretches, with questions like a plain one."""

    def __init__(self, asker: Asker, plain: Query, allowance: Allowance) -> None:
        self._asker = asker
        self._plain = replace(plain, limit=max(plain.limit, MOST_ROWS))
        self._allowance = allowance
        self._exclusive = asker.reader.exclusive

    async def parts(
        self, dark: Dark, inner: tuple[int, int], examples: pa.Table, *, is_counted: bool, forced: bool, floor: int
    ) -> list[Part] | None:
        """Return what a stretch consists of; None when it holds more than was thought.

        Args:
            dark: the stretch, with the rows of its first and last millisecond.
            inner: the milliseconds between these two.
            examples: rows from around, whose products, types and actors are worth asking for.
            is_counted: whether positions have shown how many rows it holds.
            forced: take the stretch as it is rather than return None.
            floor: up to there nothing is refused, as far as is known.

        Raises:
            ChangedError: nothing is refused in it any more.
        """
        if dark.before_ms - dark.since_ms == 1 and not is_counted:
            dark, is_dense = await self._looked_at(dark)
            return [await self._separated(dark, examples, is_dense=is_dense)]
        places = await self._places(dark, inner, is_counted=is_counted, floor=floor)
        if places is None and not forced:
            return None
        edge = self._plain.padding.since_ms  # so far a question reaches into the millisecond before, finer times there
        places = _disjoint([(max(one - edge, dark.since_ms), end, rows) for one, end, rows in places or ()])
        parts = placed(dark, places or [(dark.since_ms, dark.before_ms, dark.unreadable.rows)])
        seen = [await self._seen(one, examples) if isinstance(one, Dark) else [one] for one in parts]
        return [one for some in seen for one in some]

    async def _seen(self, dark: Dark, examples: pa.Table) -> Sequence[Part]:
        """Return a stretch with what can be told apart in it; one question shows a single millisecond."""
        is_dense = False
        if dark.unreadable.hidden and dark.before_ms - dark.since_ms <= MOST_CELLS:
            here = replace(self._plain, since_ms=dark.since_ms, before_ms=dark.before_ms)
            cells = await read_cells(self._asker, here, examples=examples, allowance=self._allowance)
            if cells is not None:
                return cells
        if dark.unreadable.hidden and dark.before_ms - dark.since_ms == 1:
            dark, is_dense = await self._looked_at(dark)
        return [await self._separated(dark, examples, is_dense=is_dense)]

    async def _looked_at(self, dark: Dark) -> tuple[Dark, bool]:
        """Count the refused rows of a single millisecond, and the readable ones between; True if it may hold more."""
        at, rejected = dark.since_ms, dark.unreadable
        here = replace(self._plain, since_ms=at, before_ms=at + 1, padding=self._exclusive)
        outcome = await self._asker.ask(here)
        if not isinstance(outcome, Rejection):
            return dark, False
        refused = len(outcome.issues)
        hidden = outcome.issues[-1].index - outcome.issues[0].index + 1 - refused
        page = min(here.limit, self._asker.habits.page_rows(here.limit))
        if dark.rows.num_rows + hidden + refused < page:  # so the page shows all of the millisecond
            return Dark(replace(rejected, rows=refused, hidden=hidden), dark.rows), False
        return Dark(
            replace(rejected, rows=max(refused, rejected.rows), reason=f"{rejected.reason}; {_DENSE}"), dark.rows
        ), True

    async def _places(
        self, dark: Dark, inner: tuple[int, int], *, is_counted: bool, floor: int
    ) -> list[RefusedSpan] | None:
        """Return where the refused rows are; None when the stretch holds more than was thought."""
        since, before = inner
        total, hidden = dark.unreadable.rows, dark.unreadable.hidden
        if since >= before:
            return await self._of_ends(dark)
        outcome = await self._asker.ask(replace(self._plain, since_ms=since, before_ms=before))
        if isinstance(outcome, NoAnswer):
            return None
        if isinstance(outcome, Page):
            return None if between(outcome.rows, since, before).num_rows else await self._of_ends(dark)
        first = outcome.issues[0].index - self._in_margin(dark.rows, since)
        span = outcome.issues[-1].index - outcome.issues[0].index + 1
        if first or len(outcome.issues) != total or span != total + hidden:
            return None
        counted = {max(since, min(floor, before - 1)): 0, before: total}
        if not is_counted and not await self._holds_nothing_else(since, before, counted):
            return None
        end = min(before + self._includes_before, dark.before_ms)
        return await self._sharpened(since, end, counted, is_whole=bool(hidden), is_enclosed=since > dark.since_ms)

    @property
    def _includes_before(self) -> int:
        return 1 if self._exclusive.before_ms < 0 else 0

    def _in_margin(self, rows: pa.Table, since: int) -> int:
        """Count the rows that a question from there on meets although they lie before."""
        edge = self._plain.padding.since_ms
        if not edge:
            return 0
        before = between(rows, since - edge, since)
        times = before["event_time"].cast(pa.int64())
        return int(pc.sum(pc.greater(times, (since - edge) * NANOSECONDS)).as_py() or 0)

    async def _holds_nothing_else(self, since: int, before: int, counted: dict[int, int]) -> bool:
        """See whether the second half holds a readable row; refusals of the whole do not tell.

        Args:
            since: the first millisecond.
            before: the one after the last.
            counted: how many refused rows lie before a moment; the middle is added where the answer tells.
        """
        middle = (since + before) // 2
        if middle <= since:
            return True
        outcome = await self._asker.ask(replace(self._plain, since_ms=middle, before_ms=before))
        if isinstance(outcome, Page):
            counted[middle + self._plain.padding.since_ms] = counted[before]
            return not between(outcome.rows, middle, before).num_rows
        if isinstance(outcome, Rejection) and not outcome.issues[0].index:
            counted[middle] = max(counted[before] - len(outcome.issues), 0)
            return True
        return False

    async def _of_ends(self, dark: Dark) -> list[RefusedSpan]:
        """Return which of the first and the last millisecond the refused rows are in."""
        low, last, total = dark.since_ms, dark.before_ms - 1, dark.unreadable.rows
        whole = [(low, last + 1, total)]
        if low == last or dark.unreadable.hidden:
            return whole
        ahead = await self._count(low)
        behind = total - ahead if 0 < ahead <= total else await self._count(last)
        if not ahead and not behind and self._exclusive.before_ms >= 0:  # else fractions of a millisecond are not met
            raise ChangedError
        if ahead + behind != total:
            return whole
        return [place for place in ((low, low + 1, ahead), (last, last + 1, behind)) if place[2]]

    async def _count(self, at_ms: int) -> int:
        """Count the refused rows of a millisecond, as exactly as its ends can be asked for."""
        outcome = await self._asker.ask(
            replace(self._plain, since_ms=at_ms, before_ms=at_ms + 1, padding=self._exclusive)
        )
        return len(outcome.issues) if isinstance(outcome, Rejection) else 0

    async def _until(self, since: int, end: int) -> int:
        """Count the refused rows up to an end, taken as the server takes it."""
        padding = Padding(self._plain.padding.since_ms, 0)
        outcome = await self._asker.ask(replace(self._plain, since_ms=since, before_ms=end, padding=padding))
        return len(outcome.issues) if isinstance(outcome, Rejection) else 0

    async def _sharpened(
        self, since: int, end: int, counted: dict[int, int], *, is_whole: bool, is_enclosed: bool
    ) -> list[RefusedSpan]:
        """Return the milliseconds of refused rows, where the allowance is enough for all of them.

        With readable rows between them it is one place, from the first to the last, and `is_whole` says so. Where a
        row before them is known, which `is_enclosed` says, a wide stretch is left as it is.
        """
        before, total = max(counted), max(counted.values())
        whole = [(since, end, total)]
        halves = ceil(log2(max(before - min(counted), 1)))
        need = (2 if is_whole else total) * (halves + 1)
        if (
            before - since <= 1
            or (is_enclosed and not is_whole and halves > _HALVES)
            or need > self._allowance.sharpening
        ):
            return whole
        made, found = self._asker.calls, 0
        places: list[RefusedSpan] = []
        while found < total:
            low = max(one for one, count in counted.items() if count <= found)
            high = min(one for one, count in counted.items() if count > found)
            while high - low > 1:
                middle = (low + high) // 2
                counted[middle] = count = await self._until(since, middle)
                low, high = (low, middle) if count > found else (middle, high)
            places += await self._at_end(high, counted[high] - found, end)
            is_first = is_whole and not found
            found = max(counted[high], total - 1) if is_first and counted[high] < total else counted[high]
        self._allowance.sharpening -= self._asker.calls - made
        if is_whole:
            return [(min(place[0] for place in places), max(place[1] for place in places), total)]
        places = _disjoint(places)
        return places if sum(rows for _, _, rows in places) == total else whole

    async def _at_end(self, end: int, rows: int, most: int) -> list[RefusedSpan]:
        """Return where rows are that a question meets up to `end` and not up to the millisecond before."""
        if not self._includes_before:
            return [(end - 1, end, rows)]
        if self._plain.padding.since_ms:
            return [(end - 1, min(end + 1, most), rows)]
        exactly = min(await self._count(end), rows) if end < most else 0
        places = [(end - 1, end, rows - exactly), (end, end + 1, exactly)]
        return [place for place in places if place[2]]

    async def _separated(self, dark: Dark, examples: pa.Table, *, is_dense: bool = False) -> Dark:
        """Return a stretch with the readable rows that filters tell from the refused ones."""
        made, rejected = self._asker.calls, dark.unreadable
        if not rejected.hidden and not is_dense:
            return dark
        here = replace(self._plain, since_ms=rejected.since_ms, before_ms=rejected.before_ms)

        async def ask(query: Query) -> Page | Rejection:
            spent = self._asker.calls - made
            return await self._asker.rows(query) if spent < self._allowance.separating else _NO_MORE

        total = None if is_dense else dark.rows.num_rows + rejected.hidden
        found = await separate(ask, here, dark.rows, total, examples=pa.concat_tables([dark.rows, examples]))
        self._allowance.separating -= self._asker.calls - made
        hidden = 0 if total is None else max(total - found.num_rows, 0)
        return Dark(replace(rejected, hidden=hidden), found)


def _disjoint(places: list[RefusedSpan]) -> list[RefusedSpan]:
    """Join places that overlap."""
    joined: list[RefusedSpan] = []
    for since, before, rows in sorted(places):
        if joined and since < joined[-1][1]:
            last = joined.pop()
            joined.append((last[0], max(before, last[1]), last[2] + rows))
        else:
            joined.append((since, before, rows))
    return joined
