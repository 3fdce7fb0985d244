"""Loading by MERGE, for those who export a time again."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import duckdb
import pytest

from cfaudit_export import Batch, read_batch
from cfaudit_export.testing.batches import make_batch


def overlapping(folder: Path, batch: Batch, new: int) -> Batch:
    """Return another batch that has all events of a batch, and some more."""
    rows = batch.rows + new
    more = read_batch(make_batch(folder, rows=rows, seed=99))
    events = read_batch(batch)
    changes = {
        name: events[name].to_pylist() + more[name].to_pylist()[batch.rows :] for name in ("event_id", "event_time")
    }
    return make_batch(folder, rows=rows, seed=99, changes=changes)


def test_events_that_are_there_are_not_stored_again(standin: Any, tmp_path: Path) -> None:
    batch = make_batch(tmp_path, rows=30, days=3)
    standin.sink().load(batch)
    both = overlapping(tmp_path, batch, 12)
    assert both.batch_id != batch.batch_id
    receipt = standin.sink(merge=True).load(both)
    assert (receipt.rows, receipt.already) == (42, False)
    assert standin.ids() == sorted(read_batch(both)["event_id"].to_pylist())


def test_a_batch_that_was_appended_is_not_merged_once_more(standin: Any, tmp_path: Path) -> None:
    batch = make_batch(tmp_path, rows=30)
    standin.sink().load(batch)
    assert standin.sink(merge=True).load(batch).already
    assert standin.rows().num_rows == 30


def test_a_batch_that_was_merged_is_not_appended_once_more(standin: Any, tmp_path: Path) -> None:
    batch = make_batch(tmp_path, rows=30)
    standin.sink(merge=True).load(batch)
    assert standin.sink().load(batch).already
    assert standin.rows().num_rows == 30


def test_the_table_for_the_events_goes_away(standin: Any, tmp_path: Path) -> None:
    standin.sink(merge=True).load(make_batch(tmp_path, rows=30))
    assert list(standin.tables()) == ["proj.audit.events"]


def test_the_table_for_the_events_goes_by_itself_where_it_may_not_be_removed(standin: Any, tmp_path: Path) -> None:
    standin.say("settings", denied=["bigquery.tables.delete"])
    standin.sink(merge=True).load(make_batch(tmp_path, rows=30))
    (events,) = (table for name, table in standin.tables().items() if name != "proj.audit.events")
    lifetime_ms = int(events["expirationTime"]) - int(events["creationTime"])
    assert 0 < lifetime_ms <= 24 * 3600 * 1000 + 1000


def test_a_merge_that_loses_a_race_of_changes_is_tried_again(standin: Any, tmp_path: Path) -> None:
    words = "Could not serialize access to table proj:audit.events due to concurrent update"
    standin.job_fault("_0$", error={"reason": "invalidQuery", "message": words})
    standin.sink(merge=True).load(make_batch(tmp_path, rows=30))
    assert standin.rows().num_rows == 30


def completed(folder: Path, batch: Batch) -> Batch:
    """Return a batch of rows with all columns, each of which takes the place of one of another batch."""
    events = read_batch(batch)
    changes = {
        "replaces": events["event_id"].to_pylist(),
        "account_id": events["account_id"].to_pylist(),
        "event_time": events["event_time"].to_pylist(),
        "event_key": events["event_key"].to_pylist(),
        "fidelity": ["recovered"] * batch.rows,
    }
    return make_batch(folder, rows=batch.rows, seed=7, changes=changes)


@pytest.mark.parametrize("poor", ["trimmed", "shadow"])
def test_a_completed_row_takes_the_place_of_what_it_replaces_and_that_does_not_come_back(
    standin: Any, tmp_path: Path, poor: str
) -> None:
    batch = make_batch(tmp_path, rows=20, days=2, changes={"fidelity": [poor] * 20})
    whole = completed(tmp_path, batch)
    standin.sink(merge=True).load(batch)
    assert standin.sink(merge=True).load(whole).rows == 20
    assert standin.ids() == sorted(read_batch(whole)["event_id"].to_pylist())
    again = overlapping(tmp_path, batch, 5)
    standin.sink(merge=True).load(again)
    assert standin.rows().num_rows == 25
    assert not set(standin.ids()) & set(read_batch(batch)["event_id"].to_pylist())


def test_a_row_that_is_known_in_full_is_not_replaced(standin: Any, tmp_path: Path) -> None:
    batch = make_batch(tmp_path, rows=20, changes={"fidelity": ["full"] * 20})
    standin.sink(merge=True).load(batch)
    standin.sink(merge=True).load(completed(tmp_path, batch))
    assert standin.rows().num_rows == 40


def test_the_view_of_the_page_shows_each_event_once(standin: Any, tmp_path: Path, page_about: Any) -> None:
    batch = make_batch(tmp_path, rows=20, changes={"fidelity": ["trimmed"] * 20})
    whole = completed(tmp_path, batch)
    for one in (batch, whole):
        standin.sink().load(one)
    stored = standin.rows()
    assert stored.num_rows == 40
    page = page_about("bigquery").section("Rows that take the place of others")
    query = page[page.index("SELECT") : page.index(";")].replace("audit.cloudflare_events", "stored")
    seen = duckdb.connect().register("stored", stored).sql(query).fetchall()
    assert len(seen) == 20
    assert {row[0] for row in seen} == set(read_batch(whole)["event_id"].to_pylist())
