"""The conformance suite for sinks. Needs pytest.

Subclass it in a test module, say how to reach an empty destination, and every promise of `cfaudit_export.Sink` is
tested against your sink:

    class TestMySink(SinkContract):
        @pytest.fixture
        def target(self, tmp_path):
            path = tmp_path / "out"
            return SinkTarget(new_sink=lambda: MySink(MyConfig(path)), stored=lambda: read_all(path))

A test that cannot hold for a destination is overridden by one that says why.
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Callable, Iterator
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any, ClassVar, cast

import pyarrow as pa
import pyarrow.compute as pc
import pytest

from cfaudit_export import Batch, LoadUnknownError, Receipt, Sink, SinkError, read_batch
from cfaudit_export.schema import COLUMNS, schema
from cfaudit_export.testing.batches import Shape, make_batch
from cfaudit_export.testing.comparison import accepted, assert_same, nullable, without_repetition

_TEXTS = [
    "plain",
    "",
    "zażółć gęślą jaźń",
    "監査ログ",
    "four bytes 🦊 and joined 👩‍🚀",
    "line\u2028and paragraph\u2029separators",
    'quotes " and \\ backslashes \\u0041',
    "tab\tand\r\nnew lines",
    "\u202eright to left, \ufeffmarked",
]
_LONE_SURROGATE = '{"description":"cut in half \\ud83e","time":"2026-11-01T00:00:00.000Z"}'


@dataclass(frozen=True, slots=True)
class SinkTarget:
    """A destination to test a sink against; nothing is stored there yet.

    Attributes:
        new_sink: builds a sink for this destination, another one with each call.
        stored: reads all that is stored there, in any order, as a table with the columns of `cfaudit_export.schema`,
            null where an older part of it lacks one; an empty one when nothing was ever loaded. Further columns are
            ignored.
        interrupted_loads: ways in which a load can be cut short. Each loads the batch and returns once that attempt
            is over for good: its process killed, its connection dropped.
        impostors: sinks for this destination of which some or all requests are answered by something else: a proxy's
            page, a portal's sign-in, an empty success, a refusal, a 404 that is not the destination's.
        read: reads a stored file by its name in a receipt; for a sink whose receipts name files.
    """

    new_sink: Callable[[], Sink]
    stored: Callable[[], pa.Table]
    interrupted_loads: tuple[Callable[[Batch], None], ...] = ()
    impostors: tuple[Callable[[], Sink], ...] = ()
    read: Callable[[str], bytes] | None = None


class SinkContract:
    """The promises of `cfaudit_export.Sink`, one test each.

    Attributes:
        at_least_once: True for a destination that cannot recognise a batch; an event may then be stored again.
        many: how many events the test of a large batch loads.
    """

    at_least_once: ClassVar[bool] = False
    many: ClassVar[int] = 100_000

    @pytest.fixture
    def target(self, tmp_path: Path) -> SinkTarget:
        """Return the destination; to be overridden."""
        raise NotImplementedError("override the fixture 'target'")

    @pytest.fixture
    def folder(self, tmp_path: Path) -> Path:
        """Return the folder for staged batches."""
        folder = tmp_path / "staged"
        folder.mkdir()
        return folder

    @pytest.fixture
    def sink(self, target: SinkTarget) -> Iterator[Sink]:
        """Yield a sink for the destination."""
        sink = target.new_sink()
        yield sink
        sink.close()

    @pytest.mark.parametrize("shape", ["six-field", "whole"])
    def test_a_batch_is_stored_event_for_event(
        self, target: SinkTarget, sink: Sink, folder: Path, shape: Shape
    ) -> None:
        batch = make_batch(folder, rows=500, shape=shape)
        receipt = sink.load(batch)
        assert not receipt.already
        self.assert_stored(target, (batch, receipt))

    def test_the_same_batch_again_adds_nothing(self, target: SinkTarget, sink: Sink, folder: Path) -> None:
        batch = make_batch(folder)
        receipt = sink.load(batch)
        again = sink.load(batch)
        assert again.already or self.at_least_once
        self.assert_stored(target, (batch, receipt))

    def test_the_same_batch_in_another_process_adds_nothing(self, target: SinkTarget, sink: Sink, folder: Path) -> None:
        batch = make_batch(folder)
        receipt = sink.load(batch)
        sink.close()
        other = target.new_sink()
        again = other.load(batch)
        other.close()
        assert again.already or self.at_least_once
        self.assert_stored(target, (batch, receipt))

    def test_two_batches_are_both_kept(self, target: SinkTarget, sink: Sink, folder: Path) -> None:
        batches = [make_batch(folder, seed=seed) for seed in (1, 2)]
        self.assert_stored(target, *((batch, sink.load(batch)) for batch in batches))

    def test_a_batch_over_several_days_is_stored(self, target: SinkTarget, sink: Sink, folder: Path) -> None:
        batch = make_batch(folder, rows=300, days=3)
        self.assert_stored(target, (batch, sink.load(batch)))

    def test_files_are_named_with_the_digests_that_they_have(
        self, target: SinkTarget, sink: Sink, folder: Path
    ) -> None:
        """Only for a sink that stores files; each is named, when it is written and when it is found."""
        read = _reading(target)
        batch = make_batch(folder, rows=300, days=3)
        receipt = sink.load(batch)
        for file in receipt.files:
            content = read(file.name)
            assert (file.bytes, file.sha256) == (len(content), hashlib.sha256(content).hexdigest())
        assert sum(file.rows for file in receipt.files) == receipt.rows
        assert len({file.name for file in receipt.files}) == len(receipt.files) == len(receipt.locations)
        assert sink.load(batch).files == receipt.files
        found = _find(sink, batch)
        assert not isinstance(found, Receipt) or found.files == receipt.files

    def test_files_of_an_interrupted_load_have_the_digests_that_they_have(
        self, target: SinkTarget, folder: Path
    ) -> None:
        """Whichever attempt wrote a file, the digest is that of the file that is there."""
        read = _reading(target)
        for seed, interrupted_load in enumerate(_interrupted_loads(target)):
            batch = make_batch(folder, seed=seed, days=2)
            interrupted_load(batch)
            sink = target.new_sink()
            receipt = sink.load(batch)
            sink.close()
            assert [file.sha256 for file in receipt.files] == [
                hashlib.sha256(read(file.name)).hexdigest() for file in receipt.files
            ]
            assert sum(file.rows for file in receipt.files) == receipt.rows

    def test_a_single_event_is_stored(self, target: SinkTarget, sink: Sink, folder: Path) -> None:
        batch = make_batch(folder, rows=1)
        self.assert_stored(target, (batch, sink.load(batch)))

    def test_columns_without_a_value_stay_null(self, target: SinkTarget, sink: Sink, folder: Path) -> None:
        nothing = {column.name: [None] * 5 for column in COLUMNS if not column.required}
        batch = make_batch(folder, rows=5, changes=nothing)
        self.assert_stored(target, (batch, sink.load(batch)))

    def test_every_kind_of_text_survives(self, target: SinkTarget, sink: Sink, folder: Path) -> None:
        raws = [json.dumps({"description": text}, ensure_ascii=False) for text in _TEXTS]
        raws[0] = _LONE_SURROGATE
        batch = make_batch(
            folder, rows=len(_TEXTS), changes={"action_description": _TEXTS, "actor_email": _TEXTS, "event_raw": raws}
        )
        self.assert_stored(target, (batch, sink.load(batch)))

    def test_a_large_batch_is_stored(self, target: SinkTarget, sink: Sink, folder: Path) -> None:
        batch = make_batch(folder, rows=self.many)
        self.assert_stored(target, (batch, sink.load(batch)))

    def test_a_batch_that_was_staged_before_the_schema_grew_is_stored(
        self, target: SinkTarget, sink: Sink, folder: Path
    ) -> None:
        """As an upgrade finds it; the column that is new since then is null."""
        newest = schema().names[-1]
        first, second = (make_batch(folder, rows=20, seed=seed) for seed in (1, 2))
        older, as_stored = _without(first, newest)
        self.assert_stored(target, (as_stored, sink.load(older)), (second, sink.load(second)))

    def test_an_interrupted_load_is_completed_by_the_next(self, target: SinkTarget, folder: Path) -> None:
        for seed, interrupted_load in enumerate(_interrupted_loads(target)):
            before = target.stored()["event_id"].to_pylist()
            batch = make_batch(folder, seed=seed, days=2)
            interrupted_load(batch)
            sink = target.new_sink()
            receipt = sink.load(batch)
            sink.close()
            self.assert_stored(target, (batch, receipt), beside=before)

    def test_find_tells_the_truth_after_an_interrupted_load(self, target: SinkTarget, folder: Path) -> None:
        for seed, interrupted_load in enumerate(_interrupted_loads(target)):
            before = target.stored()["event_id"].to_pylist()
            batch = make_batch(folder, seed=seed, days=2)
            interrupted_load(batch)
            sink = target.new_sink()
            try:
                found = sink.find(batch.batch_id, batch.window)
            except LoadUnknownError:
                continue
            finally:
                sink.close()
            if found:
                self.assert_stored(target, (batch, found), beside=before)
            else:
                assert sorted(target.stored()["event_id"].to_pylist()) == sorted(before)

    def test_nothing_counts_as_stored_on_the_word_of_something_else(self, target: SinkTarget, folder: Path) -> None:
        """Whatever stands between, a batch is stored or it is an error, and it comes again without doubling."""
        for seed, impostor in enumerate(_impostors(target)):
            before = target.stored()["event_id"].to_pylist()
            batch = make_batch(folder, seed=seed, days=2)
            sink = impostor()
            try:
                self.assert_stored(target, (batch, sink.load(batch)), beside=before)
            except SinkError:
                pass
            finally:
                sink.close()
            honest = target.new_sink()
            receipt = honest.load(batch)
            honest.close()
            self.assert_stored(target, (batch, receipt), beside=before)

    def test_nothing_counts_as_absent_on_the_word_of_something_else(
        self, target: SinkTarget, sink: Sink, folder: Path
    ) -> None:
        """What may not be seen is not what is not there: a batch that is there is found, or it is an error."""
        impostors = _impostors(target)
        batch = make_batch(folder, days=2)
        receipt = sink.load(batch)
        for impostor in impostors:
            other = impostor()
            found = _find_or_fail(other, batch)
            other.close()
            assert found is not None, "a batch that is there was said to be missing"
        self.assert_stored(target, (batch, receipt))

    def test_find_knows_a_batch_once_it_is_loaded(self, target: SinkTarget, sink: Sink, folder: Path) -> None:
        batch, other = (make_batch(folder, seed=seed, days=2) for seed in (1, 2))
        assert _find(sink, batch) in (None, "cannot tell")
        receipt = sink.load(batch)
        later = target.new_sink()
        found = _find(later, batch)
        assert _find(later, other) in (None, "cannot tell")
        later.close()
        if isinstance(found, Receipt):
            assert found.already
            assert (found.batch_id, found.rows) == (batch.batch_id, receipt.rows)
        else:
            assert found == "cannot tell"

    def test_check_leaves_nothing_behind(self, target: SinkTarget, sink: Sink, folder: Path) -> None:
        proved = sink.check()
        assert proved
        assert "\n" not in proved
        assert target.stored().num_rows == 0
        batch = make_batch(folder, rows=10)
        receipt = sink.load(batch)
        sink.check()
        self.assert_stored(target, (batch, receipt))

    def test_a_mark_is_left_once_and_found_again(self, target: SinkTarget, sink: Sink, folder: Path) -> None:
        """Only for a sink whose destination has a mark; the first one stays, and is no event."""
        marker, batch = cast("Any", sink), make_batch(folder, rows=5)
        receipt = sink.load(batch)
        if hasattr(sink, "mark"):
            mark = marker.marked() or "first"
            assert [marker.mark("first"), marker.mark("second"), marker.marked()] == [mark, mark, mark]
        self.assert_stored(target, (batch, receipt))

    def test_a_manifest_is_kept_once_under_its_name(self, target: SinkTarget, sink: Sink, folder: Path) -> None:
        """Only for a sink that keeps manifests; the first one of a name stays, and none is an event."""
        store, chain = cast("Any", sink), "0123456789abcdef/a sink"
        if not hasattr(sink, "put_manifest"):
            pytest.skip("the sink keeps no manifests")
        batch = make_batch(folder, rows=5)
        receipt = sink.load(batch)
        assert store.get_manifest(f"{chain}/00000001.json") is None
        assert list(store.manifests(chain)) == []
        names = [f"{chain}/{number:08d}.json" for number in (1, 2, 10)]
        assert [store.put_manifest(name, name.encode()) for name in reversed(names)] == [True, True, True]
        assert not store.put_manifest(names[0], b"another")
        later = cast("Any", target.new_sink())
        assert [later.get_manifest(name) for name in names] == [name.encode() for name in names]
        assert list(later.manifests(chain)) == names
        assert list(later.manifests("0123456789abcdef/a")) == []
        later.close()
        self.assert_stored(target, (batch, receipt))

    def test_a_sink_may_be_closed_twice_and_unused(self, target: SinkTarget) -> None:
        sink = target.new_sink()
        sink.close()
        sink.close()

    def assert_stored(self, target: SinkTarget, *loads: tuple[Batch, Receipt], beside: list[str] | None = None) -> None:
        """Assert that exactly these batches are stored, but for what their receipts say was rejected.

        Args:
            target: the destination.
            loads: batches, each with a receipt for it.
            beside: ids of events that were stored before.
        """
        expected = pa.concat_tables([accepted(batch, receipt) for batch, receipt in loads])
        stored = target.stored().select(schema().names).cast(nullable())
        if beside:
            stored = stored.filter(pc.invert(pc.is_in(stored["event_id"], pa.array(beside, pa.string()))))
        if self.at_least_once:
            stored = without_repetition(stored)
        assert_same(stored.sort_by("event_id"), expected.cast(nullable()).sort_by("event_id"))


def _without(batch: Batch, column: str) -> tuple[Batch, Batch]:
    """Return the batch as a version staged it that did not know the column, and with nulls in that column."""
    events = read_batch(batch)
    index, field = events.schema.get_field_index(column), events.schema.field(column)
    empty = events.set_column(index, field, pa.nulls(events.num_rows, field.type))
    return _rewritten(batch, "older", events.drop_columns([column])), _rewritten(batch, "empty", empty)


def _rewritten(batch: Batch, name: str, events: pa.Table) -> Batch:
    path = batch.path.with_name(f"{name}-{batch.path.name}")
    with pa.ipc.new_file(str(path), events.schema) as writer:
        writer.write_table(events)
    return replace(batch, path=path, digest=hashlib.sha256(path.read_bytes()).hexdigest())


def _interrupted_loads(target: SinkTarget) -> tuple[Callable[[Batch], None], ...]:
    if not target.interrupted_loads:
        pytest.skip("the target offers no interrupted loads")
    return target.interrupted_loads


def _reading(target: SinkTarget) -> Callable[[str], bytes]:
    if target.read is None:
        pytest.skip("the target names no files")
    return target.read


def _impostors(target: SinkTarget) -> tuple[Callable[[], Sink], ...]:
    if not target.impostors:
        pytest.skip("the target offers no impostors")
    return target.impostors


def _find_or_fail(sink: Sink, batch: Batch) -> Receipt | str | None:
    try:
        return sink.find(batch.batch_id, batch.window)
    except SinkError:
        return "failed"


def _find(sink: Sink, batch: Batch) -> Receipt | str | None:
    try:
        return sink.find(batch.batch_id, batch.window)
    except LoadUnknownError:
        return "cannot tell"
