"""Whole exports into BigQuery, from a checkpoint to the next: killed at any moment, two at once, refused, answered no.

After a crash the next run starts on the same machine, or on another one with an empty disk, which has to ask BigQuery
what became of a batch. The checkpoint outlives both.
"""

from __future__ import annotations

import random
import signal
import time
from collections.abc import Callable, Iterator
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import pytest

from cfaudit_export.errors import ExitCode

START = datetime(2026, 11, 20, 20, tzinfo=UTC)
FIRST_RUN = START + timedelta(hours=30)
# Seventeen events, over two pieces with a midnight in each, and one that is late.
EVENTS = [
    *((f"event {n}", (START + timedelta(minutes=100 * n)).isoformat(), START.isoformat()) for n in range(17)),
    ("late", (FIRST_RUN - timedelta(hours=2)).isoformat(), (FIRST_RUN + timedelta(minutes=1)).isoformat()),
]
QUOTA = {"status": 403, "reason": "quotaExceeded", "message": "Quota exceeded"}


class Trial:
    """One stream, run again and again, each run later than the last."""

    def __init__(self, standin: Any, folder: Path, **config: Any) -> None:
        self.standin = standin
        self.folder = folder
        self.config = {"table": "proj.audit.events", "endpoint_url": standin.url, "retry_seconds": 20, **config}
        self.runs = 0
        self.disks = 0

    def order(self, **more: Any) -> dict[str, Any]:
        """Return the order for the next run."""
        self.runs += 1
        return {
            "config": self.config,
            "state": str(self.folder / "state"),
            "staging": str(self.folder / f"disk-{self.disks}"),
            "now": (FIRST_RUN + self.runs * timedelta(minutes=5)).isoformat(),
            "since": START.isoformat(),
            "events": EVENTS,
        } | more

    def lose_disk(self) -> None:
        self.disks += 1

    def texts(self) -> list[str]:
        rows = self.standin.rows()
        return sorted(rows["action_description"].to_pylist()) if rows.num_rows else []

    def assert_every_event_once(self) -> None:
        assert self.texts() == sorted(text for text, _, _ in EVENTS)

    def assert_no_event_twice(self) -> None:
        assert len(self.texts()) == len(set(self.texts()))


@pytest.fixture(scope="module")
def exporters(exporting_into: Any) -> Iterator[tuple[Any, Any]]:
    with exporting_into("bigquery") as pair:
        yield pair


@pytest.fixture
def exporter(exporters: tuple[Any, Any]) -> Any:
    return exporters[0]


@pytest.fixture
def trial_of(standin: Any, tmp_path: Path) -> Callable[..., Trial]:
    """Return what begins a stream in an empty dataset."""

    def begin(number: int = 0, **config: Any) -> Trial:
        standin.say("reset")
        standin.say("dataset", name="proj.audit", location="EU")
        return Trial(standin, tmp_path / str(number), **config)

    return begin


@pytest.mark.parametrize("way", ["anew", "adopted"])
def test_a_table_that_was_dropped_and_made_anew_is_noticed_before_anything_is_loaded(
    trial_of: Any, exporter: Any, way: str
) -> None:
    trial = trial_of()
    assert exporter.run(trial.order()) == 0
    trial.standin.say("drop", name="proj.audit.events")
    trial.standin.make_table_as_the_sink_does()
    assert exporter.run(trial.order(since=None)) == ExitCode.SETTINGS
    assert trial.texts() == []
    if way == "anew":
        assert exporter.run(trial.order()) == 0
        trial.assert_every_event_once()
    else:
        assert exporter.run(trial.order(since=None, adopt=True)) == 0
    assert exporter.run(trial.order(since=None)) == 0, "it is settled now"


@pytest.mark.parametrize("mode", [{}, {"merge": True}], ids=["append", "merge"])
@pytest.mark.parametrize("attempts", [3, pytest.param(100, marks=pytest.mark.soak)])
def test_an_export_killed_twice_at_any_moment_is_completed_in_the_end(
    trial_of: Any, exporter: Any, attempts: int, mode: dict[str, bool]
) -> None:
    trial = trial_of(0, **mode)
    begun_at = time.monotonic()
    assert exporter.run(trial.order()) == 0
    longest = time.monotonic() - begun_at
    chance = random.Random(20261127)
    killed = 0
    for number in range(1, attempts + 1):
        trial = trial_of(number, **mode)
        for _ in range(2):
            seconds = chance.uniform(0, longest)
            died = exporter.run(trial.order(seconds=seconds)) == -signal.SIGKILL
            killed += died
            longest = longest * 1.1 if died else seconds  # the machine may be busier or less busy by now
            trial.assert_no_event_twice()
            if chance.random() < 0.5:
                trial.lose_disk()
        assert exporter.run(trial.order()) == 0
        trial.assert_every_event_once()
    assert killed > attempts / 4


@pytest.mark.parametrize("disk", ["kept", "lost"])
@pytest.mark.parametrize(("method", "path"), [("POST", r"/tables\b"), ("POST", "/upload/"), ("PUT", "/upload/")])
def test_an_export_killed_while_bigquery_still_works_for_it_is_completed_by_the_next(
    trial_of: Any, exporter: Any, method: str, path: str, disk: str
) -> None:
    trial = trial_of()
    trial.standin.fault(method, path, "hold")
    exporter.start(trial.order())
    assert trial.standin.say("held")
    exporter.signal(signal.SIGKILL)
    assert exporter.code() == -signal.SIGKILL
    trial.standin.release()
    trial.assert_no_event_twice()
    if disk == "lost":
        trial.lose_disk()
    assert exporter.run(trial.order()) == 0
    trial.assert_every_event_once()


@pytest.mark.parametrize("times", [2, pytest.param(50, marks=pytest.mark.soak)])
def test_two_exports_at_once_end_as_one(trial_of: Any, exporters: tuple[Any, Any], times: int) -> None:
    for number in range(times):
        trial = trial_of(number)
        order = trial.order()
        trial.lose_disk()
        for exporter, folder in zip(exporters, (order["staging"], trial.order()["staging"]), strict=True):
            exporter.start(order | {"staging": folder})
        assert sorted(exporter.code() for exporter in exporters) in ([0, 0], [0, ExitCode.TRY_AGAIN])
        trial.assert_no_event_twice()
        assert exporters[0].run(trial.order()) == 0
        trial.assert_every_event_once()


def test_an_event_that_is_refused_is_quarantined_and_the_others_arrive(trial_of: Any, exporter: Any) -> None:
    trial = trial_of()
    trial.standin.say("settings", row_bytes=4_000)
    large = ("large " * 1_000, START.isoformat(), START.isoformat())
    assert exporter.run(trial.order(events=[*EVENTS, large])) == ExitCode.INCOMPLETE
    trial.assert_every_event_once()
    assert exporter.run(trial.order(events=[*EVENTS, large])) == ExitCode.INCOMPLETE, "it is still quarantined"
    trial.assert_every_event_once()


@pytest.mark.parametrize(
    ("fault", "code"),
    [
        ({"method": "POST", "path": "/upload/", "action": "refuse", **QUOTA}, ExitCode.SINK_DOWN),
        ({"method": "PUT", "path": "/upload/", "action": "lie", **QUOTA}, ExitCode.SINK_DOWN),
        (
            {"method": "POST", "path": "/upload/", "action": "refuse", "status": 403, "reason": "accessDenied"},
            ExitCode.SETTINGS,
        ),
    ],
    ids=["quota", "quota, and stored anyway", "no right"],
)
def test_a_run_that_bigquery_stops_says_so_and_the_next_completes_it(
    trial_of: Any, exporter: Any, fault: dict[str, Any], code: ExitCode
) -> None:
    trial = trial_of()
    trial.standin.fault(**fault)
    assert exporter.run(trial.order()) == code
    assert exporter.run(trial.order()) == 0
    trial.assert_every_event_once()
