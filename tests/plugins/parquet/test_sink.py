from __future__ import annotations

import os
import threading
from functools import partial
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from cfaudit_export import Batch, LoadUnknownError, SinkError, SinkRefusedError, Stream, read_batch
from cfaudit_export.testing import SinkContract, SinkTarget, make_batch
from cfaudit_export.testing.batches import ACCOUNT_ID
from cfaudit_parquet import ParquetConfig
from cfaudit_parquet.sink import ParquetSink

DAY = "2026-11-01"


def new_sink(root: Path) -> ParquetSink:
    return ParquetSink(ParquetConfig(str(root)))


class TestContract(SinkContract):
    @pytest.fixture
    def target(self, tree: Any, killed_loads: Any) -> SinkTarget:
        return SinkTarget(
            new_sink=lambda: new_sink(tree.root),
            stored=tree.events,
            interrupted_loads=tuple(
                partial(lambda step, batch: killed_loads.at_step(batch, tree.root, step), step)
                for step in range(20, 140, 20)
            ),
            read=lambda name: (tree.root / name).read_bytes(),
        )


def test_each_utc_day_becomes_one_file_in_its_hive_folder(tree: Any, tmp_path: Path) -> None:
    batch = make_batch(tmp_path, rows=30, days=3)
    receipt = new_sink(tree.root).load(batch)
    expected = [
        tree.root / f"account_id={ACCOUNT_ID}" / f"event_date=2026-11-0{day}" / f"{batch.batch_id}.parquet"
        for day in (1, 2, 3)
    ]
    assert tree.files() == expected
    assert receipt.locations == tuple(map(str, expected))


def test_the_file_says_what_it_holds(tree: Any, tmp_path: Path) -> None:
    batch = make_batch(tmp_path, rows=3, days=2)
    new_sink(tree.root).load(batch)
    notes = pq.read_metadata(tree.visible()[0]).metadata
    assert notes[b"cfaudit_schema_version"] == b"1"
    assert notes[b"cfaudit_batch"] == batch.batch_id.encode()
    assert notes[b"cfaudit_stream"] == batch.stream.id.encode()
    assert notes[b"cfaudit_source"] == b"auditlogs"
    assert notes[b"cfaudit_window"] == b"2026-11-01T00:00:00.000Z/2026-11-03T00:00:00.000Z"
    assert notes[b"cfaudit_days"] == b'{"2026-11-01": 2, "2026-11-02": 1}'
    assert notes[b"cfaudit_version"]


def test_a_loaded_table_is_the_staged_table_to_the_letter(tree: Any, tmp_path: Path) -> None:
    batch = make_batch(tmp_path, rows=2_000, shape="whole")
    new_sink(tree.root).load(batch)
    staged = read_batch(batch)
    stored = pq.read_table(tree.visible()[0], partitioning=None)
    assert stored.schema.equals(staged.schema)
    assert stored.equals(staged)


def test_events_outside_the_window_and_out_of_order_go_to_their_own_days(tree: Any, tmp_path: Path) -> None:
    times = [1_777_777_777_000_000, 1_500_000_000_000_000, 1_777_777_776_000_000]
    batch = make_batch(tmp_path, rows=3, changes={"event_time": times})
    new_sink(tree.root).load(batch)
    assert [path.parent.name for path in tree.visible()] == ["event_date=2017-07-14", "event_date=2026-05-03"]
    late = pq.read_table(tree.visible()[1], partitioning=None)["event_time"].cast(pa.int64()).to_pylist()
    assert late == [times[2], times[0]]
    found = new_sink(tree.root).find(batch.batch_id, batch.window)
    assert found
    assert found.rows == 3


def test_an_account_id_cannot_leave_the_folder(tree: Any, tmp_path: Path) -> None:
    batch = make_batch(tmp_path, rows=1, stream=Stream("../../x", "auditlogs"))
    new_sink(tree.root).load(batch)
    assert tree.visible() == [tree.root / "account_id=..%2F..%2Fx" / f"event_date={DAY}" / f"{batch.batch_id}.parquet"]


def test_find_sees_one_batch_among_many_accounts_and_days(tree: Any, tmp_path: Path) -> None:
    sink = new_sink(tree.root)
    streams = [Stream(f"{n:032x}", "auditlogs") for n in range(3)]
    batches = [make_batch(tmp_path, rows=6, days=3, stream=stream) for stream in streams]
    receipts = [sink.load(batch) for batch in batches]
    found = sink.find(batches[1].batch_id, batches[1].window)
    assert found
    assert found.locations == receipts[1].locations


def test_find_will_not_guess_when_a_file_of_the_batch_was_removed(tree: Any, tmp_path: Path) -> None:
    batch = make_batch(tmp_path, rows=6, days=3)
    sink = new_sink(tree.root)
    sink.load(batch)
    tree.visible()[1].unlink()
    with pytest.raises(LoadUnknownError, match=r"event_date=2026-11-02.*' was removed"):
        sink.find(batch.batch_id, batch.window)
    assert sink.load(batch).already is False
    assert sink.find(batch.batch_id, batch.window) is not None


def test_find_will_not_guess_when_a_file_was_altered(tree: Any, tmp_path: Path) -> None:
    batch = make_batch(tmp_path, rows=6)
    sink = new_sink(tree.root)
    sink.load(batch)
    tree.visible()[0].write_bytes(b"PAR1 and then nothing PAR1")
    with pytest.raises(LoadUnknownError, match="altered"):
        sink.find(batch.batch_id, batch.window)


def written_by_others(path: Path, target: Path, events: pa.Table, without: tuple[bytes, ...] = ()) -> Path:
    """Write events as others would, with the notes of a file of ours."""
    notes = pq.read_metadata(path).metadata
    target.parent.mkdir(parents=True, exist_ok=True)
    kept = {name: text for name, text in notes.items() if name not in (*without, b"cfaudit_footer_sha256")}
    with pq.ParquetWriter(target, events.schema, store_schema=False) as writer:
        writer.add_key_value_metadata(kept)
        writer.write_table(events)
    return target


@pytest.mark.parametrize("kind", ["fewer", "others", "one more"])
def test_a_file_is_not_believed_by_its_name(tree: Any, tmp_path: Path, kind: str) -> None:
    batch, other = (make_batch(tmp_path, rows=6, seed=seed) for seed in (1, 2))
    events, strange = read_batch(batch), read_batch(other)
    holds = {"fewer": events.slice(0, 3), "others": strange, "one more": pa.concat_tables([events, events.slice(0, 1)])}
    elsewhere = tmp_path / "elsewhere"
    (ours,) = map(Path, new_sink(elsewhere).load(batch).locations)
    path = written_by_others(ours, tree.root / ours.relative_to(elsewhere), holds[kind])
    before = path.read_bytes()
    with pytest.raises(SinkRefusedError, match=f"does not hold the events of batch '{batch.batch_id}'; move it away"):
        new_sink(tree.root).load(batch)
    with pytest.raises(LoadUnknownError, match="does not hold what it was written with"):
        new_sink(tree.root).find(batch.batch_id, batch.window)
    assert path.read_bytes() == before
    path.unlink()
    assert not new_sink(tree.root).load(batch).already


def test_a_file_of_a_version_that_wrote_no_digest_is_known_by_its_events(tree: Any, tmp_path: Path) -> None:
    batch = make_batch(tmp_path, rows=6)
    new_sink(tree.root).load(batch)
    (path,) = tree.visible()
    written_by_others(path, path, pq.read_table(path, partitioning=None), (b"cfaudit_digest",))
    assert new_sink(tree.root).load(batch).already
    assert new_sink(tree.root).find(batch.batch_id, batch.window).rows == 6


def test_a_flipped_bit_in_the_ids_is_damage_and_not_another_batch(tree: Any, tmp_path: Path) -> None:
    batch = make_batch(tmp_path, rows=600)
    new_sink(tree.root).load(batch)
    (path,) = tree.visible()
    column = pq.read_metadata(path).row_group(0).column(0)
    assert column.path_in_schema == "event_id"
    content = bytearray(path.read_bytes())
    content[column.data_page_offset + column.total_compressed_size - 5] ^= 1
    path.write_bytes(content)
    with pytest.raises(LoadUnknownError, match="was altered since, or its disk fails"):
        new_sink(tree.root).load(batch)


def test_find_will_not_guess_where_it_may_not_look(tree: Any, tmp_path: Path) -> None:
    tree.root.write_text("not a folder")
    with pytest.raises(SinkRefusedError, match="not a folder"):
        new_sink(tree.root).find("0" * 32, make_batch(tmp_path, rows=1).window)


def test_two_processes_that_load_the_same_batch_at_once_store_it_once(tree: Any, tmp_path: Path) -> None:
    batch = make_batch(tmp_path, rows=3_000, days=3)
    start = threading.Barrier(4)

    def load() -> None:
        start.wait(timeout=10)
        try:
            new_sink(tree.root).load(batch)
        except SinkError as error:
            assert "no such file" in str(error)  # noqa: PT017 - that the other was faster is the one excuse

    threads = [threading.Thread(target=load) for _ in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join(timeout=30)
    new_sink(tree.root).load(batch)
    assert tree.ids() == sorted(read_batch(batch)["event_id"].to_pylist())


def test_a_staged_file_cut_short_leaves_nothing_and_is_not_blamed_on_the_disk(tree: Any, tmp_path: Path) -> None:
    batch = make_batch(tmp_path, rows=1_000)
    os.truncate(batch.path, batch.path.stat().st_size // 2)
    with pytest.raises(pa.ArrowInvalid):
        new_sink(tree.root).load(batch)
    assert tree.files() == []


def test_check_leaves_a_folder_that_was_not_there_not_there(tree: Any) -> None:
    root = tree.root / "deep" / "down"
    assert str(root) in new_sink(root).check()
    assert not tree.root.exists()


def test_check_touches_nothing_that_was_there(tree: Any, tmp_path: Path) -> None:
    sink = new_sink(tree.root)
    sink.load(make_batch(tmp_path, rows=3))
    before = [(path, path.stat().st_mtime_ns) for path in tree.files()]
    sink.check()
    assert [(path, path.stat().st_mtime_ns) for path in tree.files()] == before
    assert [path.name for path in tree.root.iterdir()] == [f"account_id={ACCOUNT_ID}"]


def test_a_home_folder_may_be_written_as_a_tilde(tree: Any, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("HOME", str(tmp_path))
    ParquetSink(ParquetConfig("~/out")).load(make_batch(tmp_path, rows=1))
    assert len(tree.visible()) == 1


def hidden_files(tree: Any, batch: Batch) -> list[Path]:
    return [path for path in tree.files() if path.name.startswith(f".{batch.batch_id}.")]


def test_what_a_crashed_attempt_left_is_removed_by_the_next_load(tree: Any, tmp_path: Path, killed_loads: Any) -> None:
    batch, other = (make_batch(tmp_path, rows=30, days=2, seed=seed) for seed in (1, 2))
    steps = (
        step for step in range(1_000) if killed_loads.at_step(batch, tree.root, step) and hidden_files(tree, batch)
    )
    killed_loads.at_step(other, tree.root, next(steps))
    assert hidden_files(tree, batch)
    kept = hidden_files(tree, other)
    new_sink(tree.root).load(batch)
    assert not hidden_files(tree, batch)
    assert hidden_files(tree, other) == kept  # it may be a load of another run that is on its way


def test_find_removes_what_a_crashed_attempt_left(tree: Any, tmp_path: Path, killed_loads: Any) -> None:
    batch = make_batch(tmp_path, rows=30, days=2)
    step = 0
    while not hidden_files(tree, batch):
        assert killed_loads.at_step(batch, tree.root, step)
        step += 1
    assert new_sink(tree.root).find(batch.batch_id, batch.window) is None
    assert tree.files() == []
