# ruff: noqa: S608  # SQL of these tests
"""The view over files: what it holds, what it passes over, what it never opens, what SQL can reach."""

from __future__ import annotations

import random
from collections.abc import Callable
from dataclasses import replace
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from cfaudit_export.analysis.files.catalog import FileCatalog
from cfaudit_export.analysis.files.database import EventDatabase, open_data
from cfaudit_export.analysis.files.footers import wanted_folders
from cfaudit_export.analysis.files.open import open_location
from cfaudit_export.core.model import Window
from cfaudit_export.errors import AccessError, SettingsError, TryAgainError, UsageError
from cfaudit_export.schema import COLUMNS

DAYS = [datetime(2026, 11, day, 12, tzinfo=UTC) for day in range(1, 11)]
ACCOUNT, OTHER = "0f3c1e5a7b9d2468ace013579bdf2468", "a" * 32

Open = Callable[..., EventDatabase]
Store = Callable[..., Path]


def spread(days: list[datetime] = DAYS, **more: Any) -> list[dict[str, Any]]:
    """Return ten events a day, an hour apart."""
    return [
        {"event_time": day + timedelta(hours=hour - 5), "actor_email": f"user{hour}@example.com", **more}
        for day in days
        for hour in range(10)
    ]


def files_of(root: Path, day: str = "*") -> list[Path]:
    return sorted(root.glob(f"*/event_date={day}/*.parquet"))


def rewrite(table: pa.Table, path: Path) -> None:
    """Write a file as another program does, which does not say again what this one said of its footer."""
    pq.write_table(table.replace_schema_metadata(None), path)


def spoil_bodies(files: list[Path]) -> None:
    """Turn over every byte of the files but the first and those of the footer."""
    for path in files:
        content = bytearray(path.read_bytes())
        footer = int.from_bytes(content[-8:-4], "little") + 8
        content[4:-footer] = bytes(byte ^ 0xFF for byte in content[4:-footer])
        path.write_bytes(content)


def test_the_view_has_the_columns_and_types_of_the_schema(tmp_path: Path, store_rows: Store, opened: Open) -> None:
    data = opened(store_rows(tmp_path, spread()))
    columns = {row["column_name"]: row["column_type"] for row in data.ask("DESCRIBE audit_events")}
    types = {"string": "VARCHAR", "json": "VARCHAR", "timestamp": "TIMESTAMP WITH TIME ZONE", "int32": "INTEGER"}
    assert columns == {column.name: types[column.kind] for column in COLUMNS} | {"event_date": "VARCHAR"}
    [row] = data.ask("SELECT min(event_time) AS first, min(event_date) AS day, count(*) AS events FROM audit_events")
    assert row == {"first": DAYS[0] - timedelta(hours=5), "day": "2026-11-01", "events": 100}
    assert (data.rows, data.first, len(data.accounts)) == (100, row["first"], 1)


def test_every_stored_value_comes_back(
    tmp_path: Path, whole_rows: list[dict[str, Any]], store_rows: Store, opened: Open
) -> None:
    store_rows(tmp_path, whole_rows[:200])
    names = [name for name in whole_rows[0] if name != "event_id"]
    found = opened(tmp_path).ask(f"SELECT event_id, {', '.join(names)} FROM audit_events ORDER BY event_id")
    wanted = sorted(whole_rows[:200], key=lambda row: str(row["event_id"]))
    assert found == [{"event_id": row["event_id"]} | {name: row[name] for name in names} for row in wanted]


def test_a_question_about_one_day_opens_the_files_of_that_day_alone(
    tmp_path: Path, store_rows: Store, opened: Open
) -> None:
    root = store_rows(tmp_path, spread())
    spoil_bodies([path for path in files_of(root) if "2026-11-04" not in path.parent.name])
    data = opened(root)
    for condition in (
        "event_time >= '2026-11-04' AND event_time < '2026-11-05'",
        "event_time BETWEEN TIMESTAMPTZ '2026-11-04 01:00:00+00' AND TIMESTAMPTZ '2026-11-04 23:00:00+00'",
        "event_date = '2026-11-04'",
    ):
        [row] = data.ask(f"SELECT count(*) AS events, max(actor_email) AS actor FROM audit_events WHERE {condition}")
        assert row == {"events": 10, "actor": "user9@example.com"}
    with pytest.raises(SettingsError, match=r"\.parquet' of .* is damaged"):
        data.ask("SELECT max(actor_email) FROM audit_events")


def test_a_question_about_one_day_does_not_even_look_at_the_files_of_other_days(
    tmp_path: Path, store_rows: Store, opened: Open
) -> None:
    root = store_rows(tmp_path, spread())
    near = {"2026-11-03", "2026-11-04", "2026-11-05", "2026-11-10"}  # those beside it, and the last, for its columns
    for path in files_of(root):
        if path.parent.name.partition("=")[2] not in near:
            path.write_bytes(b"what is here is not read")
    data = opened(root)
    asked = "SELECT count(*) AS n FROM audit_events WHERE event_time >= '2026-11-04' AND event_time < '2026-11-05'"
    assert data.ask(asked) == [{"n": 10}]
    assert data.catalog.ignored == ()
    assert data.ask("SELECT count(*) AS n FROM audit_events") == [{"n": 40}]
    assert len(data.catalog.ignored) == 6, "who asks about all days is told which files are no export"


def test_what_is_merged_between_two_questions_is_listed_anew(tmp_path: Path, store_rows: Store, opened: Open) -> None:
    data = opened(store_rows(tmp_path, spread(DAYS[:2])))
    first, last = "SELECT max(actor_email) AS last FROM audit_events", {"last": "user9@example.com"}

    def merge(old: str, new: str) -> None:
        store_rows(tmp_path, spread(DAYS[:1]), new, cfaudit_merged=f'{{"{old}.parquet":{{}}}}')
        (files_of(tmp_path, "2026-11-01")[0].parent / f"{old}.parquet").unlink()

    merge("batch", "merged")
    assert data.ask(first) == [last], "no query had read it, so none misses it"
    merge("merged", "again")
    with pytest.raises(TryAgainError, match="ask again"):
        data.ask(first)
    assert data.ask(first) == [last]
    assert data.ask("SELECT count(*) AS n FROM audit_events") == [{"n": 20}]


def test_accounts_and_periods_are_left_out_by_their_folders(tmp_path: Path, store_rows: Store, opened: Open) -> None:
    root = store_rows(tmp_path, spread())
    store_rows(root, spread(DAYS[:2], account_id=OTHER))
    spoiled = [path for path in files_of(root) if OTHER not in str(path)]
    for path in spoiled:
        path.write_bytes(b"")
    data = opened(root, accounts=[OTHER])
    assert data.ask("SELECT count(*) AS n FROM audit_events") == [{"n": 20}]
    assert data.accounts == (OTHER,)
    assert data.listing.ignored == ()
    window = Window(DAYS[0], DAYS[0] + timedelta(hours=2))
    assert opened(root, window, [OTHER]).ask("SELECT count(*) AS n FROM audit_events") == [{"n": 2}]
    assert {
        one.day for one in FileCatalog(open_location(str(root)), wanted_folders(window, [OTHER])).listing.files
    } == {
        "2026-11-01",
        "2026-11-02",
    }


def test_a_shadow_gives_way_to_the_event_that_replaces_it(tmp_path: Path, store_rows: Store, opened: Open) -> None:
    midnight = datetime(2026, 11, 2, tzinfo=UTC)
    shadows = [
        {"event_time": midnight - timedelta(milliseconds=1), "event_id": "shadow-1", "fidelity": "shadow"},
        {"event_time": midnight, "event_id": "shadow-2", "fidelity": "shadow"},
    ]
    root = store_rows(tmp_path, [*spread(), *shadows])
    store_rows(root, [{"event_time": midnight, "event_id": "whole-1", "replaces": "shadow-1"}], "later")
    ids = "SELECT event_id FROM audit_events WHERE event_id LIKE 'shadow%' OR event_id LIKE 'whole%' ORDER BY ALL"
    assert opened(root).ask(ids) == [{"event_id": "shadow-2"}, {"event_id": "whole-1"}]
    assert opened(root).ask(ids.replace("audit_events", "stored_events"))[0] == {"event_id": "shadow-1"}
    assert opened(root).ask("SELECT count(*) AS n FROM audit_events") == [{"n": 102}]
    the_day_before = Window(midnight - timedelta(days=1), midnight)
    assert opened(root, the_day_before).ask(ids) == [], "what replaces it lies in the next day's folder"


def test_files_of_older_and_newer_versions_are_read_together(tmp_path: Path, store_rows: Store, opened: Open) -> None:
    root = store_rows(tmp_path, spread(DAYS[:3], actor_ip_address="192.0.2.1"))
    older, _, newer = files_of(root)
    table = pq.read_table(older, partitioning=None)
    rewrite(table.drop_columns(["replaces", "actor_ip_address", "zone_name"]), older)
    table = pq.read_table(newer, partitioning=None)
    rewrite(table.append_column("severity", pa.array(range(10))).select(["severity", *table.column_names]), newer)
    rows = opened(root).ask(
        "SELECT event_date, count(*) AS n, count(actor_ip_address) AS known FROM audit_events GROUP BY ALL ORDER BY ALL"
    )
    assert [tuple(row.values()) for row in rows] == [
        ("2026-11-01", 10, 0),
        ("2026-11-02", 10, 10),
        ("2026-11-03", 10, 10),
    ]


def test_files_of_other_writers_are_read_whatever_their_text_type(
    tmp_path: Path, store_rows: Store, opened: Open
) -> None:
    root = store_rows(tmp_path, spread(DAYS[:2], action_type="create"))
    table = pq.read_table(files_of(root)[0], partitioning=None)
    other = table.set_column(0, "event_id", table["event_id"].cast(pa.large_string()))
    at = other.column_names.index("action_type")
    other = other.set_column(at, "action_type", other["action_type"].dictionary_encode())
    rewrite(other, files_of(root)[0])
    data = opened(root)
    assert data.listing.ignored == ()
    assert data.ask("SELECT count(DISTINCT event_id) AS n, count(action_type) AS k FROM audit_events") == [
        {"n": 20, "k": 20}
    ]


def test_what_is_no_export_is_passed_over_with_a_word(tmp_path: Path, store_rows: Store, opened: Open) -> None:
    root = store_rows(tmp_path, spread())
    folder = files_of(root)[0].parent
    half = files_of(root)[1]
    half.write_bytes(half.read_bytes()[:-100])
    (folder / "empty.parquet").write_bytes(b"")
    (folder / "text.parquet").write_text("no Parquet at all, but long enough to look at")
    pq.write_table(pa.table({"a": [1]}), folder / "stranger.parquet")
    wrong = pa.table({"event_id": ["x"], "event_time": ["yesterday"], "account_id": ["y"]})
    pq.write_table(wrong, folder / "alike.parquet")
    pq.write_table(pa.table({"a": [1]}), root / "stray.parquet")
    (folder / ".hidden.tmp").write_bytes(b"x")
    (folder / ".hidden.parquet").write_bytes(b"x")
    (root / "_cfaudit").mkdir()
    (root / "_cfaudit" / "x.parquet").write_bytes(b"x")
    (root / "README").write_text("hello")
    data = opened(root)
    assert data.ask("SELECT count(*) AS n FROM audit_events") == [{"n": 90}]
    reasons = {Path(one.name).name: one.why for one in data.listing.ignored}
    assert set(reasons) == {
        half.name,
        "empty.parquet",
        "text.parquet",
        "stranger.parquet",
        "alike.parquet",
        "stray.parquet",
    }
    assert reasons["stranger.parquet"] == "no export: it has no column event_id"
    assert reasons["alike.parquet"] == "no export: column event_time is string, not timestamp[us, tz=UTC]"
    assert reasons["stray.parquet"].startswith("not in a folder")
    assert all(
        reasons[name].startswith("not a whole Parquet file") for name in ("empty.parquet", "text.parquet", half.name)
    )


def test_merged_files_count_and_what_they_stand_for_does_not(tmp_path: Path, store_rows: Store, opened: Open) -> None:
    root = store_rows(tmp_path, spread(DAYS[:1]), "one")
    store_rows(root, spread(DAYS[:1]), "two")
    rows = [row for path in files_of(root) for row in pq.read_table(path, partitioning=None).to_pylist()]
    store_rows(root, rows, "merged-of-both", cfaudit_merged='{"one.parquet":{},"two.parquet":{}}')
    assert opened(root).ask("SELECT count(*) AS n FROM audit_events") == [{"n": 20}]


def test_a_file_that_vanishes_while_it_is_listed_is_looked_for_again(
    tmp_path: Path, store_rows: Store, monkeypatch: pytest.MonkeyPatch
) -> None:
    root = store_rows(tmp_path, spread())
    place = open_location(str(root))
    listed = list(place.files(lambda _: True))
    ghost = listed[0].__class__(listed[0].name.replace("batch", "ghost"), listed[0].path.replace("batch", "ghost"), 1)
    listings = [[*listed, ghost], listed]
    seeing_ghosts = replace(place, files=lambda _: iter(listings.pop(0)))
    assert len(FileCatalog(seeing_ghosts, wanted_folders(None)).listing.files) == 10
    always = replace(place, files=lambda _: iter([ghost]))
    with open_data(always) as data, pytest.raises(TryAgainError, match="were replaced while they were read; ask again"):
        data.ask("SELECT count(*) FROM audit_events")


def test_a_file_that_vanishes_while_it_is_read_is_a_passing_fault(
    tmp_path: Path, store_rows: Store, opened: Open
) -> None:
    root = store_rows(tmp_path, spread())
    data = opened(root)
    data.ask("SELECT max(actor_email) FROM audit_events")
    files_of(root)[3].unlink()
    with pytest.raises(TryAgainError, match="ask again"):
        data.ask("SELECT max(actor_email) FROM audit_events")


def test_a_folder_without_files_has_an_empty_view(tmp_path: Path, opened: Open) -> None:
    data = opened(tmp_path)
    assert data.ask("SELECT count(*) AS n, max(event_time) AS last FROM audit_events") == [{"n": 0, "last": None}]
    assert (data.rows, data.first, data.accounts) == (0, None, ())


def test_a_place_that_is_not_there_is_named(tmp_path: Path) -> None:
    with pytest.raises(UsageError, match="no folder '.*nowhere'"):
        open_location(str(tmp_path / "nowhere"))


def test_a_folder_that_may_not_be_read_is_no_empty_one(
    tmp_path: Path, store_rows: Store, monkeypatch: pytest.MonkeyPatch
) -> None:
    place = open_location(str(store_rows(tmp_path, spread())))

    def refused(_: object) -> Any:
        raise PermissionError(13, "Permission denied")

    with pytest.raises(AccessError, match="not allowed to read"):
        open_data(replace(place, files=refused))


def test_times_are_shown_in_the_zone_that_is_asked_for(tmp_path: Path, store_rows: Store) -> None:
    place = open_location(str(store_rows(tmp_path, spread(DAYS[:1]))))
    with open_data(place, time_zone="Asia/Tokyo") as data:
        rows = data.ask("SELECT min(event_time)::VARCHAR AS first FROM audit_events")
    assert rows == [{"first": "2026-11-01 16:00:00+09"}]
    with pytest.raises(SettingsError, match="unknown time zone 'Mars/Olympus'"):
        open_data(place, time_zone="Mars/Olympus")


@pytest.mark.parametrize(
    "statement",
    [
        "SELECT * FROM read_csv('/etc/passwd')",
        "SELECT * FROM read_text('/etc/passwd')",
        "SELECT * FROM glob('/*')",
        "COPY audit_events TO '{folder}/stolen.csv'",
        "COPY audit_events TO '{folder}/account_id=x/event_date=2026-11-01/more.parquet'",
        "EXPORT DATABASE '{folder}/stolen'",
        "ATTACH '{folder}/stolen.db'",
        "INSTALL httpfs",
        "LOAD httpfs",
        "SELECT * FROM read_parquet('{folder}/*/*/*.parquet')",
        "SELECT * FROM 's3://bucket/x.parquet'",
        "SET enable_external_access = true",
        "SET lock_configuration = false",
        "RESET enable_external_access",
        "DELETE FROM audit_events",
        "INSERT INTO stored_events SELECT * FROM stored_events",
        "SELECT * FROM secret_of_the_program",
    ],
)
def test_sql_reaches_the_events_and_nothing_else(
    statement: str, tmp_path: Path, store_rows: Store, opened: Open
) -> None:
    secret_of_the_program = pa.table({"secret": [1]})
    assert secret_of_the_program.num_rows == 1
    root = store_rows(tmp_path / "data", spread(DAYS[:1]))
    before = {path: path.read_bytes() for path in root.rglob("*") if path.is_file()}
    connection = opened(root).connection
    with pytest.raises(Exception, match=r"Error") as refused:
        connection.sql(statement.format(folder=root)).to_arrow_table()
    assert type(refused.value).__module__ == "_duckdb"
    assert {path: path.read_bytes() for path in root.rglob("*") if path.is_file()} == before


def test_nothing_is_left_behind(tmp_path: Path, store_rows: Store, monkeypatch: pytest.MonkeyPatch) -> None:
    scratch = tmp_path / "scratch"
    scratch.mkdir()
    monkeypatch.setattr("tempfile.tempdir", str(scratch))
    with open_data(open_location(str(store_rows(tmp_path / "data", spread())))) as data:
        assert len(list(scratch.iterdir())) == 1
        data.ask("SELECT count(*) FROM audit_events")
    assert list(scratch.iterdir()) == []


def test_what_is_pushed_down_to_the_files_changes_no_answer(
    tmp_path: Path, whole_rows: list[dict[str, Any]], store_rows: Store, opened: Open
) -> None:
    data = opened(store_rows(tmp_path, whole_rows))
    data.run("CREATE TEMP TABLE plain AS FROM audit_events")
    chance = random.Random(7)
    for _ in range(60):
        row = chance.choice(whole_rows)
        text = chance.choice(["actor_email", "resource_type", "action_result", "zone_name", "actor_context"])
        value = str(row[text] or "x").replace("'", "''")
        condition = chance.choice(
            [
                f"{text} = '{value}'",
                f"{text} <> '{value}'",
                f"{text} IS NULL",
                f"{text} IN ('{value}', 'create')",
                f"{text} NOT IN ('{value}')",
                f"{text} LIKE '{value[:3]}%'",
                f"NOT ({text} = '{value}' AND event_time > '2026-11-10')",
                f"event_time > '{row['event_time'].isoformat()}'",
                f"event_time = '{row['event_time'].isoformat()}' OR {text} = '{value}'",
                f"event_time::DATE = '{row['event_time']:%Y-%m-%d}' AND {text} >= '{value}'",
                f"event_date = '{row['event_time']:%Y-%m-%d}' AND coalesce({text}, 'none') = 'none'",
            ]
        )
        both = [
            data.ask(f"SELECT count(*) AS n, max(event_id) AS id FROM {name} WHERE {condition}")
            for name in ("audit_events", "plain")
        ]
        assert both[0] == both[1], condition
