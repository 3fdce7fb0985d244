"""The suite for sinks against sinks that break one promise each."""

from __future__ import annotations

import hashlib
import inspect
from collections.abc import Callable
from dataclasses import replace
from functools import partial
from pathlib import Path
from typing import Any

import pyarrow as pa
import pytest

from cfaudit_export import Batch, LoadUnknownError, Receipt, Rejected, SinkError, StoredFile, Window, read_batch
from cfaudit_export.schema import schema
from cfaudit_export.testing import SinkContract, SinkTarget


class Store:
    """A destination in memory."""

    def __init__(self) -> None:
        self.batches: dict[str, pa.Table] = {}
        self.more: list[pa.Table] = []

    def stored(self) -> pa.Table:
        return pa.concat_tables([schema().empty_table(), *self.batches.values(), *self.more], promote_options="default")

    def content(self, batch_id: str) -> bytes:
        return repr(self.batches[batch_id]["event_id"].to_pylist()).encode()


class GoodSink:
    """Keeps every promise; the sinks below each break one."""

    def __init__(self, store: Store) -> None:
        self.store = store

    def check(self) -> str:
        return "memory can be written"

    def load(self, batch: Batch) -> Receipt:
        already = batch.batch_id in self.store.batches
        if not already:
            self.store.batches[batch.batch_id] = self.keep(read_batch(batch))
        return Receipt(batch.batch_id, batch.rows, already=already)

    def keep(self, events: pa.Table) -> pa.Table:
        return events

    def find(self, batch_id: str, window: Window) -> Receipt | None:
        events = self.store.batches.get(batch_id)
        return None if events is None else Receipt(batch_id, events.num_rows, already=True)

    def close(self) -> None:
        pass


class Repeating(GoodSink):
    def load(self, batch: Batch) -> Receipt:
        self.store.more.append(read_batch(batch))
        return Receipt(batch.batch_id, batch.rows)

    def find(self, batch_id: str, window: Window) -> Receipt | None:
        raise LoadUnknownError("cannot tell")


class RepeatingInAnotherProcess(GoodSink):
    def __init__(self, store: Store) -> None:
        super().__init__(store)
        self.known: set[str] = set()

    def load(self, batch: Batch) -> Receipt:
        if batch.batch_id in self.known:
            return Receipt(batch.batch_id, batch.rows, already=True)
        self.known.add(batch.batch_id)
        self.store.more.append(read_batch(batch))
        return Receipt(batch.batch_id, batch.rows)


class Overwriting(GoodSink):
    def load(self, batch: Batch) -> Receipt:
        already = batch.batch_id in self.store.batches
        self.store.batches = {batch.batch_id: read_batch(batch)}
        return Receipt(batch.batch_id, batch.rows, already=already)


class LosingTheLast(GoodSink):
    def keep(self, events: pa.Table) -> pa.Table:
        return events.slice(0, max(1, events.num_rows - 1))


class KeepingOneDay(GoodSink):
    def keep(self, events: pa.Table) -> pa.Table:
        days = events["event_time"].cast(pa.date32()).to_pylist()
        return events.filter(pa.array([day == days[0] for day in days]))


class Blanking(GoodSink):
    """Stores nulls as empty texts."""

    def keep(self, events: pa.Table) -> pa.Table:
        rows = [{**row, "account_name": row["account_name"] or ""} for row in events.to_pylist()]
        return pa.Table.from_pylist(rows, schema=schema())


class LosingStrangeLetters(GoodSink):
    def keep(self, events: pa.Table) -> pa.Table:
        rows = [
            {**row, "event_raw": row["event_raw"] and row["event_raw"].replace("\u2028", "\\n")}
            for row in events.to_pylist()
        ]
        return pa.Table.from_pylist(rows, schema=schema())


class InsistingOnEveryColumn(GoodSink):
    def keep(self, events: pa.Table) -> pa.Table:
        assert events.schema.names == schema().names, "the staged file is not of this version"
        return events


class Forgetful(GoodSink):
    def find(self, batch_id: str, window: Window) -> Receipt | None:
        return None


class KnowItAll(GoodSink):
    def find(self, batch_id: str, window: Window) -> Receipt | None:
        return Receipt(batch_id, 1_000, already=True)


class CheckingWithARow(GoodSink):
    def check(self) -> str:
        row = dict.fromkeys(("event_id", "event_key", "account_id", "fidelity", "source"), "probe")
        self.store.more.append(pa.Table.from_pylist([{**row, "event_time": 0, "ingested_at": 0}], schema=schema()))
        return "a row can be written"


class ClosingOnce(GoodSink):
    open = True

    def close(self) -> None:
        assert self.open, "closed twice"
        self.open = False


class Miscounting(GoodSink):
    def load(self, batch: Batch) -> Receipt:
        receipt = super().load(batch)
        return Receipt(batch.batch_id, batch.rows + 1, already=receipt.already)


class Refusing(GoodSink):
    """Keeps every promise, and sets the first event of each batch aside for good."""

    def load(self, batch: Batch) -> Receipt:
        receipt = super().load(batch)
        first = read_batch(batch)["event_id"][0].as_py()
        return Receipt(batch.batch_id, batch.rows - 1, already=receipt.already, rejected=(Rejected(first, "no"),))

    def keep(self, events: pa.Table) -> pa.Table:
        return events.slice(1)


class Filing(GoodSink):
    """Keeps every promise, and names the files that it stores."""

    def load(self, batch: Batch) -> Receipt:
        return self.naming(super().load(batch))

    def find(self, batch_id: str, window: Window) -> Receipt | None:
        found = super().find(batch_id, window)
        return found and self.naming(found)

    def naming(self, receipt: Receipt) -> Receipt:
        content = self.store.content(receipt.batch_id)
        file = StoredFile(receipt.batch_id, len(content), hashlib.sha256(content).hexdigest(), receipt.rows)
        return replace(receipt, files=(file,), locations=(f"memory:{file.name}",))


class FilingWithAnotherDigest(Filing):
    def naming(self, receipt: Receipt) -> Receipt:
        (file,) = super().naming(receipt).files
        return replace(receipt, files=(replace(file, sha256="0" * 64),), locations=("memory",))


class FilingOnlyTheFirstTime(Filing):
    def naming(self, receipt: Receipt) -> Receipt:
        return receipt if receipt.already else super().naming(receipt)


class Believing(GoodSink):
    """Takes the page of a portal for a success, and its 404 for absence."""

    def load(self, batch: Batch) -> Receipt:
        return Receipt(batch.batch_id, batch.rows)

    def find(self, batch_id: str, window: Window) -> Receipt | None:
        return None


class Doubting(GoodSink):
    """Knows a portal by its page."""

    def load(self, batch: Batch) -> Receipt:
        raise SinkError("this is not how the destination answers")

    def find(self, batch_id: str, window: Window) -> Receipt | None:
        raise LoadUnknownError("this is not how the destination answers")


class Suite(SinkContract):
    many = 2_000


class LenientSuite(Suite):
    at_least_once = True


def load_half(store: Store, *, forget: bool) -> Callable[[Batch], None]:
    def load(batch: Batch) -> None:
        half = read_batch(batch).slice(0, batch.rows // 2)
        store.more.append(half)
        if not forget:
            store.batches[batch.batch_id] = half.slice(0, 0)

    return load


def failures(
    sink: type[GoodSink],
    folder: Path,
    suite: SinkContract,
    *,
    interrupted: str = "",
    impostor: type[GoodSink] = Doubting,
) -> set[str]:
    """Run every test of the suite against the sink, and return the names of those that fail."""
    failed = set()
    for name, test in inspect.getmembers(suite, inspect.ismethod):
        if not name.startswith("test_"):
            continue
        store = Store()
        loads = (load_half(store, forget=interrupted == "forgotten"),) if interrupted else ()
        new_sink, new_impostor = partial(sink, store), partial(impostor, store)
        reads = store.content if issubclass(sink, Filing) else None
        target = SinkTarget(new_sink, store.stored, loads, (new_impostor,), reads)
        given: dict[str, Any] = {"target": target, "sink": sink(store), "folder": folder, "shape": "whole"}
        try:
            test(**{name: given[name] for name in inspect.signature(test).parameters})
        except AssertionError:
            failed.add(name)
        except pytest.skip.Exception:
            assert not interrupted or "files" in name or "manifest" in name
    return failed


@pytest.mark.parametrize(
    ("sink", "broken"),
    [
        (Repeating, "test_the_same_batch_again_adds_nothing"),
        (RepeatingInAnotherProcess, "test_the_same_batch_in_another_process_adds_nothing"),
        (Overwriting, "test_two_batches_are_both_kept"),
        (LosingTheLast, "test_a_large_batch_is_stored"),
        (KeepingOneDay, "test_a_batch_over_several_days_is_stored"),
        (Blanking, "test_columns_without_a_value_stay_null"),
        (LosingStrangeLetters, "test_every_kind_of_text_survives"),
        (InsistingOnEveryColumn, "test_a_batch_that_was_staged_before_the_schema_grew_is_stored"),
        (Forgetful, "test_find_knows_a_batch_once_it_is_loaded"),
        (KnowItAll, "test_find_knows_a_batch_once_it_is_loaded"),
        (CheckingWithARow, "test_check_leaves_nothing_behind"),
        (ClosingOnce, "test_a_sink_may_be_closed_twice_and_unused"),
        (Miscounting, "test_a_single_event_is_stored"),
        (FilingWithAnotherDigest, "test_files_are_named_with_the_digests_that_they_have"),
        (FilingOnlyTheFirstTime, "test_files_are_named_with_the_digests_that_they_have"),
    ],
)
def test_a_sink_that_breaks_a_promise_fails_the_test_of_that_promise(
    sink: type[GoodSink], broken: str, tmp_path: Path
) -> None:
    assert broken in failures(sink, tmp_path, Suite())


@pytest.mark.parametrize("sink", [GoodSink, Refusing, Filing])
def test_a_sink_that_keeps_every_promise_passes(sink: type[GoodSink], tmp_path: Path) -> None:
    assert failures(sink, tmp_path, Suite()) == set()


def test_a_sink_that_repeats_passes_where_the_suite_allows_it(tmp_path: Path) -> None:
    assert failures(Repeating, tmp_path, LenientSuite()) == set()


def test_a_sink_that_believes_whatever_answers_is_noticed(tmp_path: Path) -> None:
    assert failures(GoodSink, tmp_path, Suite(), impostor=Believing) == {
        "test_nothing_counts_as_stored_on_the_word_of_something_else",
        "test_nothing_counts_as_absent_on_the_word_of_something_else",
    }


def test_half_a_batch_that_stays_is_noticed(tmp_path: Path) -> None:
    assert failures(GoodSink, tmp_path, Suite(), interrupted="forgotten") == {
        "test_an_interrupted_load_is_completed_by_the_next",
        "test_find_tells_the_truth_after_an_interrupted_load",
    }


def test_half_a_batch_that_is_taken_for_a_whole_is_noticed(tmp_path: Path) -> None:
    assert failures(GoodSink, tmp_path, Suite(), interrupted="believed") == {
        "test_an_interrupted_load_is_completed_by_the_next",
        "test_find_tells_the_truth_after_an_interrupted_load",
    }
