"""Exports that are killed between and during all they ask of S3, and what the next run makes of it.

Checkpoint and events are both in S3. After a crash the next run starts on the same machine, or on another one with an
empty disk, which has to ask the bucket what became of a batch.
"""

from __future__ import annotations

import itertools
import random
import signal
import threading
from collections.abc import Callable
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import pytest

START = datetime(2026, 11, 20, 20, tzinfo=UTC)
FIRST_RUN = START + timedelta(hours=30)
# Seventeen events, over two pieces with a midnight in each, and one that is late.
PUNCTUAL = [(f"event {n}", (START + timedelta(minutes=100 * n)).isoformat(), START.isoformat()) for n in range(17)]
EVENTS = [
    *PUNCTUAL,
    ("late", (FIRST_RUN - timedelta(hours=2)).isoformat(), (FIRST_RUN + timedelta(minutes=1)).isoformat()),
]
BETWEEN_RUNS = timedelta(minutes=5)  # longer than the lease of a run that died


class Trial:
    """One stream, run again and again, each run later than the last."""

    def __init__(self, place: Any, folder: Path) -> None:
        self.place = place
        self.folder = folder
        self.runs = 0
        self.disks = 0

    def order(self, **more: Any) -> dict[str, Any]:
        """Return the order for the next run."""
        self.runs += 1
        return {
            "url": self.place.url,
            "bucket": self.place.bucket,
            "prefix": self.place.prefix,
            "staging": str(self.folder / f"disk-{self.disks}"),
            "now": (FIRST_RUN + self.runs * BETWEEN_RUNS).isoformat(),
            "since": START.isoformat(),
            "events": EVENTS,
        } | more

    def lose_disk(self) -> None:
        self.disks += 1

    def assert_every_event_once(self, events: list[tuple[str, str, str]] = EVENTS) -> None:
        assert sorted(self.place.events()["action_description"].to_pylist()) == sorted(text for text, _, _ in events)

    def assert_no_event_twice(self) -> None:
        texts = self.place.events()["action_description"].to_pylist()
        assert len(texts) == len(set(texts))


@pytest.fixture
def trial_of(place_at: Callable[[str], Any], moto: str, tmp_path: Path) -> Callable[[int], Trial]:
    return lambda number: Trial(place_at(moto), tmp_path / str(number))


def run_killed_at(trial: Trial, exporter: Any, proxy_to: Any, weather: Any, number: int, moment: str) -> bool:
    """Run, and kill it before or after request `number` is done; return False when it made fewer."""

    def kill(seen: Any) -> str:
        if seen.number != number:
            return "pass"
        exporter.signal(signal.SIGKILL)
        return "drop"

    weather = weather(fate=kill) if moment == "before" else weather(after=kill)
    with proxy_to(trial.place.url, weather) as url:
        code = exporter.run(trial.order(url=url))
    assert code in {0, -signal.SIGKILL}
    return code != 0


@pytest.mark.parametrize(
    ("moment", "every", "disk"),
    [
        ("after", 6, "kept"),
        ("after", 6, "lost"),
        *(
            pytest.param(moment, 1, disk, marks=pytest.mark.soak)
            for moment in ("before", "after")
            for disk in ("kept", "lost")
        ),
    ],
)
def test_an_export_killed_at_any_request_is_completed_by_the_next(
    trial_of: Any, exporter: Any, proxy_to: Any, new_weather: Any, moment: str, every: int, disk: str
) -> None:
    for number in itertools.count(every // 2 if disk == "lost" else 0, every):
        trial = trial_of(number)
        if not run_killed_at(trial, exporter, proxy_to, new_weather, number, moment):
            break
        trial.assert_no_event_twice()
        if disk == "lost":
            trial.lose_disk()
        assert exporter.run(trial.order()) == 0
        trial.assert_every_event_once()
    assert number > 18


@pytest.mark.parametrize("attempts", [5, pytest.param(100, marks=pytest.mark.soak)])
def test_an_export_killed_twice_at_any_moment_is_completed_in_the_end(
    trial_of: Any, exporter: Any, attempts: int
) -> None:
    chance = random.Random(20261124)
    killed = 0
    for attempt in range(attempts):
        trial = trial_of(attempt)
        for _ in range(2):
            killed += exporter.run(trial.order(seconds=chance.uniform(0.02, 0.4))) == -signal.SIGKILL
            trial.assert_no_event_twice()
            if chance.random() < 0.5:
                trial.lose_disk()
        assert exporter.run(trial.order()) == 0
        trial.assert_every_event_once()
    assert killed > attempts / 2


@pytest.mark.parametrize("times", [2, pytest.param(50, marks=pytest.mark.soak)])
def test_two_exports_at_once_end_as_one(trial_of: Any, exporters: tuple[Any, Any], times: int) -> None:
    for number in range(times):
        trial = trial_of(number)
        order = trial.order()
        trial.lose_disk()
        for exporter, folder in zip(exporters, (order["staging"], trial.order()["staging"]), strict=True):
            exporter.start(order | {"staging": folder})
        assert sorted(exporter.code() for exporter in exporters) in ([0, 0], [0, 75])
        trial.assert_no_event_twice()
        assert exporters[0].run(trial.order()) == 0
        trial.assert_every_event_once()


@pytest.mark.parametrize("every", [12, pytest.param(1, marks=pytest.mark.soak)])
def test_an_export_that_slept_while_another_took_its_stream_changes_nothing(
    trial_of: Any, exporters: tuple[Any, Any], proxy_to: Any, new_weather: Any, every: int
) -> None:
    """Asleep after each request, with a clock that stands still, so that only the store can tell it."""
    sleeper, heir = exporters
    stopped = 0
    for number in itertools.count(5, every):
        trial = trial_of(number)
        asleep = threading.Event()

        def stop(seen: Any, number: int = number, asleep: threading.Event = asleep) -> None:
            if seen.number == number:
                sleeper.signal(signal.SIGSTOP)
                asleep.set()

        with proxy_to(trial.place.url, new_weather(after=stop)) as url:
            sleeper.start(trial.order(url=url, events=PUNCTUAL))
            trial.lose_disk()
            if not sleeper.waits_for(asleep):
                assert sleeper.code() == 0
                break
            assert heir.run(trial.order(events=PUNCTUAL)) == 0
            trial.assert_every_event_once(PUNCTUAL)
            sleeper.signal(signal.SIGCONT)
            assert sleeper.code() in {0, 69, 75}
        assert heir.run(trial.order(events=PUNCTUAL)) == 0
        trial.assert_every_event_once(PUNCTUAL)
        stopped += 1
    assert stopped > 15 / every
