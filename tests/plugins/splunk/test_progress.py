from __future__ import annotations

import json
import resource
import signal
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import replace
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from cfaudit_export import Batch, Rejected, SinkError
from cfaudit_export.testing import make_batch
from cfaudit_splunk.progress import BatchProgress

HERE = ("https://splunk.example.com", "main")


@pytest.fixture
def batch(tmp_path: Path) -> Batch:
    return make_batch(tmp_path, rows=100)


def missing(batch: Batch, destination: tuple[str, ...] = HERE) -> list[range]:
    with BatchProgress(batch, destination) as progress:
        return progress.missing()


def test_what_is_noted_is_known_to_the_next(batch: Batch) -> None:
    with BatchProgress(batch, HERE) as progress:
        assert progress.missing() == [range(100)]
        progress.take(range(10, 20), range(30, 40))
        progress.reject(25, Rejected("id-25", "words"))
    with BatchProgress(batch, HERE) as progress:
        assert progress.missing() == [range(10), range(20, 25), range(26, 30), range(40, 100)]
        assert progress.rejected == (Rejected("id-25", "words"),)


NOTES = st.lists(st.tuples(st.booleans(), st.integers(0, 99), st.integers(1, 40)), max_size=8)


@settings(max_examples=60, deadline=None)
@given(notes=NOTES, cut=st.integers(0, 400))
def test_missing_is_what_was_never_noted_wherever_a_crash_cuts_the_file(
    notes: list[tuple[bool, int, int]], cut: int
) -> None:
    with tempfile.TemporaryDirectory() as folder:
        staged = make_batch(Path(folder), rows=100)
        path = staged.path.with_suffix(".splunk")
        lengths = []
        with BatchProgress(staged, HERE) as progress:
            lengths.append((path.stat().st_size, set()))
            known: set[int] = set()
            for taken, start, length in notes:
                rows = range(start, min(start + length, 100))
                if taken:
                    progress.take(rows)
                else:
                    rows = rows[:1]
                    progress.reject(start, Rejected(str(start), "words"))
                known = known | set(rows)
                lengths.append((path.stat().st_size, known))
            assert {row for rows in progress.missing() for row in rows} == set(range(100)) - known
        content = path.read_bytes()[: max(0, path.stat().st_size - cut)]
        path.write_bytes(content)
        whole = max((one for one in lengths if one[0] <= len(content)), key=lambda one: one[0], default=(0, set()))
        with BatchProgress(staged, HERE) as progress:
            found = progress.missing()
            assert {row for rows in found for row in rows} == set(range(100)) - whole[1]
            assert sum(map(len, found)) == 100 - len(whole[1])
            progress.take(range(100))  # what is noted after a cut is not spoilt by it
        assert missing(staged) == []


def test_a_file_about_other_events_or_another_place_does_not_count(batch: Batch) -> None:
    with BatchProgress(batch, HERE) as progress:
        progress.take(range(100))
    assert missing(batch) == []
    assert missing(batch, ("https://splunk.example.com", "other")) == [range(100)]
    with BatchProgress(batch, HERE) as progress:
        progress.take(range(100))
    assert missing(replace(batch, digest="0" * 64)) == [range(100)]


def test_each_note_is_on_the_disk_before_the_load_goes_on(batch: Batch) -> None:
    with BatchProgress(batch, HERE) as progress:
        progress.take(range(5))
        lines = batch.path.with_suffix(".splunk").read_text().splitlines()
        assert [json.loads(line) for line in lines[1:]] == [{"taken": [[0, 5]]}]


def test_the_place_is_not_told(batch: Batch) -> None:
    missing(batch)
    assert "splunk.example.com" not in batch.path.with_suffix(".splunk").read_text()


def test_a_file_that_cannot_be_written_stops_the_load(batch: Batch) -> None:
    batch.path.with_suffix(".splunk").mkdir()
    with pytest.raises(SinkError, match="cannot keep track of the load in"):
        missing(batch)


def test_a_file_that_somebody_altered_is_not_guessed_at(batch: Batch) -> None:
    missing(batch)
    batch.path.with_suffix(".splunk").write_text("not json\n")
    with pytest.raises(SinkError, match="altered; make it writable or remove it"):
        missing(batch)


@contextmanager
def no_room() -> Iterator[None]:
    """Let no file of this process grow."""
    before = resource.getrlimit(resource.RLIMIT_FSIZE)
    handler = signal.signal(signal.SIGXFSZ, signal.SIG_IGN)
    resource.setrlimit(resource.RLIMIT_FSIZE, (10, before[1]))
    try:
        yield
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, before)
        signal.signal(signal.SIGXFSZ, handler)


def test_a_full_disk_stops_the_load_and_spoils_nothing(batch: Batch) -> None:
    with BatchProgress(batch, HERE) as progress:
        progress.take(range(10))
        with no_room(), pytest.raises(SinkError, match="cannot keep track of the load"):
            progress.take(range(10, 20))
    assert missing(batch) == [range(10, 100)]
