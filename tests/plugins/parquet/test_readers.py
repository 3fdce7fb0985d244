"""What DuckDB, Polars and pyarrow make of the folders, each by the way its users take."""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import duckdb
import polars as pl
import pyarrow as pa
import pyarrow.dataset as ds
import pyarrow.parquet as pq
import pytest

from cfaudit_export import Stream, read_batch
from cfaudit_export.schema import schema
from cfaudit_export.testing import make_batch
from cfaudit_parquet import ParquetConfig
from cfaudit_parquet.sink import ParquetSink

DIGITS = "12345678901234567890123456789012"
LIKE_A_FLOAT = "1234567890123456789012345678e123"
ORDINARY = "0f3c1e5a7b9d2468ace013579bdf2468"
ROWS = 40


@pytest.fixture(params=[[DIGITS], [LIKE_A_FLOAT], [DIGITS, ORDINARY, LIKE_A_FLOAT]], ids=["digits", "float", "mixed"])
def stored(request: pytest.FixtureRequest, tree: Any, tmp_path: Path) -> pa.Table:
    """Store two days of each account, and return the events as they were staged."""
    sink = ParquetSink(ParquetConfig(str(tree.root)))
    batches = [
        make_batch(tmp_path, rows=ROWS, days=2, stream=Stream(account, "auditlogs"), shape="whole")
        for account in request.param
    ]
    for batch in batches:
        sink.load(batch)
    # The next load is under way, or was cut short.
    (tree.visible()[0].parent / ".0123456789abcdef0123456789abcdef.0123456789ab.tmp").write_bytes(b"PAR1 half")
    return pa.concat_tables([read_batch(batch) for batch in batches]).sort_by("event_id")


def accounts_of(stored: pa.Table) -> list[str]:
    return sorted(set(stored["account_id"].to_pylist()))


def as_staged(events: pa.Table) -> pa.Table:
    plain = pa.schema([pa.field(field.name, field.type) for field in schema()])
    return events.select(plain.names).cast(plain).sort_by("event_id")


@pytest.fixture
def duck() -> Iterator[duckdb.DuckDBPyConnection]:
    with duckdb.connect() as connection:
        connection.execute("SET TimeZone = 'UTC'")
        yield connection


def test_duckdb_reads_rows_and_partitions(stored: pa.Table, tree: Any, duck: duckdb.DuckDBPyConnection) -> None:
    files = f"{tree.root}/**/*.parquet"
    events = duck.sql("SELECT * FROM read_parquet(?)", params=[files]).to_arrow_table()
    assert as_staged(events).equals(as_staged(stored))
    query = "SELECT account_id, typeof(event_date), event_date::text, count(*) FROM read_parquet(?) GROUP BY ALL"
    assert sorted(duck.execute(query, [files]).fetchall()) == [
        (account, "DATE", day, ROWS // 2) for account in accounts_of(stored) for day in ("2026-11-01", "2026-11-02")
    ]
    query = "SELECT count(*) FROM read_parquet(?) WHERE account_id = ?"
    assert duck.execute(query, [files, accounts_of(stored)[0]]).fetchone() == (ROWS,)


def test_duckdb_skips_what_the_partitions_rule_out(
    stored: pa.Table, tree: Any, duck: duckdb.DuckDBPyConnection
) -> None:
    for path in tree.visible()[1:]:
        path.write_bytes(b"not Parquet; nobody may open this")
    query = "SELECT count(*) FROM read_parquet(?) WHERE event_date = '2026-11-01' AND account_id = ?"
    account = accounts_of(stored)[0]
    assert duck.execute(query, [f"{tree.root}/**/*.parquet", account]).fetchone() == (ROWS // 2,)


def test_polars_reads_rows_and_partitions(stored: pa.Table, tree: Any) -> None:
    frame = pl.scan_parquet(f"{tree.root}/**/*.parquet", hive_partitioning=True)
    events = frame.collect()
    assert events.schema["account_id"] == pl.String
    assert events.schema["event_date"] == pl.Date
    assert as_staged(events.to_arrow()).equals(as_staged(stored))
    assert Counter(events["event_date"].cast(pl.String).to_list()) == Counter(
        f"{time:%Y-%m-%d}" for time in stored["event_time"].to_pylist()
    )
    assert frame.filter(pl.col("account_id") == accounts_of(stored)[0]).collect().height == ROWS


def test_pyarrow_reads_rows_and_partitions(stored: pa.Table, tree: Any) -> None:
    dataset = ds.dataset(tree.root, partitioning="hive")
    events = dataset.to_table()
    assert as_staged(events).equals(as_staged(stored))
    assert Counter(events["event_date"].to_pylist()) == Counter(
        f"{time:%Y-%m-%d}" for time in stored["event_time"].to_pylist()
    )
    chosen = (ds.field("account_id") == accounts_of(stored)[0]) & (ds.field("event_date") == "2026-11-01")
    assert dataset.count_rows(filter=chosen) == ROWS // 2


def test_pyarrow_reads_the_folder_by_its_plain_function_without_partitions(stored: pa.Table, tree: Any) -> None:
    # It would make a dictionary of the folder's `account_id` and then not match it with the column.
    assert as_staged(pq.read_table(tree.root, partitioning=None)).equals(as_staged(stored))


def test_every_reader_takes_a_single_file_for_itself(
    stored: pa.Table, tree: Any, duck: duckdb.DuckDBPyConnection
) -> None:
    path = str(tree.visible()[0])
    by_pyarrow = pq.ParquetFile(path).read()
    by_polars = pl.read_parquet(path, hive_partitioning=False).to_arrow()
    by_duckdb = duck.sql("FROM read_parquet(?, hive_partitioning = false)", params=[path]).to_arrow_table()
    assert as_staged(by_duckdb).equals(as_staged(by_pyarrow))
    assert as_staged(by_polars).equals(as_staged(by_pyarrow))


def test_the_statement_of_the_page_shows_columns_that_older_files_lack(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    page = (Path(__file__).parents[3] / "docs" / "sinks" / "parquet.md").read_text(encoding="utf-8")
    [source] = re.findall(r"FROM (read_parquet\(.*\))\n", page)
    for name, columns in (("1-older", {"event_id": ["a"]}), ("2-newer", {"event_id": ["b"], "new_one": ["seen"]})):
        (tmp_path / "out" / name).mkdir(parents=True)
        pq.write_table(pa.table(columns), tmp_path / "out" / name / "x.parquet")
    monkeypatch.chdir(tmp_path)
    found = duckdb.sql(f"SELECT event_id, new_one FROM {source} ORDER BY 1").fetchall()  # noqa: S608  # the page
    assert found == [("a", None), ("b", "seen")]
