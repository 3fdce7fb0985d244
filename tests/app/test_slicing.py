"""How many slices are worth it."""

from __future__ import annotations

from datetime import timedelta

import pytest

from cfaudit_export.app.slicing import MOST_SLICES, slices_for


@pytest.mark.parametrize(
    ("minutes", "duration", "count"),
    [
        (0.0, timedelta(days=30), 1),
        (20.0, timedelta(days=30), 1),
        (21.0, timedelta(days=30), 2),
        (600.0, timedelta(days=365), 30),
        (1e9, timedelta(days=365), MOST_SLICES),
        (1e9, timedelta(hours=5), 5),
        (1e9, timedelta(minutes=5), 1),
    ],
)
def test_a_slice_takes_about_twenty_minutes_and_is_never_shorter_than_an_hour_of_the_log(
    minutes: float, duration: timedelta, count: int
) -> None:
    assert slices_for(minutes, duration) == count
