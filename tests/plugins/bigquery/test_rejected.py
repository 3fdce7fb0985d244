"""Events that BigQuery refuses for good."""

from __future__ import annotations

import json
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from cfaudit_export import Batch, SinkRefusedError, read_batch
from cfaudit_export.testing.batches import make_batch

MODES = pytest.mark.parametrize("mode", [{}, {"merge": True}], ids=["append", "merge"])


def with_large_events(folder: Path, *large: int, rows: int = 20, **more: Any) -> Batch:
    raws = [json.dumps({"n": n, "x": "hunter2 " * 500 if n in large else ""}) for n in range(rows)]
    return make_batch(folder, rows=rows, changes={"event_raw": raws, **more})


@pytest.fixture(autouse=True)
def small_rows(standin: Any) -> None:
    standin.say("settings", row_bytes=2000)


@MODES
def test_an_event_that_bigquery_names_is_quarantined_and_the_others_are_stored(
    standin: Any, tmp_path: Path, mode: dict[str, bool]
) -> None:
    batch = with_large_events(tmp_path, 3, 11)
    ids = read_batch(batch)["event_id"].to_pylist()
    receipt = standin.sink(**mode).load(batch)
    assert receipt.rows == 18
    assert [rejected.event_id for rejected in receipt.rejected] == [ids[3], ids[11]]
    assert "Row size is larger than: 2000" in receipt.rejected[0].reason
    assert "hunter2" not in str(receipt)
    assert standin.ids() == sorted(set(ids) - {ids[3], ids[11]})


@MODES
def test_who_asks_later_is_told_of_them_too(standin: Any, tmp_path: Path, mode: dict[str, bool]) -> None:
    batch = with_large_events(tmp_path, 5)
    receipt = standin.sink(**mode).load(batch)
    for found in (
        standin.sink(**mode).load(batch),
        standin.sink(**mode).find(batch.batch_id, batch.window),
    ):
        assert found.already
        assert found.rows == 19
        assert [one.event_id for one in found.rejected] == [one.event_id for one in receipt.rejected]
        assert found.rejected[0].reason


def test_a_load_that_died_before_its_last_attempt_sets_them_aside_anew(
    standin: Any, tmp_path: Path, killed_loads: Any
) -> None:
    batch = with_large_events(tmp_path, 0, 1)
    step = 60
    while killed_loads.at_step(batch, standin, step):
        receipt = standin.sink().load(batch)
        assert (receipt.rows, len(receipt.rejected)) == (18, 2)
        assert len(standin.ids()) == 18
        standin.say("reset")
        standin.say("dataset", name="proj.audit", location="EU")
        standin.say("settings", row_bytes=2000)
        step += 60
    assert step > 100


@MODES
@pytest.mark.parametrize("rows", [1, 3])
def test_every_event_of_a_batch_may_be_quarantined(
    standin: Any, tmp_path: Path, rows: int, mode: dict[str, bool]
) -> None:
    batch = replace(with_large_events(tmp_path, *range(rows), rows=rows), taken_before=True)
    for receipt in (standin.sink(**mode).load(batch), standin.sink(**mode).find(batch.batch_id, batch.window)):
        assert (receipt.rows, len(receipt.rejected)) == (0, rows)
    assert standin.ids() == []


def test_where_none_was_ever_taken_a_few_refused_events_are_not_to_blame(standin: Any, tmp_path: Path) -> None:
    """As behind a gateway that breaks every body; a process that starts anew does not learn otherwise."""
    batch = with_large_events(tmp_path, *range(3), rows=3)
    for _ in range(2):
        with pytest.raises(SinkRefusedError, match="refuses every event it is given: .*; none was quarantined"):
            standin.sink().load(batch)
    standin.say("settings", row_bytes=2_000_000)
    assert standin.sink().load(batch).rejected == ()
    assert len(standin.ids()) == 3


def test_where_too_much_is_refused_the_batch_is(standin: Any, tmp_path: Path) -> None:
    with pytest.raises(SinkRefusedError, match="Row size is larger than"):
        standin.sink().load(with_large_events(tmp_path, *range(40), rows=60))
    assert standin.ids() == []


def test_an_event_whose_id_no_label_can_hold_is_not_quarantined(standin: Any, tmp_path: Path) -> None:
    batch = with_large_events(tmp_path, 1, rows=2, event_id=["a", "Not/A/Label"])
    with pytest.raises(SinkRefusedError, match="Row size is larger than"):
        standin.sink().load(batch)


@pytest.mark.parametrize("words", ["No such field: nonsense.", "Missing required field: nonsense."])
def test_what_is_wrong_with_the_table_is_not_blamed_on_an_event(standin: Any, tmp_path: Path, words: str) -> None:
    message = f"Error while reading data, error message: JSON parsing error in row starting at position 0: {words}"
    standin.job_fault(".", error={"reason": "invalid", "message": message})
    with pytest.raises(SinkRefusedError, match=words):
        standin.sink().load(with_large_events(tmp_path))


def test_a_position_at_which_no_event_begins_names_none(standin: Any, tmp_path: Path) -> None:
    message = "JSON parsing error in row starting at position 7: Parser terminated before end of string"
    standin.job_fault(".", error={"reason": "invalid", "message": message})
    with pytest.raises(SinkRefusedError, match="Parser terminated"):
        standin.sink().load(with_large_events(tmp_path))
