"""What a sink has of a stream belongs to a place: a path, a bucket, a table. Another place is never taken for it.

The checkpoint names the place, and where the sink can leave a mark in it, the mark too: so an empty folder below a disk
that is not mounted, or a bucket that was made anew, is noticed before anything is delivered there. A checkpoint that
names none, written by an earlier version, belongs to the place of the next run.
"""

from __future__ import annotations

import logging
import uuid
from collections.abc import Callable
from dataclasses import replace

from cfaudit_export.core.model import Checkpoint, SinkProgress
from cfaudit_export.errors import CfauditError, SinkRefusedError
from cfaudit_export.pipeline.answer import answered
from cfaudit_export.pipeline.ledger import Change, Ledger
from cfaudit_export.pipeline.run_context import RunContext
from cfaudit_export.plugin.interfaces import Sink

_LOG = logging.getLogger(__name__)
_BOTH_WAYS = (
    "if the data was moved there, use 'run --adopt-destination'; to start a new export there, use 'run --since', "
    "or another state_dir"
)


def changed(progress: SinkProgress, destination: str | None) -> str | None:
    """Say what is wrong where a sink would go on in another destination than it has delivered to; None for nothing."""
    if None in (progress.destination, destination) or progress.destination == destination:
        return None
    return f"has delivered to '{progress.destination}' and is now set to '{destination}'; {_BOTH_WAYS}"


def fault(progress: SinkProgress, sink: Sink, destination: str | None) -> str | None:
    """Say what is wrong with the place that a sink would go on in: it is another, or lacks the mark; None for nothing.

    Raises:
        SinkError: it cannot be looked at now.
    """
    if (why := changed(progress, destination)) is not None:
        return why
    look: Callable[[], str | None] | None = getattr(sink, "marked", None)
    if progress.marker is None or look is None or answered(look) == progress.marker:
        return None
    where = f"'{destination}'" if destination else "the destination"
    return f"{where} lacks the mark of earlier runs; is the disk mounted, is it the same bucket or table? {_BOTH_WAYS}"


class Destinations:
    """The destinations of a run's sinks, and what the checkpoint says of them."""

    def __init__(self, context: RunContext, ledger: Ledger) -> None:
        self._context = context
        self._ledger = ledger
        self._without_mark = {name for name, sink in context.sinks.items() if not hasattr(sink, "mark")}

    def refused(self) -> dict[str, CfauditError]:
        """Return the sinks that may not be written to, and why. Where the run is told to, they begin anew or go on."""
        found: dict[str, CfauditError] = {}
        for name, sink in self._context.sinks.items():
            try:
                why = fault(self._ledger.progress(name), sink, self._context.destinations.get(name))
                if why and not self._is_resolved(name):
                    found[name] = SinkRefusedError(why)
            except CfauditError as error:
                found[name] = error
                continue
            if name not in found:
                self._mark(name)
        return found

    def write(self, change: Change) -> None:
        """Make a change durable that says what sinks have, together with where they have it."""
        self._ledger.write(lambda checkpoint: self._placed(change(checkpoint)), self._context.clock())
        for name in self._context.sinks:
            self._mark(name)

    def _is_resolved(self, name: str) -> bool:
        """Do what the settings say about a destination that changed; False where they say nothing."""
        context, progress = self._context, self._ledger.progress(name)
        destination, request = context.destinations.get(name), context.request
        if request.adopt_destination:
            kept = replace(progress, destination=destination, marker=None)
        elif request.begins_anew and not context.stream.slice:
            kept = SinkProgress(quarantined=progress.quarantined, replayed=progress.replayed, destination=destination)
        else:
            return False
        facts = {"sink": name, "was": progress.destination, "is": destination, "adopted": request.adopt_destination}
        _LOG.warning("the destination changed", extra=facts)
        self._ledger.write(lambda checkpoint: _with(checkpoint, {name: kept}), context.clock())
        return True

    def _placed(self, checkpoint: Checkpoint) -> Checkpoint:
        """Return the checkpoint with the destinations of sinks that have something and no destination yet."""
        found = {
            name: replace(progress, destination=destination)
            for name, destination in self._context.destinations.items()
            if (progress := checkpoint.sinks.get(name)) and progress.rows and progress.destination is None
        }
        return _with(checkpoint, found)

    def _mark(self, name: str) -> None:
        """Leave a mark in a destination that holds something; one that cannot be left is done without."""
        progress = self._ledger.progress(name)
        if name in self._without_mark or progress.marker is not None or not progress.rows:
            return
        leave: Callable[[str], str] = getattr(self._context.sinks[name], "mark")  # noqa: B009  # sinks need not have it
        try:
            marked = replace(progress, marker=answered(lambda: leave(uuid.uuid4().hex)))
        except CfauditError as error:
            self._without_mark.add(name)
            _LOG.warning("the destination cannot be marked", extra={"sink": name, "error": str(error)})
            return
        self._ledger.write(lambda checkpoint: _with(checkpoint, {name: marked}), self._context.clock())


def _with(checkpoint: Checkpoint, sinks: dict[str, SinkProgress]) -> Checkpoint:
    return replace(checkpoint, sinks=checkpoint.sinks | sinks) if sinks else checkpoint
