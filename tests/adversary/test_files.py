"""What writers of files, or a disk by itself, can do to an export: no answer changes without a word."""

from __future__ import annotations

import json
import os
import random
import shutil
import stat
import subprocess
import sys
from collections import Counter
from collections.abc import Iterator
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from cfaudit_export.analysis.files.compact import compact
from cfaudit_export.analysis.files.database import open_data
from cfaudit_export.analysis.files.engine import Limits
from cfaudit_export.analysis.files.open import open_location
from cfaudit_export.analysis.files.statement import answers
from cfaudit_export.analysis.render.output import new_file
from cfaudit_export.core.checksums import FOOTER_NOTE, read_footer
from cfaudit_export.core.model import Window
from cfaudit_export.errors import LoadUnknownError, SettingsError
from cfaudit_export.parquet import MERGED_NOTE, read_notes, write_parquet
from cfaudit_export.schema import schema
from cfaudit_export.testing import make_batch
from cfaudit_parquet import ParquetConfig
from cfaudit_parquet.sink import ParquetSink

NOW = datetime(2026, 12, 1, tzinfo=UTC)
ACCOUNT = "0f3c1e5a7b9d2468ace013579bdf2468"
MOMENT = datetime(2026, 11, 1, 12, tzinfo=UTC)
FLIPS = 72

Row = dict[str, Any]


def rows(number: int, **more: Any) -> list[Row]:
    """Return rows as an export writes them."""
    required = {"account_id": ACCOUNT, "fidelity": "full", "source": "auditlogs", "ingested_at": NOW}
    return [
        required
        | {
            "event_id": f"event-{n:04}",
            "event_key": f"key-{n:04}",
            "event_time": MOMENT + timedelta(seconds=n),
            "action_type": ("create", "delete", "update")[n % 3],
            "actor_email": f"user{n % 7}@example.com",
            "resource_id": f"resource-{n}",
        }
        | more
        for n in range(number)
    ]


def plant(root: Path, name: str, events: list[Row], **notes: str) -> Path:
    """Write a file as a sink of this program would, for one day."""
    folder = root / f"account_id={events[0]['account_id']}" / "event_date=2026-11-01"
    folder.mkdir(parents=True, exist_ok=True)
    path = folder / f"{name}.parquet"
    said = {"cfaudit_schema_version": "1", "cfaudit_batch": name, "cfaudit_stream": "s" * 16} | notes
    with path.open("wb") as file:
        write_parquet(file, schema(), [pa.Table.from_pylist(events, schema=schema())], said)
    return path


def ids(root: Path) -> Counter[str]:
    """Return the ids of all events that are answered from, with how often each is there."""
    with open_data(open_location(str(root))) as data:
        return Counter(row["event_id"] for row in data.ask("SELECT event_id FROM audit_events"))


def merge(root: Path, limits: Limits | None = None) -> None:
    for _ in compact(open_location(str(root)), now=NOW, settled=timedelta(), limits=limits):
        pass


def note(*files: Path, **more: str) -> str:
    """Return what a merged file says of files, as well as an attacker can who has read them."""
    said = {}
    for path in files:
        with pa.OSFile(str(path)) as file:
            footer = read_footer(file)
        said[path.name] = {"rows": str(footer.metadata.num_rows), "footer_sha256": str(footer.digest)} | more
    return json.dumps(said)


# -- damage ------------------------------------------------------------------------------------------


def flips(content: bytes, number: int) -> list[tuple[int, int]]:
    """Return positions all over a file, and a bit of each; half of them in the footer, which is the smaller part."""
    drawn, footer = random.Random(7), len(content) - int.from_bytes(content[-8:-4], "little") - 8
    spans = ((4, footer), (footer, len(content)))
    return [(drawn.randrange(*spans[n % 2]), drawn.randrange(8)) for n in range(number)]


def flipped(content: bytes, position: int, bit: int) -> bytes:
    return content[:position] + bytes([content[position] ^ 1 << bit]) + content[position + 1 :]


def answer(root: Path) -> tuple[Any, list[str]]:
    """Return every value of every event, and the files that were skipped."""
    with open_data(open_location(str(root))) as data:
        return data.ask("SELECT * FROM audit_events ORDER BY event_id"), [one.name for one in data.catalog.ignored]


def test_one_bit_anywhere_in_a_file_never_gives_another_answer_without_a_word(tmp_path: Path) -> None:
    path = plant(tmp_path, "batch", rows(60))
    content, (right, _) = path.read_bytes(), answer(tmp_path)
    outcomes: Counter[str] = Counter()
    for position, bit in flips(content, FLIPS):
        path.write_bytes(flipped(content, position, bit))
        named = ""
        try:
            found, ignored = answer(tmp_path)
        except SettingsError as error:
            found, ignored, named = None, [], str(error)
        assert ignored or path.name in named or found == right, f"bit {bit} of byte {position} gives another answer"
        outcomes["skipped" if ignored else "named" if named else "unchanged"] += 1
    assert outcomes["named"] > FLIPS / 4, outcomes
    assert outcomes["skipped"] > FLIPS / 4, outcomes


@pytest.mark.parametrize("seed", range(6))
def test_compact_neither_merges_nor_removes_what_is_damaged(tmp_path: Path, seed: int) -> None:
    good, bad = plant(tmp_path, "good", rows(40)), plant(tmp_path, "bad", rows(40))
    content = bad.read_bytes()
    footer = len(content) - int.from_bytes(content[-8:-4], "little") - 8
    damaged = next(
        one
        for one in (flipped(content, *where) for where in flips(content, 400)[seed * 10 :])
        if one[footer:] == content[footer:] and not is_readable(one)
    )
    bad.write_bytes(damaged)
    with pytest.raises(SettingsError, match=r"bad\.parquet.*is damaged.*restore it from a backup"):
        merge(tmp_path)
    assert bad.read_bytes() == damaged
    assert good.exists()
    assert list(good.parent.glob("merged-*")) == []


def is_readable(content: bytes) -> bool:
    try:
        pq.read_table(pa.BufferReader(content), page_checksum_verification=True)
    except (pa.ArrowException, OSError):
        return False
    return True


def test_a_damaged_file_does_not_keep_other_days_from_being_merged(tmp_path: Path) -> None:
    sink = ParquetSink(ParquetConfig(str(tmp_path / "out")))
    for seed in range(2):
        sink.load(make_batch(tmp_path / "staged", rows=40, seed=seed, days=2))
    first = min((tmp_path / "out").rglob("*.parquet"))
    content = bytearray(first.read_bytes())
    content[200:1000] = bytes(800)
    first.write_bytes(content)
    with pytest.raises(SettingsError, match="is damaged"):
        merge(tmp_path / "out")
    assert [len(list(day.glob("*.parquet"))) for day in sorted((tmp_path / "out").glob("*/*"))] == [2, 1]


def test_files_of_other_programs_are_read_and_said_to_have_no_digests_once(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    path = plant(tmp_path, "batch", rows(10))
    table = pq.read_table(path, partitioning=None).replace_schema_metadata(None)
    for name in ("one", "two"):
        pq.write_table(table, path.with_name(f"{name}.parquet"))
    path.unlink()
    with open_data(open_location(str(tmp_path))) as data:
        for _ in range(2):
            assert data.ask("SELECT count(*) AS n FROM audit_events") == [{"n": 20}]
    said = [record for record in caplog.records if "no digests" in record.getMessage()]
    assert [vars(record)["files"] for record in said] == [2]


def test_files_of_the_version_before_are_read_as_before(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    path = plant(tmp_path, "batch", rows(10))
    table = pq.read_table(path, partitioning=None)
    notes = {key: value for key, value in (table.schema.metadata or {}).items() if key != FOOTER_NOTE.encode()}
    pq.write_table(table.replace_schema_metadata(notes), path, write_page_checksum=True)
    assert sum(ids(tmp_path).values()) == 10
    assert caplog.records == []


# -- files that speak for others -----------------------------------------------------------------------


@pytest.mark.parametrize("claim", ["old", "new", "rows", "digest"])
def test_a_planted_file_hides_no_other_and_lets_nothing_be_removed(tmp_path: Path, claim: str) -> None:
    real = plant(tmp_path, "real", rows(40))
    notes = {
        "old": json.dumps({"real.parquet": {}}),
        "new": note(real),
        "rows": note(real, rows="39"),
        "digest": note(real, footer_sha256="0" * 64),
    }
    forged = rows(39) + rows(40, action_type="view")[39:]  # as many rows, and the same ids
    plant(tmp_path, "merged-planted", forged, **{MERGED_NOTE: notes[claim]})
    assert ids(tmp_path) == Counter({row["event_id"]: 2 for row in forged}), "both are read, the planted one too"
    content = real.read_bytes()
    merge(tmp_path)
    assert real.read_bytes() == content
    with open_data(open_location(str(tmp_path))) as data:
        [row] = data.ask(
            "SELECT count(*) AS n FROM audit_events WHERE event_id = 'event-0039' AND action_type <> 'view'"
        )
    assert row == {"n": 1}, "the event that the planted file has otherwise is still there"


def test_two_files_cannot_hide_each_other(tmp_path: Path) -> None:
    plant(tmp_path, "real", rows(40))
    for name, other in (("merged-a", "merged-b"), ("merged-b", "merged-a")):
        plant(tmp_path, name, rows(40), **{MERGED_NOTE: json.dumps({f"{other}.parquet": {}, "real.parquet": {}})})
    assert set(ids(tmp_path)) == {row["event_id"] for row in rows(40)}
    merge(tmp_path)
    assert set(ids(tmp_path)) == {row["event_id"] for row in rows(40)}


def test_a_row_that_two_files_have_is_not_hidden_by_a_file_that_has_it_once(tmp_path: Path) -> None:
    plant(tmp_path, "one", rows(2))
    plant(tmp_path, "two", rows(2))
    named = json.dumps({"one.parquet": {}, "two.parquet": {}})
    plant(tmp_path, "merged-x", rows(4), **{MERGED_NOTE: named})
    assert ids(tmp_path)["event-0001"] == 3


def test_what_a_crash_of_compact_left_is_hidden_and_removed(tmp_path: Path) -> None:
    real = plant(tmp_path, "real", rows(40))
    other = plant(tmp_path, "other", rows(80)[40:])
    kept = tmp_path / "kept"
    kept.mkdir()
    for path in (real, other):
        shutil.copy(path, kept)
    merge(tmp_path)
    for path in (real, other):
        shutil.copy(kept / path.name, path)
    assert ids(tmp_path) == Counter(row["event_id"] for row in rows(80))
    merge(tmp_path)
    assert not real.exists()
    assert not other.exists()
    assert ids(tmp_path) == Counter(row["event_id"] for row in rows(80))


REPLACED = {"event_id": "victim", "event_time": MOMENT, "account_id": ACCOUNT}


@pytest.mark.parametrize(
    ("victim", "replacing"),
    [
        ({"fidelity": "full"}, {}),
        ({"fidelity": "recovered"}, {}),
        ({"fidelity": "shadow"}, {"event_time": MOMENT + timedelta(seconds=1)}),
        ({"fidelity": "shadow"}, {"account_id": "a" * 32}),
        ({"fidelity": "trimmed", "actor_email": "eve@example.com"}, {"actor_email": "ada@example.com"}),
    ],
)
def test_forged_replaces_hide_nothing(tmp_path: Path, victim: Row, replacing: Row) -> None:
    [row] = rows(1)
    plant(tmp_path, "real", [row | REPLACED | victim])
    plant(tmp_path, "planted", [row | {"event_id": "forged", "replaces": "victim"} | replacing])
    assert ids(tmp_path)["victim"] == 1


@pytest.mark.parametrize("fidelity", ["shadow", "trimmed"])
def test_what_may_be_replaced_is_replaced(tmp_path: Path, fidelity: str) -> None:
    [row] = rows(1)
    plant(tmp_path, "real", [row | REPLACED | {"fidelity": fidelity}])
    plant(tmp_path, "later", [row | {"event_id": "whole", "replaces": "victim"}])
    assert ids(tmp_path) == Counter({"whole": 1})


MERGED_ODDLY = {
    "fewer rows than its batches have": lambda table: table.slice(1),
    "a row twice in the place of another": lambda table: pa.concat_tables([table.slice(0, 1), table.slice(0, 79)]),
}


@pytest.mark.parametrize("oddly", MERGED_ODDLY)
def test_a_merged_file_is_not_believed_about_a_batch_whose_staged_file_is_lost(tmp_path: Path, oddly: str) -> None:
    root = tmp_path / "out"
    sink = ParquetSink(ParquetConfig(str(root)))
    batches = [make_batch(tmp_path / "staged", rows=40, seed=seed) for seed in range(2)]
    for batch in batches:
        sink.load(batch)
    merge(root)
    [merged] = root.rglob("*.parquet")
    found = sink.find(batches[0].batch_id, batches[0].window)
    assert found is not None
    assert found.rows == 40
    notes = read_notes(str(merged))
    table = pq.read_table(merged, partitioning=None)
    with merged.open("wb") as file:
        write_parquet(file, table.schema, [MERGED_ODDLY[oddly](table)], notes)
    with pytest.raises(LoadUnknownError, match="does not hold what it was written with"):
        sink.find(batches[0].batch_id, batches[0].window)


def test_a_planted_note_of_merged_files_does_not_answer_for_a_batch(tmp_path: Path) -> None:
    sink = ParquetSink(ParquetConfig(str(tmp_path)))
    planted = plant(tmp_path, "merged-x", rows(3))
    window = Window(MOMENT, MOMENT + timedelta(hours=1))
    outside = '{"2026-11-01": 3, "../../../../2026-11-02": 3}'
    for days in ('{"2026-11-01": 500}', '{"2026-11-01": "many"}', '{"2026-11-02": 3}', "{}", "[]", "no JSON", outside):
        said = {"cfaudit_days": days, "cfaudit_attempt": "../../a"}
        plant(tmp_path, planted.stem, rows(3), **{MERGED_NOTE: json.dumps({f"{'b' * 32}.parquet": said})})
        with pytest.raises(LoadUnknownError, match="altered since"):
            sink.find("b" * 32, window)


# -- entries of a folder that are none of ours ----------------------------------------------------------


def test_one_odd_entry_is_named_and_stops_no_question(tmp_path: Path) -> None:
    real = plant(tmp_path, "real", rows(3))
    folder, account = real.parent, real.parent.parent
    odd = {
        "odd-note": plant(tmp_path, "odd-note", rows(1), **{MERGED_NOTE: "[1]"}),
        "no-text": plant(tmp_path, "no-text", rows(1)),
        "link": folder / "link.parquet",
        "pipe": folder / "pipe.parquet",
        "nothing": folder / "nothing.parquet",
    }
    table = pq.read_table(real, partitioning=None).replace_schema_metadata({b"\xff\xfe": b"\xff"})
    pq.write_table(table, odd["no-text"])
    odd["link"].symlink_to(odd["link"])
    odd["nothing"].symlink_to("gone.parquet")
    os.mkfifo(odd["pipe"])
    for day in ("9999-12-31", "0001-01-01"):
        late = account / f"event_date={day}"
        late.mkdir()
        odd[day] = late / "far.parquet"
        shutil.copy(real, odd[day])
    (account / "event_date=2026-11-02").symlink_to(account, target_is_directory=True)
    odd["loop"] = account / "event_date=2026-11-02"
    (folder / b"\xff.parquet".decode(errors="surrogateescape")).write_bytes(real.read_bytes())
    with open_data(open_location(str(tmp_path))) as data:
        assert data.ask("SELECT count(*) AS n FROM audit_events") == [{"n": 3}]
        ignored = {one.name: one.why for one in data.listing.ignored}
    assert {str(path.relative_to(tmp_path)) for path in odd.values()} < set(ignored)
    assert "its name is not UTF-8" in ignored.values()
    assert len(ignored) == len(odd) + 1


THREE = pa.array([1, 2, 3])
NO_EXPORT: dict[str, dict[str, list[pa.Array]]] = {
    "has column event_id 2 times": {"event_id": [pa.array(["a", "b", "c"])] * 2},
    "has column actor_email 2 times": {"actor_email": [pa.array(["a", "b", "c"])] * 2},
    "column action_type is int64": {"action_type": [THREE.dictionary_encode()]},
    "column raw_status_code: Integer value": {"raw_status_code": [pa.array([2**60, 1, 2])]},
    "column event_time: Casting": {"event_time": [pa.array([1, 2, 3], pa.timestamp("ns", "UTC"))]},
    "has times of no calendar": {"event_time": [pa.array([2**62, 2, 3], pa.timestamp("us", "UTC"))]},
    "columns": {f"column_{number}": [THREE] for number in range(1_200)},
}
OTHER_COLUMNS: dict[str, list[pa.Array]] = {
    "severity": [THREE, THREE],
    "text": [pa.array(["x", "y", "z"])],
    "decimal": [THREE.cast(pa.decimal256(50, 2))],
    "half": [THREE.cast(pa.float64()).cast(pa.float16())],
    "struct": [pa.StructArray.from_arrays([THREE, THREE], names=["a", "a"])],
    "time": [pa.array([1, 2, 3], pa.time64("ns"))],
    "Event_ID": [pa.array(["a", "b", "c"])],
}


def plant_columns(real: Path, name: str, columns: dict[str, list[pa.Array]]) -> Path:
    """Write the three events of a file with columns put in the place of others, or beside them."""
    events = pq.read_table(real, partitioning=None).replace_schema_metadata(None)
    events = events.drop_columns([one for one in columns if one in events.column_names])
    for column, values in columns.items():
        for value in values:
            events = events.append_column(column, value)
    path = real.with_name(f"{name}.parquet")
    pq.write_table(events, path)
    return path


def test_a_file_with_columns_that_cannot_be_read_is_named_and_stops_no_question(tmp_path: Path) -> None:
    real = plant(tmp_path, "real", rows(3))
    for number, columns in enumerate(NO_EXPORT.values()):
        plant_columns(real, f"a{number}", columns)
    rows_of_real, ignored = answer(tmp_path)
    assert {row["event_id"] for row in rows_of_real} == {row["event_id"] for row in rows(3)}
    assert len(rows_of_real) == 3
    assert len(ignored) == len(NO_EXPORT)
    with open_data(open_location(str(tmp_path))) as data:
        reasons = {Path(one.name).stem: one.why for one in data.listing.ignored}
    assert [why for number, why in enumerate(NO_EXPORT) if why not in reasons[f"a{number}"]] == []
    merge(tmp_path)
    assert real.exists()


@pytest.mark.parametrize("later", [timedelta(), timedelta(days=365_000)])
def test_no_file_chooses_the_columns_of_answers(
    tmp_path: Path, later: timedelta, caplog: pytest.LogCaptureFixture
) -> None:
    real = plant(tmp_path, "real", rows(3))
    right, _ = answer(tmp_path)
    moment = MOMENT + later
    times = pa.array([moment + timedelta(seconds=n) for n in range(3)], pa.timestamp("us", "UTC"))
    folder = real.parent.parent / f"event_date={moment:%Y-%m-%d}"
    folder.mkdir(exist_ok=True)
    plant_columns(real, "planted", OTHER_COLUMNS | {"event_time": [times]}).rename(folder / "planted.parquet")
    found, ignored = answer(tmp_path)
    assert ignored == []
    assert len(found) == 6
    assert [row for row in right if row not in found] == []
    assert {tuple(row) for row in found} == {(*schema().names, "event_date")}
    said = [vars(one)["file"] for one in caplog.records if "does not know are not read" in one.getMessage()]
    assert [Path(one).name for one in said] == ["planted.parquet"]


@pytest.mark.parametrize("statistics", [True, False])
def test_a_file_in_the_folder_of_another_day_is_named(tmp_path: Path, *, statistics: bool) -> None:
    """A question about a day looks into its folder and into no other."""
    real = plant(tmp_path, "real", rows(3))
    other = real.parent.parent / "event_date=2026-11-02"
    other.mkdir()
    events = pq.read_table(real, partitioning=None).replace_schema_metadata(None)
    pq.write_table(events, other / "moved.parquet", write_statistics=statistics)
    found, ignored = answer(tmp_path)
    assert len(found) == 3
    assert [Path(one).name for one in ignored] == ["moved.parquet"]


def test_compact_merges_no_file_whose_columns_would_be_lost(tmp_path: Path) -> None:
    real = plant(tmp_path, "real", rows(3))
    plant(tmp_path, "other", rows(3))
    events = pq.read_table(real, partitioning=None)
    kept = []
    for name, values in {"text": pa.array(["x", "y", "z"]), "number": THREE}.items():
        path = real.with_name(f"{name}.parquet")
        with path.open("wb") as file:
            odd = events.append_column("severity", values)
            write_parquet(file, odd.schema, [odd], {"cfaudit_batch": name})
        kept.append(path)
    merge(tmp_path)
    assert not real.exists()
    assert [path.exists() for path in kept] in ([True, False], [False, True]), "one of them is left as it is"
    assert sum(ids(tmp_path).values()) == 12


def test_a_merged_file_with_columns_of_another_type_hides_nothing(tmp_path: Path) -> None:
    real = plant(tmp_path, "real", rows(3))
    odd = plant_columns(real, "z", {"severity": [THREE]})
    events = pq.read_table(odd, partitioning=None).drop_columns(["severity"])
    events = events.append_column("severity", pa.array(["x", "y", "z"]))
    notes = {"cfaudit_batch": "x", MERGED_NOTE: json.dumps({odd.name: {}})}
    with real.with_name("merged-planted.parquet").open("wb") as file:
        write_parquet(file, events.schema, [events], notes)
    assert sum(ids(tmp_path).values()) == 9


LONG = "x" * (256 << 10)
BOMBS: dict[str, tuple[list[Any], dict[str, Any]]] = {
    "compressed well": ([LONG * 100], {"use_dictionary": False}),
    "one long value that every row has": ([LONG] * 100, {"use_dictionary": True}),
    "one in another column": ([LONG[:100]] * 100, {"use_dictionary": True}),
    "values that repeat the one before": (
        [LONG] * 100,
        {"use_dictionary": False, "column_encoding": {"event_raw": "DELTA_BYTE_ARRAY"}},
    ),
}
LITTLE = Limits(memory_bytes=64 << 20)


def plant_bomb(real: Path, name: str, kind: str) -> Path:
    values, options = BOMBS[kind]
    events = pq.read_table(real, partitioning=None).slice(0, 1).replace_schema_metadata({"cfaudit_batch": name})
    events = pa.concat_tables([events] * len(values))
    column = "event_key" if "another" in kind else "event_raw"
    events = events.set_column(
        events.column_names.index(column), column, pa.array([LONG] * 100 if "another" in kind else values, pa.string())
    )
    path = real.with_name(f"{name}.parquet")
    pq.write_table(events, path, compression="zstd", **options)
    return path


def with_modest_footer(path: Path) -> None:
    """Let the footer of a file say that its large columns are small."""
    content = bytearray(path.read_bytes())
    at = len(content) - int.from_bytes(content[-8:-4], "little") - 8
    metadata = pq.read_metadata(path)
    group = metadata.row_group(0)
    sizes = [group.column(number).total_uncompressed_size for number in range(group.num_columns)]
    for size in {group.total_byte_size, *sizes}:
        coded = varint(size << 1)
        while size > 1 << 16 and (found := content.find(coded, at)) > 0:
            content[found : found + len(coded)] = bytes([0x82, *[0x80] * (len(coded) - 2), 0])
    path.write_bytes(content)
    group = pq.read_metadata(path).row_group(0)
    assert group.total_byte_size < 1 << 20
    assert all(group.column(number).total_uncompressed_size < 1 << 20 for number in range(group.num_columns))


def varint(number: int) -> bytes:
    coded = bytearray()
    while number > 0x7F:
        coded.append(number & 0x7F | 0x80)
        number >>= 7
    return bytes([*coded, number])


@pytest.mark.parametrize("kind", BOMBS)
def test_a_file_that_would_fill_the_memory_is_skipped(tmp_path: Path, kind: str) -> None:
    real = plant(tmp_path, "real", rows(3))
    bomb = plant_bomb(real, "bomb", kind)
    assert bomb.stat().st_size < 64 << 10
    with_modest_footer(bomb)
    with open_data(open_location(str(tmp_path)), limits=LITTLE) as data:
        asked = data.ask("SELECT count(*) AS n, max(length(event_raw)) AS raw, max(event_key) AS key FROM audit_events")
        assert asked == [{"n": 3, "raw": None, "key": "key-0002"}]
        assert [Path(one.name).name for one in data.listing.ignored] == ["bomb.parquet"]
        assert "takes more than 16 MB in memory" in data.listing.ignored[0].why
    with pytest.raises(SettingsError, match=r"bomb\.parquet.*more than 16 MB"):
        merge(tmp_path, LITTLE)
    assert real.exists()
    assert bomb.exists()


def test_a_file_with_more_rows_than_bytes_is_skipped(tmp_path: Path) -> None:
    real = plant(tmp_path, "real", rows(3))
    one = pq.read_table(real, partitioning=None).slice(0, 1).replace_schema_metadata(None)
    pq.write_table(pa.concat_tables([one] * 200_000).combine_chunks(), real.with_name("long.parquet"))
    found, ignored = answer(tmp_path)
    assert len(found) == 3
    assert [Path(name).name for name in ignored] == ["long.parquet"]


def test_a_file_with_a_footer_of_many_megabytes_is_skipped(tmp_path: Path) -> None:
    real = plant(tmp_path, "real", rows(3))
    large = pq.read_table(real, partitioning=None).replace_schema_metadata({b"note": b"x" * (17 << 20)})
    pq.write_table(large, real.with_name("large.parquet"))
    found, ignored = answer(tmp_path)
    assert len(found) == 3
    assert [Path(name).name for name in ignored] == ["large.parquet"]


def test_text_that_is_no_text_is_named_as_damage(tmp_path: Path) -> None:
    real = plant(tmp_path, "real", rows(3))
    bad = pa.array([b"\xff", b"a", b"b"]).view(pa.string())
    planted = plant_columns(real, "planted", {"actor_email": [bad]})
    with pytest.raises(SettingsError, match=rf"{planted.name}' of .* is damaged \(Invalid UTF8.*move it away"):
        answer(tmp_path)


# -- what is left on the disk ----------------------------------------------------------------------------


@pytest.fixture
def open_umask() -> Iterator[None]:
    before = os.umask(0)
    yield
    os.umask(before)


@pytest.mark.usefixtures("open_umask")
def test_answers_and_merged_files_are_not_for_everybody(tmp_path: Path) -> None:
    with new_file(tmp_path / "answer.csv") as file:
        file.write(b"a")
    assert stat.S_IMODE((tmp_path / "answer.csv").stat().st_mode) == 0o640
    for name in ("one", "two"):
        plant(tmp_path / "out", name, rows(2)).chmod(0o640)
    merge(tmp_path / "out")
    [merged] = (tmp_path / "out").rglob("merged-*.parquet")
    assert stat.S_IMODE(merged.stat().st_mode) == 0o640


def test_a_question_that_was_killed_leaves_nothing_behind_the_next_one(tmp_path: Path) -> None:
    """What it had written to disk holds events."""
    root, scratch = tmp_path / "out", tmp_path / "scratch"
    plant(root, "real", rows(3))
    scratch.mkdir()
    code = (
        "import os, signal, sys\n"
        "from cfaudit_export.analysis.files.database import open_data\n"
        "from cfaudit_export.analysis.files.open import open_location\n"
        "with open_data(open_location(sys.argv[1])) as data:\n"
        "    data.ask('SELECT count(*) FROM audit_events')\n"
        "    os.kill(os.getpid(), signal.SIGKILL)\n"
    )
    environ = os.environ | {"TMPDIR": str(scratch)}
    subprocess.run([sys.executable, "-c", code, str(root)], env=environ, check=False)
    [left] = scratch.glob("cfaudit-spill-*")
    assert stat.S_IMODE(left.stat().st_mode) == 0o700
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr("tempfile.tempdir", str(scratch))
        with open_data(open_location(str(root))):
            assert not left.exists()
            assert len(list(scratch.glob("cfaudit-spill-*"))) == 1
            with open_data(open_location(str(root))):
                assert len(list(scratch.glob("cfaudit-spill-*"))) == 2, "what is in use stays"
    assert list(scratch.iterdir()) == []


def test_a_question_ends_at_the_limits_that_are_set(tmp_path: Path) -> None:
    plant(tmp_path, "real", rows(3))
    limits = Limits(memory_bytes=64 << 20, threads=1, spill_bytes=1 << 20)
    with open_data(open_location(str(tmp_path)), limits=limits) as data:
        set_to = "SELECT current_setting('memory_limit') AS m, current_setting('threads') AS t"
        assert data.ask(set_to) == [{"m": "64.0 MiB", "t": 1}]
        large = "SELECT string_agg(repeat('x', 1000) || i::VARCHAR, '') FROM range(1000000) t(i)"
        for ask in (data.ask, lambda text: list(answers(data, text))):
            with pytest.raises(SettingsError, match="takes more memory or disk than it may: sql_memory_mb"):
                ask(large)
