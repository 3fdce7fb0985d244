"""What a source counts for one account, told to its observers."""

from __future__ import annotations

from cfaudit_export.plugin.records import SourceContext
from cfaudit_export.sources.mcp.budget import CallBudget


class Tally:
    """Counters of one source, and those of its budget."""

    def __init__(self, context: SourceContext, budget: CallBudget) -> None:
        self._context = context
        self._budget = budget
        self._events = 0
        self._waiting: str | None = None
        budget.waiting = self._wait

    def tell(self, events: int = 0) -> None:
        """Add events, and tell how things are."""
        self._events += events
        self._context.progress(
            {
                "events": self._events,
                "calls": self._budget.calls,
                "calls_left": self._budget.left(),
                "waiting": self._waiting,
                "retries": self._budget.retries,
                "throttles": self._budget.throttles,
                "waited_seconds": round(self._budget.waited_seconds, 3),
            }
        )

    def _wait(self, why: str | None) -> None:
        self._waiting = why
        self.tell()
