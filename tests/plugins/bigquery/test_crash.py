"""Loads that are killed, at every step and at any moment, and what the next run makes of it."""

from __future__ import annotations

import random
import time
from pathlib import Path
from typing import Any

import pytest

from cfaudit_export import Batch, read_batch
from cfaudit_export.testing.batches import make_batch

MODES = pytest.mark.parametrize("mode", [{}, {"merge": True}], ids=["append", "merge"])
# Requests of a first load into a dataset without the table, as method and path.
APPEND = [("GET", "/tables/"), ("POST", r"/tables\b"), ("GET", "/jobs/"), ("POST", "/upload/"), ("PUT", "/upload/")]
MERGE = [*APPEND, ("POST", "^/bigquery/v2/projects/proj/jobs"), ("DELETE", "/tables/")]


def ids_of(*batches: Batch) -> list[str]:
    return sorted(event_id for batch in batches for event_id in read_batch(batch)["event_id"].to_pylist())


def assert_whole_or_absent(standin: Any, batch: Batch) -> bool:
    stored = standin.ids() if "proj.audit.events" in standin.tables() else []
    assert stored in ([], ids_of(batch))
    return bool(stored)


def recover(standin: Any, batch: Batch, *, ask: bool, **mode: bool) -> bool | None:
    """Do what the next run does: load again, or ask where the staged file is lost; return what was answered."""
    sink = standin.sink(**mode)
    answer = None
    if ask:
        stored = assert_whole_or_absent(standin, batch)
        found = sink.find(batch.batch_id, batch.window)
        answer = found is not None
        assert answer >= stored
        if found:
            assert (found.rows, found.already, found.rejected) == (batch.rows, True, ())
    sink.load(batch)
    sink.close()
    assert standin.ids() == ids_of(batch)
    return answer


def fresh(standin: Any) -> None:
    standin.say("reset")
    standin.say("dataset", name="proj.audit", location="EU")


@MODES
@pytest.mark.parametrize("every", [13, pytest.param(1, marks=pytest.mark.soak)])
def test_a_load_killed_at_any_step_is_completed_by_the_next(
    standin: Any, tmp_path: Path, killed_loads: Any, mode: dict[str, bool], every: int
) -> None:
    batch = make_batch(tmp_path, rows=20, days=2)
    answers = []
    step = 0
    while killed_loads.at_step(batch, standin, step, **mode):
        answers.append(recover(standin, batch, ask=len(answers) % 2 == 0, **mode))
        fresh(standin)
        step += every
    asked = [answer for answer in answers if answer is not None]
    assert step > 100, "the steps were not counted"
    assert asked == sorted(asked), "a batch once found stays found"
    assert set(asked) == {False, True}


@MODES
def test_a_load_killed_while_a_request_is_on_its_way_is_completed_by_the_next(
    standin: Any, tmp_path: Path, killed_loads: Any, mode: dict[str, bool]
) -> None:
    batch = make_batch(tmp_path, rows=20, days=2)
    for number, (method, path) in enumerate(MERGE if mode else APPEND):
        fresh(standin)
        standin.fault(method, path, "hold")
        killed_loads.while_held(batch, standin, **mode)
        standin.release()
        recover(standin, batch, ask=number % 2 == 0, **mode)


def test_an_upload_that_ends_after_it_was_declared_lost_stores_nothing(
    standin: Any, tmp_path: Path, killed_loads: Any
) -> None:
    """The machine is dead, the last bytes of its upload are still on their way, and the next machine asks first."""
    batch = make_batch(tmp_path, rows=20)
    standin.fault("PUT", "/upload/", "hold")
    killed_loads.while_held(batch, standin)
    sink = standin.sink()
    assert sink.find(batch.batch_id, batch.window) is None
    standin.release()
    assert standin.ids() == []
    assert not sink.load(batch).already
    assert standin.ids() == ids_of(batch)


def test_an_upload_that_ends_after_the_next_load_stores_nothing(
    standin: Any, tmp_path: Path, killed_loads: Any
) -> None:
    batch = make_batch(tmp_path, rows=20)
    standin.fault("PUT", "/upload/", "hold")
    killed_loads.while_held(batch, standin)
    standin.sink().load(batch)
    standin.release()
    assert standin.ids() == ids_of(batch)


@MODES
def test_a_load_killed_over_and_over_is_completed_in_the_end(
    standin: Any, tmp_path: Path, killed_loads: Any, mode: dict[str, bool]
) -> None:
    batch = make_batch(tmp_path, rows=20, days=3)
    chance = random.Random(20261124)
    for _ in range(8):
        killed_loads.at_step(batch, standin, chance.randrange(200), **mode)
        assert_whole_or_absent(standin, batch)
    recover(standin, batch, ask=True, **mode)


@MODES
@pytest.mark.parametrize("attempts", [6, pytest.param(200, marks=pytest.mark.soak)])
def test_a_load_killed_at_any_moment_is_completed_by_the_next(
    standin: Any, tmp_path: Path, killed_loads: Any, mode: dict[str, bool], attempts: int
) -> None:
    whole, *batches = [make_batch(tmp_path, rows=300, days=2, seed=seed) for seed in range(attempts + 1)]
    begun_at = time.monotonic()
    assert not killed_loads.after(whole, standin, 60, **mode)
    longest = time.monotonic() - begun_at
    chance = random.Random(20261124)
    killed = 0
    for number, batch in enumerate(batches):
        seconds = chance.uniform(0, longest)
        died = killed_loads.after(batch, standin, seconds, **mode)
        killed += died
        longest = longest * 1.1 if died else seconds  # the machine may be busier or less busy by now
        sink = standin.sink(**mode)
        if number % 2:
            sink.find(batch.batch_id, batch.window)
        sink.load(batch)
        sink.close()
        assert standin.ids() == ids_of(whole, *batches[: number + 1])
    assert killed > attempts / 4
