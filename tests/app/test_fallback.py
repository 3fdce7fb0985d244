"""What a source with a second one behind it offers: what its first one does, and no more."""

from __future__ import annotations

from contextlib import AbstractContextManager
from datetime import UTC, datetime, timedelta
from types import SimpleNamespace
from typing import Any

import pyarrow as pa
import pytest

from cfaudit_export.app.fallback import FallbackSource
from cfaudit_export.core.model import Connection, Window
from cfaudit_export.errors import SourceUnavailableError
from cfaudit_export.pipeline.clocks import time_to_plan_by
from cfaudit_export.plugin.interfaces import Completing, Dating, Extract, Rereading, Source

NOW = datetime(2026, 11, 20, 12, tzinfo=UTC)
HOUR = timedelta(hours=1)
READ = Extract(Window(NOW - HOUR, NOW), pa.table({}), (), NOW, 1)
PROTOCOLS = (Completing, Dating, Rereading)
OFFERS = {
    "complete": lambda _windows, _known: iter([READ]),
    "guess_start": lambda window, _count: window.since,
    "newest_time": lambda window: window.before,
    "recount": lambda _window, _page_rows, _filters=(): READ,
    "reread": lambda _windows, _known, **_how: (one for one in [READ]),
}


def filled(*names: str) -> Any:
    """A source with another one behind it, where the first one offers this."""
    first: Any = SimpleNamespace(**{name: OFFERS[name] for name in names})

    def never(_found: Connection) -> AbstractContextManager[tuple[Source, Connection]]:
        raise AssertionError("no gap was met")

    return FallbackSource(lambda _is_filling: first, "other", never)


def test_all_that_a_source_may_offer_is_known_here() -> None:
    named = {name for kind in PROTOCOLS for name in vars(kind) if not name.startswith("_")}
    assert named | {"guess_start", "recount"} == set(OFFERS)


@pytest.mark.parametrize("names", [(), *((name,) for name in OFFERS), tuple(OFFERS)], ids=str)
def test_a_source_with_another_behind_it_offers_what_the_first_one_offers(names: tuple[str, ...]) -> None:
    source = filled(*names)
    assert {name for name in OFFERS if hasattr(source, name)} == set(names)
    for kind in PROTOCOLS:
        assert isinstance(source, kind) == all(name in names for name in vars(kind) if name in OFFERS)


def test_what_is_offered_is_asked_of_the_first_one() -> None:
    source, window = filled(*OFFERS), READ.window
    assert source.newest_time(window) == window.before
    assert source.guess_start(window, 9) == window.since
    assert list(source.reread([window], [], columns=True)) == [READ]
    assert list(source.complete([window], [])) == [READ]
    assert source.recount(window, 9, [("a", "b")]) is READ


def test_a_clock_days_ahead_ends_a_run_whose_first_source_dates_nothing() -> None:
    lag, ahead = timedelta(minutes=15), 5 * 86_400.0
    assert time_to_plan_by(NOW, ahead, filled("newest_time"), lag) == NOW
    with pytest.raises(SourceUnavailableError, match="does not show which one is wrong"):
        time_to_plan_by(NOW, ahead, filled(), lag)
