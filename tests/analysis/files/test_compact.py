"""Small files become one, no row changes, no reader of ours sees a row twice, and the sink still finds its batches."""

from __future__ import annotations

import json
import random
import shutil
import subprocess
import sys
from collections import Counter
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import duckdb
import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from cfaudit_export import Batch, LoadUnknownError
from cfaudit_export.analysis.files import compact as module
from cfaudit_export.analysis.files.compact import Compacted, compact
from cfaudit_export.analysis.files.database import open_data
from cfaudit_export.analysis.files.open import open_location
from cfaudit_export.errors import LockedError, SettingsError, TryAgainError, UsageError
from cfaudit_export.parquet import merged_files, read_notes
from cfaudit_export.schema import schema
from cfaudit_export.testing import SinkContract, SinkTarget, make_batch
from cfaudit_parquet import ParquetConfig
from cfaudit_parquet.sink import ParquetSink

NOW = datetime(2026, 12, 1, tzinfo=UTC)


def run(root: Path, **options: Any) -> list[Compacted]:
    return list(compact(open_location(str(root)), **({"now": NOW, "settled": timedelta(hours=6)} | options)))


def visible(root: Path) -> list[Path]:
    return sorted(root.rglob("*.parquet"))


def rows_of(root: Path) -> Counter[str]:
    """Return every row of all files as text, with how often it is there; what a reader sees that knows only Parquet."""
    rows: Counter[str] = Counter()
    for path in visible(root):
        rows.update(json.dumps(row, default=str) for row in pq.read_table(path, partitioning=None).to_pylist())
    return rows


def rows_we_see(root: Path) -> Counter[str]:
    with open_data(open_location(str(root))) as data:
        names = ", ".join(schema().names)
        found = data.ask(f"SELECT {names} FROM stored_events")  # noqa: S608 - our own names
    return Counter(json.dumps(row, default=str) for row in found)


@pytest.fixture
def batches(tmp_path: Path) -> list[Batch]:
    """Batches that share two days, each with events of both."""
    shapes: list[Any] = ["six-field", "whole", "six-field", "whole"]
    return [make_batch(tmp_path / "staged", rows=40, seed=n, days=2, shape=shape) for n, shape in enumerate(shapes)]


@pytest.fixture
def root(tmp_path: Path, batches: list[Batch]) -> Path:
    folder = tmp_path / "out"
    load(folder, *batches)
    return folder


def load(folder: Path, *batches: Batch) -> list[Any]:
    sink = ParquetSink(ParquetConfig(str(folder)))
    return [sink.load(batch) for batch in batches]


def test_every_day_of_an_account_becomes_one_file_with_the_same_rows(root: Path) -> None:
    before, files = rows_of(root), len(visible(root))
    done = run(root)
    # Two accounts cannot be told from batches of two sources: six-field and whole are of one account here.
    assert [(one.merged, one.removed) for one in done] == [(4, 4), (4, 4)]
    assert (files, len(visible(root))) == (8, 2)
    assert rows_of(root) == before == rows_we_see(root)
    assert sum(one.rows for one in done) == 160
    assert all(one.bytes_after < one.bytes_before for one in done)
    assert run(root) == []


def test_a_merged_file_is_like_any_other_of_the_sink(root: Path) -> None:
    written = pq.ParquetFile(visible(root)[0])
    run(root)
    for path in visible(root):
        merged = pq.ParquetFile(path)
        assert merged.schema_arrow.remove_metadata() == written.schema_arrow.remove_metadata()
        assert [field.nullable for field in merged.schema_arrow] == [field.nullable for field in schema()]
        times = merged.read()["event_time"].to_pylist()
        assert times == sorted(times)
        group = merged.metadata.row_group(0)
        assert {group.column(at).compression for at in range(group.num_columns)} == {"ZSTD"}
        assert read_notes(str(path))["cfaudit_schema_version"] == "1"
        with duckdb.connect() as connection:
            rows = connection.execute("SELECT count(*) FROM read_parquet(?)", [str(path)]).fetchone()
        assert rows == (80,)


def test_days_that_may_still_get_events_are_left_alone(root: Path) -> None:
    at_six = datetime(2026, 11, 2, 5, 59, tzinfo=UTC)
    assert run(root, now=at_six) == []
    assert [one.day for one in run(root, now=at_six + timedelta(minutes=1))] == ["2026-11-01"]
    assert [one.day for one in run(root, now=datetime(2026, 11, 3, 7, tzinfo=UTC))] == ["2026-11-02"]


def test_late_events_are_merged_by_the_next_run(root: Path, tmp_path: Path) -> None:
    run(root)
    late = make_batch(tmp_path / "staged", rows=10, seed=99, days=2)
    load(root, late)
    before = rows_of(root)
    assert [one.merged for one in run(root)] == [2, 2]
    assert rows_of(root) == before
    assert len(visible(root)) == 2


def test_only_what_is_asked_for_is_merged(root: Path, batches: list[Batch]) -> None:
    assert run(root, accounts=["f" * 32]) == []
    before = {path: path.read_bytes() for path in visible(root)}
    assert [one.merged for one in run(root, dry_run=True)] == [4, 4]
    assert {path: path.read_bytes() for path in visible(root)} == before
    assert len(run(root, accounts=[batches[0].stream.account_id])) == 2


def test_large_files_and_files_of_strangers_are_left_alone(root: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    folder = visible(root)[0].parent
    stranger = folder / "stranger.parquet"
    table = pq.read_table(visible(root)[0], partitioning=None)
    pq.write_table(table, stranger)
    pq.write_table(pa.table({"a": [1]}), folder / "foreign.parquet")
    sizes = sorted(path.stat().st_size for path in folder.glob("*[0-9a-f].parquet") if len(path.stem) == 32)
    monkeypatch.setattr(module, "SMALL_BYTES", sizes[1])
    assert run(root)[0].merged == 2
    assert stranger.exists()
    assert (folder / "foreign.parquet").exists()
    assert len(list(folder.glob("merged-*.parquet"))) == 1
    assert len([path for path in folder.glob("*.parquet") if len(path.stem) == 32]) == 2


def test_columns_of_a_newer_version_survive(root: Path) -> None:
    older, newer = visible(root)[:2]
    table = pq.read_table(newer, partitioning=None)
    notes = read_notes(str(newer))
    more = table.append_column("severity", pa.array(range(table.num_rows), pa.int64()))
    pq.write_table(more.replace_schema_metadata(notes), newer)
    table = pq.read_table(older, partitioning=None)
    notes = read_notes(str(older))
    pq.write_table(table.drop_columns(["replaces"]).replace_schema_metadata(notes), older)
    run(root)
    merged = pq.read_table(visible(root)[0], partitioning=None)
    assert sorted(value for value in merged["severity"].to_pylist() if value is not None) == list(range(more.num_rows))
    assert "replaces" in merged.column_names
    assert merged.num_rows == 80


def test_row_groups_are_only_so_large_in_memory(root: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(module, "_GROUP_BYTES", 20_000)
    run(root)
    metadata = pq.read_metadata(visible(root)[0])
    sizes = [metadata.row_group(number).total_byte_size for number in range(metadata.num_row_groups)]
    assert len(sizes) > 1
    assert max(sizes) < 20_000


def test_a_row_that_would_change_stops_everything(root: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    before = {path: path.read_bytes() for path in root.rglob("*.parquet")}
    write = module.write_parquet

    def forget_a_word(file: Any, columns: pa.Schema, groups: Iterator[pa.Table], notes: Any) -> None:
        def changed() -> Iterator[pa.Table]:
            for group in groups:
                values = group["action_description"].to_pylist()
                values[0] = "something else"
                at = group.column_names.index("action_description")
                yield group.set_column(at, group.field(at), pa.array(values, pa.string()))

        write(file, columns, changed(), notes)

    monkeypatch.setattr(module, "write_parquet", forget_a_word)
    with pytest.raises(SettingsError, match="merging would lose rows of"):
        run(root)
    assert {path: path.read_bytes() for path in root.rglob("*.parquet")} == before
    assert list(root.rglob(".merged-*")) == []


def test_the_checksum_sees_a_swap_and_a_doubled_row(tmp_path: Path) -> None:
    with duckdb.connect() as connection:
        for name, rows in (
            ("one", "('a', 'b'), ('c', 'd')"),
            ("turned", "('c', 'd'), ('a', 'b')"),
            ("swapped", "('b', 'a'), ('c', 'd')"),
            ("crossed", "('a', 'd'), ('c', 'b')"),
            ("doubled", "('a', 'b'), ('a', 'b')"),
            ("more", "('a', 'b'), ('c', 'd'), ('e', 'f'), ('e', 'f')"),
            ("empty", "('a', NULL), ('c', 'd')"),
        ):
            connection.execute(f"CREATE TABLE {name} AS FROM (VALUES {rows}) t(x, y)")
        sums = {row[0]: module._checksum(connection, row[0]) for row in connection.execute("SHOW TABLES").fetchall()}
    assert sums.pop("turned") == sums["one"]
    assert len(set(sums.values())) == len(sums)


def test_two_at_once_do_not_get_in_each_others_way(root: Path) -> None:
    first = compact(open_location(str(root)), now=NOW, settled=timedelta())
    next(first)
    with pytest.raises(LockedError, match="another process compacts"):
        run(root)
    assert len(list(first)) == 1
    assert run(root) == []


def test_what_cannot_be_read_or_written_is_named(root: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    content = bytearray(visible(root)[0].read_bytes())
    content[4:2000] = bytes(1996)
    damaged, good = visible(root)[0], visible(root)[0].read_bytes()
    damaged.write_bytes(content)
    before = rows_of(damaged.parent.parent / "event_date=2026-11-02")
    with pytest.raises(SettingsError, match=r"\.parquet' of .* is damaged"):
        run(root)
    damaged.write_bytes(good)
    assert rows_of(damaged.parent.parent / "event_date=2026-11-02") == before, "that day was merged"

    def full(_handle: int) -> None:
        raise OSError(28, "No space left on device")

    with monkeypatch.context() as patch:
        patch.setattr("os.fsync", full)
        with pytest.raises(TryAgainError, match="No space left on device; nothing is lost"):
            run(root)
    assert [one.merged for one in run(root)] == [4]


def test_a_folder_that_may_not_be_written_is_named(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def refused(*_: object, **__: object) -> None:
        raise PermissionError(13, "Permission denied")

    monkeypatch.setattr("filelock.FileLock.acquire", refused)
    with pytest.raises(UsageError, match="cannot write in"):
        run(tmp_path)


# -- the promise of the sink ---------------------------------------------------------------------------


def test_batches_that_were_merged_are_neither_stored_again_nor_forgotten(root: Path, batches: list[Batch]) -> None:
    run(root)
    files = {path: path.read_bytes() for path in visible(root)}
    sink = ParquetSink(ParquetConfig(str(root)))
    for batch in batches:
        receipt = sink.load(batch)
        assert (receipt.already, receipt.rows) == (True, batch.rows)
        assert set(receipt.locations) == set(map(str, files))
        found = sink.find(batch.batch_id, batch.window)
        assert found == receipt
    assert sink.find("0" * 32, batches[0].window) is None
    assert {path: path.read_bytes() for path in visible(root)} == files


def test_they_are_found_through_any_number_of_merges(root: Path, batches: list[Batch], tmp_path: Path) -> None:
    for seed in range(100, 103):
        run(root)
        batches.append(make_batch(tmp_path / "staged", rows=6, seed=seed, days=2))
        load(root, batches[-1])
    run(root)
    expected = rows_of(root)
    [one, _] = visible(root)
    assert set(merged_files(read_notes(str(one)))) >= {f"{batch.batch_id}.parquet" for batch in batches}
    assert len(merged_files(read_notes(str(one)))) == len(batches) + 1, "of merged files only the last is remembered"
    assert all(receipt.already for receipt in load(root, *batches))
    assert rows_of(root) == expected


def test_a_batch_that_a_crash_left_half_visible_is_completed_after_a_merge(root: Path, tmp_path: Path) -> None:
    batch = make_batch(tmp_path / "staged", rows=20, seed=50, days=2)
    load(root, batch)
    first, second = (path for path in visible(root) if path.stem == batch.batch_id)
    attempt = read_notes(str(second))["cfaudit_attempt"]
    expected = rows_of(root)
    second.rename(second.with_name(f".{batch.batch_id}.{attempt}.tmp"))
    assert sum(one.merged for one in run(root)) == 9
    assert not first.exists()
    receipt = ParquetSink(ParquetConfig(str(root))).find(batch.batch_id, batch.window)
    assert receipt is not None
    assert (receipt.rows, receipt.locations[1]) == (20, str(second))
    assert rows_of(root) == expected


def test_a_half_visible_batch_without_its_hidden_rest_is_loaded_again_where_it_is_missing(
    root: Path, tmp_path: Path
) -> None:
    batch = make_batch(tmp_path / "staged", rows=20, seed=50, days=2)
    load(root, batch)
    expected = rows_of(root)
    [_, second] = (path for path in visible(root) if path.stem == batch.batch_id)
    second.unlink()
    run(root)
    sink = ParquetSink(ParquetConfig(str(root)))
    with pytest.raises(LoadUnknownError, match="was removed since"):
        sink.find(batch.batch_id, batch.window)
    [receipt] = load(root, batch)
    assert not receipt.already
    assert rows_of(root) == expected


def test_a_damaged_merged_file_leaves_the_question_open(root: Path, batches: list[Batch]) -> None:
    run(root)
    visible(root)[0].write_bytes(b"PAR1 and nothing else")
    sink = ParquetSink(ParquetConfig(str(root)))
    with pytest.raises(LoadUnknownError, match="was altered since"):
        sink.find(batches[0].batch_id, batches[0].window)
    with pytest.raises(LoadUnknownError, match="was altered since"):
        sink.load(batches[0])


class CompactingSink:
    """The Parquet sink, beside which a person compacts after every load."""

    def __init__(self, root: Path) -> None:
        self._root = root
        self._sink = ParquetSink(ParquetConfig(str(root)))

    def __getattr__(self, name: str) -> Any:
        return getattr(self._sink, name)

    def load(self, batch: Batch) -> Any:
        receipt = self._sink.load(batch)
        run(self._root)
        return receipt


class TestSinkBesideCompact(SinkContract):
    """All that is promised of a sink holds where its files are merged all the time."""

    @pytest.fixture
    def target(self, tmp_path: Path) -> SinkTarget:
        root = tmp_path / "target"

        def stored() -> pa.Table:
            tables = [pq.read_table(path, partitioning=None) for path in visible(root)]
            return pa.concat_tables([schema().remove_metadata().empty_table(), *tables], promote_options="permissive")

        return SinkTarget(lambda: CompactingSink(root), stored)


def test_readers_beside_it_see_every_row_once_all_the_time(root: Path, tmp_path: Path) -> None:
    more = [make_batch(tmp_path / "staged", rows=10, seed=seed, days=2) for seed in range(200, 208)]

    def work() -> int:
        merges = 0
        for batch in more:
            load(root, batch)
            merges += len(run(root))
        return merges

    seen: list[int] = []
    with ThreadPoolExecutor(1) as threads:
        worker = threads.submit(work)
        while not worker.done():
            try:
                with open_data(open_location(str(root))) as data:
                    [row] = data.ask("SELECT count(*) AS n, count(DISTINCT event_id) AS ids FROM audit_events")
            except TryAgainError:
                continue
            assert row["n"] == row["ids"]
            seen.append(row["n"])
    assert worker.result() == 2 * len(more)
    assert seen == sorted(seen)
    assert len(seen) > 3
    assert sum(rows_we_see(root).values()) == 160 + 80


# -- crashes -----------------------------------------------------------------------------------------


class Killed:
    """Compacts in processes that are killed."""

    def __init__(self, process: subprocess.Popen[str]) -> None:
        self._process = process

    def at_line(self, root: Path, number: int) -> bool:
        """Kill it before its line `number`; return False when it was done by then."""
        assert self._process.stdin
        assert self._process.stdout
        self._process.stdin.write(f"{root}\t{number}\n")
        self._process.stdin.flush()
        answer = self._process.stdout.readline().strip()
        assert answer in ("killed", "done"), "the compacting process died"
        return answer == "killed"


@pytest.fixture(scope="module")
def killed() -> Iterator[Killed]:
    script = Path(__file__).with_name("compacting_child.py")
    with subprocess.Popen(
        [sys.executable, str(script)], stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True
    ) as one:
        yield Killed(one)
        assert one.stdin
        one.stdin.close()
        one.wait(timeout=30)


@pytest.mark.parametrize("most", [20, pytest.param(1, marks=pytest.mark.soak)])
def test_killed_at_any_line_it_loses_no_row_and_ours_see_none_twice(most: int, killed: Killed, tmp_path: Path) -> None:
    """Die at lines that are up to `most` apart."""
    batches = [make_batch(tmp_path / "staged", rows=3, seed=seed) for seed in range(2)]
    root = tmp_path / "out"
    load(root, *batches)
    expected, chance = rows_of(root), random.Random(20261125)
    doubled = line = 0
    while killed.at_line(fresh := copy(root, tmp_path / f"copy-{line}"), line):
        found = rows_of(fresh)
        assert set(found) == set(expected), "a row is lost"
        doubled += found != expected
        assert rows_we_see(fresh) == expected
        assert all(receipt.already for receipt in load(fresh, *batches))
        run(fresh)
        assert rows_of(fresh) == expected
        assert len(visible(fresh)) == 1
        assert [path.name for path in fresh.rglob(".*") if path.is_file()] == [".cfaudit-compact.lock"]
        shutil.rmtree(fresh)
        line += chance.randint(1, most)
    assert line > 100, "the lines were not counted"
    assert doubled, "no crash fell between the new file and the removal of the old ones"


def copy(root: Path, target: Path) -> Path:
    shutil.copytree(root, target)
    return target
