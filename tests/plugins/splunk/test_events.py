from __future__ import annotations

import gzip
import itertools
import json
import sys
import tempfile
from datetime import UTC, datetime, timedelta
from decimal import Decimal
from pathlib import Path
from typing import Any

import pyarrow as pa
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from cfaudit_export.schema import COLUMNS, schema
from cfaudit_export.testing import make_batch
from cfaudit_splunk import SplunkConfig
from cfaudit_splunk.events import INDEXED, EventRequests, compose, packer

URL = "https://splunk.example.com:8088"

EPOCH = datetime(1970, 1, 1, tzinfo=UTC)
TEXTS = st.text(st.characters(exclude_categories=["Cs"]), max_size=12)
JSON_TEXTS = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats(allow_nan=False, allow_infinity=False) | TEXTS,
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(TEXTS, inner, max_size=3),
    max_leaves=6,
).flatmap(lambda value: st.sampled_from([json.dumps(value), json.dumps(value, ensure_ascii=False, indent=1)]))
MICROSECONDS = st.integers(-(2**51), 2**53).map(lambda after: EPOCH + timedelta(microseconds=after))
VALUES = {"string": TEXTS, "json": JSON_TEXTS, "timestamp": MICROSECONDS, "int32": st.integers(-(2**31), 2**31 - 1)}
EVENTS = st.fixed_dictionaries(
    {column.name: VALUES[column.kind] if column.required else st.none() | VALUES[column.kind] for column in COLUMNS}
)


def unique(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    assert len(dict(pairs)) == len(pairs), "a name twice in one object"
    return dict(pairs)


def read(text: str, **strict: Any) -> Any:
    return json.loads(text, parse_float=Decimal, **strict)


@settings(max_examples=80, deadline=None)
@given(events=st.lists(EVENTS, min_size=1, max_size=4))
def test_whatever_the_event_every_value_is_in_its_object(events: list[dict[str, Any]]) -> None:
    table = pa.Table.from_pylist(events, schema=schema())
    for text, event in zip(compose(table, ',"index":"main"').to_pylist(), events, strict=True):
        expected = {}
        for column in COLUMNS:
            value = event[column.name]
            if value is None:
                continue
            if column.kind == "json":
                value = read(value)
            elif column.kind == "timestamp":
                value = value.strftime("%Y-%m-%dT%H:%M:%S.%fZ")
            expected[column.name] = value
        expected["cfaudit_source"] = expected.pop("source")
        fields = {name: expected.pop(name) for name in INDEXED}
        seconds = Decimal((event["event_time"] - EPOCH) // timedelta(microseconds=1))
        assert read(text, object_pairs_hook=unique) == {
            "time": seconds / 1_000_000,
            "index": "main",
            "fields": fields,
            "event": expected,
        }


@pytest.mark.parametrize(
    ("microseconds", "text"),
    [
        (0, "0.000000"),
        (1, "0.000001"),
        (1_793_491_200_063_000, "1793491200.063000"),
        (9_007_199_254_740_993, "9007199254.740993"),  # 2**53 + 1, which no float can hold
        (-1, "-0.000001"),
        (-1_500_000, "-1.500000"),
    ],
)
def test_the_time_is_written_out_to_the_microsecond(tmp_path: Path, microseconds: int, text: str) -> None:
    batch = make_batch(tmp_path, rows=1, changes={"event_time": [microseconds]})
    (request,) = EventRequests(batch.path, SplunkConfig(URL, gzip=False)).requests(range(1))
    assert request.body.startswith(b'{"time":' + text.encode() + b",")


def test_json_is_put_in_to_the_letter(tmp_path: Path) -> None:
    raw = '{ "a" : 1.10e+2,\n"b":"\\ud83e", "c":[ ] }'
    batch = make_batch(tmp_path, rows=1, changes={"event_raw": [raw], "resource_value": ["null"]})
    (request,) = EventRequests(batch.path, SplunkConfig(URL, gzip=False)).requests(range(1))
    assert f'"resource_value":null,"event_raw":{raw}' in request.body.decode()


def test_long_columns_come_last_where_no_search_has_to_reach_beyond_them(tmp_path: Path) -> None:
    batch = make_batch(tmp_path, rows=1, shape="whole")
    (request,) = EventRequests(batch.path, SplunkConfig(URL, gzip=False)).requests(range(1))
    names = list(json.loads(request.body)["event"])
    assert names[0] == "event_time"
    assert names[-4:] == ["resource_request", "resource_response", "resource_value", "event_raw"]


def test_no_name_is_both_indexed_and_in_the_event(tmp_path: Path) -> None:
    batch = make_batch(tmp_path, rows=1, shape="whole")
    (request,) = EventRequests(batch.path, SplunkConfig(URL, gzip=False)).requests(range(1))
    posted = json.loads(request.body)
    assert set(posted["fields"]) == {"event_id", "event_key", "account_id", "fidelity"}
    assert not set(posted["fields"]) & set(posted["event"])
    assert not {"source", "host", "sourcetype", "index", "time"} & set(posted["event"])


def test_every_object_says_where_it_belongs(tmp_path: Path) -> None:
    batch = make_batch(tmp_path, rows=2)
    config = SplunkConfig(URL, index='au"dit', host="h", source="s", sourcetype="t", gzip=False)
    (request,) = EventRequests(batch.path, config).requests(range(2))
    assert request.body.count(b',"host":"h","source":"s","sourcetype":"t","index":"au\\"dit","fields":{') == 2


def test_the_event_as_received_can_be_left_out(tmp_path: Path) -> None:
    batch = make_batch(tmp_path, rows=1)
    (request,) = EventRequests(batch.path, SplunkConfig(URL, gzip=False, event_raw=False)).requests(range(1))
    assert "event_raw" not in json.loads(request.body)["event"]


def split(body: bytes) -> list[str]:
    decoder, text, at, ids = json.JSONDecoder(), body.decode(), 0, []
    while at < len(text):
        posted, at = decoder.raw_decode(text, at)
        ids.append(posted["fields"]["event_id"])
    return ids


@pytest.fixture(scope="module")
def uneven(tmp_path_factory: pytest.TempPathFactory) -> Any:
    """Events of very different lengths, more than are composed at a time where requests are small."""
    rows = 300
    texts = ["x" * (7 * row * row % 1_900) for row in range(rows)]
    return make_batch(tmp_path_factory.mktemp("staged"), rows=rows, changes={"action_description": texts})


@settings(max_examples=60, deadline=None)
@given(
    max_bytes=st.integers(1, 60_000),
    max_events=st.integers(1, 400),
    chunk_rows=st.integers(1, 400),
    ends=st.tuples(st.integers(0, 300), st.integers(0, 300)),
)
def test_any_rows_are_cut_into_requests_within_the_limits(
    uneven: Any, max_bytes: int, max_events: int, chunk_rows: int, ends: tuple[int, int]
) -> None:
    config = SplunkConfig(URL, max_bytes=max_bytes, max_events=max_events, gzip=False)
    staged = EventRequests(uneven.path, config)
    staged._chunk_rows = chunk_rows
    rows = range(min(ends), max(ends))
    requests = list(staged.requests(rows))
    assert [row for request in requests for row in request.rows] == list(rows)
    for request in requests:
        assert split(request.body) == [staged.event_id(row) for row in request.rows]
        assert len(request.rows) == 1 or (len(request.body) <= max_bytes and len(request.rows) <= max_events)


def test_requests_are_as_full_as_the_limits_allow(uneven: Any) -> None:
    config = SplunkConfig(URL, max_bytes=20_000, gzip=False)
    staged = EventRequests(uneven.path, config)
    whole = [request.rows for request in staged.requests(range(300))]
    staged._chunk_rows = 70
    requests = list(staged.requests(range(300)))
    assert [request.rows for request in requests] == whole
    for request, following in itertools.pairwise(requests):
        (first,) = staged.requests(following.rows[:1])
        assert len(request.body) + len(first.body) > 20_000


def test_a_part_of_a_request_is_one_request(uneven: Any) -> None:
    staged = EventRequests(uneven.path, SplunkConfig(URL, max_bytes=20_000))
    for request in staged.requests(range(300)):
        (again,) = staged.requests(request.rows)
        assert again == request
        halves = [request.rows[: len(request.rows) // 2], request.rows[len(request.rows) // 2 :]]
        assert all(len(list(staged.requests(half))) == bool(half) for half in halves)


@pytest.mark.parametrize("by", ["isal", "zlib"])
def test_a_packed_body_unpacks_with_and_without_the_accelerator(
    monkeypatch: pytest.MonkeyPatch,
    by: str,
) -> None:
    if by == "isal":
        pytest.importorskip("isal", reason="NOT TESTED: gzip by ISA-L; install it with: pip install isal")
    else:
        monkeypatch.setitem(sys.modules, "isal", None)
    text = b'{"event":{}}' * 10_000
    packed = packer(gzip=True)(memoryview(text))
    assert gzip.decompress(packed) == text
    assert len(packed) < len(text) / 20


def test_a_staged_file_cut_short_is_not_taken_for_a_whole_one(tmp_path: Path) -> None:
    batch = make_batch(tmp_path, rows=500)
    batch.path.write_bytes(batch.path.read_bytes()[:-2_000])
    with pytest.raises(pa.ArrowInvalid):
        EventRequests(batch.path, SplunkConfig(URL))


def test_a_column_of_a_later_version_is_sent_by_its_type(tmp_path: Path) -> None:
    table = pa.Table.from_pylist([], schema=schema())
    with tempfile.TemporaryDirectory() as folder:
        batch = make_batch(Path(folder), rows=1)
        with pa.OSFile(str(batch.path)) as file:
            table = pa.ipc.open_file(file).read_all()
    grown = table.append_column("is_new", pa.array([True])).append_column("count", pa.array([7], pa.int64()))
    event = json.loads(compose(grown.combine_chunks(), "")[0].as_py())["event"]
    assert (event["is_new"], event["count"]) == (True, 7)
