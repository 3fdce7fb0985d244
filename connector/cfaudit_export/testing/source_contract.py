"""The conformance suite for sources. Needs pytest.

Subclass it in a test module, say how to reach a server whose events are known, and every promise of
`cfaudit_export.Source` is tested against your source:

    class TestMySource(SourceContract):
        @pytest.fixture
        def target(self, server):
            return SourceTarget(
                new_source=lambda: MySource(MyConfig(server.url), context),
                other_source=lambda: MySource(MyConfig(server.url, page_size=7), context),
                window=server.window,
                truth=lambda: Counter(server.texts()),
                reads=lambda: server.counted,
            )

A test that cannot hold for a server is overridden by one that says why.
"""

from __future__ import annotations

import threading
from collections import Counter
from collections.abc import Callable, Generator, Iterable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from itertools import pairwise

import pyarrow as pa
import pytest

from cfaudit_export import AccessError, Connection, Extract, Source, Stream, TryAgainError, Window
from cfaudit_export.core.intervals import subtract, union
from cfaudit_export.core.model import MILLISECOND, from_ms, to_ms
from cfaudit_export.pipeline.map import map_extract
from cfaudit_export.schema import schema

_PARTS = 7
_NS = 1_000_000  # of a millisecond
_STILL_POLLS = 10
_POLL_SECONDS = 0.03
_ON_THEIR_WAY = 4  # of several workers; what was sent already still arrives
_BEYOND_SCHEMA = {"key_token_name"}


@dataclass(frozen=True, slots=True)
class SourceTarget:
    """A server to test a source against; it holds some hundred events and refuses none of them.

    Attributes:
        new_source: builds a source for the stream, another one with each call; small pages and pieces show more.
        other_source: the same with other sizes of pages and pieces.
        window: holds all events, from an hour before the first; that hour is empty.
        truth: `event_raw` of every event of the stream, counted.
        reads: how often the server was asked for events so far.
        empty_source: a source for a stream that has no events.
        refused_source: one whose credential the server refuses.
        unreachable_source: one whose server is not there.
    """

    new_source: Callable[[], Source]
    other_source: Callable[[], Source]
    window: Window
    truth: Callable[[], Counter[str]]
    reads: Callable[[], int]
    empty_source: Callable[[], Source] | None = None
    refused_source: Callable[[], Source] | None = None
    unreachable_source: Callable[[], Source] | None = None


class SourceContract:
    """The promises of `cfaudit_export.Source`, one test each."""

    @pytest.fixture
    def target(self) -> SourceTarget:
        """Return the server; to be overridden."""
        raise NotImplementedError("override the fixture 'target'")

    def test_every_event_arrives_once_letter_by_letter(self, target: SourceTarget) -> None:
        with _connected(target.new_source) as (source, _):
            extracts = list(source.extract([target.window]))
        assert _texts(extracts) == target.truth()
        assert not [gap for extract in extracts for gap in extract.gaps]

    def test_windows_read_together_give_each_event_once(self, target: SourceTarget) -> None:
        windows = _parts(target.window)
        with _connected(target.new_source) as (source, _):
            extracts = list(source.extract(windows))
        assert _texts(extracts) == target.truth()
        _assert_tiled(extracts, windows)

    def test_pieces_are_exactly_the_windows_and_hold_what_lies_in_them(self, target: SourceTarget) -> None:
        windows = _parts(target.window)[1::2]
        with _connected(target.new_source) as (source, _):
            extracts = list(source.extract(windows))
        _assert_tiled(extracts, windows)
        for extract in extracts:
            times = extract.events["event_time"].cast(pa.int64()).to_pylist()
            assert times == sorted(times), "events are not ascending by time"
            inside = (to_ms(extract.window.since) * _NS, to_ms(extract.window.before) * _NS)
            assert all(inside[0] <= at < inside[1] for at in times), "an event lies outside of its piece"

    def test_an_event_on_the_edge_of_windows_comes_once_and_with_the_later(self, target: SourceTarget) -> None:
        with _connected(target.new_source) as (source, _):
            (first, *_), *_ = _times_ms(source.extract([target.window]))
            edge = from_ms(first)
            windows = [
                Window(target.window.since, edge),
                Window(edge, edge + MILLISECOND),
                Window(edge + MILLISECOND, target.window.before),
            ]
            extracts = list(source.extract(windows))
        assert _texts(extracts) == target.truth()
        on_edge = [one for one in extracts if any(first in times for times in _times_ms([one]))]
        assert [one.window for one in on_edge] == [windows[1]]

    def test_a_window_without_events_comes_back_empty(self, target: SourceTarget) -> None:
        hour = Window(target.window.since, target.window.since + 60_000 * MILLISECOND)
        with _connected(target.new_source) as (source, _):
            extracts = list(source.extract([hour]))
        _assert_tiled(extracts, [hour])
        assert sum(extract.events.num_rows for extract in extracts) == 0

    def test_no_window_gives_nothing(self, target: SourceTarget) -> None:
        with _connected(target.new_source) as (source, _):
            assert list(source.extract([])) == []

    def test_an_event_keeps_its_identity_in_other_windows_and_sizes(self, target: SourceTarget) -> None:
        whole = _ids(target.new_source, [target.window])
        assert len(set(whole)) == target.truth().total(), "two events have one identity"
        assert _ids(target.new_source, _parts(target.window)) == whole
        assert _ids(target.other_source, [target.window]) == whole

    def test_columns_are_those_of_the_schema(self, target: SourceTarget) -> None:
        names = {*schema().names, *_BEYOND_SCHEMA}
        with _connected(target.new_source) as (source, connection):
            for extract in source.extract([target.window]):
                events = extract.events
                assert set(events.column_names) <= names
                assert events["event_time"].type == pa.timestamp("ns", "UTC")
                assert not events["event_time"].null_count + events["event_raw"].null_count
                assert map_extract(extract, _stream(connection), connection).num_rows == events.num_rows

    def test_connecting_reads_no_event(self, target: SourceTarget) -> None:
        before = target.reads()
        with _connected(target.new_source) as (_, connection):
            assert connection.account_id
            assert connection.credential
            assert connection.tool
        assert target.reads() == before

    def test_a_probe_reads_little_and_hands_nothing_on(self, target: SourceTarget) -> None:
        before = target.reads()
        with _connected(target.new_source) as (source, _):
            source.probe()
        assert target.reads() - before <= 1

    def test_a_stream_without_events_can_be_probed_and_read(self, target: SourceTarget) -> None:
        with _connected(_offered(target.empty_source)) as (source, _):
            source.probe()
            extracts = list(source.extract([target.window]))
        _assert_tiled(extracts, [target.window])
        assert _texts(extracts) == Counter()

    def test_a_caller_that_takes_nothing_makes_the_source_wait(self, target: SourceTarget) -> None:
        """Otherwise memory would grow with the length of the windows."""
        needed = _reads_of_all(target)
        before = target.reads()
        with _connected(target.new_source) as (source, _):
            pieces = source.extract([target.window])
            next(pieces)
            assert _reads_when_still(target) - before < needed, "it reads on although its pieces are not taken"
            pieces.close()

    def test_closing_the_iterator_cancels_what_is_in_flight(self, target: SourceTarget) -> None:
        with _connected(target.new_source) as (source, _):
            pieces = source.extract(_parts(target.window))
            next(pieces)
            pieces.close()
            at_once = target.reads()
            assert _reads_when_still(target) - at_once <= _ON_THEIR_WAY, "it reads on after the iterator was closed"

    def test_a_source_may_be_closed_twice_and_unused(self, target: SourceTarget) -> None:
        unused = target.new_source()
        unused.close()
        unused.close()
        used = target.new_source()
        used.connect()
        used.close()
        used.close()

    def test_a_refused_credential_is_told_from_a_fault(self, target: SourceTarget) -> None:
        with pytest.raises(AccessError), _connected(_offered(target.refused_source)) as (source, _):
            source.probe()

    def test_a_server_that_is_not_there_is_worth_another_try(self, target: SourceTarget) -> None:
        with pytest.raises(TryAgainError), _connected(_offered(target.unreachable_source)):
            pass


@contextmanager
def _connected(build: Callable[[], Source]) -> Iterator[tuple[Source, Connection]]:
    source = build()
    try:
        yield source, source.connect()
    finally:
        source.close()


def _offered(build: Callable[[], Source] | None) -> Callable[[], Source]:
    if build is None:
        pytest.skip("the target does not offer such a source")
    return build


def _parts(window: Window) -> list[Window]:
    """Cut a window into parts that are not equally long."""
    first, length = to_ms(window.since), to_ms(window.before) - to_ms(window.since)
    ends = [from_ms(first + length * part * part // (_PARTS * _PARTS)) for part in range(_PARTS + 1)]
    return [Window(since, before) for since, before in pairwise(ends)]


def _texts(extracts: Iterable[Extract]) -> Counter[str]:
    return Counter(text for extract in extracts for text in extract.events["event_raw"].to_pylist())


def _times_ms(extracts: Iterable[Extract]) -> list[list[int]]:
    found = (extract.events["event_time"].cast(pa.int64()).to_pylist() for extract in extracts)
    return sorted([at // _NS for at in times] for times in found if times)


def _stream(connection: Connection) -> Stream:
    return Stream(connection.account_id, "under-test")


def _ids(build: Callable[[], Source], windows: list[Window]) -> list[str]:
    with _connected(build) as (source, connection):
        mapped = [map_extract(extract, _stream(connection), connection) for extract in source.extract(windows)]
    return sorted(event_id for table in mapped for event_id in table["event_id"].to_pylist())


def _assert_tiled(extracts: list[Extract], windows: list[Window]) -> None:
    pieces = [extract.window for extract in extracts]
    assert sum(piece.duration / MILLISECOND for piece in pieces) == sum(one.duration / MILLISECOND for one in windows)
    assert not subtract(windows, union(*pieces)), "a part of the windows was not read"


def _reads_of_all(target: SourceTarget) -> int:
    before = target.reads()
    with _connected(target.new_source) as (source, _):
        pieces: Generator[Extract, None, None] = source.extract([target.window])
        for _ in pieces:
            pass
    return target.reads() - before


def _reads_when_still(target: SourceTarget) -> int:
    """Return how often the server was asked, once it is not asked any more."""
    known, still, pause = target.reads(), 0, threading.Event()
    while still < _STILL_POLLS:
        pause.wait(_POLL_SECONDS)
        now = target.reads()
        known, still = now, still + 1 if now == known else 0
    return known
