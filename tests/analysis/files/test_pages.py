"""What row groups take in memory is told from the headers of their pages, by any writer."""

from __future__ import annotations

import io
import random
from typing import Any

import polars as pl
import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from cfaudit_export.analysis.files.pages import NoRoomError, require_room
from cfaudit_export.analysis.files.thrift import ThriftError, read_struct

DRAWN = random.Random(7)
TABLE = pa.table(
    {
        "word": [DRAWN.choice(["create", "delete", "", "x" * 300]) for _ in range(20_000)],
        "text": pa.array([None if n % 7 == 0 else f"{DRAWN.random()}" for n in range(20_000)]),
        "number": pa.array(range(20_000), pa.int64()),
        "time": pa.array(range(20_000), pa.timestamp("us", "UTC")),
        "none": pa.nulls(20_000, pa.string()),
        "list": pa.array([[n, n + 1] if n % 3 else [] for n in range(20_000)], pa.list_(pa.int32())),
    }
)
WRITERS: dict[str, dict[str, Any]] = {
    **{f"compressed by {name}": {"compression": name} for name in ("zstd", "snappy", "gzip", "brotli", "lz4", "none")},
    "pages of version 2": {"data_page_version": "2.0", "write_page_checksum": True},
    "small pages": {"data_page_size": 2_000, "write_page_index": True},
    "no dictionaries": {"use_dictionary": False},
    "deltas": {"use_dictionary": False, "column_encoding": {"text": "DELTA_LENGTH_BYTE_ARRAY"}},
}


def needed(content: bytes, *, most_bytes: int) -> bool:
    """Say whether a file needs more than so many bytes for a row group."""
    metadata = pq.read_metadata(io.BytesIO(content))
    try:
        require_room(io.BytesIO(content), metadata, range(metadata.num_row_groups), lambda _: True, most_bytes)
    except NoRoomError:
        return True
    return False


def written(**options: Any) -> bytes:
    sink = io.BytesIO()
    pq.write_table(TABLE, sink, **options)
    return sink.getvalue()


@pytest.mark.parametrize("writer", WRITERS)
def test_it_is_as_much_as_the_rows_take_and_not_many_times_as_much(writer: str) -> None:
    content = written(**WRITERS[writer])
    assert needed(content, most_bytes=TABLE.nbytes)
    assert not needed(content, most_bytes=4 * TABLE.nbytes)


def test_files_of_another_library_are_read() -> None:
    sink = io.BytesIO()
    pl.from_arrow(TABLE).write_parquet(sink)  # type: ignore[union-attr]  # a table makes a frame
    assert not needed(sink.getvalue(), most_bytes=8 * TABLE.nbytes)


def test_a_list_of_one_row_may_be_long() -> None:
    sink = io.BytesIO()
    long = pa.ListArray.from_arrays(pa.array([0, 1_000_000]), pa.nulls(1_000_000, pa.int8()))
    pq.write_table(pa.table({"list": long}), sink)
    assert len(sink.getvalue()) < 10_000
    assert needed(sink.getvalue(), most_bytes=1_000_000)


def test_headers_that_are_spoilt_are_named_as_such_or_tell_a_size() -> None:
    content = written()
    drawn = random.Random(11)
    outcomes = set()
    for _ in range(300):
        at = drawn.randrange(4, 40)
        spoilt = content[:at] + drawn.randbytes(3) + content[at + 3 :]
        try:
            outcomes.add(needed(spoilt, most_bytes=8 * TABLE.nbytes))
        except pa.ArrowInvalid:
            outcomes.add("none")
    assert {False, "none"} <= outcomes


@pytest.mark.parametrize(
    "content",
    [b"\x1c" * 20, b"\x15" + b"\xff" * 20, b"\x1d\x00", b"\x19\x00\x00"],
    ids=["structs within structs", "a long number", "no such type", "a list"],
)
def test_bytes_that_are_no_struct_are_refused(content: bytes) -> None:
    with pytest.raises(ThriftError):
        read_struct(content)


@pytest.mark.parametrize("length", range(8))
def test_a_struct_that_is_cut_is_not_whole(length: int) -> None:
    whole = bytes([0x15, 2, 0x18, 2, 65, 66, 0x12, 0x00])
    assert read_struct(whole) == ({1: 1, 2: 2, 3: False}, 8)
    with pytest.raises(IndexError):
        read_struct(whole[:length])
