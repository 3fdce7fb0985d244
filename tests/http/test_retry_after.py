"""What servers put into `Retry-After`, and what is made of it."""

from __future__ import annotations

import math
from datetime import UTC, datetime

import pytest
from hypothesis import given
from hypothesis import strategies as st

from cfaudit_export.http.retry_after import LONGEST_SECONDS, retry_after_seconds

NOW = datetime(2026, 11, 20, 12, tzinfo=UTC)


@pytest.mark.parametrize(
    ("said", "seconds"),
    [
        ("30", 30.0),
        (" 0 ", 0.0),
        ("1.5", 1.5),
        ("Fri, 20 Nov 2026 12:02:00 GMT", 120.0),
        ("Fri, 20 Nov 2026 11:00:00 GMT", 0.0),
        ("Friday, 20-Nov-26 12:00:30 GMT", 30.0),
        (str(int(NOW.timestamp()) + 90), 90.0),
        ("3601", LONGEST_SECONDS),
        ("1" + "0" * 20, LONGEST_SECONDS),
        ("9" * 400, LONGEST_SECONDS),
        ("Fri, 20 Nov 9998 12:02:00 GMT", LONGEST_SECONDS),
    ],
)
def test_what_means_a_time_is_understood_within_reason(said: str, seconds: float) -> None:
    assert retry_after_seconds(said, NOW) == seconds


@pytest.mark.parametrize(
    "said", [None, "", "\u00b2", "\u0663\u0660", "-5", "1e400", "nan", "inf", "soon", "1_0", "0x10"]
)
def test_what_means_nothing_is_nothing(said: str | None) -> None:
    assert retry_after_seconds(said, NOW) is None


@given(st.text(max_size=60) | st.from_regex(r"[A-Z][a-z]{2}, [0-9]{1,3} [A-Z][a-z]{2} [0-9]{1,6} [0-9:]{1,9} GMT"))
def test_no_text_leads_to_a_wait_without_end(said: str) -> None:
    seconds = retry_after_seconds(said, NOW)
    assert seconds is None or (math.isfinite(seconds) and 0 <= seconds <= LONGEST_SECONDS)
