"""What a run is asked for: built once from the settings, and passed on whole."""

from __future__ import annotations

from dataclasses import dataclass
from datetime import datetime, timedelta


@dataclass(frozen=True, slots=True)
class RunRequest:
    """What a run is asked for.

    Attributes:
        since: oldest moment wanted; None continues at the checkpoint, 30 days back without one.
        until: newest moment wanted; None, or later than that, is `settle_lag` behind now.
        settle_lag: how far behind now a run stops, because events arrive late.
        rescan: how far back to look again for latecomers.
        retry: how many gaps behind the rescan horizon to try again, if it is time: those that have waited longest.
        only_gaps: to try again every gap from `since` to `until`, and read nothing else.
        latecomers: look for latecomers also before an `until`, as the next in a row of intervals does.
        adopt_destination: what sinks have is in other destinations now, because the data was moved there.
        reset_proof: begin manifests anew where they do not agree with the checkpoint.
        fail_on_trimmed: count too many trimmed rows, a day after they were delivered, as incomplete.
    """

    since: datetime | None = None
    until: datetime | None = None
    settle_lag: timedelta = timedelta(minutes=5)
    rescan: timedelta = timedelta(hours=6)
    retry: int = 3
    only_gaps: bool = False
    latecomers: bool = False
    adopt_destination: bool = False
    reset_proof: bool = False
    fail_on_trimmed: bool = False

    @property
    def bounded(self) -> bool:
        """Whether an end was asked for, so that nothing is read again."""
        return self.until is not None and not self.latecomers

    @property
    def begins_anew(self) -> bool:
        """Whether a run into another destination begins there at `since`, and is no part of a row of intervals."""
        return self.since is not None and not (self.latecomers or self.only_gaps)
