"""Checkpoints in, what of a period was exported out."""

from __future__ import annotations

from datetime import timedelta
from typing import Any

from hypothesis import given
from hypothesis import strategies as st

from cfaudit_export.analysis.answers.coverage import cover, reach
from cfaudit_export.core.intervals import contains
from cfaudit_export.core.model import EPOCH, Checkpoint, Gap, Seen, SeenWindow, SinkProgress, Stream, Window

ACCOUNT = "0f3c1e5a7b9d2468ace013579bdf2468"


def span(since: float, before: float) -> Window:
    return Window(EPOCH + timedelta(hours=since), EPOCH + timedelta(hours=before))


PERIOD = span(100, 200)


def checkpoint(*covered: Window, sink: str = "parquet", gaps: tuple[Gap, ...] = (), **stream: Any) -> Checkpoint:
    given_stream = Stream(**{"account_id": ACCOUNT, "source": "auditlogs"} | stream)
    seen = Seen(gaps=tuple(SeenWindow(one.window, "") for one in gaps))
    return Checkpoint(given_stream, {sink: SinkProgress(covered, seen)}, gaps)


def gap(since: float, before: float, rows: int = 1) -> Gap:
    return Gap(span(since, before), rows, "actor.type: unknown", EPOCH, EPOCH)


def test_a_period_that_was_covered_without_gaps_is_complete() -> None:
    found = cover(PERIOD, [checkpoint(span(0, 300))], [ACCOUNT], ["parquet"])
    assert found.is_complete is True
    assert (found.missing, found.gaps, found.unknown, found.reason) == ((), (), (), "")


def test_without_a_checkpoint_nobody_knows() -> None:
    found = cover(PERIOD, [], [ACCOUNT], ["parquet"])
    assert found.is_complete is None
    assert (found.unknown, found.reason) == ((ACCOUNT,), "the state folder has no checkpoint of it")
    assert cover(PERIOD, [], []).is_complete is None


def test_what_was_never_exported_is_missing() -> None:
    found = cover(PERIOD, [checkpoint(span(0, 120), span(150, 190))], [ACCOUNT], ["parquet"])
    assert found.is_complete is False
    assert found.missing == (span(120, 150), span(190, 200))
    assert found.streams[0].until == EPOCH + timedelta(hours=190)


def test_gaps_count_where_they_touch_the_period() -> None:
    known = checkpoint(span(0, 300), gaps=(gap(10, 11), gap(150, 151, rows=3), gap(160, 161, rows=0)))
    found = cover(PERIOD, [known], [ACCOUNT], ["parquet"])
    assert found.is_complete is False
    assert [one.window for one in found.gaps] == [span(150, 151), span(160, 161)]
    assert cover(span(200, 300), [known], [ACCOUNT], ["parquet"]).is_complete is True


def test_two_streams_of_an_account_help_each_other() -> None:
    both = [checkpoint(span(0, 150)), checkpoint(span(140, 300), source="codemode")]
    assert cover(PERIOD, both, [ACCOUNT], ["parquet"]).is_complete is True
    assert cover(PERIOD, both[:1], [ACCOUNT], ["parquet"]).missing == (span(150, 200),)


def test_one_account_does_not_speak_for_another() -> None:
    other = "a" * 32
    found = cover(PERIOD, [checkpoint(span(0, 300))], [ACCOUNT, other], ["parquet"])
    assert (found.is_complete, found.unknown) == (None, (other,))
    late = checkpoint(span(0, 150), account_id=other)
    found = cover(PERIOD, [checkpoint(span(0, 300)), late], [ACCOUNT, other], ["parquet"])
    assert (found.is_complete, found.missing) == (False, (span(150, 200),))


def test_a_filtered_stream_speaks_for_a_question_with_that_filter_alone() -> None:
    known = checkpoint(span(0, 300), filters=(("actor_email", "a@example.com"),))
    found = cover(PERIOD, [known], [ACCOUNT], ["parquet"])
    assert found.is_complete is None
    assert found.reason == f"of account {ACCOUNT} only events with actor_email=a@example.com are exported"
    asked = {"actor_email": "a@example.com", "action_type": "delete"}
    assert cover(PERIOD, [known], [ACCOUNT], ["parquet"], asked).is_complete is True


def test_the_sink_that_wrote_the_files_must_be_known() -> None:
    one, two = SinkProgress(covered=(span(0, 300),)), SinkProgress(covered=(span(0, 110),))
    known = Checkpoint(Stream(ACCOUNT, "auditlogs"), {"parquet": one, "s3": two})
    assert cover(PERIOD, [known], [ACCOUNT], ["parquet"]).is_complete is True
    assert cover(PERIOD, [known], [ACCOUNT], ["s3"]).missing == (span(110, 200),)
    doubtful = cover(PERIOD, [known], [ACCOUNT])
    assert doubtful.is_complete is None
    assert doubtful.reason == "it is not known which sink of the checkpoint wrote these files"
    assert cover(PERIOD, [checkpoint(span(0, 300), sink="lake")], [ACCOUNT]).is_complete is True


hours = st.lists(st.tuples(st.integers(80, 220), st.integers(1, 40)), max_size=5)


@given(first=hours, second=hours)
def test_a_moment_is_missing_when_no_stream_covers_it(first: list[Any], second: list[Any]) -> None:
    covered = [[span(start, start + length) for start, length in one] for one in (first, second)]
    known = [checkpoint(*sorted(covered[0])), checkpoint(*sorted(covered[1]), source="codemode")]
    missing = cover(PERIOD, known, [ACCOUNT], ["parquet"]).missing
    for hour in range(100, 200):
        moment = EPOCH + timedelta(hours=hour, minutes=30)
        assert contains(missing, moment) is not any(contains(one, moment) for one in covered)


def test_an_export_reaches_as_far_as_the_account_that_lags_behind() -> None:
    other = "a" * 32
    known = [
        checkpoint(span(0, 190)),
        checkpoint(span(0, 120), source="codemode"),
        checkpoint(span(0, 150), account_id=other),
    ]
    assert reach(known) == EPOCH + timedelta(hours=150)
    assert reach(known, [ACCOUNT]) == EPOCH + timedelta(hours=190)
    assert reach(known, [ACCOUNT], ["s3"]) is None
    assert reach([checkpoint(span(0, 190), filters=(("actor_type", "user"),))]) is None
    assert reach([checkpoint()]) is None
