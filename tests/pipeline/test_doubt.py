"""A batch of which a sink takes nothing: it is quarantined once the sink has taken another, and not before."""

from __future__ import annotations

import shutil
from collections.abc import Callable
from datetime import timedelta
from typing import Any

import pytest

from cfaudit_export import Batch, Receipt
from cfaudit_export.errors import ExitCode
from cfaudit_export.pipeline.quarantine import quarantine_of

HOUR = timedelta(hours=1)
SMALL = {"piece_rows": 5, "page_size": 5}


@pytest.fixture(params=["remembers", "forgets"])
def sink(request: pytest.FixtureRequest, shelf: Callable[..., Any]) -> Any:
    """A sink that remembers what it refused of a batch, and one that looks at a batch again."""

    class Forgetful(type(shelf())):  # type: ignore[misc]  # the class comes from a fixture
        def load(self, batch: Batch) -> Receipt:
            if batch.batch_id in self.batches and not self.batches[batch.batch_id].num_rows:
                del self.batches[batch.batch_id]
            receipt: Receipt = super().load(batch)
            return receipt

    return shelf() if request.param == "remembers" else Forgetful()


def broken(_event: dict[str, Any]) -> str | None:
    return "this is no event"


def day_later(rig: Any, events: int = 12, hours: int = 1) -> None:
    rig.grow(events, rig.now, rig.now + hours * HOUR)
    rig.now += hours * HOUR


def run_that_dies_before_its_end(rig: Any, sink: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    def die(_delivery: Any) -> None:
        raise KeyboardInterrupt

    with monkeypatch.context() as patch:
        patch.setattr("cfaudit_export.pipeline.deliver.Delivery.conclude", die)
        with pytest.raises(KeyboardInterrupt):
            rig.run({"sink": sink})


def held(rig: Any) -> list[str]:
    return quarantine_of(rig.root, rig.stream).sinks()


@pytest.mark.parametrize("disk", ["kept", "lost"])
def test_a_gateway_that_breaks_every_body_quarantines_nothing_run_after_run(
    rig_of: Callable[..., Any], sink: Any, disk: str
) -> None:
    """After a first day on which all was well; with few events, after restarts, and on a disk that goes each time."""
    rig = rig_of(events=40)
    assert rig.run({"sink": sink}).exit_code == ExitCode.OK
    sink.refuse = broken
    for hours in (1, 1, 8):
        day_later(rig, events=12 * hours, hours=hours)
        loads = sink.loads
        report = rig.run({"sink": sink}, config=SMALL)
        assert report.exit_code in (ExitCode.SINK_DOWN, ExitCode.SETTINGS)
        assert "this is no event" in report.sinks[0].error
        assert sink.loads - loads <= 3, "it is bounded"
        assert held(rig) == []
        assert rig.checkpoint().sinks["sink"].quarantined == report.sinks[0].quarantined == 0
        assert rig.staged() == []
        if disk == "lost":
            shutil.rmtree(rig.staging)
    sink.refuse = lambda _event: None
    day_later(rig)
    rig.run({"sink": sink})
    assert sink.texts() == rig.truth()
    assert len(set(sink.ids())) == len(sink.ids())
    assert rig.run({"sink": sink}).exit_code == ExitCode.OK


def test_a_sink_that_never_took_an_event_is_not_believed_about_the_first(rig_of: Callable[..., Any], sink: Any) -> None:
    rig = rig_of(events=3)
    sink.refuse = broken
    assert rig.run({"sink": sink}).exit_code == ExitCode.SINK_DOWN
    assert held(rig) == []
    sink.refuse = lambda _event: None
    rig.run({"sink": sink})
    day_later(rig)
    rig.run({"sink": sink})
    assert len({*sink.ids()}) + sum(batch.rows for batch in quarantine_of(rig.root, rig.stream).held("sink")) == 15


@pytest.mark.parametrize("died", [False, True])
def test_an_odd_event_that_comes_alone_is_quarantined_with_the_next_run_that_delivers(
    rig_of: Callable[..., Any], sink: Any, monkeypatch: pytest.MonkeyPatch, *, died: bool
) -> None:
    rig = rig_of(events=40)
    rig.run({"sink": sink})
    before = set(sink.ids())
    day_later(rig, events=1)
    sink.refuse = lambda event: None if event["event_id"] in before or event["event_time"] >= odd_until else "odd"
    odd_until = rig.now
    if died:
        run_that_dies_before_its_end(rig, sink, monkeypatch)
    else:
        report = rig.run({"sink": sink})
        assert report.exit_code == ExitCode.SINK_DOWN
        assert "took none of the last 1 events: odd" in report.sinks[0].error
    assert held(rig) == []
    day_later(rig)
    assert rig.run({"sink": sink}).exit_code == ExitCode.INCOMPLETE
    [batch] = quarantine_of(rig.root, rig.stream).held("sink")
    assert batch.rows == rig.checkpoint().sinks["sink"].quarantined == 1
    assert len(sink.ids()) == len(set(sink.ids())) == 52


def test_a_late_event_that_is_refused_alone_is_not_forgotten_behind_the_horizon(
    rig_of: Callable[..., Any], sink: Any
) -> None:
    rig = rig_of(events=40)
    rig.run({"sink": sink})
    late = rig.now - 2 * HOUR
    rig.grow(1, late, late + HOUR)
    sink.refuse = broken
    for _ in range(2):
        rig.now += 5 * HOUR
        assert rig.run({"sink": sink}).exit_code == ExitCode.SINK_DOWN
    sink.refuse = lambda _event: None
    day_later(rig)
    rig.run({"sink": sink})
    assert len(set(sink.ids())) + rig.checkpoint().sinks["sink"].quarantined == 53


def test_what_a_lost_disk_held_of_a_batch_that_was_refused_whole_is_read_again(
    rig_of: Callable[..., Any], shelf: Callable[..., Any], monkeypatch: pytest.MonkeyPatch
) -> None:
    rig, sink = rig_of(events=40), shelf()
    rig.run({"sink": sink})
    sink.refuse = broken
    day_later(rig)
    run_that_dies_before_its_end(rig, sink, monkeypatch)
    assert rig.checkpoint().sinks["sink"].intents
    shutil.rmtree(rig.staging)
    sink.refuse = lambda _event: None
    day_later(rig)
    assert rig.run({"sink": sink}).exit_code == ExitCode.OK
    assert sink.texts() == rig.truth()
