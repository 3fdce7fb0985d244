"""Every row says which batch brought it, so that batches can be told apart where files are merged or there are none."""

from __future__ import annotations

from typing import Any

import pyarrow.parquet as pq

from cfaudit_export import read_batch
from cfaudit_export.pipeline.quarantine import quarantine_of
from cfaudit_export.pipeline.replay import ReplayTarget, replay_stream


def test_every_row_of_a_file_bears_the_name_of_its_batch(rig: Any) -> None:
    rig.run(config={"piece_rows": 150, "page_size": 150})
    files = sorted((rig.root / "out").rglob("*.parquet"))
    assert len(files) > 3
    for path in files:
        rows = pq.read_table(path, partitioning=None)
        assert set(rows["batch_id"].to_pylist()) == {path.stem}


def test_the_name_of_a_batch_does_not_depend_on_the_name_in_its_rows(rig: Any, shelf: Any) -> None:
    first, second = shelf(), shelf()
    rig.run({"first": first})
    rig.run({"second": second})
    assert set(second.batches) == set(first.batches)


def test_a_refused_row_that_is_replayed_bears_the_name_of_the_batch_it_came_with(rig: Any, shelf: Any) -> None:
    sink = shelf(refuse=lambda event: "odd" if event["event_id"][0] in "0123" else None)
    rig.run({"picky": sink}, config={"piece_rows": 150, "page_size": 150})
    aside = quarantine_of(rig.root, rig.stream)
    for batch in aside.held("picky"):
        assert set(read_batch(batch)["batch_id"].to_pylist()) == {batch.batch_id}
    sink.refuse = lambda _event: None
    replay_stream(aside, ReplayTarget("picky", sink, "picky"), store=rig.store, clock=lambda: rig.now)
    assert all(set(rows["batch_id"].to_pylist()) == {name} for name, rows in sink.batches.items())
