"""The time to export -> slices of it that runs can export beside each other, as many as are told or as are worth it."""

from __future__ import annotations

import logging
import math
from dataclasses import replace
from datetime import timedelta
from typing import Any, Literal

from cfaudit_export.app.accounts import accounts
from cfaudit_export.app.compose import Assembly, connected
from cfaudit_export.app.failover import choose
from cfaudit_export.app.forecast import expected_by_probes
from cfaudit_export.core.intervals import cut
from cfaudit_export.core.jsonable import as_plain
from cfaudit_export.core.model import Window, floor_ms

Count = int | Literal["auto"]

_LOG = logging.getLogger(__name__)
# A slice that is lost with its worker costs so long at most, and to start a run takes seconds.
SLICE_MINUTES = 20.0
MOST_SLICES = 500
"""Of an account, where the number is chosen."""
_LEAST_SLICE = timedelta(hours=1)
_PAGE_ROWS = 1_000
_BUDGET_MINUTES = 5.0
# Events of whole records that are read, mapped and stored in a minute on one core, at the bar of the project.
_EVENTS_MINUTE = 600_000


def slices(assembly: Assembly, count: Count) -> list[dict[str, Any]]:
    """Cut the time to export into slices, `count` for each account, which runs can export beside each other.

    The time is from `since` (30 days ago without one) to `until`, and never beyond what is settled. The slices of an
    account tile it on whole milliseconds. Each is a dictionary of options: `account`, `since`, `until` and `slice`.

    With `auto` each slice takes about 20 minutes, by the events of a few short windows, and the newest
    slice of each account is first.

    Raises:
        CfauditError: the account has to be asked for, or the log to be looked at, and that fails.
    """
    from cfaudit_export.pipeline.plan import FIRST_RUN

    settings = assembly.settings
    settled = floor_ms(assembly.clock() - settings.settle_lag)
    before = min(settled, floor_ms(settings.until)) if settings.until else settled
    since = floor_ms(settings.since) if settings.since else before - FIRST_RUN
    if since >= before:
        return []
    whole = Window(since, before)
    found = []
    for account in accounts(assembly):
        parts = cut(whole, _worth(assembly, account, whole) if count == "auto" else count)
        for part in parts[::-1] if count == "auto" else parts:
            options = as_plain({"since": part.since, "until": part.before})
            found.append({"account": account, **options, "slice": True})
    return found


def _worth(assembly: Assembly, account: str, whole: Window) -> int:
    """Return in how many slices an account is worth to be cut."""
    # What is asked here is no run of a slice.
    asked = replace(assembly, settings=replace(assembly.settings, account=(account,)))
    with connected(choose(asked, account), account) as (source, connection):
        events = expected_by_probes(source, [whole]).events
        calls = events / _PAGE_ROWS * connection.calls_per_page
    budget = getattr(assembly.source[1], "budget_calls", 0)
    minutes = max(calls / budget * _BUDGET_MINUTES if budget else 0.0, events / _EVENTS_MINUTE)
    count = slices_for(minutes, whole.duration)
    _LOG.info("slices chosen", extra={"account": account, "events": events, "slices": count})
    return count


def slices_for(minutes: float, duration: timedelta) -> int:
    """Return how many slices make of work that takes one worker so long pieces of about 20 minutes."""
    most = max(min(MOST_SLICES, duration // _LEAST_SLICE), 1)
    return max(min(math.ceil(minutes / SLICE_MINUTES), most), 1)
