"""Rows: of files, of files that were merged, and of extracts of warehouses."""

from __future__ import annotations

import json
from collections.abc import Callable, Iterator
from dataclasses import replace
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from cfaudit_export.analysis.files.compact import compact
from cfaudit_export.analysis.files.open import open_location
from cfaudit_export.analysis.verify.extract import read_extract
from cfaudit_export.core.model import StoredFile
from cfaudit_export.errors import SettingsError
from cfaudit_export.proof.chain import link_to
from cfaudit_export.proof.manifest import BatchPart, ErasedEntry, Replacement
from cfaudit_export.proof.rows import leaves, rows_sha256

FIRST = datetime(2026, 11, 1, tzinfo=UTC)


def stored(export: Any, path: Path) -> StoredFile:
    content = path.read_bytes()
    rows = pq.read_metadata(path).num_rows
    return StoredFile(export.name(path), len(content), link_to(1, content).sha256, rows)


def parts(path: Path) -> tuple[BatchPart, ...]:
    table = pq.read_table(path, partitioning=None)
    found = []
    for id_ in sorted(set(table["batch_id"].to_pylist())):
        rows = table.filter(pa.compute.equal(table["batch_id"], id_))
        found.append(BatchPart(id_, rows.num_rows, rows_sha256(leaves(rows))))
    return tuple(found)


def merge(export: Any, *, keep: bool = False) -> Path:
    """Merge the files of the export by `compact`, and say so in the chain."""
    old = {path: (stored(export, path), path.read_bytes()) for path in export.files()}
    list(compact(open_location(str(export.root)), now=FIRST + timedelta(days=90), settled=timedelta()))
    [new] = export.files()
    if keep:
        for path, (_, content) in old.items():
            path.write_bytes(content)
    change = Replacement(tuple(file for file, _ in old.values()), stored(export, new), parts(new))
    export.seal(kind="compaction", replaced=(change,))
    return new


def test_merged_files_prove_the_batches_that_they_were_made_of(export: Any) -> None:
    for seed in range(3):
        export.seal(export.store(0, seed=seed))
    merge(export)
    found = export.verify()
    assert found.exit_code == 0, list(found.lines)
    assert "1 of 1 file and 4 of 4 manifests valid. 60 events, none twice." in list(found.lines)[-1]


def test_files_that_are_still_there_after_they_were_merged_are_no_doubles(export: Any) -> None:
    for seed in range(2):
        export.seal(export.store(0, seed=seed))
    merge(export, keep=True)
    found = export.verify()
    assert found.exit_code == 0
    assert "Still there though others hold their rows: 2 files" in list(found.lines)
    export.files()[0].write_bytes(b"x")
    assert export.verify().exit_code == 1


def test_a_merged_file_with_other_rows_than_those_it_stands_for_shows(export: Any) -> None:
    """As if the program that merged was not ours, and its key was."""
    for seed in range(2):
        export.seal(export.store(0, seed=seed))
    old = tuple(stored(export, path) for path in export.files())
    tables = [pq.read_table(path, partitioning=None) for path in export.files()]
    for path in export.files():
        path.unlink()
    merged = pa.concat_tables(tables)
    place = merged.column_names.index("actor_email")
    emails = ["other@example.com", *merged["actor_email"].to_pylist()[1:]]
    path = export.root / old[0].name.replace(".parquet", "x.parquet")
    changed = merged.set_column(place, "actor_email", pa.array(emails))
    pq.write_table(changed.replace_schema_metadata(None), path)
    export.seal(kind="compaction", replaced=(Replacement(old, stored(export, path), parts(path)),))
    found = export.verify()
    assert found.exit_code == 1
    said = list(found.lines)
    assert [line.endswith("INVALID: its rows are not those that were exported") for line in said].count(True) == 1
    assert "1 batch INVALID" in said[-1]
    assert export.verify(quick=True).exit_code == 0


def test_a_merged_file_of_fewer_rows_shows_in_its_manifest(export: Any) -> None:
    export.seal(export.store(0))
    [path] = export.files()
    old = stored(export, path)
    new = replace(old, name=old.name.replace(".parquet", "x.parquet"), rows=19)
    export.seal(kind="compaction", replaced=(Replacement((old,), new, ()),))
    assert "Manifest 00000002  INVALID: replaces files of 20 events by others than these" in list(export.verify().lines)


def test_files_that_no_manifest_names_are_not_replaced(export: Any) -> None:
    export.days(1)
    file = StoredFile("account_id=a/event_date=2026-11-01/x.parquet", 1, "a" * 64, 0)
    export.seal(kind="compaction", replaced=(Replacement((file,), None),))
    assert export.verify().exit_code == 1


def test_days_that_were_removed_on_purpose_are_not_missing(export: Any) -> None:
    export.days(2)
    export.seal(export.store(2, rows=30, days=2))
    two_days = export.files()[2]
    removed = [export.files()[0], two_days]
    changes = tuple(Replacement((stored(export, path),), None, parts(path)) for path in removed)
    for path in removed:
        path.unlink()
    assert export.verify().exit_code == 1
    export.seal(kind="retention", replaced=changes, reason="older than a year")
    found = export.verify()
    assert found.exit_code == 0, list(found.lines)
    assert "2 of 2 files and 4 of 4 manifests valid. 35 events, none twice." in list(found.lines)[-1]


def test_bodies_that_were_erased_on_purpose_leave_rows_that_still_prove(export: Any) -> None:
    export.seal(export.store(0))
    [path] = export.files()
    old, table = stored(export, path), pq.read_table(path, partitioning=None)
    kept = [json.dumps({"event_raw": link_to(1, text.encode()).sha256}) for text in table["event_raw"].to_pylist()]
    place = table.column_names.index("event_raw")
    erased = table.set_column(place, "event_raw", pa.nulls(20, pa.string())).append_column(
        "body_sha256", pa.array(kept)
    )
    pq.write_table(erased.replace_schema_metadata(None), path)
    change = Replacement((old,), stored(export, path), parts(path))
    gone = tuple(
        ErasedEntry(event_id, path.stem, ("event_raw",), leaf.hex())
        for event_id, leaf in zip(table["event_id"].to_pylist(), leaves(table), strict=True)
    )
    export.seal(kind="retention", replaced=(change,), erased=gone)
    found = export.verify()
    assert found.exit_code == 0, list(found.lines)


def test_where_digests_of_rows_are_not_known_those_of_ids_and_files_count(export: Any) -> None:
    export.seal(replace(export.store(0), rows_sha256=None))
    export.seal(replace(export.store(1), rows_sha256=None, ids_sha256=None))
    assert export.verify().exit_code == 0
    export.seal(replace(export.store(2), rows_sha256=None, ids_sha256="0" * 64))
    assert "INVALID: its events are not those that were exported" in "\n".join(export.verify().lines)


def test_a_batch_of_which_fewer_events_are_stored_than_said_shows(export: Any) -> None:
    export.seal(replace(export.store(0), rows=21))
    assert "INVALID: 20 of its 21 events are there" in "\n".join(export.verify().lines)


# -- sinks without files -----------------------------------------------------------------------------


@pytest.fixture
def warehouse(new_export: Callable[..., Any], tmp_path: Path) -> Iterator[Any]:
    """An export into a sink without files, and its rows."""
    export = new_export(sink="bigquery", stores_files=False)
    for number in range(3):
        export.seal(export.store(number))
    batches = sorted(export.staging.glob("*"))
    export.rows = pa.concat_tables([pa.ipc.open_file(path).read_all() for path in batches])
    export.rows = export.rows.sort_by("event_time")
    return export


def extract(export: Any, table: pa.Table, form: str = "parquet") -> Iterator[tuple[str, pa.Table]]:
    path = export.staging / f"extract.{form}"
    if form == "parquet":
        pq.write_table(table, path)
    else:
        path.write_text("".join(json.dumps(row, default=str) + "\n" for row in table.to_pylist()))
    return read_extract([path])


@pytest.mark.parametrize("form", ["parquet", "ndjson"])
def test_rows_of_a_warehouse_are_proved_by_an_extract_of_them(warehouse: Any, form: str) -> None:
    found = warehouse.verify(extract(warehouse, warehouse.rows, form), place=False)
    assert found.exit_code == 0, list(found.lines)
    assert "3 of 3 manifests valid. 60 events, none twice." in list(found.lines)[-1]


def test_without_an_extract_the_rows_of_a_warehouse_are_not_proved(warehouse: Any) -> None:
    found = warehouse.verify(place=False)
    assert found.exit_code == 65
    assert "Rows were not looked at: say with --rows where an extract of them is (60 events)" in list(found.lines)


@pytest.mark.parametrize("form", ["parquet", "ndjson"])
@pytest.mark.parametrize(
    ("change", "said"),
    [
        (lambda rows: rows.slice(1), "INVALID: 19 of its 20 events are there"),
        (lambda rows: pa.concat_tables([rows, rows.slice(0, 1)]), "is there twice, in "),
        (
            lambda rows: rows.set_column(
                rows.column_names.index("actor_email"), "actor_email", pa.array(["x@example.com"] * len(rows))
            ),
            "INVALID: its rows are not those that were exported",
        ),
        (
            lambda rows: rows.set_column(
                rows.column_names.index("batch_id"), "batch_id", pa.array(["f" * 32] * len(rows))
            ),
            f"Batch {'f' * 32}  INVALID: no manifest names it",
        ),
    ],
    ids=["removed", "doubled", "changed", "added"],
)
def test_changes_in_a_warehouse_show(warehouse: Any, form: str, change: Callable[[Any], Any], said: str) -> None:
    found = warehouse.verify(extract(warehouse, change(warehouse.rows), form), place=False)
    assert found.exit_code == 1
    assert said in "\n".join(found.lines)


def test_rows_without_a_batch_are_named(warehouse: Any) -> None:
    older = warehouse.rows.slice(0, 1)
    for name, value in (("batch_id", None), ("event_id", "older")):
        older = older.set_column(older.column_names.index(name), name, pa.array([value], pa.string()))
    rows = pa.concat_tables([warehouse.rows, older.cast(warehouse.rows.schema)])
    found = warehouse.verify(extract(warehouse, rows), place=False)
    assert found.exit_code == 65
    assert "1 rows name no batch: they are of before the chain, or were added" in list(found.lines)


def test_ids_alone_are_compared_where_a_warehouse_has_json_as_values(warehouse: Any) -> None:
    narrow = warehouse.rows.select(["event_id", "batch_id", "event_time"])
    found = warehouse.verify(extract(warehouse, narrow), place=False)
    assert found.exit_code == 0
    assert any(line.startswith("Only the ids of events were compared") for line in found.lines)
    path = warehouse.staging / "values.json"
    rows = [
        {"result": {**row, "event_raw": json.loads(row["event_raw"]), "cfaudit_source": row.pop("source")}}
        for row in warehouse.rows.to_pylist()
    ]
    path.write_text("".join(json.dumps(row, default=str) + "\n\n" for row in rows))
    found = warehouse.verify(read_extract([path]), place=False)
    assert found.exit_code == 0, list(found.lines)
    other = narrow.set_column(0, "event_id", pa.array([f"x{number}" for number in range(60)]))
    assert warehouse.verify(extract(warehouse, other), place=False).exit_code == 1


def test_of_a_period_only_batches_that_lie_in_it_are_looked_for(warehouse: Any) -> None:
    two = warehouse.rows.slice(0, 40)
    asked = {"since": FIRST, "until": FIRST + timedelta(days=2)}
    found = warehouse.verify(extract(warehouse, two), place=False, **asked)
    assert found.exit_code == 0, list(found.lines)


@pytest.mark.parametrize(
    "content", [b"[]\n", b"{}\n", b'{"event_id":1', b"PAR1", b'{"event_id":"a","event_time":"x"}\n']
)
def test_what_is_no_extract_is_refused(tmp_path: Path, content: bytes) -> None:
    path = tmp_path / "rows"
    path.write_bytes(content)
    with pytest.raises(SettingsError, match="holds no rows of events"):
        list(read_extract([path]))
    with pytest.raises(SettingsError, match="cannot be read: no such file"):
        list(read_extract([tmp_path / "gone"]))
