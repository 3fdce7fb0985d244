"""The body of a load job."""

from __future__ import annotations

import json
import random
import subprocess
import sys
import zlib
from dataclasses import replace
from datetime import datetime
from pathlib import Path
from typing import Any

import pyarrow as pa
import pytest
from hypothesis import given
from hypothesis import strategies as st

from cfaudit_bigquery.body import Gzipped, events_at, json_lines
from cfaudit_export import Batch, read_batch
from cfaudit_export.schema import schema
from cfaudit_export.testing.batches import make_batch


def body_of(batch: Batch, without: tuple[str, ...] = ()) -> bytes:
    return b"".join(lines for _, lines in json_lines(batch.path, without))


def rows_of(batch: Batch) -> list[dict[str, Any]]:
    return [json.loads(line) for line in body_of(batch).splitlines()]


def test_each_event_is_a_line_without_its_nulls(tmp_path: Path) -> None:
    batch = make_batch(tmp_path, rows=50, shape="whole")
    for row, event in zip(rows_of(batch), read_batch(batch).to_pylist(), strict=True):
        expected = {name: value for name, value in event.items() if value is not None}
        assert row.keys() == expected.keys()
        for name, value in expected.items():
            if isinstance(value, datetime):
                assert datetime.fromisoformat(row[name]) == value
            elif name in ("event_raw", "resource_request", "resource_response", "resource_value"):
                assert row[name] == json.loads(value)
            else:
                assert row[name] == value


def test_times_have_microseconds_and_their_zone(tmp_path: Path) -> None:
    at = [datetime.fromisoformat("2026-11-01T00:00:00.000001Z"), datetime.fromisoformat("1999-12-31T23:59:59Z")]
    batch = make_batch(tmp_path, rows=2, changes={"event_time": at})
    assert [row["event_time"] for row in rows_of(batch)] == [
        "2026-11-01 00:00:00.000001Z",
        "1999-12-31 23:59:59.000000Z",
    ]


def test_the_pieces_hold_all_events_in_order(tmp_path: Path) -> None:
    batch = make_batch(tmp_path, rows=5_000)
    pieces = list(json_lines(batch.path))
    assert len(pieces) > 2
    assert [event_id for ids, _ in pieces for event_id in ids] == read_batch(batch)["event_id"].to_pylist()
    assert all(lines.count(b"\n") == len(ids) for ids, lines in pieces)


def test_a_staged_file_of_several_record_batches_is_read_whole(tmp_path: Path) -> None:
    batch = make_batch(tmp_path, rows=100)
    path = tmp_path / "in-pieces.arrow"
    with pa.ipc.new_file(str(path), schema()) as writer:
        writer.write_table(read_batch(batch), max_chunksize=7)
    assert body_of(replace(batch, path=path)) == body_of(batch)


def test_events_can_be_left_out(tmp_path: Path) -> None:
    batch = make_batch(tmp_path, rows=10)
    ids = read_batch(batch)["event_id"].to_pylist()
    kept = [json.loads(line)["event_id"] for line in body_of(batch, (ids[0], ids[9])).splitlines()]
    assert kept == ids[1:9]
    assert body_of(batch, tuple(ids)) == b""


def test_an_event_is_found_by_where_its_line_begins(tmp_path: Path) -> None:
    batch = make_batch(tmp_path, rows=4_500)
    ids = read_batch(batch)["event_id"].to_pylist()
    gone = ids[7]
    begins, position = {}, 0
    for line in body_of(batch, (gone,)).splitlines(keepends=True):
        begins[position] = json.loads(line)["event_id"]
        position += len(line)
    some = [position for number, position in enumerate(begins) if number % 500 == 0]
    beside = [some[1] + 1, some[2] - 1, position, position + 1000]
    assert events_at(batch.path, (gone,), [*some, *beside]) == {position: begins[position] for position in some}


@given(pieces=st.lists(st.binary(max_size=2_000), max_size=6), size=st.integers(1, 3_000))
def test_what_is_read_in_any_steps_is_the_gzip_of_the_pieces(pieces: list[bytes], size: int) -> None:
    file = Gzipped(pieces)
    read = b""
    while chunk := file.read(size):
        assert file.tell() == len(read) + len(chunk)
        assert len(chunk) <= size
        read += chunk
    assert zlib.decompress(read, 31) == b"".join(pieces)


def test_a_body_is_not_made_before_it_is_read(tmp_path: Path) -> None:
    taken = []

    def pieces() -> Any:
        for number in range(1000):
            taken.append(number)
            yield random.Random(number).randbytes(5_000)

    Gzipped(pieces()).read(100)
    assert len(taken) < 100


PEAK = """
import sys
from pathlib import Path
from cfaudit_bigquery.body import Gzipped, json_lines

def peak():
    lines = Path("/proc/self/status").read_text().splitlines()
    return next(int(line.split()[1]) for line in lines if line.startswith("VmHWM"))

before = peak()
body = Gzipped(lines for _, lines in json_lines(Path(sys.argv[1])))
while body.read(1 << 20):
    pass
print(peak() - before)
"""


@pytest.mark.skipif(not Path("/proc/self/status").exists(), reason="memory is read from /proc")
def test_a_body_takes_little_memory_however_large_the_batch_is(tmp_path: Path) -> None:
    texts = [f"{n:05}" * 1_000 for n in range(20_000)]
    batch = make_batch(tmp_path, rows=len(texts), changes={"action_description": texts})
    assert batch.path.stat().st_size > 100_000_000
    command = [sys.executable, "-c", PEAK, str(batch.path)]
    done = subprocess.run(command, capture_output=True, text=True, check=True, timeout=60)
    assert int(done.stdout) < 50_000  # kB


def test_a_staged_file_that_is_gone_is_said_so(tmp_path: Path) -> None:
    batch = make_batch(tmp_path, rows=1)
    batch.path.unlink()
    with pytest.raises(FileNotFoundError):
        body_of(batch)
