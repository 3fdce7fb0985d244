"""Several sinks: one extraction, each with its own progress, and none that holds the others."""

from __future__ import annotations

from datetime import timedelta
from typing import Any

import pytest

from cfaudit_export import LoadUnknownError, Receipt, SinkRefusedError
from cfaudit_export.errors import ExitCode

DAY = timedelta(days=1)
HOUR = timedelta(hours=1)
SMALL = {"piece_rows": 100, "page_size": 100, "concurrency": 2}
SMALLER = {**SMALL, "piece_rows": 20, "page_size": 20}


def test_one_extraction_serves_all_sinks(rig: Any, shelf: Any) -> None:
    sinks = {"a": shelf(), "b": shelf(), "parquet": rig.parquet()}
    report = rig.run(sinks, config=SMALL)
    alone = rig.run({"c": shelf()}, config=SMALL)
    assert report.calls <= alone.calls * 1.2
    assert sinks["a"].texts() == sinks["b"].texts() == rig.truth()
    assert sorted(sinks["a"].batches) == sorted(sinks["b"].batches)
    rig.assert_everything_once()
    assert rig.staged() == []


@pytest.mark.parametrize(
    ("error", "code"),
    [
        (LoadUnknownError("no answer"), ExitCode.SINK_DOWN),
        (SinkRefusedError("no such table"), ExitCode.SETTINGS),
        (OSError("a fault of a plugin with a secret in it"), ExitCode.SINK_DOWN),
    ],
    ids=["silent", "refusing", "faulty"],
)
def test_a_dead_sink_holds_no_other_and_catches_up_alone(rig: Any, shelf: Any, error: Exception, code: int) -> None:
    dead, alive = shelf(error=error), shelf()
    report = rig.run({"dead": dead, "alive": alive}, config=SMALL)
    assert report.exit_code == code
    assert [one.exit_code for one in report.sinks] == [code, ExitCode.OK]
    assert "secret" not in str(report)
    assert dead.loads == 1, "it is left alone once it failed"
    assert alive.texts() == rig.truth()
    [promised] = rig.checkpoint().sinks["dead"].intents
    assert rig.staged() == [f"{promised.batch_id}.arrow"]

    dead.error = None
    rig.now += HOUR
    loads = alive.loads
    report = rig.run({"dead": dead, "alive": alive}, config={"piece_rows": 170, "page_size": 170})
    assert report.exit_code == ExitCode.OK
    assert alive.loads == loads
    assert dead.texts() == alive.texts() == rig.truth()
    assert dead.ids() == alive.ids()
    assert promised.batch_id in dead.batches
    assert rig.staged() == []


def test_a_sink_that_dies_in_the_middle_goes_on_where_it_was(rig: Any, shelf: Any, down: Exception) -> None:
    class Mortal(type(shelf())):  # type: ignore[misc]  # the class comes from a fixture
        def load(self, batch: Any) -> Receipt:
            if self.loads == 3:
                self.error = down
            return super().load(batch)

    mortal, alive = Mortal(), shelf()
    rig.run({"mortal": mortal, "alive": alive}, config=SMALL)
    assert 0 < len(mortal.ids()) < len(alive.ids())
    mortal.error, mortal.loads = None, 10
    rig.now += HOUR
    rig.run({"mortal": mortal, "alive": alive}, config=SMALL)
    assert mortal.texts() == alive.texts() == rig.truth()


def test_the_batch_that_a_dead_sink_was_promised_is_not_staged_anew_for_another(
    rig: Any, shelf: Any, down: Exception
) -> None:
    dead = shelf(error=down)
    rig.run({"dead": dead})
    [path] = rig.staging.rglob("*.arrow")
    before = path.read_bytes()
    rig.now += HOUR
    alive = shelf()
    rig.run({"dead": dead, "alive": alive}, until=rig.now - HOUR)
    assert path.read_bytes() == before
    assert list(alive.batches) == [path.stem]
    assert {intent.digest for intent in rig.checkpoint().sinks["dead"].intents}


def test_what_a_sink_noted_beside_a_batch_lives_as_long_as_the_batch(rig: Any, shelf: Any, down: Exception) -> None:
    class Noting(type(shelf())):  # type: ignore[misc]  # the class comes from a fixture
        def load(self, batch: Any) -> Receipt:
            with batch.path.with_suffix(".note").open("a") as note:
                note.write("tried\n")
            return super().load(batch)

    noting, dead = Noting(error=down), shelf(error=down)
    for _ in range(2):
        rig.run({"noting": noting, "dead": dead})
        rig.now += HOUR
    [batch, note] = rig.staged()
    assert note == batch.replace(".arrow", ".note")
    assert next(rig.staging.rglob("*.note")).read_text() == "tried\ntried\n"
    noting.error = None
    rig.run({"noting": noting, "dead": dead})
    assert rig.staged() == [batch, note], "another sink is still promised the batch"
    dead.error = None
    rig.run({"noting": noting, "dead": dead})
    assert rig.staged() == []


def test_when_every_sink_is_dead_reading_stops(rig: Any, shelf: Any, down: Exception) -> None:
    report = rig.run({"a": shelf(error=down), "b": shelf(error=down)}, config=SMALL)
    assert report.exit_code == ExitCode.SINK_DOWN
    assert report.events < 600


def test_a_sink_covers_only_what_was_read_for_it(rig_of: Any, shelf: Any) -> None:
    rig = rig_of(events=600, span_seconds=10 * 86_400.0)
    old, new = shelf(), shelf()
    start = rig.now - 11 * DAY
    rig.run({"old": old}, since=start, until=start + 2 * DAY)
    rig.run({"old": old}, since=start + 4 * DAY)
    # The older sink has a hole that the newer one does not want.
    rig.run({"new": new}, since=start + 6 * DAY)
    rig.run({"old": old, "new": new})
    assert old.texts() == rig.truth()
    assert len(set(old.ids())) == 600
    assert rig.checkpoint().sinks["new"].covered[0].since == start + 6 * DAY
    rig.run({"new": new}, since=start)
    assert new.texts() == rig.truth()


def test_a_first_run_of_two_sinks_from_different_times_that_dies_loses_nothing(rig_of: Any, shelf: Any) -> None:
    rig = rig_of(events=400, span_seconds=20 * 86_400.0)
    a, b = shelf(), shelf()
    rig.run({"a": a}, since=rig.now - 5 * DAY)
    for stop in (1, 2, 3, 4):

        def die(progress: Any, stop: int = stop) -> None:
            if progress.windows == stop:
                raise KeyboardInterrupt

        with pytest.raises(KeyboardInterrupt):
            rig.run({"a": a, "b": b}, since=rig.now - 25 * DAY, config=SMALLER, progress=die)
    rig.run({"a": a, "b": b}, config=SMALL)
    assert a.texts() == b.texts() == rig.truth()


@pytest.mark.parametrize(
    "receipt",
    [
        lambda batch: Receipt(batch.batch_id, batch.rows - 1),
        lambda batch: Receipt("f" * 32, batch.rows),
    ],
    ids=["short", "other"],
)
def test_a_receipt_that_does_not_speak_for_every_event_is_not_believed(rig: Any, shelf: Any, receipt: Any) -> None:
    class Forgetful(type(shelf())):  # type: ignore[misc]  # the class comes from a fixture
        def load(self, batch: Any) -> Receipt:
            super().load(batch)
            return receipt(batch)

    sink = Forgetful()
    report = rig.run({"shelf": sink})
    assert report.exit_code == ExitCode.SINK_DOWN
    assert rig.checkpoint().sinks["shelf"].intents
    assert not any(window.before == rig.now for window in rig.checkpoint().sinks["shelf"].covered)
    healthy = shelf(batches=sink.batches, refused=sink.refused)
    rig.run({"shelf": healthy})
    assert healthy.texts() == rig.truth()
