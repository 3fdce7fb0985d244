"""What a sink refuses for good: quarantined before its batch counts, counted, replayed."""

from __future__ import annotations

import json
from datetime import UTC, datetime, timedelta
from typing import Any

import pytest

from cfaudit_export import SinkError, SinkRefusedError, read_batch
from cfaudit_export.core.model import Rejected
from cfaudit_export.errors import ExitCode, StagingError, UsageError
from cfaudit_export.pipeline.ledger import Ledger
from cfaudit_export.pipeline.quarantine import Quarantine, quarantine_of
from cfaudit_export.pipeline.replay import ReplayTarget, discard_stream, replay_stream
from cfaudit_export.testing import make_batch

END = datetime(2026, 11, 20, 12, tzinfo=UTC)
HOUR = timedelta(hours=1)
WORDS = "field 'actor_email' is \u2028 odd"


def odd(event: dict[str, Any]) -> str | None:
    return WORDS if event["event_id"][0] in "0123" else None


def replay(rig: Any, sink: Any, name: str = "picky", refused_by: str = "picky") -> Any:
    return replay_stream(aside(rig), ReplayTarget(name, sink, refused_by), store=rig.store, clock=lambda: rig.now)


def aside(rig: Any) -> Quarantine:
    return quarantine_of(rig.root, rig.stream)


def held_ids(rig: Any, sink: str = "picky") -> list[str]:
    return sorted(one for batch in aside(rig).held(sink) for one in read_batch(batch)["event_id"].to_pylist())


@pytest.fixture
def picky(rig: Any, shelf: Any) -> Any:
    """A sink that has refused about a quarter of 600 events, in several batches."""
    sink = shelf(refuse=odd)
    report = rig.run({"picky": sink}, config={"piece_rows": 150, "page_size": 150})
    assert report.exit_code == ExitCode.INCOMPLETE
    return sink


def test_what_is_refused_is_quarantined_with_the_sink_s_words_and_counted(rig: Any, picky: Any) -> None:
    held, stored = held_ids(rig), picky.ids()
    assert len(held) > 50
    assert all(one[0] in "0123" for one in held)
    assert len(set(held) | set(stored)) == len(held) + len(stored) == 600
    progress = rig.checkpoint().sinks["picky"]
    assert (progress.quarantined, progress.rows) == (len(held), len(stored))
    assert rig.reports[-1].sinks[0].quarantined == len(held)
    for batch in aside(rig).held("picky"):
        words = json.loads(batch.path.with_suffix(".json").read_text())
        assert words["sink"] == "picky"
        assert {one["reason"] for one in words["refused"]} == {WORDS}
        assert {one["event_id"] for one in words["refused"]} == set(read_batch(batch)["event_id"].to_pylist())
        assert batch.path.parent.stat().st_mode & 0o077 == 0
    rig.now += HOUR
    report = rig.run({"picky": picky})
    assert report.exit_code == ExitCode.INCOMPLETE, "they remain, and no run with nothing new hides it"
    assert report.sinks[0].rows == 0


def test_an_event_between_two_milliseconds_is_quarantined_like_any_other(rig: Any) -> None:
    at = datetime(2026, 11, 1, 12, 0, 0, 123_456, UTC)
    batch = make_batch(rig.root / "staged", rows=1, changes={"event_time": [at]})
    [event_id] = read_batch(batch)["event_id"].to_pylist()
    aside(rig).add("picky", batch, (Rejected(event_id, WORDS),))
    [held] = aside(rig).held("picky")
    assert held.window.since == at.replace(microsecond=123_000)
    assert read_batch(held)["event_time"].to_pylist() == [at]
    [refused] = aside(rig).refused("picky")
    assert refused.event_time == at.replace(microsecond=123_000)


def test_a_replay_brings_them_home_and_empties_the_folder(rig: Any, picky: Any) -> None:
    held = held_ids(rig)
    picky.refuse = lambda _event: None
    report = replay(rig, picky)
    assert (report.rows, report.refused, report.left) == (len(held), 0, 0)
    assert picky.texts() == rig.truth()
    assert len(set(picky.ids())) == 600
    assert not [path for path in (rig.root / "quarantine").rglob("*") if path.is_file()]
    progress = rig.checkpoint().sinks["picky"]
    assert (progress.quarantined, progress.rows) == (0, 600)
    rig.now += HOUR
    assert rig.run({"picky": picky}).exit_code == ExitCode.OK
    assert replay(rig, picky).rows == 0
    assert len(picky.ids()) == 600


def test_another_sink_can_take_them(rig: Any, picky: Any, shelf: Any) -> None:
    held, other = held_ids(rig), shelf()
    replay(rig, other, name="other")
    assert other.ids() == held
    sinks = rig.checkpoint().sinks
    assert (sinks["picky"].quarantined, sinks["other"].rows) == (0, len(held))
    assert sinks["other"].covered == ()
    # Should it become a sink of its own one day, it gets everything else.
    rig.now += HOUR
    rig.run({"picky": picky, "other": other})
    assert other.texts() == rig.truth()
    assert len(set(other.ids())) == len(other.ids()) == 600
    rig.now += HOUR
    rig.run({"picky": picky, "other": other})
    assert len(other.ids()) == 600


def test_events_refused_in_one_millisecond_in_two_batches_are_all_remembered(rig_of: Any, shelf: Any) -> None:
    rig = rig_of(events=60, span_seconds=0.02, ties=0.9, twins=0.5)
    picky, other = shelf(refuse=odd), shelf()
    for _ in range(3):
        rig.run({"picky": picky}, config={"piece_rows": 10, "page_size": 10})
        rig.now += HOUR
        rig.grow(10, END - timedelta(milliseconds=20), END)
    replay(rig, other, name="other")
    rig.run({"other": other})
    assert len(set(other.ids())) == len(other.ids())
    assert other.texts() == rig.truth()


def test_a_sink_that_has_the_events_of_its_own_does_not_get_them_twice(rig: Any, picky: Any, shelf: Any) -> None:
    held, other = held_ids(rig), shelf()
    rig.run({"other": other})
    with pytest.raises(UsageError, match="sink 'other' has these events already"):
        replay(rig, other, name="other")
    assert held_ids(rig) == held
    assert len(other.ids()) == 600


def test_what_is_given_up_counts_no_longer(rig: Any, picky: Any) -> None:
    held = held_ids(rig)
    path = next(aside(rig).held("picky")).path
    path.write_bytes(b"damaged")
    assert discard_stream(aside(rig), "picky", store=rig.store, clock=lambda: rig.now) == len(held)
    assert not [path for path in (rig.root / "quarantine").rglob("*") if path.is_file()]
    assert rig.checkpoint().sinks["picky"].quarantined == 0
    rig.now += HOUR
    assert rig.run({"picky": picky}).exit_code == ExitCode.OK


def test_a_faulty_sink_tells_nothing_of_the_events_that_it_has_seen(rig: Any, picky: Any) -> None:
    picky.error = ValueError("ada@example.com did it")
    report = replay(rig, picky)
    assert report.exit_code == ExitCode.SINK_DOWN
    assert "the sink failed with ValueError at conftest.py" in report.error
    assert "ada" not in report.error


def test_what_is_refused_again_stays_quarantined(rig: Any, picky: Any) -> None:
    held = held_ids(rig)
    picky.refuse = lambda event: "still odd" if event["event_id"][0] in "01" else None
    for _ in range(2):
        report = replay(rig, picky)
        assert report.left == report.refused == len(held_ids(rig)) == rig.checkpoint().sinks["picky"].quarantined
    assert {one[0] for one in held_ids(rig)} == {"0", "1"}
    assert sorted(held_ids(rig) + picky.ids()) == sorted({*held_ids(rig), *picky.ids()})
    assert len(held_ids(rig) + picky.ids()) == 600
    picky.refuse = lambda _event: None
    replay(rig, picky)
    assert picky.texts() == rig.truth()
    assert len(held) > len(held_ids(rig)) == 0


def test_a_batch_that_is_refused_whole_is_loaded_under_another_name(rig: Any, shelf: Any) -> None:
    other = shelf()
    rig.run({"other": other})
    morning = sorted(at for table in other.batches.values() for at in table["event_time"].to_pylist())[100]
    sink = shelf(refuse=lambda event: "no" if event["event_time"] < morning else None)
    rig.run({"picky": sink}, config={"piece_rows": 60, "page_size": 60})
    assert any(not batch.num_rows for batch in sink.batches.values())
    held = held_ids(rig)
    sink.refuse = lambda _event: None
    assert replay(rig, sink).rows == len(held) >= 60
    assert sink.texts() == rig.truth()


def test_a_replay_that_dies_at_any_moment_loses_and_doubles_nothing(
    rig: Any, picky: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    picky.refuse = lambda event: "still odd" if event["event_id"][0] == "0" else None

    class DiedError(BaseException):
        pass

    places = ((type(picky), "load"), (Quarantine, "add"), (Ledger, "write"), (Quarantine, "release"))
    for owner, name in places:
        for after in (False, True):
            original = getattr(owner, name)

            def die(*arguments: Any, original: Any = original, after: bool = after) -> Any:
                if after:
                    original(*arguments)
                raise DiedError

            with monkeypatch.context() as patch:
                patch.setattr(owner, name, die)
                with pytest.raises(DiedError):
                    replay(rig, picky)
            assert sorted({*held_ids(rig), *picky.ids()}) == sorted(rig_ids(rig, picky)), (owner, name, after)
    picky.refuse = lambda _event: None
    replay(rig, picky)
    assert picky.texts() == rig.truth()
    assert len(set(picky.ids())) == 600
    progress = rig.checkpoint().sinks["picky"]
    assert (progress.rows, progress.quarantined) == (600, 0)
    assert rig.run({"picky": picky}).exit_code == ExitCode.OK


def rig_ids(rig: Any, sink: Any) -> set[str]:
    ids = {*held_ids(rig), *sink.ids()}
    assert len(ids) == 600
    return ids


def test_a_sink_that_is_down_keeps_the_rest_quarantined(rig: Any, picky: Any, down: SinkError) -> None:
    held = held_ids(rig)
    picky.error = down
    report = replay(rig, picky)
    assert (report.error, report.exit_code) == ("out of order", ExitCode.SINK_DOWN)
    assert (report.rows, report.left) == (0, len(held))
    assert held_ids(rig) == held
    assert rig.checkpoint().sinks["picky"].quarantined == len(held)


def test_a_batch_does_not_count_while_its_refused_events_cannot_be_quarantined(rig: Any, shelf: Any) -> None:
    sink = shelf(refuse=odd)
    (rig.root / "quarantine").write_text("in the way")
    report = rig.run({"picky": sink})
    assert report.exit_code == ExitCode.TRY_AGAIN
    assert "set events aside" in report.error
    assert len(rig.checkpoint().sinks["picky"].intents) == 1
    (rig.root / "quarantine").unlink()
    report = rig.run({"picky": sink})
    assert report.exit_code == ExitCode.INCOMPLETE
    assert len(rig_ids(rig, sink)) == 600


def test_refused_events_that_are_not_in_the_batch_are_not_believed(rig: Any, shelf: Any) -> None:
    from cfaudit_export import Rejected

    class Liar(type(shelf())):  # type: ignore[misc]  # the class comes from a fixture
        def load(self, batch: Any) -> Any:
            receipt = super().load(batch)
            self.refused[batch.batch_id] = (Rejected("f" * 32, "never heard of"),)
            return type(receipt)(batch.batch_id, batch.rows - 1, (), rejected=self.refused[batch.batch_id])

    report = rig.run({"liar": Liar(), "alive": shelf()})
    assert report.exit_code == ExitCode.SINK_DOWN
    assert "of which it was given 0" in report.sinks[0].error
    assert report.sinks[1].exit_code == ExitCode.OK


def test_refused_events_whose_staged_file_is_lost_stay_counted(rig: Any, shelf: Any) -> None:
    sink = shelf(refuse=odd)
    (rig.root / "quarantine").write_text("in the way")
    rig.run({"picky": sink})
    (rig.root / "quarantine").unlink()
    for path in rig.staging.rglob("*.arrow"):
        path.unlink()
    report = rig.run({"picky": sink})
    assert report.exit_code == ExitCode.INCOMPLETE
    assert rig.checkpoint().sinks["picky"].quarantined == 600 - len(sink.ids())
    assert held_ids(rig) == []


def test_a_damaged_file_is_named_and_kept(rig: Any, picky: Any) -> None:
    path = next(aside(rig).held("picky")).path
    path.write_bytes(b"damaged")
    with pytest.raises(StagingError, match=path.name):
        replay(rig, picky)
    assert path.read_bytes() == b"damaged"


def test_a_secret_in_a_sink_s_words_is_not_kept(rig: Any, shelf: Any) -> None:
    """The words may be a server's, and that may say back what it was sent."""
    sink = shelf(refuse=lambda event: "no: Splunk s3cret-t0ken" if odd(event) else None)

    def redact(text: str) -> str:
        return text.replace("s3cret-t0ken", "***")

    report = rig.run({"picky": sink}, redact=redact)
    assert report.exit_code == ExitCode.INCOMPLETE
    assert {one.reason for one in aside(rig).refused("picky")} == {"no: Splunk ***"}
    replay_stream(
        aside(rig), ReplayTarget("picky", sink, "picky", redact=redact), store=rig.store, clock=lambda: rig.now
    )
    kept = [path.read_bytes() for path in rig.root.rglob("*") if path.is_file()]
    assert not [content for content in kept if b"s3cret" in content]


def test_a_replay_goes_to_where_the_sink_has_delivered_and_nowhere_else(rig: Any, picky: Any, shelf: Any) -> None:
    class Marked(type(picky)):  # type: ignore[misc]  # the class comes from a fixture
        mark_there: str | None = None

        def marked(self) -> str | None:
            return self.mark_there

        def mark(self, token: str) -> str:
            self.mark_there = self.mark_there or token
            return self.mark_there

    def replayed(sink: Any, place: str | None) -> Any:
        target = ReplayTarget("picky", sink, "picky", place)
        return replay_stream(aside(rig), target, store=rig.store, clock=lambda: rig.now)

    held, sink = held_ids(rig), Marked(picky.batches, picky.refused)
    rig.now += HOUR
    rig.run({"picky": sink}, destinations={"picky": "here"})
    sink.refuse = lambda _event: None
    with pytest.raises(SinkRefusedError, match="is now set to 'there'"):
        replayed(sink, "there")
    with pytest.raises(SinkRefusedError, match="lacks the mark of earlier runs"):
        replayed(Marked(), "here")
    assert held_ids(rig) == held
    assert replayed(sink, "here").rows == len(held)
