"""Loads that are killed, at every step and at any moment, and what the next run makes of it.

Every event is there at least once. It is there twice only where a request was not known to be acknowledged: the one
that was being sent, or those that waited for their acknowledgement.
"""

from __future__ import annotations

import itertools
import json
import random
import shutil
from collections import Counter
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from cfaudit_export import Batch, read_batch
from cfaudit_export.testing import make_batch
from cfaudit_splunk.progress import BatchProgress

SETTINGS = {"max_events": 8, "ack_poll_seconds": 0.002}


class Crash:
    """One batch, killed at some moment, and then loaded to the end."""

    def __init__(self, splunk: Any, batch: Batch, token: str) -> None:
        self.splunk = splunk
        self.collector = splunk.collector
        self.batch = batch
        self.acks = token == "token-acks"
        self.collector.posted.clear()
        self.collector.polls.clear()
        self.collector.restart()

    def settings(self) -> dict[str, Any]:
        return {"url": self.splunk.url, **SETTINGS}

    def ids(self) -> set[str]:
        return set(read_batch(self.batch)["event_id"].to_pylist())

    def noted(self) -> set[str]:
        """Return the events that the load knew to be there when it was killed."""
        if not self.batch.path.with_suffix(".splunk").exists():
            return set()
        with BatchProgress(self.batch, (self.splunk.url, "")) as progress:
            missing = {row for rows in progress.missing() for row in rows}
        ids = read_batch(self.batch)["event_id"].to_pylist()
        return {event for row, event in enumerate(ids) if row not in missing}

    def unclear(self) -> set[str]:
        """Return the events of requests of which the load cannot have known that they are acknowledged."""
        posted, polls = self.collector.posted, len(self.collector.polls)
        requests = [one for one in posted if one.confirmed_by in (None, polls)] if self.acks else posted[-1:]
        return {event_of(text) for one in requests for text in one.kept}

    def assert_next_load_completes(self, sink: Any) -> int:
        """Load to the end; return how many events are there twice."""
        self.splunk.settle()
        noted, unclear = self.noted(), self.unclear()
        receipt = sink.load(self.batch)
        assert receipt.rows == self.batch.rows
        counts = Counter(event_of(text) for text in self.collector.kept)
        assert set(counts) == self.ids()
        twice = {event for event, count in counts.items() if count > 1}
        assert not twice & noted
        assert twice <= unclear
        assert max(counts.values()) <= 2
        assert sink.load(self.batch).already
        sink.close()
        return len(twice)


def event_of(text: str) -> str:
    return str(json.loads(text)["fields"]["event_id"])


@pytest.fixture
def copies(tmp_path: Path) -> Iterator[Batch]:
    """Yield the same batch over and over, each time staged anew."""
    batch = make_batch(tmp_path, rows=16)

    def fresh() -> Iterator[Batch]:
        for number in range(10_000):
            folder = tmp_path / str(number)
            folder.mkdir()
            yield replace(batch, path=Path(shutil.copy(batch.path, folder)))
            shutil.rmtree(folder)

    return fresh()


@pytest.mark.parametrize("each", [3, pytest.param(1, marks=pytest.mark.soak)])
@pytest.mark.parametrize("token", ["token-plain", "token-acks"])
def test_a_load_killed_at_any_step_is_completed_by_the_next(
    splunk: Any,
    new_sink: Any,
    copies: Iterator[Batch],
    killed_loads: Any,
    token: str,
    each: int,
) -> None:
    splunk.collector.polls_until_indexed = 1
    twice = []
    for step, batch in zip(itertools.count(step=each), copies, strict=False):
        crash = Crash(splunk, batch, token)
        if not killed_loads.at_step(batch, token, step, **crash.settings()):
            break
        twice.append(crash.assert_next_load_completes(new_sink(splunk, acks=crash.acks, **SETTINGS)))
    assert len(twice) > 100 / each, "the steps were not counted"
    assert set(twice) == ({0, 8, 16} if token == "token-acks" else {0, 8}), (
        "no load was killed between sending and knowing"
    )


@pytest.mark.parametrize("kills", [20, pytest.param(200, marks=pytest.mark.soak)])
@pytest.mark.parametrize("token", ["token-plain", "token-acks"])
def test_a_load_killed_at_any_moment_is_completed_by_the_next(
    splunk: Any,
    new_sink: Any,
    copies: Iterator[Batch],
    killed_loads: Any,
    token: str,
    kills: int,
) -> None:
    splunk.collector.polls_until_indexed = 1
    chance = random.Random(20261124)
    killed = 0
    for batch, _ in zip(copies, range(kills), strict=False):
        crash = Crash(splunk, batch, token)
        killed += killed_loads.after(batch, token, chance.uniform(0, 0.05), **crash.settings())
        crash.assert_next_load_completes(new_sink(splunk, acks=crash.acks, **SETTINGS))
    assert killed > kills / 10


@pytest.mark.parametrize("token", ["token-plain", "token-acks"])
def test_a_load_killed_over_and_over_repeats_no_more_than_was_unclear_each_time(
    splunk: Any,
    new_sink: Any,
    copies: Iterator[Batch],
    killed_loads: Any,
    token: str,
) -> None:
    splunk.collector.polls_until_indexed = 1
    chance = random.Random(20261124)
    for batch, _ in zip(copies, range(6), strict=False):
        crash = Crash(splunk, batch, token)
        for _ in range(4):
            splunk.settle()
            noted = crash.noted()
            before = len(crash.collector.posted)
            killed_loads.at_step(batch, token, chance.randrange(250), **crash.settings())
            splunk.settle()
            sent = {event_of(text) for one in crash.collector.posted[before:] for text in one.kept}
            assert not sent & noted
        sink = new_sink(splunk, acks=crash.acks, **SETTINGS)
        sink.load(batch)
        assert {event_of(text) for text in crash.collector.kept} == crash.ids()
        sink.close()
