"""Transforms: what they may not do is noticed, and those of one sink change nothing for another."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from datetime import timedelta
from typing import Any

import pyarrow as pa
import pyarrow.compute as pc
import pytest

from cfaudit_export import SinkError
from cfaudit_export.core.identity_key import identity_key
from cfaudit_export.core.model import Window
from cfaudit_export.errors import ExitCode, TransformError
from cfaudit_export.pipeline.transform import FIXED, NamedTransform, Transforms, transformed
from cfaudit_export.schema import schema

KEY = identity_key(bytes(range(32)))
Change = Callable[[pa.Table], pa.Table]


def with_column(name: str, value: Callable[[list[Any]], list[Any]]) -> Change:
    def change(table: pa.Table) -> pa.Table:
        at = table.schema.get_field_index(name)
        field = table.schema.field(at)
        return table.set_column(at, field, pa.array(value(table[name].to_pylist()), field.type))

    return change


def rows(number: int = 6) -> pa.Table:
    kinds = {pa.string(): lambda at: f"v{at}", pa.int32(): int}
    made = {
        field.name: pa.array(
            [kinds.get(field.type, lambda at: at)(at) for at in range(number)]
            if pa.types.is_string(field.type) or pa.types.is_integer(field.type)
            else range(number)
        ).cast(field.type)
        for field in schema()
    }
    return pa.table(made, schema=schema())


def let(table: pa.Table, change: Change) -> pa.Table:
    return transformed(table, [NamedTransform("x", change)])


@pytest.mark.parametrize("column", FIXED)
def test_none_may_change_which_event_a_row_is(column: str) -> None:
    table = rows()
    changed = with_column(column, lambda values: [*values[1:], values[0]])
    said = "repeated rows or changed their order" if column == "event_key" else f"changed {column} of 6 rows"
    with pytest.raises(TransformError, match=f"transform 'x' {said}"):
        let(table, changed)


def test_the_rows_that_were_changed_are_counted() -> None:
    said = "transform 'x' changed event_id of 3 rows; it may change, blank or drop, but not rename events"
    with pytest.raises(TransformError, match=said):
        let(rows(), with_column("event_id", lambda values: ["same"] * 3 + values[3:]))
    with pytest.raises(TransformError, match="changed replaces of 2 rows"):
        let(rows(), with_column("replaces", lambda values: [None, None, *values[2:]]))
    with pytest.raises(TransformError, match="changed event_key of 1 rows"):
        let(rows(), with_column("event_key", lambda values: ["new", *values[1:]]))


@pytest.mark.parametrize(
    "change",
    [
        lambda table: pa.concat_tables([table, table]),
        lambda table: table.take([0, 0, *range(1, 6)]),
        lambda table: table.take([5, 4, 3, 2, 1, 0]),
        lambda table: table.take([3, 1]),
    ],
)
def test_none_may_repeat_or_move_rows(change: Change) -> None:
    with pytest.raises(TransformError, match="repeated rows or changed their order; it may only drop rows"):
        let(rows(), change)


def test_none_may_change_the_schema() -> None:
    with pytest.raises(TransformError, match="changed the schema"):
        let(rows(), lambda table: table.drop_columns("zone_id"))


def test_one_that_fails_is_named_without_what_it_has_seen() -> None:
    def fails(table: pa.Table) -> pa.Table:
        raise KeyError(table["actor_email"][0].as_py())

    with pytest.raises(TransformError, match=r"transform 'x' failed with KeyError at test_transform.py:\d+") as failed:
        let(rows(), fails)
    assert "v0" not in str(failed.value)
    assert failed.value.__cause__ is None
    assert failed.value.exit_code is ExitCode.BUG


@pytest.mark.parametrize(
    "change",
    [
        lambda table: table,
        lambda table: table.slice(2, 2),
        lambda table: table.slice(0, 0),
        lambda table: table.filter(pc.not_equal(table["event_id"], "v3")),
        with_column("actor_email", lambda values: [None] * len(values)),
        lambda table: pa.concat_tables([table.slice(0, 3), table.slice(3)]),
    ],
)
def test_values_may_be_blanked_and_rows_dropped(change: Change) -> None:
    table = rows()
    assert let(table, change).equals(change(table))


# -- in a run -----------------------------------------------------------------------------------------


def blank(table: pa.Table) -> pa.Table:
    return with_column("event_raw", lambda values: [None] * len(values))(table)


OF_LAKE = Transforms(of_sinks={"lake": (NamedTransform("blank", blank),)})


def test_a_fault_of_a_transform_ends_the_run_before_anything_is_delivered(rig: Any, shelf: Any) -> None:
    sink = shelf()
    doubling = NamedTransform("twice", lambda table: pa.concat_tables([table, table]))
    report = rig.run({"shelf": sink}, transforms=Transforms((doubling,)))
    assert report.exit_code is ExitCode.BUG
    assert "transform 'twice' repeated rows" in report.error
    assert not sink.batches
    rig.run({"shelf": sink})
    assert sink.texts() == rig.truth()


def test_a_transform_of_one_sink_leaves_the_others_and_the_names_of_batches_alone(rig: Any, shelf: Any) -> None:
    plain, lake = shelf(), shelf()
    report = rig.run({"plain": plain, "lake": lake}, {"piece_rows": 200}, transforms=OF_LAKE)
    assert [one.rows for one in report.sinks] == [len(plain.ids())] * 2
    assert plain.texts() == rig.truth()
    assert plain.batches.keys() == lake.batches.keys()
    assert plain.ids() == lake.ids()
    assert lake.texts().keys() == {None}
    assert rig.staged() == []


def test_a_sink_that_was_down_gets_what_was_staged_for_it_and_no_other(rig: Any, shelf: Any) -> None:
    plain, lake = shelf(), shelf(error=SinkError("down"))
    rig.run({"plain": plain, "lake": lake}, {"piece_rows": 200}, transforms=OF_LAKE)
    assert {path.parent.name for path in rig.staging.rglob("*.arrow")} == {"lake"}
    lake.error = None
    rig.run({"plain": plain, "lake": lake}, {"piece_rows": 200}, transforms=OF_LAKE)
    assert lake.texts().keys() == {None}
    assert lake.ids() == plain.ids()
    assert plain.texts() == rig.truth()
    assert rig.staged() == []


def test_a_sink_that_gets_a_transform_while_a_batch_waits_gets_no_plain_row(rig: Any, shelf: Any) -> None:
    lake = shelf(error=SinkError("down"))
    rig.run({"lake": lake}, {"piece_rows": 200})
    assert rig.staged()
    lake.error = None
    rig.run({"lake": lake}, {"piece_rows": 200}, transforms=OF_LAKE)
    assert lake.texts().keys() == {None}
    assert sum(lake.texts().values()) == sum(rig.truth().values())
    assert rig.staged() == []


def test_a_sink_of_which_a_transform_drops_everything_is_covered_and_gets_nothing(rig: Any, shelf: Any) -> None:
    lake = shelf()
    drop = NamedTransform("drop", lambda table: table.slice(0, 0))
    report = rig.run({"lake": lake}, transforms=Transforms(of_sinks={"lake": (drop,)}))
    assert (report.exit_code, lake.loads) == (ExitCode.OK, 0)
    assert rig.checkpoint().sinks["lake"].covered


# -- the identity key ---------------------------------------------------------------------------------


def test_runs_with_one_identity_key_deliver_everything_once_and_remember_its_id(rig: Any, shelf: Any) -> None:
    sink = shelf()
    rig.run({"shelf": sink}, identity=KEY, until=rig.now - timedelta(hours=6))
    rig.run({"shelf": sink}, identity=KEY)
    assert sink.texts() == rig.truth()
    assert rig.checkpoint().identity == KEY.id
    assert len(set(sink.ids())) == len(sink.ids())


@pytest.mark.parametrize(
    ("first", "second", "said"),
    [
        (None, KEY, "was begun without an identity key; its events would be taken for new ones"),
        (KEY, None, f"was begun with identity key {KEY.id}; its events would be taken for new ones"),
        (KEY, identity_key(bytes(range(1, 33))), f"was begun with identity key {KEY.id}"),
    ],
)
def test_a_stream_goes_on_with_no_other_identity_key(rig: Any, shelf: Any, first: Any, second: Any, said: str) -> None:
    sink = shelf()
    rig.run({"shelf": sink}, identity=first, until=rig.now - timedelta(hours=6))
    had = sink.ids()
    report = rig.run({"shelf": sink}, identity=second)
    assert report.exit_code is ExitCode.SETTINGS
    assert said in report.error
    assert sink.ids() == had


def test_a_stream_that_delivered_nothing_yet_takes_another_identity_key(rig: Any, shelf: Any) -> None:
    down, sink = shelf(error=SinkError("down")), shelf()
    empty = rig.now - timedelta(days=400)
    rig.run({"shelf": sink}, identity=KEY, since=empty - timedelta(hours=1), until=empty)
    other = identity_key(bytes(range(1, 33)))
    assert rig.run({"shelf": sink}, identity=other).exit_code is ExitCode.OK
    assert rig.checkpoint().identity == other.id
    assert rig.run({"shelf": down}, identity=KEY).exit_code is ExitCode.SETTINGS


def test_a_slice_and_its_stream_have_one_identity_key(rig: Any, shelf: Any) -> None:
    sink = shelf()
    part = Window(rig.now - timedelta(hours=12), rig.now - timedelta(hours=6))
    rig.run({"shelf": sink}, identity=KEY, part=part)
    assert rig.checkpoint().identity == KEY.id
    report = rig.run({"shelf": sink})
    assert report.exit_code is ExitCode.SETTINGS
    rig.run({"shelf": sink}, identity=KEY, since=rig.now - timedelta(days=2))
    assert sink.texts() == rig.truth()
    with pytest.raises(Exception, match="was begun with identity key"):
        rig.run({"shelf": sink}, part=Window(part.since - timedelta(hours=2), part.since))


def test_shadows_and_what_replaces_them_are_the_same_under_an_identity_key(rig_of: Any, shelf: Any) -> None:
    def exported(identity: Any) -> list[tuple[Any, ...]]:
        sink = shelf()
        rig.run({"shelf": sink}, recover="all", identity=identity, store=rig.store)
        found = pa.concat_tables(list(sink.batches.values())).sort_by("event_id")
        return [(row["event_time"], row["fidelity"], row["event_raw"]) for row in found.to_pylist()]

    rig = rig_of(events=60, span_seconds=3600.0, poison={"array-response": 2})
    plain = sorted(exported(None), key=str)
    rig = replace(rig, root=rig.root / "other")
    assert sorted(exported(KEY), key=str) == plain
    assert any(fidelity == "shadow" for _, fidelity, _ in plain)
