"""Batches of which a sink took nothing: is it the events, or is it the way to the sink?

A gateway that breaks every body, or a limit that was lowered, makes a sink refuse event after event for good.
Quarantined, they would all wait for a person. So such a batch is held until the sink takes an event of another batch
after it: then the events were at fault. Where that does not happen in the same run, a few events still count as bad if
the sink took others before them. Otherwise the intent is withdrawn. That loses nothing, as the sink said that it has
none of them; the next run reads their window again, with what is new since.
"""

from __future__ import annotations

import logging
from collections.abc import Iterable
from dataclasses import dataclass

from cfaudit_export.core.model import Batch, Receipt, Seen, Trimming, Window
from cfaudit_export.errors import SinkError, SinkRefusedError

_LOG = logging.getLogger(__name__)

# So many batches in a row of which nothing is taken: then it is not the events.
_MOST_HELD = 3
# So many events at most are quarantined on the strength of what the sink took before them.
_FEW = 20


@dataclass(frozen=True, slots=True)
class Answered:
    """What a sink said of a batch, and what is to be remembered once that counts.

    Attributes:
        receipt: its word.
        batch: the batch; None where its staged file is lost.
        window: what the batch completes.
        seen: what is to be remembered of it.
        late_rows: how many of its events came late.
        trimming: what is trimmed with it, and what no longer.
    """

    receipt: Receipt
    batch: Batch | None
    window: Window
    seen: Seen
    late_rows: int
    trimming: Trimming


class Doubt:
    """The batches of a run of which one sink took nothing, and has taken nothing since."""

    def __init__(self) -> None:
        self._held: list[Answered] = []
        self._took = False

    def judge(self, answered: Answered) -> list[Answered]:
        """Return the batches that count now."""
        receipt = answered.receipt
        if receipt.rejected and not receipt.rows:
            self._held.append(answered)
            _LOG.warning("the sink took nothing of a batch", extra={"batch": receipt.batch_id})
            return []
        if receipt.already:  # that says nothing of how the sink is now
            return [answered]
        self._took = True
        held, self._held = self._held, []
        return [*held, answered]

    def fault(self, covered: Iterable[Window]) -> SinkError | None:
        """Return what stops the sink at once: several batches in a row, or one before all that it has.

        The next run goes on at the oldest that a sink has: with later windows covered and the first one withdrawn, that
        would not be read again.

        Args:
            covered: what the sink has.
        """
        if len(self._held) >= _MOST_HELD:
            return SinkRefusedError(self._words())
        first = min((one.since for one in covered), default=None)
        if any(first is None or one.window.since <= first for one in self._held):
            return SinkError(self._words())
        return None

    def windows(self) -> list[Window]:
        """Return the windows of what is in doubt; they are not read again in this run."""
        return [one.window for one in self._held]

    def few(self) -> list[Answered]:
        """Return what counts at the end of a run, as it is little and the sink took other events in it."""
        if not self._took or self._rows() > _FEW:
            return []
        held, self._held = self._held, []
        return held

    def close(self) -> tuple[list[Answered], SinkError | None]:
        """Return what is to be withdrawn at the end of a run, and the error of the sink if that is anything."""
        held, error = self._held, SinkError(self._words()) if self._held else None
        self._held = []
        return held, error

    def _rows(self) -> int:
        return sum(len(one.receipt.rejected) for one in self._held)

    def _words(self) -> str:
        reason = self._held[-1].receipt.rejected[-1].reason
        return (
            f"the sink took none of the last {self._rows()} events: {reason}; nothing was quarantined, the next run "
            "reads them again; check the sink and the network path to it, or drop the events with a transform"
        )
