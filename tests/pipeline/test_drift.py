"""A tool that is not what it was: what can still be read, what stays empty, and what is refused."""

from __future__ import annotations

import json
from typing import Any

import pytest

from cfaudit_export.errors import ProtocolError

FACETS = ("action_type", "action_result", "actor_context", "actor_type", "resource_scope", "raw_method")


@pytest.fixture
def drifted(rig_of: Any) -> Any:
    """Make a rig with a changed tool, and few events of one day."""
    return lambda *drift, **options: rig_of(**{"events": 150, "drift": drift, "ties": 0.0, "twins": 0.0, **options})


def filled(rows: list[dict[str, Any]]) -> set[str]:
    return {facet for facet in FACETS if any(row[facet] is not None for row in rows)}


def told(caplog: pytest.LogCaptureFixture, words: str) -> list[Any]:
    return [record for record in caplog.records if words in record.message]


def test_a_filter_that_the_tool_lost_rebuilds_no_column(drifted: Any) -> None:
    rig = drifted("fewer-filters")
    assert rig.run(recover="all").exit_code == 0
    rig.assert_everything_once()
    assert filled(rig.rows()) == {*FACETS} - {"raw_method", "resource_scope"}


def test_odd_rows_are_passed_without_the_filters_that_the_tool_lost(drifted: Any) -> None:
    rig = drifted("fewer-filters", events=60, span_seconds=0.02, poison=("null-actor=6",), ties=0.8, twins=0.5)
    rig.run()
    rows = [row["event_raw"] for row in rig.rows()]
    assert not [text for text in rows if rows.count(text) > rig.truth()[text]], "none is counted twice"


def test_a_filter_without_effect_rebuilds_no_column_and_is_said_once(
    drifted: Any, caplog: pytest.LogCaptureFixture
) -> None:
    rig = drifted("ignored-filters")
    assert rig.run(recover="all", config={"piece_rows": 40, "page_size": 40}).exit_code == 0
    rig.assert_everything_once()
    assert filled(rig.rows()) == {*FACETS} - {"actor_type"}
    [record] = told(caplog, "seems to ignore a filter")
    assert record.filter == "actor_type"


def test_a_value_that_the_tool_learned_is_asked_for(drifted: Any) -> None:
    rig = drifted("new-values", poison=("api-context=2",))
    rig.run(recover="all", retry=9)
    rig.run(recover="all", retry=9)  # narrowed to their milliseconds
    shadows = [row for row in rig.rows() if row["fidelity"] == "shadow"]
    assert [row["actor_context"] for row in shadows] == ["api", "api"]


def test_smaller_pages_are_asked_for_where_the_tool_allows_no_larger(drifted: Any) -> None:
    rig = drifted("small-pages", events=450, poison=("null-actor=2",), ties=0.5)
    assert rig.run().exit_code == 65
    rig.assert_everything_once()


def test_further_fields_fill_columns_and_are_said_once(drifted: Any, caplog: pytest.LogCaptureFixture) -> None:
    rig = drifted()
    rig.run()
    rig.world.turn(drift=("more-fields",))
    # What is delivered is not delivered again, though its text is another now.
    assert rig.run(sinks={"parquet": rig.parquet(), "later": rig.parquet("later")}).sinks[0].rows == 0
    records = {record["id"]: record for record in rig.world.records(rig.stream.account_id)}
    rows = rig.rows("later")
    assert {row["event_id"] for row in rows} == records.keys()
    assert {row["event_key"] for row in rows} == {row["event_key"] for row in rig.rows()}
    for row in rows:
        record = records[row["event_id"]]
        assert row["actor_ip_address"] == record.get("actor", {}).get("ip_address")
        assert row["raw_status_code"] == record.get("raw", {}).get("status_code")
        request = record.get("resource", {}).get("request")
        assert json.loads(row["resource_request"] or "null") == request
        assert json.loads(row["event_raw"])["mood"] == {"of": "the server"}
    assert len(told(caplog, "rows have further fields")) == 1
    assert len(told(caplog, "tool has changed")) == 0


def test_arrays_in_the_place_of_texts_are_kept_as_json(drifted: Any) -> None:
    rig = drifted("arrays")
    assert rig.run().exit_code == 0
    rows = rig.rows()
    assert len(rows) == 150
    for row in rows:
        received = json.loads(row["event_raw"])
        assert json.loads(row["actor_email"] or "null") == received.get("actor_email")
        assert json.loads(row["resource_type"] or "null") == received.get("type")


def test_a_changed_schema_is_said_once(drifted: Any, caplog: pytest.LogCaptureFixture) -> None:
    rig = drifted()
    rig.run()
    rig.world.turn(drift=("new-values",))
    rig.run()
    rig.run()
    assert len(told(caplog, "tool has changed")) == 1


@pytest.mark.parametrize(
    ("drift", "words"),
    [
        ("renamed-tool", "no tool 'auditlogs_by_account_id'; it has: list_audit_events"),
        ("required-argument", "does not accept our arguments: .*region"),
    ],
)
def test_what_cannot_be_asked_any_more_ends_the_run(drifted: Any, drift: str, words: str) -> None:
    rig = drifted(drift)
    if drift == "renamed-tool":
        with pytest.raises(ProtocolError, match=words) as caught:
            rig.run()
        assert caught.value.exit_code == 76
        assert rig.run(config={"tool": "list_audit_events"}).exit_code == 0
        return
    report = rig.run()
    assert report.exit_code == 76
    assert "region" in report.error
