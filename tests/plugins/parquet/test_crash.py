"""Loads that are killed, at every step and at any moment, and what the next run makes of it."""

from __future__ import annotations

import random
import tempfile
from functools import cache
from pathlib import Path
from typing import Any

import pyarrow.parquet as pq
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from cfaudit_export import Batch, read_batch
from cfaudit_export.testing import make_batch
from cfaudit_parquet import ParquetConfig
from cfaudit_parquet.sink import ParquetSink


@cache
def ids_by_day(batch: Batch) -> dict[str, list[str]]:
    days: dict[str, list[str]] = {}
    for event in read_batch(batch).select(["event_id", "event_time"]).to_pylist():
        days.setdefault(f"event_date={event['event_time']:%Y-%m-%d}", []).append(event["event_id"])
    return days


def assert_visible_files_are_whole(tree: Any, *batches: Batch) -> None:
    expected = {(batch.batch_id, day): ids for batch in batches for day, ids in ids_by_day(batch).items()}
    for path in tree.visible():
        assert pq.read_table(path, partitioning=None)["event_id"].to_pylist() == expected[path.stem, path.parent.name]


def assert_stored_once_and_nothing_else(tree: Any, *batches: Batch) -> None:
    assert_visible_files_are_whole(tree, *batches)
    assert sorted(path.stem for path in tree.files()) == sorted(
        batch.batch_id for batch in batches for _ in ids_by_day(batch)
    )


@pytest.mark.parametrize("each", [3, pytest.param(1, marks=pytest.mark.soak)])
def test_a_load_killed_at_any_step_is_completed_by_the_next(
    tree_of: Any, tmp_path: Path, killed_loads: Any, each: int
) -> None:
    batch = make_batch(tmp_path, rows=20, days=2)
    answers = []
    step = 0
    while killed_loads.at_step(batch, tree_of(step).root, step):
        tree = tree_of(step)
        sink = ParquetSink(ParquetConfig(str(tree.root)))
        assert_visible_files_are_whole(tree, batch)
        if step % 2:  # sometimes the staged file is lost with its machine, and all one can do is to ask
            found = sink.find(batch.batch_id, batch.window)
            answers.append(found is not None)
            if found:
                assert (found.rows, found.locations) == (20, tuple(map(str, tree.visible())))
                assert_stored_once_and_nothing_else(tree, batch)
            else:
                assert tree.files() == []
        sink.load(batch)
        assert_stored_once_and_nothing_else(tree, batch)
        step += each
    assert step > 80, "the steps were not counted"
    assert answers == sorted(answers), "a batch once found stays found"
    assert set(answers) == {False, True}


def test_a_load_killed_over_and_over_is_completed_in_the_end(tree_of: Any, tmp_path: Path, killed_loads: Any) -> None:
    batch = make_batch(tmp_path, rows=20, days=3)
    chance = random.Random(20261124)
    for attempt in range(12):
        tree = tree_of(attempt)
        for _ in range(4):
            killed_loads.at_step(batch, tree.root, chance.randrange(160))
            assert_visible_files_are_whole(tree, batch)
        sink = ParquetSink(ParquetConfig(str(tree.root)))
        if attempt % 2 and not sink.find(batch.batch_id, batch.window):
            assert tree.files() == []
        sink.load(batch)
        assert_stored_once_and_nothing_else(tree, batch)


def test_a_load_killed_at_any_moment_is_completed_by_the_next(tree_of: Any, tmp_path: Path, killed_loads: Any) -> None:
    batch = make_batch(tmp_path, rows=10_000, days=2)
    chance = random.Random(20261124)
    killed = 0
    for attempt in range(15):
        tree = tree_of(attempt)
        killed += killed_loads.after(batch, tree.root, chance.uniform(0, 0.04))
        assert_visible_files_are_whole(tree, batch)
        ParquetSink(ParquetConfig(str(tree.root))).load(batch)
        assert_stored_once_and_nothing_else(tree, batch)
    assert killed > 3


OPERATIONS = st.lists(
    st.tuples(st.integers(0, 2), st.one_of(st.just("load"), st.just("find"), st.integers(0, 150))), max_size=7
)


@pytest.fixture(scope="module")
def three_batches(tmp_path_factory: pytest.TempPathFactory) -> list[Batch]:
    folder = tmp_path_factory.mktemp("staged")
    return [make_batch(folder, rows=6, days=3, seed=seed) for seed in range(3)]


@settings(max_examples=25, deadline=None)
@given(operations=OPERATIONS)
def test_whatever_is_loaded_killed_and_asked_in_whatever_order_is_stored_once(
    three_batches: list[Batch], killed_loads: Any, tree_type: Any, operations: list[tuple[int, str | int]]
) -> None:
    with tempfile.TemporaryDirectory() as folder:
        tree = tree_type(Path(folder))
        sink = ParquetSink(ParquetConfig(folder))
        for number, operation in operations:
            batch = three_batches[number]
            if operation == "load":
                sink.load(batch)
            elif operation == "find":
                found = sink.find(batch.batch_id, batch.window)
                assert (found is not None) == any(batch.batch_id in path.name for path in tree.files())
            else:
                killed_loads.at_step(batch, tree.root, operation)
            assert_visible_files_are_whole(tree, *three_batches)
        receipts = [sink.load(batch) for batch in three_batches]
        assert [receipt.rows for receipt in receipts] == [6, 6, 6]
        assert_stored_once_and_nothing_else(tree, *three_batches)
