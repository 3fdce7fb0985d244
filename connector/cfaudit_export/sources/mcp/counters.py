"""What a source counts for one account, told to its observers."""

from __future__ import annotations

from cfaudit_export.plugin.records import SourceContext
from cfaudit_export.sources.mcp.budget import CallBudget


class Tally:
    """Counters of one source. The budget is that of all accounts, so what it counted before is left out."""

    def __init__(self, context: SourceContext, budget: CallBudget) -> None:
        self._context = context
        self._budget = budget
        self._before = budget.retries, budget.pauses, budget.waited_seconds
        self._events = 0
        self._waiting: str | None = None
        budget.waiting = self._wait

    def tell(self, events: int = 0) -> None:
        """Add events, and tell how things are."""
        self._events += events
        retries, pauses, waited_seconds = self._before
        self._context.progress(
            {
                "events": self._events,
                "calls": self._budget.calls,
                "calls_left": self._budget.left(),
                "waiting": self._waiting,
                "retries": self._budget.retries - retries,
                "throttles": self._budget.pauses - pauses,
                "waited_seconds": round(self._budget.waited_seconds - waited_seconds, 3),
            }
        )

    def _wait(self, why: str | None) -> None:
        self._waiting = why
        self.tell()
