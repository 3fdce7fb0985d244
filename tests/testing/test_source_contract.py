"""The suite for sources against sources that break one promise each."""

from __future__ import annotations

import inspect
import json
import threading
from collections import Counter
from collections.abc import Generator, Iterable
from datetime import UTC, datetime, timedelta
from typing import Any

import pyarrow as pa
import pytest

from cfaudit_export import AccessError, Connection, Extract, SourceUnavailableError, Window
from cfaudit_export.core.model import MILLISECOND
from cfaudit_export.testing import SourceContract, SourceTarget

START = datetime(2026, 11, 20, tzinfo=UTC)
WINDOW = Window(START - timedelta(hours=1), START + timedelta(hours=3))
EVENTS = [(START + timedelta(seconds=20 * (n // 2)), f"étape {n // 3}") for n in range(600)]


class Server:
    """Events in memory, and how often they were asked for."""

    def __init__(self, events: list[tuple[datetime, str]]) -> None:
        self.events = events
        self.reads = 0

    def truth(self) -> Counter[str]:
        return Counter(json.dumps({"d": text}, ensure_ascii=False) for _, text in self.events)


class GoodSource:
    """Keeps every promise; the sources below each break one."""

    def __init__(self, server: Server, piece_rows: int = 40, fault: Exception | None = None) -> None:
        self.server = server
        self.piece_rows = piece_rows
        self.fault = fault

    def connect(self) -> Connection:
        if self.fault:
            raise self.fault
        return Connection("0f" * 16, None, "token", 1, frozenset(), "memory", "none", "none")

    def probe(self) -> None:
        self.server.reads += 1

    def extract(self, windows: Iterable[Window]) -> Generator[Extract, None, None]:
        for window in windows:
            since = window.since
            while since < window.before:
                piece = Window(since, self.end_of_piece(since, window.before))
                self.server.reads += 1
                yield Extract(piece, self.table(self.inside(piece)), (), window.before, 1)
                since = piece.before

    def end_of_piece(self, since: datetime, before: datetime) -> datetime:
        later = [at for at, _ in self.server.events if at >= since]
        return min(before, later[self.piece_rows] + MILLISECOND) if len(later) > self.piece_rows else before

    def inside(self, piece: Window) -> list[tuple[datetime, str]]:
        return [(at, text) for at, text in self.server.events if piece.since <= at < piece.before]

    def table(self, events: list[tuple[datetime, str]]) -> pa.Table:
        raws = [json.dumps({"d": text}, ensure_ascii=False) for _, text in events]
        columns = {
            "event_time": pa.array([at for at, _ in events], pa.timestamp("ns", "UTC")),
            "action_description": pa.array([text for _, text in events], pa.string()),
            "event_raw": pa.array(raws, pa.string()),
        }
        return pa.table(columns)

    def close(self) -> None:
        pass


class LosingTheLast(GoodSource):
    def inside(self, piece: Window) -> list[tuple[datetime, str]]:
        return super().inside(piece)[:-1]


class RepeatingEdges(GoodSource):
    """Takes the end of a window for a part of it."""

    def inside(self, piece: Window) -> list[tuple[datetime, str]]:
        return [(at, text) for at, text in self.server.events if piece.since <= at <= piece.before]


class Descending(GoodSource):
    def inside(self, piece: Window) -> list[tuple[datetime, str]]:
        return super().inside(piece)[::-1]


class SkippingEmpty(GoodSource):
    """Does not say that a piece without events was read."""

    def extract(self, windows: Iterable[Window]) -> Generator[Extract, None, None]:
        yield from (extract for extract in super().extract(windows) if extract.events.num_rows)


class ReadingWhatLiesBetween(GoodSource):
    def extract(self, windows: Iterable[Window]) -> Generator[Extract, None, None]:
        known = list(windows)
        yield from super().extract([Window(known[0].since, known[-1].before)] if known else [])


class CountingItself(GoodSource):
    """Names events by their place in the piece."""

    def table(self, events: list[tuple[datetime, str]]) -> pa.Table:
        table = super().table(events)
        return table.append_column("event_id", pa.array([f"{n:032x}" for n in range(len(events))], pa.string()))


class NamingByPiece(GoodSource):
    """Names events by their place, and by the piece."""

    def table(self, events: list[tuple[datetime, str]]) -> pa.Table:
        first = int(events[0][0].timestamp()) if events else 0
        ids = [f"{first:016x}{n:016x}" for n in range(len(events))]
        return super().table(events).append_column("event_id", pa.array(ids, pa.string()))


class Asciifying(GoodSource):
    def table(self, events: list[tuple[datetime, str]]) -> pa.Table:
        return super().table([(at, text.replace("é", "e")) for at, text in events])


class Inventing(GoodSource):
    def table(self, events: list[tuple[datetime, str]]) -> pa.Table:
        return super().table(events).append_column("mood", pa.repeat("good", len(events)))


class ReadingEagerly(GoodSource):
    """Reads everything before it hands anything on."""

    def extract(self, windows: Iterable[Window]) -> Generator[Extract, None, None]:
        yield from list(super().extract(windows))


class ReadingOn(GoodSource):
    """Goes on in a thread, whether it is listened to or not."""

    def extract(self, windows: Iterable[Window]) -> Generator[Extract, None, None]:
        extracts = list(super().extract(windows))

        def read_on() -> None:
            for _ in range(20):
                threading.Event().wait(0.005)
                self.server.reads += 1

        reading = threading.Thread(target=read_on)
        reading.start()
        yield from extracts
        reading.join()


class ReadingToConnect(GoodSource):
    def connect(self) -> Connection:
        self.server.reads += 1
        return super().connect()


class ProbingALot(GoodSource):
    def probe(self) -> None:
        list(self.extract([WINDOW]))


class ProbingTheFirst(GoodSource):
    """Cannot do without an event."""

    def probe(self) -> None:
        self.server.reads += 1
        assert self.server.events, "there is no event"


class ClosingOnce(GoodSource):
    open = True

    def close(self) -> None:
        assert self.open, "closed twice"
        self.open = False


class Untyped(GoodSource):
    def connect(self) -> Connection:
        if self.fault:
            raise AssertionError("401")
        return super().connect()


def failures(source: type[GoodSource]) -> set[str]:
    """Run every test of the suite against the source, and return the names of those that fail."""
    failed = set()
    for name, test in inspect.getmembers(SourceContract(), inspect.ismethod):
        if not name.startswith("test_"):
            continue
        server = Server(EVENTS)
        target = SourceTarget(
            new_source=lambda server=server: source(server),  # type: ignore[misc]  # the loop binds it
            other_source=lambda server=server: source(server, 170),  # type: ignore[misc]  # the loop binds it
            window=WINDOW,
            truth=server.truth,
            reads=lambda server=server: server.reads,  # type: ignore[misc]  # the loop binds it
            empty_source=lambda: source(Server([])),
            refused_source=lambda server=server: source(server, fault=AccessError("no")),  # type: ignore[misc]  # as above
            unreachable_source=lambda server=server: source(server, fault=SourceUnavailableError("no")),  # type: ignore[misc]  # as above
        )
        given: dict[str, Any] = {"target": target}
        try:
            test(**given)
        except (AssertionError, pytest.fail.Exception):
            failed.add(name)
    return failed


@pytest.mark.parametrize(
    ("source", "broken"),
    [
        (LosingTheLast, "test_every_event_arrives_once_letter_by_letter"),
        (Asciifying, "test_every_event_arrives_once_letter_by_letter"),
        (RepeatingEdges, "test_an_event_on_the_edge_of_windows_comes_once_and_with_the_later"),
        (Descending, "test_pieces_are_exactly_the_windows_and_hold_what_lies_in_them"),
        (ReadingWhatLiesBetween, "test_pieces_are_exactly_the_windows_and_hold_what_lies_in_them"),
        (SkippingEmpty, "test_a_window_without_events_comes_back_empty"),
        (SkippingEmpty, "test_windows_read_together_give_each_event_once"),
        (CountingItself, "test_an_event_keeps_its_identity_in_other_windows_and_sizes"),
        (NamingByPiece, "test_an_event_keeps_its_identity_in_other_windows_and_sizes"),
        (Inventing, "test_columns_are_those_of_the_schema"),
        (ReadingEagerly, "test_a_caller_that_takes_nothing_makes_the_source_wait"),
        (ReadingOn, "test_closing_the_iterator_cancels_what_is_in_flight"),
        (ReadingToConnect, "test_connecting_reads_no_event"),
        (ProbingALot, "test_a_probe_reads_little_and_hands_nothing_on"),
        (ProbingTheFirst, "test_a_stream_without_events_can_be_probed_and_read"),
        (ClosingOnce, "test_a_source_may_be_closed_twice_and_unused"),
        (Untyped, "test_a_refused_credential_is_told_from_a_fault"),
        (Untyped, "test_a_server_that_is_not_there_is_worth_another_try"),
    ],
)
def test_a_source_that_breaks_a_promise_fails_the_test_of_that_promise(source: type[GoodSource], broken: str) -> None:
    assert broken in failures(source)


def test_a_source_that_keeps_every_promise_passes() -> None:
    assert failures(GoodSource) == set()
